package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// countBytes is how much of a file is read only to count its lines, unless that
// is asked for.
const countBytes = 16 << 20

func (p *program) readCommand() *cobra.Command {
	var ro protocol.ReadOptions
	var total bool
	cmd := p.fileCommand(&cobra.Command{
		Use:   "read PATH...",
		Short: "Print files, or some of their lines",
		Long: `Read prints the file PATH as it is. With --offset and --limit it prints some of
its lines, without reading on. Of several files each is headed by its path, and
one that fails does not keep it from the others.

--json prints an object: content, version (which a later write --if-version can
name), offset, count, whether there is more and at which offset, and the total
number of lines unless too much would have to be read for it (--total counts in
any case). A file that is no text is in base64 then, and offset and limit count
bytes. For several files there is a line {path, result} or {path, failure} each.`,
		Example: `  agentfs read --mount ~/mnt /data/log.txt --offset 1000 --limit 50
  agentfs read --mount ~/mnt --json /a.txt /b.txt`,
		Args: args(1, 1<<20),
	}, func(ctx context.Context, o *opened, s *source, args []string) error {
		if ro.Offset < 0 || ro.Limit < 0 {
			return usagef("--offset and --limit are not negative")
		}
		if ro.Binary != "" && !slices.Contains([]string{protocol.BinaryBase64, protocol.BinaryRefuse, protocol.BinaryRaw}, ro.Binary) {
			return usagef("--binary is base64, refuse or raw")
		}
		if s.json {
			if ro.CountBytes = countBytes; total {
				ro.CountBytes = -1
			}
			return p.readJSON(ctx, o, args, ro)
		}
		if total {
			return usagef("--total is for --json")
		}
		if ro.Binary == "" {
			ro.Binary = protocol.BinaryRaw
		}
		var errs []error
		for i, path := range args {
			if len(args) > 1 {
				fmt.Fprintf(p.out, "%s==> %s <==\n", map[bool]string{true: "\n"}[i > 0], path)
			}
			_, err := o.Read(ctx, path, p.out, ro)
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	cmd.Flags().Int64Var(&ro.Offset, "offset", 0, "skip this many `lines`")
	cmd.Flags().Int64Var(&ro.Limit, "limit", 0, "print at most this many `lines` (0: all)")
	cmd.Flags().BoolVarP(&ro.Numbers, "numbers", "n", false, "print the number of each line, from 1, and a tab before it")
	cmd.Flags().StringVar(&ro.Binary, "binary", "", "what to do with a file that is no text: base64, refuse or raw (default: raw, with --json base64)")
	cmd.Flags().BoolVar(&total, "total", false, "with --json: count the lines of a file of any size")
	return cmd
}

func (p *program) readJSON(ctx context.Context, o *opened, args []string, ro protocol.ReadOptions) error {
	if len(args) == 1 {
		text, err := o.ReadText(ctx, args[0], ro)
		if err != nil {
			return err
		}
		return p.line(text)
	}
	var errs []error
	err := o.ReadMany(ctx, args, ro, func(t protocol.Outcome[protocol.Text]) error {
		errs = append(errs, t.Err())
		return p.line(t)
	})
	return errors.Join(append(errs, err)...)
}
