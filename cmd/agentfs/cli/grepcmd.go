package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

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
patterns are RE2 (https://golang.org/s/re2syntax). Binary files are skipped.
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
	fl.StringVar(&f.Glob, "glob", "", "look only into files that match this `pattern`")
	fl.BoolVarP(&f.files, "files", "l", false, "print only the paths of files with a match")
	fl.BoolVarP(&f.count, "count", "c", false, "print the number of matching lines per file")
	fl.IntVarP(&f.context, "context", "C", 0, "print this many `lines` before and after a match")
	fl.IntVarP(&f.After, "after", "A", 0, "print this many `lines` after a match")
	fl.IntVarP(&f.Before, "before", "B", 0, "print this many `lines` before a match")
	cmd.MarkFlagsMutuallyExclusive("files", "count")
	return cmd
}

func (p *program) runGrep(ctx context.Context, o *opened, f grepFlags, asJSON bool, pattern, path string) error {
	if f.context < 0 || f.After < 0 || f.Before < 0 {
		return usagef("-A, -B and -C are not negative")
	}
	f.After, f.Before, f.FirstOnly = max(f.After, f.context), max(f.Before, f.context), f.files
	if f.files || f.count {
		f.After, f.Before = 0, 0
	}
	var errs []error
	matched := false
	for m, err := range protocol.Grep(ctx, o.store, pattern, path, f.GrepOptions) {
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		n, err := p.printMatches(m, f, asJSON)
		matched = matched || n > 0
		var bad fileError
		switch {
		case errors.As(err, &bad):
			errs = append(errs, bad.error)
		case err != nil:
			return err
		}
	}
	switch {
	case len(errs) > 0:
		return errors.Join(errs...)
	case !matched:
		return silentError{exitFailed}
	}
	return nil
}

// grepError is an error of grep, whose exit status 1 means that nothing
// matched.
type grepError struct{ error }

func (e grepError) Unwrap() error { return e.error }

// fileError concerns one file; the search goes on with the others.
type fileError struct{ error }

// printMatches prints the matches of one file and returns how many there were.
func (p *program) printMatches(m protocol.FileMatches, f grepFlags, asJSON bool) (n int, err error) {
	var last int64 // number of the line printed last
	for l, err := range m.Lines {
		if err != nil {
			return n, fileError{err}
		}
		if !l.Context {
			n++
		}
		if f.files || f.count {
			continue
		}
		if asJSON {
			err = p.line(struct {
				Path string `json:"path"`
				protocol.Line
			}{m.Path, l})
		} else {
			sep := ":"
			if l.Context {
				sep = "-"
			}
			if last > 0 && l.Number > last+1 && f.After+f.Before > 0 {
				fmt.Fprintln(p.out, "--")
			}
			_, err = fmt.Fprintf(p.out, "%s%s%d%s%s\n", m.Path, sep, l.Number, sep, l.Text)
		}
		if err != nil {
			return n, err
		}
		last = l.Number
	}
	switch {
	case n == 0 || !f.files && !f.count:
	case asJSON && f.files:
		err = p.line(struct {
			Path string `json:"path"`
		}{m.Path})
	case asJSON:
		err = p.line(struct {
			Path  string `json:"path"`
			Count int    `json:"count"`
		}{m.Path, n})
	case f.files:
		_, err = fmt.Fprintln(p.out, m.Path)
	default:
		_, err = fmt.Fprintf(p.out, "%s:%d\n", m.Path, n)
	}
	return n, err
}
