package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	fusefs "github.com/agentfs/agentfs/fs"
)

// signals delivers what ends a mount.
type signals struct {
	end    chan os.Signal // SIGINT and SIGTERM, one by one
	hangup chan os.Signal // the terminal was closed
}

func watchSignals() *signals {
	s := &signals{end: make(chan os.Signal, 2), hangup: make(chan os.Signal, 1)}
	signal.Notify(s.end, unix.SIGINT, unix.SIGTERM)
	if !signal.Ignored(unix.SIGHUP) { // as under nohup(1)
		signal.Notify(s.hangup, unix.SIGHUP)
	}
	// A reader of our output that goes away must not end the mount.
	signal.Ignore(unix.SIGPIPE)
	return s
}

func (s *signals) stop() {
	signal.Stop(s.end)
	signal.Stop(s.hangup)
}

// serve waits for the end of the mount, by a signal or by an unmount from
// outside, and ends it in order. It is not nil if something is not stored.
func (m *mounted) serve(sig *signals, tty io.Writer) error {
	gone := make(chan struct{})
	go func() {
		m.server.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		m.log.Info("unmounted from outside", "mountpoint", m.point)
	case s := <-sig.end:
		m.log.Info("ending the mount", "mountpoint", m.point, "signal", s.String())
	case <-sig.hangup:
		m.log.Info("ending the mount", "mountpoint", m.point, "signal", "hangup")
	}
	// The second signal ends it at once, whatever the first one waits for.
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-sig.end:
			m.abandon(tty)
		case <-done:
		}
	}()
	err := m.end(tty)
	report := endReport{Done: true}
	if err != nil {
		report.Error = err.Error()
	}
	m.outcome.report(report)
	m.outcome.close()
	return err
}

// end makes everything durable, unmounts and releases the stores.
func (m *mounted) end(tty io.Writer) error {
	ctx := context.Background()
	if m.drainTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, m.drainTimeout)
		defer cancel()
	}
	stop := m.showProgress(tty)
	// While the mount is there its own programs see what is pending. What
	// fails here is tried once more when the file systems are closed.
	if err := backends.SyncDirAt(ctx, m.files, m.files.Root()); err != nil {
		m.log.Warn("not everything could be stored yet", "err", err)
	}
	m.unmount()
	err := m.release(ctx)
	stop()
	if err == nil {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w (--drain-timeout was %s)", err, m.drainTimeout)
	}
	return notStoredError{fmt.Errorf("not everything is stored: %w; nothing uploads it by itself any more: agentfs recover --cache-dir %s shows what is kept", err, shellQuote(m.cacheDir))}
}

// unmount takes the mount away. If programs still use it, it says which and
// detaches it: they keep what they have open until the process ends.
func (m *mounted) unmount() {
	err := m.server.Unmount()
	var busy *fusefs.BusyError
	switch {
	case errors.As(err, &busy):
		m.log.Warn("the mount point is in use; its users get errors from now on", "mountpoint", m.point, "err", err)
	case err != nil:
		m.log.Error("unmounting failed", "mountpoint", m.point, "err", err)
	}
}

// abandon ends the process at once and says what is not stored.
func (m *mounted) abandon(tty io.Writer) {
	pending := m.pending()
	m.unmount()
	status := exitFailed
	msg := "nothing known is waiting to be stored"
	if pending > 0 {
		status = exitNotStored
		// The next mount of the store empties the content directory.
		msg = fmt.Sprintf("%s not stored; what was written lies in %s until the same store is mounted again",
			count(pending, "file is", "files are"), filepath.Join(m.cacheDir, "rooms", "*", "content"))
	}
	msg = "ended at once by a second signal: " + msg
	m.log.Error(msg, "mountpoint", m.point, "pending", pending)
	fmt.Fprintf(tty, "agentfs: %s\n", msg)
	m.outcome.report(endReport{Done: true, Pending: pending, Error: msg})
	os.Exit(status)
}

// showProgress tells those who wait for the end how much is pending, until
// the returned function is called.
func (m *mounted) showProgress(tty io.Writer) (stop func()) {
	quit, stopped := make(chan struct{}), make(chan struct{})
	show := isTerminal(tty)
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				n := m.pending()
				m.outcome.report(endReport{Pending: n})
				if show {
					fmt.Fprintf(tty, "\rwaiting for the stores: %s pending (Ctrl-C again ends at once) ", count(n, "file", "files"))
				}
			}
		}
	}()
	return func() {
		close(quit)
		<-stopped
		if show {
			fmt.Fprint(tty, "\r\x1b[K")
		}
	}
}

// pending returns how many files are not stored yet, as far as the file
// systems say.
func (m *mounted) pending() (n int64) {
	for _, r := range m.routes {
		_, waiting, _ := r.cacheStatus()
		n += waiting
	}
	return n
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
