package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
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
	if err == nil {
		m.log.Info("the mount has ended, and everything is stored", "mountpoint", m.point)
	} else {
		report.Pending, report.Error = m.work().pending, err.Error()
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
	defer stop()
	// While the mount is there its own programs see what is pending. What
	// fails here is tried once more when the file systems are closed.
	if err := backends.SyncDirAt(ctx, m.files, m.files.Root()); err != nil {
		m.log.Warn("not everything could be stored yet", "err", briefly(err))
	}
	m.unmount()
	bound := fmt.Sprintf("--drain-timeout was %s", m.drainTimeout)
	if pointless(m.states()) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, lastTry)
		defer cancel()
		bound = "to wait longer would not help"
	}
	err := m.release(ctx)
	if ctx.Err() == nil {
		bound = ""
	}
	return m.endError(err, bound)
}

// lastTry is how long the end of a mount still waits when it has turned out
// that waiting stores nothing more.
const lastTry = 10 * time.Second

// endError returns what is to be said of a mount that has ended with err: nil
// if everything is stored. bound says why the wait for the stores was no
// longer, if it was cut off.
func (m *mounted) endError(err error, bound string) error {
	var left []cache.RoomStatus
	rooms, roomsErr := cache.Rooms(m.cacheDir)
	if roomsErr != nil {
		m.log.Warn("looking for what is not stored failed", "cache_dir", m.cacheDir, "err", roomsErr)
	}
	for _, r := range rooms {
		if r.Pending > 0 && m.serves(r.Identity) {
			left = append(left, r)
		}
	}
	if err == nil && len(left) == 0 {
		return nil
	}
	return notStoredError{errors.New(notStored(err, bound, left, m.cacheDir))}
}

// notStored says what is not stored at the end of a mount, why, where its
// bytes are and what to do.
func notStored(err error, bound string, left []cache.RoomStatus, cacheDir string) string {
	msg := "not everything is stored"
	if err != nil {
		msg += ": " + briefly(err)
	}
	if bound != "" {
		msg += " (" + bound + ")"
	}
	for _, r := range left {
		msg += fmt.Sprintf("; %s of %s in the journal in %s", count(r.Pending, "change", "changes"), r.Identity, r.Dir)
	}
	if len(left) > 0 {
		return msg + "; " + whoStores(cacheDir)
	}
	return msg + "; nothing uploads it by itself any more: agentfs recover --list --cache-dir " + shellQuote(cacheDir) + " shows what is kept"
}

// whoStores says how what is pending in a journal comes into its store.
func whoStores(cacheDir string) string {
	return "the next mount of the same store, or agentfs recover --cache-dir " + shellQuote(cacheDir) + ", stores the rest"
}

// serves reports whether one of the mount's routes stores what is cached under
// this identity.
func (m *mounted) serves(identity string) bool {
	for _, r := range m.routes {
		if r.cache != nil && !r.readOnly && r.cache.Identity() == identity {
			return true
		}
	}
	return false
}

// maxBrief is how many errors of many a message shows.
const maxBrief = 5

// briefly returns err on one line, cut where it is many.
func briefly(err error) string {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) > maxBrief {
		lines = append(lines[:maxBrief:maxBrief], fmt.Sprintf("and %d more", len(lines)-maxBrief))
	}
	return strings.Join(lines, "; ")
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

// abandon ends the process at once and says what is not stored. The journal
// has it all by then, so nothing is written down here.
func (m *mounted) abandon(tty io.Writer) {
	states := m.states()
	w := workOf(states)
	m.unmount()
	status := exitFailed
	msg := "nothing known is waiting to be stored"
	if w.pending > 0 {
		status = exitNotStored
		msg = fmt.Sprintf("not stored, but in the journal: %s (%s)", count(w.pending, "change", "changes"), bytesOf(w.bytes))
		for _, s := range states {
			if s.PendingCount > 0 {
				msg += fmt.Sprintf("; %d of %s in %s", s.PendingCount, s.Store, s.Room)
			}
		}
		msg += "; " + whoStores(m.cacheDir)
	}
	msg = "ended at once by a second signal: " + msg
	m.log.Error(msg, "mountpoint", m.point, "pending", w.pending)
	fmt.Fprintf(tty, "agentfs: %s\n", msg)
	m.outcome.report(endReport{Done: true, Pending: w.pending, PendingBytes: w.bytes, Error: msg})
	closeAudit(m.audit, m.log)
	os.Exit(status)
}

// showProgress tells those who wait for the end how it goes, until the
// returned function is called: the terminal or else the log, and whoever
// listens at the socket.
func (m *mounted) showProgress(tty io.Writer) (stop func()) {
	d := newDisplay(tty, " (Ctrl-C again ends at once)")
	d.plain = func(r endReport) { m.log.Info(r.String(), "mountpoint", m.point) }
	end := watch(func() (work, bool) { return m.work(), true }, func(r endReport) {
		m.outcome.report(r)
		d.show(r)
	})
	return func() {
		end()
		d.clear()
	}
}

// states returns the states of all caches that store anything.
func (m *mounted) states() (all []cache.Status) {
	for _, r := range m.routes {
		if r.cache != nil && !r.readOnly {
			all = append(all, r.cache.State())
		}
	}
	return all
}

// work returns what is not stored yet.
func (m *mounted) work() work { return workOf(m.states()) }
