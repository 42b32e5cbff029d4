package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

func (p *program) recoverCommand() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "recover [--cache-dir DIR]",
		Short: "Show the files that an ended mount could not store",
		Long: `Recover shows the files whose content an ended mount could not bring into
their store: where the bytes are, where they belong and why they didn't get
there. Nothing is changed and nothing is ever deleted; look at a file, then
put it back with agentfs write, which can ask for the version that it derives
from, and remove it here.`,
		Example: `  agentfs recover
  agentfs write --route /=s3://my-bucket/prefix --if-version VERSION /NAME < FILE`,
		Args: args(0, 0),
		RunE: func(*cobra.Command, []string) error { return p.runRecover(dir, asJSON) },
	}
	cmd.Flags().StringVar(&dir, "cache-dir", defaultCacheDir(), "the cache directory of the mount")
	cmd.Flags().Lookup("cache-dir").DefValue = cacheDirHelp
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	must(cmd.MarkFlagDirname("cache-dir"))
	return cmd
}

func (p *program) runRecover(dir string, asJSON bool) error {
	rooms, err := p.rooms(dir)
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(rooms)
	}
	n := 0
	for _, r := range rooms {
		for _, k := range r.Kept {
			n++
			fmt.Fprintf(p.out, "%s\n  belongs to %s in %s\n  %s, since %s: %s\n", k.File, k.Name, k.Store,
				humanize.IBytes(uint64(max(0, k.Size))), k.Time.Format(time.DateTime), k.Error)
			if k.Base != "" {
				fmt.Fprintf(p.out, "  derives from version %s\n", k.Base)
			}
			if len(k.Parts) > 0 {
				fmt.Fprintf(p.out, "  has only the bytes %s; the rest is zeros here and was only in that version\n", ranges(k.Parts))
			}
		}
	}
	if n == 0 {
		fmt.Fprintf(p.out, "%s keeps nothing that is not stored.\n", dir)
	}
	return nil
}

// maxRanges is how many ranges of bytes recover shows of one file; --json has
// all of them.
const maxRanges = 8

// ranges returns [from, to) pairs as people write them: "0-4095, 8192-8192".
func ranges(parts [][2]int64) string {
	all := make([]string, 0, maxRanges)
	for i, r := range parts {
		if i == maxRanges {
			return fmt.Sprintf("%s and %d more ranges (--json shows them)", strings.Join(all, ", "), len(parts)-i)
		}
		all = append(all, fmt.Sprintf("%d-%d", r[0], r[1]-1))
	}
	return strings.Join(all, ", ")
}
