package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentfs/agentfs/cache"
)

func (p *program) statusCommand() *cobra.Command {
	var asJSON bool
	var dir string
	cmd := &cobra.Command{
		Use:   "status MOUNTPOINT | status --cache-dir DIR",
		Short: "Show what is mounted and what is not stored yet",
		Long: `Status shows the routes of a mount, what waits to be stored and conflicts. With
--cache-dir it shows what the cache directory holds and who uses it, also when
nothing is mounted.`,
		Example: `  agentfs status ~/mnt
  agentfs status --json ~/mnt | jq .pending
  agentfs status --cache-dir ~/.cache/agentfs`,
		Args: args(0, 1), ValidArgsFunction: completeDir,
		RunE: func(_ *cobra.Command, args []string) error {
			switch {
			case dir != "" && len(args) > 0:
				return usagef("status takes a mount point or --cache-dir, not both")
			case dir != "":
				return p.cacheStatus(dir, asJSON)
			case len(args) == 0:
				return usagef("arguments are missing: it is agentfs status MOUNTPOINT, or agentfs status --cache-dir DIR")
			}
			return p.mountStatus(args[0], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&dir, "cache-dir", "", "show the rooms of this cache directory instead of a mount")
	must(cmd.MarkFlagDirname("cache-dir"))
	return cmd
}

func (p *program) mountStatus(arg string, asJSON bool) error {
	point, err := resolvePoint(arg)
	if err != nil {
		return err
	}
	st, err := readStatus(point)
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(st)
	}
	fmt.Fprintf(p.out, "%s: mounted for %s by process %d (agentfs %s)\n\n", st.MountPoint,
		time.Since(st.Started).Round(time.Second), st.PID, st.Version)
	writeRoutes(p.out, st)
	switch st.Pending {
	case 0:
		fmt.Fprintln(p.out, "\nNothing waits to be stored.")
	default:
		fmt.Fprintf(p.out, "\n%s to be stored; agentfs sync %s waits for that.\n", count(st.Pending, "file waits", "files wait"), shellQuote(point))
	}
	if st.Conflicts > 0 {
		fmt.Fprintf(p.out, "%s: look for NAME.conflict-HOST-TIME beside the files.\n", count(st.Conflicts, "conflict", "conflicts"))
	}
	return nil
}

// count returns n and the word for so many.
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func (p *program) printJSON(v any) error {
	e := json.NewEncoder(p.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (p *program) cacheStatus(dir string, asJSON bool) error {
	rooms, err := p.rooms(dir)
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(rooms)
	}
	if len(rooms) == 0 {
		fmt.Fprintf(p.out, "%s holds nothing of any store.\n", dir)
	}
	for _, r := range rooms {
		who := "not in use"
		if r.Holder != nil {
			who = fmt.Sprintf("in use by process %d at %s since %s", r.Holder.PID, r.Holder.MountPoint, r.Holder.Since.Format(time.DateTime))
		}
		fmt.Fprintf(p.out, "%s\n  %s; in %s\n", r.Identity, who, r.Dir)
		if len(r.Kept) > 0 {
			fmt.Fprintf(p.out, "  %s could not be stored (agentfs recover --cache-dir %s shows what)\n", count(int64(len(r.Kept)), "file", "files"), shellQuote(dir))
		}
	}
	return nil
}

// rooms returns the rooms of the cache directory, which must be there: a
// mistyped one would look like one that holds nothing.
func (p *program) rooms(dir string) ([]cache.RoomStatus, error) {
	dir, err := absolute(dir, ".")
	if err != nil {
		return nil, usagef("--cache-dir: %w", err)
	}
	if _, err := os.ReadDir(dir); err != nil {
		return nil, fmt.Errorf("cache directory: %w", err)
	}
	return cache.Rooms(dir)
}
