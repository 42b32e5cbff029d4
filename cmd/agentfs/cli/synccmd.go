package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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
in the mount, is in the stores. sync(1) can't do that: the kernel does not pass
it on to a mount like this.`,
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
	done := make(chan error, 1)
	go func() { done <- d.Sync() }()
	select {
	case err = <-done:
	case <-ctx.Done():
		return notStoredError{fmt.Errorf("%s: the stores don't have everything yet; agentfs status shows what is pending", path)}
	}
	if err != nil {
		return notStoredError{fmt.Errorf("%s: not everything could be stored: %w; agentfs status and the mount's log say what", path, err)}
	}
	return nil
}
