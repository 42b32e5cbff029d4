package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/process"
	fusefs "github.com/agentfs/agentfs/fs"
)

// answerTimeout is how long a mount may take to answer from its control
// directory, which never waits for a store.
const answerTimeout = 5 * time.Second

// readStatus reads the status of the mount at point, through the mount.
func readStatus(point string) (mountStatus, error) {
	b, err := process.Within(answerTimeout, func() ([]byte, error) { return os.ReadFile(filepath.Join(point, controlDir, "status")) })
	var st mountStatus
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	switch {
	case errors.Is(err, process.ErrNoAnswer):
		return st, fmt.Errorf("%s: the mount does not answer; its process may be stopped (kill -CONT), or hang", point)
	case errors.Is(err, unix.ENOTCONN):
		return st, deadMountError{point}
	case errors.Is(err, fs.ErrPermission):
		return st, fmt.Errorf("%s: %w; ask as the user who mounted it", point, err)
	case errors.Is(err, fs.ErrNotExist):
		return st, fmt.Errorf("%s: not the mount point of an agentfs (findmnt shows what is mounted where)", point)
	case err != nil:
		return st, fmt.Errorf("%s: %w", point, err)
	}
	return st, nil
}

func (p *program) unmountCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "unmount MOUNTPOINT",
		Aliases: []string{"umount"},
		Short:   "Wait until everything is stored, and unmount",
		Long: `Unmount asks the mount's process to end: it waits until the stores have
everything, shows how that goes, unmounts and exits. The exit status is 0 only
if everything is stored; otherwise the message says what is not and where its
bytes are. A mount that a dead process left behind is cleared.

umount(8) and fusermount3 -u take the mount away at once and don't wait: the
mount's process then stores the rest in the background, and its exit status and
log say how that went.`,
		Example: `  agentfs unmount ~/mnt`,
		Args:    args(1, 1), ValidArgsFunction: completeDir,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.runUnmount(cmd.Context(), args[0], timeout)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "stop waiting after this time; the mount goes on ending (0: wait as long as it takes)")
	return cmd
}

func (p *program) runUnmount(ctx context.Context, arg string, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	point, err := resolvePoint(arg)
	if err != nil {
		return err
	}
	m, ok := mountAt(point)
	switch {
	case !ok:
		return fmt.Errorf("%s: nothing is mounted there", point)
	case !m.isAgentfs():
		return fmt.Errorf("%s: a file system of type %s is mounted there, not agentfs (umount %s)", point, m.fsType, shellQuote(point))
	case fusefs.Stale(point):
		if err := fusefs.ClearStale(point); err != nil {
			return err
		}
		fmt.Fprintf(p.err, "Its process was dead; the mount point %s is free again.\n", point)
		return nil
	}
	st, err := readStatus(point)
	if err != nil {
		return err
	}
	if now, err := startTicks(st.PID); err != nil || now != st.StartTicks {
		return fmt.Errorf("%s: its process, %d, is not visible from here; unmount it in the container or PID name space where it was mounted (or: fusermount3 -u %s)",
			point, st.PID, shellQuote(point))
	}
	var watch net.Conn
	if st.Outcome != "" {
		watch, err = dialOutcome(st.Outcome)
		if err == nil {
			defer watch.Close()
		}
	}
	if err := unix.Kill(st.PID, unix.SIGTERM); err != nil {
		return fmt.Errorf("%s: asking process %d to end: %w (it belongs to another user: sudo)", point, st.PID, err)
	}
	return p.awaitEnd(ctx, st, watch)
}

// awaitEnd waits until the mount's process has ended and returns how it went.
func (p *program) awaitEnd(ctx context.Context, st mountStatus, watch net.Conn) error {
	d := newDisplay(p.err, "")
	how := endReport{}
	err := errNoOutcome
	if watch != nil {
		stop := context.AfterFunc(ctx, func() { watch.Close() })
		how, err = follow(watch, d.show)
		stop()
		d.clear()
	}
	for isRunning(st.PID, st.StartTicks) {
		select {
		case <-ctx.Done():
			return notStoredError{fmt.Errorf("%s: process %d is still ending the mount and goes on; agentfs status shows what is pending",
				st.MountPoint, st.PID)}
		case <-time.After(20 * time.Millisecond):
		}
	}
	switch {
	case err != nil:
		return notStoredError{fmt.Errorf("%s: %w; whether everything is stored, its log and the cache directory %s know", st.MountPoint, err, st.CacheDir)}
	case how.Error != "":
		return notStoredError{fmt.Errorf("%s: %s", st.MountPoint, how.Error)}
	}
	fmt.Fprintf(p.err, "Everything is stored; %s is unmounted.\n", st.MountPoint)
	return nil
}
