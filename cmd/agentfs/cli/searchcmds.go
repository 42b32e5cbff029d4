package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

func (p *program) globCommand() *cobra.Command {
	var g protocol.GlobOptions
	cmd := p.fileCommand(&cobra.Command{
		Use:   "glob PATTERN [PATH]",
		Short: "Find files by a pattern of their names",
		Long: `Glob prints the paths below PATH (the root, if none is given) that match PATTERN:
* ? [a-z] {a,b}, and ** for any number of directories. A pattern without a slash
is compared with the last part of a path, at any depth; one that begins with a
slash, with the whole path. What is fixed at its beginning is not searched.
Names that begin with a dot are matched by a part of the pattern that does, too,
or with --hidden by any.

With --limit it stops early and says so. A route that fails is reported beside
what the others have.`,
		Example: `  agentfs glob --mount ~/mnt '*.md'
  agentfs glob --mount ~/mnt 'src/**/*_test.go' /data
  agentfs glob --mount ~/mnt --sort time --limit 10 '/data/logs/2026-*/*.log'`,
		Args: args(1, 2),
	}, func(ctx context.Context, o *opened, s *source, args []string) error {
		res, err := o.Glob(ctx, args[0], at(args, 1, "/"), g, func(it protocol.Item) error {
			if s.json {
				return p.line(it)
			}
			_, err := fmt.Fprintln(p.out, it.Path)
			return err
		})
		return errors.Join(err, p.truncated(res.Truncated, g.Limit, s.json), res.Err())
	})
	cmd.Flags().BoolVar(&g.Hidden, "hidden", false, "let any pattern match names that begin with a dot")
	cmd.Flags().StringVar(&g.Sort, "sort", protocol.ByPath, "print them by path or by time, the last changed first")
	cmd.Flags().Int64Var(&g.Limit, "limit", 0, "print at most so many (0: all)")
	return cmd
}

// truncated says that a search has stopped early, if it has: to people, and to
// programs in a last line of its own.
func (p *program) truncated(is bool, limit int64, asJSON bool) error {
	switch {
	case !is:
		return nil
	case asJSON:
		return p.line(map[string]any{"truncated": true, "limit": limit})
	}
	_, err := fmt.Fprintf(p.err, "agentfs: there are more than %d; a narrower pattern or a larger --limit shows them\n", limit)
	return err
}

// grepFlags say what grep prints of the matches.
type grepFlags struct {
	protocol.GrepOptions
	files, count bool
	context      int
}

func (p *program) grepCommand() *cobra.Command {
	var f grepFlags
	cmd := p.fileCommand(&cobra.Command{
		Use:   "grep PATTERN [PATH]",
		Short: "Find lines in files by a regular expression",
		Long: `Grep prints the lines that match PATTERN in the files at and below PATH (the
root, if none is given) as PATH:LINE:TEXT, in the order of a listing. The
patterns are RE2 (https://golang.org/s/re2syntax). Binary files are skipped,
hidden ones are not. With --limit it stops early and says so. A route or a file
that fails is reported beside what the others have.
As with grep(1) the exit status is 1 if nothing matches and 2 for any error.`,
		Example: `  agentfs grep --mount ~/mnt 'func \w+Handler' /src --glob '*.go'
  agentfs grep --route /data=s3://my-bucket -i -l error /data/logs`,
		Args: args(1, 2),
	}, func(ctx context.Context, o *opened, s *source, args []string) error {
		return p.runGrep(ctx, o, f, s.json, args[0], at(args, 1, "/"))
	})
	search := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := search(cmd, args)
		if err == nil {
			return nil
		}
		return grepError{err}
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.IgnoreCase, "ignore-case", "i", false, "take upper and lower case as the same")
	fl.BoolVarP(&f.Fixed, "fixed", "F", false, "take PATTERN as a text, not as a regular expression")
	fl.StringVar(&f.Glob, "glob", "", "look only into files that match this `pattern`, as glob does")
	fl.BoolVarP(&f.files, "files", "l", false, "print only the paths of files with a match")
	fl.BoolVarP(&f.count, "count", "c", false, "print the number of matching lines per file")
	fl.IntVarP(&f.context, "context", "C", 0, "print this many `lines` before and after a match")
	fl.IntVarP(&f.After, "after", "A", 0, "print this many `lines` after a match")
	fl.IntVarP(&f.Before, "before", "B", 0, "print this many `lines` before a match")
	fl.Int64VarP(&f.Limit, "limit", "m", 0, "print at most so many matches, in all (0: all)")
	return cmd
}

// grepError is an error of grep, whose exit status 1 means that nothing
// matched.
type grepError struct{ error }

func (e grepError) Unwrap() error { return e.error }

func (p *program) runGrep(ctx context.Context, o *opened, f grepFlags, asJSON bool, pattern, path string) error {
	if f.context < 0 || f.After < 0 || f.Before < 0 || f.Limit < 0 {
		return usagef("-A, -B, -C and --limit are not negative")
	}
	if f.files && f.count {
		return usagef("-l prints paths and -c numbers; give one or the other")
	}
	f.After, f.Before = max(f.After, f.context), max(f.Before, f.context)
	switch {
	case f.files:
		f.Output = protocol.Files
	case f.count:
		f.Output = protocol.Counts
	}
	var last protocol.Match
	res, err := o.Grep(ctx, pattern, path, f.GrepOptions, func(m protocol.Match) error {
		defer func() { last = m }()
		if asJSON {
			return p.line(m)
		}
		return p.printMatch(m, last, f)
	})
	err = errors.Join(err, p.truncated(res.Truncated, f.Limit, asJSON), res.Err())
	if err == nil && res.Files == 0 {
		return silentError{exitFailed}
	}
	return err
}

// printMatch prints a match as grep(1) does; last is the one before it.
func (p *program) printMatch(m, last protocol.Match, f grepFlags) (err error) {
	switch {
	case f.files:
		_, err = fmt.Fprintln(p.out, m.Path)
		return err
	case f.count:
		_, err = fmt.Fprintf(p.out, "%s:%d\n", m.Path, m.Count)
		return err
	}
	sep := ":"
	if m.Context {
		sep = "-"
	}
	if m.Path == last.Path && m.Line > last.Line+1 && f.After+f.Before > 0 {
		fmt.Fprintln(p.out, "--")
	}
	_, err = fmt.Fprintf(p.out, "%s%s%d%s%s\n", m.Path, sep, m.Line, sep, m.Text)
	return err
}
