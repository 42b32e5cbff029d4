package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

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
		_, err := o.List(ctx, at(args, 0, "/"), protocol.ListOptions{}, func(it protocol.Item) error {
			if s.json {
				return p.line(it)
			}
			size, when := sizeAndTime(it)
			_, err := fmt.Fprintf(p.out, "%12s  %-19s  %s\n", size, when, it.Path)
			return err
		})
		return err
	})
}

func at(args []string, i int, def string) string {
	if i < len(args) {
		return args[i]
	}
	return def
}

// sizeAndTime returns what tables show of an item.
func sizeAndTime(it protocol.Item) (size, when string) {
	size, when = fmt.Sprint(it.Size), "-"
	if it.Type == "dir" {
		size = "-"
	}
	if !it.ModTime.IsZero() {
		when = it.ModTime.Local().Format(time.DateTime)
	}
	return size, when
}

func (p *program) statCommand() *cobra.Command {
	return p.fileCommand(&cobra.Command{
		Use:   "stat PATH...",
		Short: "Say what is at a path: type, mode, size, time, version",
		Long: `Stat prints a line for each PATH: type, permissions, size in bytes, time of the
last change, version of the content, full path. One that fails does not keep it
from the others.`,
		Example: `  agentfs stat --mount ~/mnt /data/report.md
  agentfs stat --route /=s3://my-bucket /lock --json | jq -r .result.version`,
		Args: args(1, 1<<20),
	}, func(ctx context.Context, o *opened, s *source, args []string) error {
		var errs []error
		err := o.StatMany(ctx, args, func(it protocol.Outcome[protocol.Item]) error {
			errs = append(errs, it.Err())
			if s.json {
				return p.line(it)
			}
			if it.Result == nil {
				return nil
			}
			i := *it.Result
			size, when := sizeAndTime(i)
			if i.Target != "" {
				i.Path += " -> " + i.Target
			}
			_, err := fmt.Fprintf(p.out, "%-7s  %-4s  %12s  %-19s  %-32s  %s\n", i.Type, orDash(i.Mode), size, when, orDash(string(i.Version)), i.Path)
			return err
		})
		return errors.Join(append(errs, err)...)
	})
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (p *program) mkdirCommand() *cobra.Command {
	return p.fileCommand(&cobra.Command{
		Use:   "mkdir PATH...",
		Short: "Make directories, and those above them",
		Long: `Mkdir makes each directory PATH and what is missing above it. One that is there
already is no error.`,
		Example: `  agentfs mkdir --mount ~/mnt /notes/2026`,
		Args:    args(1, 1<<20),
	}, func(ctx context.Context, o *opened, s *source, args []string) error {
		var errs []error
		for _, path := range args {
			res, err := o.Mkdir(ctx, path)
			if err == nil && s.json {
				err = p.line(res)
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

func (p *program) mvCommand() *cobra.Command {
	var mo protocol.MoveOptions
	cmd := p.fileCommand(&cobra.Command{
		Use:   "mv FROM TO",
		Short: "Move a file or a directory",
		Long: `Mv gives the file or directory FROM the path TO, whose missing directories are
made. Something that is at TO stays, and the exit status is 4; with --replace a
file takes the place of a file. Where a store can't rename in one step, and
between routes, the files are copied and then removed: if that fails midway,
nothing is removed that is not copied.`,
		Example: `  agentfs mv --mount ~/mnt /draft.md /data/report.md
  agentfs mv --route /=s3://my-bucket /old /archive/2026`,
		Args: args(2, 2),
	}, func(ctx context.Context, o *opened, s *source, args []string) error {
		res, err := o.Move(ctx, args[0], args[1], mo)
		if err != nil || !s.json {
			return err
		}
		return p.line(res)
	})
	cmd.Flags().BoolVar(&mo.Replace, "replace", false, "replace a file that is at TO")
	return cmd
}

func (p *program) rmCommand() *cobra.Command {
	var ro protocol.RemoveOptions
	var version string
	var cmd *cobra.Command
	cmd = p.fileCommand(&cobra.Command{
		Use:   "rm PATH...",
		Short: "Remove files and directories",
		Long: `Rm removes files and empty directories; with -r, directories with everything
below. A file that somebody changes meanwhile stays, and so does a directory in
which a route begins. On a mount with durability=writeback the store follows;
agentfs sync waits for it.`,
		Example: `  agentfs rm --mount ~/mnt /tmp/a.txt
  agentfs rm -r --route /data=s3://my-bucket /data/old`,
		Args: args(1, 1<<20),
	}, func(ctx context.Context, o *opened, s *source, args []string) error {
		if emptyVersion(cmd) {
			return errEmptyVersion
		}
		if ro.IfVersion = protocol.Version(version); version != "" && len(args) > 1 {
			return usagef("--if-version is the version of one file; give one path")
		}
		var errs []error
		for _, path := range args {
			res, err := o.Remove(ctx, path, ro)
			errs = append(errs, err)
			if s.json {
				errs = append(errs, p.line(res))
			}
		}
		return errors.Join(errs...)
	})
	cmd.Flags().BoolVarP(&ro.Recursive, "recursive", "r", false, "remove directories with everything in them")
	cmd.Flags().StringVar(&version, "if-version", "", "remove the file only if it has this `version` (from stat)")
	return cmd
}
