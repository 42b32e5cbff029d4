package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func (p *program) syncCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "sync PATH",
		Short: "Wait until the stores have everything below a mount point or directory",
		Long: `Sync waits until everything at and below PATH, the mount point or a directory
in the mount, is in the stores, and shows how that goes. If something can't be
stored it says what, and the exit status is 3; the mount keeps it and goes on
trying.

sync(1) and syncfs(2) can't do that: the kernel does not pass them on to a
mount like this.`,
		Example: `  agentfs sync ~/mnt && echo all of it is stored`,
		Args:    args(1, 1), ValidArgsFunction: completeDir,
		RunE: func(cmd *cobra.Command, args []string) error { return p.runSync(cmd.Context(), args[0], timeout) },
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "stop waiting after this time (0: wait as long as it takes)")
	return cmd
}

// runSync is fsync(2) of the directory, which a mount answers when everything
// below it is stored.
func (p *program) runSync(ctx context.Context, path string, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	d, err := os.Open(path)
	if err != nil {
		return whichMount(path, err)
	}
	defer d.Close()
	var fsType unix.Statfs_t
	if err := unix.Fstatfs(int(d.Fd()), &fsType); err == nil && fsType.Type != unix.FUSE_SUPER_MAGIC {
		return fmt.Errorf("%s: not in an agentfs (findmnt shows what is mounted where)", path)
	}
	point, within, seen := mountOf(path)
	show := newDisplay(p.err, "")
	stop := watch(func() (work, bool) {
		if !seen {
			return work{}, false
		}
		st, err := readStatus(point)
		return st.workBelow(within), err == nil
	}, show.show)
	done := make(chan error, 1)
	go func() {
		for {
			begin := time.Now()
			err := d.Sync()
			// Every call on a mount has a deadline, which is not that of the sync.
			atDeadline := errors.Is(err, unix.EIO) && time.Since(begin) > time.Second && seen && p.goesOn(point, within)
			if !atDeadline {
				done <- err
				return
			}
		}
	}()
	select {
	case err = <-done:
		stop()
		show.clear()
	case <-ctx.Done():
		stop()
		show.clear()
		left := ""
		if st, err := readStatus(point); seen && err == nil {
			w := st.workBelow(within)
			left = fmt.Sprintf(", %s (%s) left", count(w.pending, "change", "changes"), bytesOf(w.bytes))
		}
		return notStoredError{fmt.Errorf("%s: the stores don't have everything yet%s; the mount goes on, and agentfs status shows what is pending", path, left)}
	}
	if err != nil {
		failing := ""
		if seen {
			failing = p.failing(point, within)
		}
		return notStoredError{fmt.Errorf("%s: not everything could be stored: %w%s; the mount keeps it and tries again, see agentfs status",
			path, pathless(err), failing)}
	}
	return nil
}

// goesOn reports whether the mount is storing what is pending below one of its
// directories, and nothing there has failed.
func (p *program) goesOn(point, within string) bool {
	st, err := readStatus(point)
	w := st.workBelow(within)
	return err == nil && w.pending > 0 && w.failing == 0
}

// failing returns what can't be stored below a directory of a mount, for an
// error message.
func (p *program) failing(point, within string) string {
	st, err := readStatus(point)
	if err != nil {
		return ""
	}
	var b strings.Builder
	n := 0
	for _, r := range st.Routes {
		if r.Cache == nil {
			continue
		}
		for _, x := range r.Cache.Errors {
			if !isBelow(r.on("/", x.Name), within) {
				continue
			}
			if n++; n <= maxBrief {
				fmt.Fprintf(&b, "; %s %s: %s", x.Op, printable(r.on(point, x.Name)), printable(x.Error))
			}
		}
	}
	if n > maxBrief {
		fmt.Fprintf(&b, "; and %d more", n-maxBrief)
	}
	return b.String()
}

// mountOf returns the mount point of the agentfs in which path lies, and the
// path within it, from a slash on.
func mountOf(path string) (point, within string, ok bool) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	for p := path; ; p = filepath.Dir(p) {
		if m, ok := mountAt(p); ok {
			return p, "/" + strings.TrimPrefix(strings.TrimPrefix(path, p), "/"), m.isAgentfs()
		}
		if p == "/" {
			return "", "", false
		}
	}
}
