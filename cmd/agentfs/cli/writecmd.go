package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

func (p *program) writeCommand() *cobra.Command {
	var wo protocol.WriteOptions
	var content, version string
	var sync, many bool
	var cmd *cobra.Command
	cmd = p.fileCommand(&cobra.Command{
		Use:   "write PATH | write --many",
		Short: "Write files, each all or nothing, from standard input or --content",
		Long: `Write makes standard input, or --content, the content of PATH: all of it or
nothing. Missing directories are made. With --create-only or --if-version it
writes only if the file does not exist yet or still has the version that was
read; otherwise the exit status is 4 and nothing is changed.

With --many it writes several files side by side. Standard input has a JSON
object for each: {"path": ..., "content": ...}, and as wanted "encoding":
"base64", "create_only": true, "if_version": .... One that fails does not keep
it from the others; --json prints what became of each.

Directly on stores, a file is stored when write returns. On a mount it is what
close(2) makes it there: with durability=writeback in the journal on this
machine's disk, from where the store follows. --sync waits for the store, and
so do --create-only and --if-version, whose answer is the store's to give.`,
		Example: `  agentfs write --mount ~/mnt /notes/plan.md < plan.md
  agentfs write --route /=s3://my-bucket /lock --content me --create-only`,
		Args: args(0, 1),
	}, func(ctx context.Context, o *opened, s *source, args []string) error {
		wo.IfVersion = protocol.Version(version)
		switch {
		case emptyVersion(cmd):
			return errEmptyVersion
		case many && (len(args) > 0 || cmd.Flags().Changed("content") || wo != protocol.WriteOptions{}):
			return usagef("--many takes paths, contents and conditions from standard input")
		case !many && len(args) == 0:
			return usagef("%s: it is agentfs write PATH", "arguments are missing")
		case wo.CreateOnly && version != "":
			return usagef("--create-only and --if-version exclude each other")
		}
		if sync {
			ctx = protocol.WithSync(ctx)
		}
		if many {
			return p.writeMany(ctx, o, s.json)
		}
		in := p.in
		if cmd.Flags().Changed("content") {
			in = strings.NewReader(content)
		}
		it, err := o.Write(ctx, args[0], in, wo)
		if err != nil || !s.json {
			return err
		}
		return p.line(it)
	})
	cmd.Flags().StringVar(&content, "content", "", "write this text instead of standard input")
	cmd.Flags().BoolVar(&wo.CreateOnly, "create-only", false, "write only if there is nothing under PATH")
	cmd.Flags().StringVar(&version, "if-version", "", "write only if the file has this `version` (from stat, read or ls with --json)")
	cmd.Flags().BoolVar(&many, "many", false, "write the files that standard input has, as JSON objects")
	cmd.Flags().BoolVar(&sync, "sync", false, "on a mount: return when the store has the file")
	return cmd
}

// errEmptyVersion: a script that has not got the version which it wants to name
// must not write without a condition.
var errEmptyVersion = usagef("--if-version is empty: name the version that stat or read has shown, or leave it out to change any")

func emptyVersion(cmd *cobra.Command) bool {
	f := cmd.Flags().Lookup("if-version")
	return f.Changed && f.Value.String() == ""
}

// writeMany writes the files that standard input has. All are read before the
// first is written, so that a mistake in one changes nothing.
func (p *program) writeMany(ctx context.Context, o *opened, asJSON bool) error {
	var files []protocol.FileWrite
	in := json.NewDecoder(p.in)
	in.DisallowUnknownFields()
	for {
		var w protocol.FileWrite
		err := in.Decode(&w)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && w.Path == "" {
			err = errors.New(`"path" is missing`)
		}
		if err != nil {
			return usage(fmt.Errorf("standard input, object %d: %w", len(files)+1, err))
		}
		files = append(files, w)
	}
	var errs []error
	err := o.WriteMany(ctx, files, func(it protocol.Outcome[protocol.Item]) error {
		errs = append(errs, it.Err())
		if !asJSON {
			return nil
		}
		return p.line(it)
	})
	return errors.Join(append(errs, err)...)
}

func (p *program) editCommand() *cobra.Command {
	var eo protocol.EditOptions
	var version string
	var sync bool
	var cmd *cobra.Command
	cmd = p.fileCommand(&cobra.Command{
		Use:   "edit PATH OLD NEW",
		Short: "Replace a text in a file that has it exactly once",
		Long: `Edit replaces the text OLD by NEW in the file PATH. OLD must be there byte for
byte and only once, so that it is clear what changes; if it is there more
often, the error shows the lines. A file that changes between reading and
writing is left alone. In these cases the exit status is 4. The file keeps its
mode, and where its lines end in \r\n, so do those of OLD and NEW. --dry-run
prints the difference instead, as a unified diff. On a mount the new content is
as safe as close(2) makes it there; --sync waits for the store.`,
		Example: `  agentfs edit --mount ~/mnt /src/main.go 'port = 80' 'port = 8080'
  agentfs edit --mount ~/mnt /src/main.go oldName newName --replace-all --dry-run`,
		Args: args(3, 3),
	}, func(ctx context.Context, o *opened, s *source, args []string) error {
		if emptyVersion(cmd) {
			return errEmptyVersion
		}
		if sync {
			ctx = protocol.WithSync(ctx)
		}
		eo.IfVersion = protocol.Version(version)
		res, err := o.Edit(ctx, args[0], args[1], args[2], eo)
		switch {
		case err != nil:
			return err
		case s.json:
			return p.line(res)
		case eo.DryRun:
			_, err = fmt.Fprint(p.out, res.Diff)
			return err
		}
		times, lines := "once", strings.Trim(fmt.Sprint(res.Lines), "[]")
		if res.Replaced > 1 {
			times = fmt.Sprintf("%d times", res.Replaced)
		}
		if int64(len(res.Lines)) < res.Replaced {
			lines += " ..."
		}
		_, err = fmt.Fprintf(p.out, "%s: replaced %s (line %s)\n", res.Path, times, strings.ReplaceAll(lines, " ", ", "))
		return err
	})
	cmd.Flags().BoolVar(&eo.All, "replace-all", false, "replace every occurrence")
	cmd.Flags().BoolVar(&eo.DryRun, "dry-run", false, "print the difference as a unified diff, and change nothing")
	cmd.Flags().StringVar(&version, "if-version", "", "edit only if the file has this `version` (from stat, read or ls with --json)")
	cmd.Flags().BoolVar(&sync, "sync", false, "on a mount: return when the store has the new content")
	return cmd
}
