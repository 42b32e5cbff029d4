package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/cache"
)

// work is what the stores do not have at one moment.
type work struct {
	pending int64 // changes
	bytes   int64 // of them
	sent    int64 // bytes sent to the stores so far, ever growing
	// failing is how many changes failed at their last attempt, and first what
	// is the matter with the first of them.
	failing int64
	first   string
}

func (w *work) add(s cache.Status) {
	w.pending += s.PendingCount
	w.bytes += s.PendingBytes
	w.sent += s.Stats.UploadBytes
	for _, x := range s.Errors {
		w.problem(x)
	}
}

func (w *work) problem(x cache.Problem) {
	if w.failing++; w.first == "" {
		w.first = x.Kind
	}
}

// workOf sums up the work of several caches.
func workOf(all []cache.Status) (w work) {
	for _, s := range all {
		w.add(s)
	}
	return w
}

// pointless reports whether waiting stores nothing more: every change that is
// left was tried and failed for a reason that somebody has to see to.
func pointless(all []cache.Status) bool {
	left := int64(0)
	for _, s := range all {
		lasting := s.ErrorKinds["permission"] + s.ErrorKinds["quota"] + s.ErrorKinds["name"] + s.ErrorKinds["size"]
		if lasting < s.PendingCount {
			return false
		}
		left += s.PendingCount
	}
	return left > 0
}

// meter makes reports of the work at successive moments: how much is done, how
// fast, and how long the rest may take.
type meter struct {
	start       time.Time
	begin       work // at start
	peak        work // most that was pending
	doneBytes   int64
	doneChanges int64
	recent      []mark // the last rateOver
}

type mark struct {
	at   time.Time
	done int64 // bytes
}

// rateOver is the time over which the rate is measured: long enough for
// several parts of a large file, short enough to notice a stall.
const rateOver = 15 * time.Second

// report returns how it goes at now, when w is left.
func (m *meter) report(now time.Time, w work) endReport {
	if m.start.IsZero() {
		m.start, m.begin = now, w
	}
	m.peak.pending, m.peak.bytes = max(m.peak.pending, w.pending), max(m.peak.bytes, w.bytes)
	m.doneChanges = max(m.doneChanges, m.peak.pending-w.pending)
	// A large file is pending as a whole until it is complete, while bytes of it
	// are sent; what is copied inside the store is done without any sent.
	m.doneBytes = max(m.doneBytes, m.peak.bytes-w.bytes, min(w.sent-m.begin.sent, m.peak.bytes))
	m.recent = append(m.recent, mark{now, m.doneBytes})
	for len(m.recent) > 2 && now.Sub(m.recent[1].at) >= rateOver {
		m.recent = m.recent[1:]
	}
	r := endReport{
		Pending: w.pending, PendingBytes: min(w.bytes, m.peak.bytes-m.doneBytes),
		Stored: m.doneChanges, StoredBytes: m.doneBytes,
		Failing: w.failing, Problem: w.first,
	}
	first := m.recent[0]
	if span := now.Sub(first.at).Seconds(); span > 0 {
		r.Rate = int64(float64(m.doneBytes-first.done) / span)
	}
	if r.Rate > 0 {
		r.Left = time.Duration(float64(r.PendingBytes)/float64(r.Rate)*1000) * time.Millisecond
	}
	return r
}

// String returns the report as one line.
func (r endReport) String() string {
	if r.Pending == 0 {
		return "waiting for the stores: finishing"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "waiting for the stores: %d of %s", r.Stored, count(r.Stored+r.Pending, "change", "changes"))
	if total := r.StoredBytes + r.PendingBytes; total > 0 {
		fmt.Fprintf(&b, ", %s of %s", bytesOf(r.StoredBytes), bytesOf(total))
	}
	if r.Rate > 0 {
		fmt.Fprintf(&b, ", %s/s", humanize.IBytes(uint64(r.Rate)))
		if r.Left > 0 {
			fmt.Fprintf(&b, ", about %s left", max(time.Second, r.Left.Round(time.Second)))
		}
	}
	if r.Failing > 0 {
		fmt.Fprintf(&b, "; %d tried again (%s)", r.Failing, r.Problem)
	}
	return b.String()
}

// display shows reports while somebody waits: on a terminal as one line that is
// rewritten, elsewhere as a line from time to time.
type display struct {
	tty   *os.File          // nil: no terminal
	hint  string            // on a terminal, after the report
	plain func(r endReport) // says it elsewhere
	last  time.Time
}

// plainEvery is how often a report is a line of its own, and refreshEvery how
// often the one on a terminal is rewritten.
const (
	plainEvery   = 10 * time.Second
	refreshEvery = time.Second
)

// newDisplay returns a display on w, which prints plain lines there if w is no
// terminal.
func newDisplay(w io.Writer, hint string) *display {
	d := &display{hint: hint, last: time.Now(), plain: func(r endReport) { fmt.Fprintf(w, "agentfs: %s\n", r) }}
	if isTerminal(w) {
		d.tty = w.(*os.File)
	}
	return d
}

func (d *display) show(r endReport) {
	if d.tty != nil {
		line := r.String() + d.hint
		// A line that wraps can't be rewritten.
		if ws, err := unix.IoctlGetWinsize(int(d.tty.Fd()), unix.TIOCGWINSZ); err == nil && ws.Col > 0 && len(line) >= int(ws.Col) {
			line = line[:ws.Col-1]
		}
		fmt.Fprintf(d.tty, "\r%s\x1b[K", line)
		return
	}
	if now := time.Now(); now.Sub(d.last) >= plainEvery {
		d.last = now
		d.plain(r)
	}
}

// clear takes the line off the terminal.
func (d *display) clear() {
	if d.tty != nil {
		fmt.Fprint(d.tty, "\r\x1b[K")
	}
}

// watch calls tell with a report of the work every second until the returned
// function is called, which returns when it has ended. look answers false if
// the work can't be seen.
func watch(look func() (work, bool), tell func(endReport)) (stop func()) {
	quit, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		var m meter
		tick := time.NewTicker(refreshEvery)
		defer tick.Stop()
		if w, ok := look(); ok {
			m.report(time.Now(), w) // where it begins
		}
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				if w, ok := look(); ok {
					tell(m.report(time.Now(), w))
				}
			}
		}
	}()
	return func() {
		close(quit)
		<-stopped
	}
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
