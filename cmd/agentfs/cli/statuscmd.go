package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentfs/agentfs/cache"
	"github.com/agentfs/agentfs/cmd/agentfs/auditlog"
)

func (p *program) statusCommand() *cobra.Command {
	var asJSON bool
	var dir string
	cmd := &cobra.Command{
		Use:   "status MOUNTPOINT | status --cache-dir DIR",
		Short: "Show what is mounted and what is not stored yet",
		Long: `Status shows the routes of a mount, what waits to be stored, what can't be
stored and why, and conflicts. The same, in full, is in the mount's control
directory: .agentfs/status (JSON, as --json prints it), routes, pending, errors,
conflicts, and stats for Prometheus. With --cache-dir it shows what the cache
directory holds for every store, what of it is not stored and who uses it, also
when nothing is mounted.`,
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
	// Not to be found is not to be reported; the mount itself is what was asked.
	st.Left, _ = leftRooms(st.CacheDir)
	if asJSON {
		return p.printJSON(st)
	}
	writeStatus(p.out, st, shellQuote(point))
	return nil
}

// maxListed is how many things of a kind status lists; the control directory
// has them all.
const maxListed = 5

// writeStatus prints a mount's status for people; point is quoted.
func writeStatus(w io.Writer, st mountStatus, point string) {
	fmt.Fprintf(w, "%s: mounted for %s by process %d (agentfs %s)\n\n", st.MountPoint,
		time.Since(st.Started).Round(time.Second), st.PID, st.Version)
	writeRoutes(w, st)
	if st.Pending == 0 {
		fmt.Fprintln(w, "\nNothing waits to be stored.")
	} else {
		fmt.Fprintf(w, "\n%s (%s) to be stored; agentfs sync %s waits for that:\n",
			count(st.Pending, "change waits", "changes wait"), bytesOf(st.PendingBytes), point)
		pendingTable(w, st, maxListed)
	}
	if st.Errors > 0 {
		fmt.Fprintf(w, "\n%s not be stored so far and tried again:\n", count(st.Errors, "change could", "changes could"))
		n := 0
		for _, r := range st.Routes {
			for _, x := range errorsOf(r) {
				if n++; n <= maxListed {
					writeProblem(w, st, r, x)
				}
			}
		}
		if n > maxListed {
			fmt.Fprintf(w, "... and %d more (cat %s/.agentfs/errors)\n", n-maxListed, point)
		}
	}
	for _, r := range st.Routes {
		if r.Cache != nil && r.Cache.Damage != "" {
			fmt.Fprintf(w, "\n%s: the journal was damaged: %s\n", r.Path, printable(r.Cache.Damage))
		}
	}
	if st.Conflicts > 0 {
		fmt.Fprintf(w, "\n%s; both contents are kept, read both and remove one:\n", count(st.Conflicts, "conflict", "conflicts"))
		conflictTable(w, st)
	}
	if st.Audit != nil {
		writeAuditStatus(w, st.Audit)
	}
	if len(st.Left) > 0 {
		fmt.Fprintf(w, "\nLeft by mounts that have ended; agentfs recover --cache-dir %s stores it:\n", shellQuote(st.CacheDir))
		for _, r := range st.Left {
			fmt.Fprintf(w, "  %s: %s\n", r.Identity, pendingIn(r))
		}
	}
}

// writeAuditStatus prints where records go, and what had no room.
func writeAuditStatus(w io.Writer, a *auditlog.Status) {
	fmt.Fprintf(w, "\nOn record in %s: %s", printable(a.File), count(a.Written, "operation", "operations"))
	if a.Dropped > 0 {
		fmt.Fprintf(w, "; done without a record: %d", a.Dropped)
	}
	if a.Refused > 0 {
		fmt.Fprintf(w, "; refused for want of room: %d", a.Refused)
	}
	fmt.Fprintln(w, ".")
	if a.Problem != "" {
		fmt.Fprintf(w, "Records can't be written now, %d wait: %s\n", a.Queued, printable(a.Problem))
	}
}

func errorsOf(r routeStatus) []cache.Problem {
	if r.Cache == nil {
		return nil
	}
	return r.Cache.Errors
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
		switch {
		case r.Pending == 0:
		case r.Holder != nil, r.Pending < 0:
			fmt.Fprintf(p.out, "  %s\n", pendingIn(r))
		default:
			fmt.Fprintf(p.out, "  %s; %s\n", pendingIn(r), whoStores(dir))
		}
		if len(r.Kept) > 0 {
			fmt.Fprintf(p.out, "  %s could not be stored, kept here (agentfs recover --list --cache-dir %s shows what)\n", count(int64(len(r.Kept)), "file", "files"), shellQuote(dir))
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
