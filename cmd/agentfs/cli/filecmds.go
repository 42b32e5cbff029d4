package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// fileCommand makes a command that works on a source.
func (p *program) fileCommand(cmd *cobra.Command, run func(ctx context.Context, o *opened, s *source, args []string) error) *cobra.Command {
	var s source
	s.register(cmd)
	cmd.Long += sourceHelp
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o, err := p.openSource(cmd.Context(), &s)
		if err != nil {
			return err
		}
		defer o.close()
		out := bufio.NewWriterSize(p.out, 64<<10)
		unbuffered := p.out
		p.out = out
		err = run(cmd.Context(), o, &s, args)
		p.out = unbuffered
		return errors.Join(err, out.Flush())
	}
	return cmd
}

func (p *program) lsCommand() *cobra.Command {
	return p.fileCommand(&cobra.Command{
		Use:   "ls [PATH]",
		Short: "List a directory: full paths, directories with a slash, sizes and times",
		Long: `Ls lists the direct children of PATH (the root, if none is given), one per line:
size in bytes, time of the last change, full path. Directories end in a slash.`,
		Example: `  agentfs ls --mount ~/mnt /data
  agentfs ls --route /data=s3://my-bucket /data --json | jq -r .path`,
		Args: args(0, 1),
	}, func(ctx context.Context, o *opened, s *source, args []string) error {
		for it, err := range protocol.List(ctx, o.store, at(args, 0, "/")) {
			if err != nil {
				return err
			}
			if err := p.item(it, s.json); err != nil {
				return err
			}
		}
		return nil
	})
}

func at(args []string, i int, def string) string {
	if i < len(args) {
		return args[i]
	}
	return def
}

// item prints one line of a listing.
func (p *program) item(it protocol.Item, asJSON bool) error {
	if asJSON {
		return p.line(it)
	}
	size, when := fmt.Sprint(it.Size), "-"
	if it.Type == "dir" {
		size = "-"
	}
	if !it.ModTime.IsZero() {
		when = it.ModTime.Local().Format(time.DateTime)
	}
	_, err := fmt.Fprintf(p.out, "%12s  %-19s  %s\n", size, when, it.Path)
	return err
}

func (p *program) readCommand() *cobra.Command {
	var ro protocol.ReadOptions
	cmd := p.fileCommand(&cobra.Command{
		Use:   "read PATH",
		Short: "Print a file, or some of its lines",
		Long: `Read prints the file PATH as it is. With --offset and --limit it prints some of
its lines; --json prints {content, version, lines, more} instead, with the
version that a later write --if-version can name.`,
		Example: `  agentfs read --mount ~/mnt /data/log.txt --offset 1000 --limit 50`,
		Args:    args(1, 1),
	}, func(ctx context.Context, o *opened, s *source, args []string) error {
		if ro.Offset < 0 || ro.Limit < 0 {
			return usagef("--offset and --limit are not negative")
		}
		if !s.json {
			_, err := protocol.Read(ctx, o.store, args[0], p.out, ro)
			return err
		}
		var b strings.Builder
		res, err := protocol.Read(ctx, o.store, args[0], &b, ro)
		if err != nil {
			return err
		}
		return p.line(struct {
			protocol.ReadResult
			Content string `json:"content"`
		}{res, b.String()})
	})
	cmd.Flags().Int64Var(&ro.Offset, "offset", 0, "skip this many `lines`")
	cmd.Flags().Int64Var(&ro.Limit, "limit", 0, "print at most this many `lines` (0: all)")
	return cmd
}

func (p *program) writeCommand() *cobra.Command {
	var wo protocol.WriteOptions
	var content, version string
	var sync bool
	var cmd *cobra.Command
	cmd = p.fileCommand(&cobra.Command{
		Use:   "write PATH",
		Short: "Write a file, all or nothing, from standard input or --content",
		Long: `Write makes standard input, or --content, the content of PATH: all of it or
nothing. Missing directories are made. With --create-only or --if-version it
writes only if the file does not exist yet or still has the version that was
read; otherwise the exit status is 4 and nothing is changed.

Directly on stores, a file is stored when write returns. On a mount it is what
close(2) makes it there: with durability=writeback in the journal on this
machine's disk, from where the store follows. --sync waits for the store, and
so do --create-only and --if-version, whose answer is the store's to give.`,
		Example: `  agentfs write --mount ~/mnt /notes/plan.md < plan.md
  agentfs write --route /=s3://my-bucket /lock --content me --create-only`,
		Args: args(1, 1),
	}, func(ctx context.Context, o *opened, s *source, args []string) error {
		wo.IfVersion = backends.Version(version)
		if wo.CreateOnly && version != "" {
			return usagef("--create-only and --if-version exclude each other")
		}
		if sync || wo.CreateOnly || version != "" {
			o.waitForStore()
		}
		in := p.in
		if cmd.Flags().Changed("content") {
			in = strings.NewReader(content)
		}
		it, err := protocol.Write(ctx, o.store, args[0], in, wo)
		if err != nil || !s.json {
			return err
		}
		return p.line(it)
	})
	cmd.Flags().StringVar(&content, "content", "", "write this text instead of standard input")
	cmd.Flags().BoolVar(&wo.CreateOnly, "create-only", false, "write only if there is nothing under PATH")
	cmd.Flags().StringVar(&version, "if-version", "", "write only if the file has this version (from ls --json)")
	cmd.Flags().BoolVar(&sync, "sync", false, "on a mount: return when the store has the file")
	return cmd
}

func (p *program) editCommand() *cobra.Command {
	var eo protocol.EditOptions
	var sync bool
	cmd := p.fileCommand(&cobra.Command{
		Use:   "edit PATH OLD NEW",
		Short: "Replace a text in a file that has it exactly once",
		Long: `Edit replaces the text OLD by NEW in the file PATH. OLD must be there byte for
byte and only once, so that it is clear what changes; if it is there more
often, the error says at which lines. A file that changes between reading and
writing is left alone. In these cases the exit status is 4. On a mount the new
content is as safe as close(2) makes it there; --sync waits for the store.`,
		Example: `  agentfs edit --mount ~/mnt /src/main.go 'port = 80' 'port = 8080'
  agentfs edit --mount ~/mnt /src/main.go oldName newName --replace-all --dry-run`,
		Args: args(3, 3),
	}, func(ctx context.Context, o *opened, s *source, args []string) error {
		if sync {
			o.waitForStore()
		}
		res, err := protocol.Edit(ctx, o.store, args[0], args[1], args[2], eo)
		if err != nil {
			return err
		}
		if s.json {
			return p.line(res)
		}
		verb := "replaced"
		if eo.DryRun {
			verb = "would replace"
		}
		times, lines := "once", strings.Trim(fmt.Sprint(res.Lines), "[]")
		if res.Replaced > 1 {
			times = fmt.Sprintf("%d times", res.Replaced)
		}
		_, err = fmt.Fprintf(p.out, "%s: %s %s (line %s)\n", res.Path, verb, times, strings.ReplaceAll(lines, " ", ", "))
		return err
	})
	cmd.Flags().BoolVar(&eo.All, "replace-all", false, "replace every occurrence")
	cmd.Flags().BoolVar(&sync, "sync", false, "on a mount: return when the store has the new content")
	cmd.Flags().BoolVar(&eo.DryRun, "dry-run", false, "say what would be replaced, and change nothing")
	return cmd
}

func (p *program) globCommand() *cobra.Command {
	return p.fileCommand(&cobra.Command{
		Use:   "glob PATTERN [PATH]",
		Short: "Find files by a pattern of their names",
		Long: `Glob prints the paths below PATH (the root, if none is given) that match PATTERN:
* ? [a-z] {a,b}, and ** for any number of directories. A pattern without a slash
is compared with the last part of a path, at any depth.`,
		Example: `  agentfs glob --mount ~/mnt '*.md'
  agentfs glob --mount ~/mnt 'src/**/*_test.go' /data`,
		Args: args(1, 2),
	}, func(ctx context.Context, o *opened, s *source, args []string) error {
		for it, err := range protocol.Glob(ctx, o.store, args[0], at(args, 1, "/")) {
			if err == nil && s.json {
				err = p.line(it)
			} else if err == nil {
				_, err = fmt.Fprintln(p.out, it.Path)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (p *program) rmCommand() *cobra.Command {
	var recursive bool
	cmd := p.fileCommand(&cobra.Command{
		Use:   "rm PATH...",
		Short: "Remove files and directories",
		Long: `Rm removes files and empty directories; with -r, directories with everything
below. A file that somebody changes meanwhile stays. On a mount with
durability=writeback the store follows; agentfs sync waits for it.`,
		Example: `  agentfs rm --mount ~/mnt /tmp/a.txt
  agentfs rm -r --route /data=s3://my-bucket /data/old`,
		Args: args(1, 1<<20),
	}, func(ctx context.Context, o *opened, s *source, args []string) error {
		var errs []error
		for _, path := range args {
			err := o.guard(path)
			var n int64
			if err == nil {
				n, err = protocol.Remove(ctx, o.store, path, recursive)
			}
			if err != nil {
				errs = append(errs, err)
			}
			if s.json {
				errs = append(errs, p.line(struct {
					Path    string `json:"path"`
					Removed int64  `json:"removed"`
				}{path, n}))
			}
		}
		return errors.Join(errs...)
	})
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "remove directories with everything in them")
	return cmd
}
