package auditlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/audit"
)

// WhenFull says what happens when there is no room for a record.
type WhenFull string

const (
	// Drop does the operation without a record and counts it.
	Drop WhenFull = "drop"
	// Refuse does not do the operation.
	Refuse WhenFull = "refuse"
)

const (
	// DefaultMaxSize is when a file is rotated, DefaultKeep how many old ones
	// are kept, DefaultQueue how many records may wait.
	DefaultMaxSize = 100 << 20
	DefaultKeep    = 5
	DefaultQueue   = 8192
	// MinQueue is the smallest queue: an open file takes two places.
	MinQueue = 16

	// recentBytes is how much Recent has.
	recentBytes = 1 << 20
	// batchRecords bounds what is written at once.
	batchRecords = 512

	minPause = 50 * time.Millisecond
	maxPause = 2 * time.Second
	// stalled is how long a write may take before it counts as a failure.
	stalled = time.Second
)

// Config says where records go.
type Config struct {
	// File is the path of the file. A named pipe or a device is written to as
	// it is.
	File string
	// MaxSize, in bytes, is when a file is rotated: FILE becomes FILE.1, and so
	// on up to Keep of them.
	MaxSize int64
	Keep    int
	// Queue is how many records may wait to be written.
	Queue    int
	WhenFull WhenFull
	Log      *slog.Logger
}

// Log takes records. It implements [audit.Log].
type Log struct {
	c    Config
	d    *Describer
	file file

	mu       sync.Mutex
	lines    [][]byte
	writing  int // lines that the writer has taken and not written
	reserved int
	lost     lost // since the last time that the queue had room
	closing  bool
	status   Status
	since    time.Time // when the write that goes on began; zero if none does
	recent   [][]byte
	size     int // of recent, in bytes

	wake chan struct{} // has an element if there may be something to write
	done chan struct{} // closed by the writer
}

// lost counts what had no room.
type lost struct {
	n     int64
	since time.Time
}

// Status is how it goes.
type Status struct {
	File     string   `json:"file"`
	WhenFull WhenFull `json:"when_full"`
	// Queued is how many records wait.
	Queued int64 `json:"queued"`
	// Written, Dropped and Refused are numbers of records since the start.
	Written int64 `json:"written"`
	Dropped int64 `json:"dropped"`
	Refused int64 `json:"refused"`
	// Problem says why nothing can be written now; empty if all is well.
	Problem string `json:"problem,omitempty"`
}

// Open starts a log. A file that can't be opened is an error now; one that
// fails later is a matter of WhenFull.
func Open(c Config, d *Describer) (*Log, error) {
	l := &Log{
		c: c, d: d, file: file{path: c.File, maxSize: c.MaxSize, keep: c.Keep, log: c.Log},
		wake: make(chan struct{}, 1), done: make(chan struct{}),
		status: Status{File: c.File, WhenFull: c.WhenFull},
	}
	// A pipe that has no reader yet may get one.
	if err := l.file.open(); err != nil && !errors.Is(err, errNoReader) {
		return nil, err
	}
	go l.write()
	return l, nil
}

// full reports whether n more records have no room. The caller holds l.mu.
func (l *Log) full(n int) bool { return len(l.lines)+l.writing+l.reserved+n > l.c.Queue }

// Reserve implements [audit.Log].
func (l *Log) Reserve(n int) error {
	if l.c.WhenFull != Refuse {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.full(n) {
		l.reserved += n
		return nil
	}
	l.status.Refused++
	l.lose("the audit can't keep up: operations are refused (EAGAIN) until it can", n)
	return fmt.Errorf("%w (%s)", backends.ErrNotRecorded, l.problemLocked(n))
}

// Release implements [audit.Log].
func (l *Log) Release(n int) {
	if l.c.WhenFull != Refuse {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserved -= n
}

// Record implements [audit.Log].
func (l *Log) Record(op *audit.Op) { l.record(op, l.c.WhenFull == Refuse) }

// Note records an operation that it is too late to refuse: without room it is
// dropped and counted, whatever WhenFull says.
func (l *Log) Note(op *audit.Op) { l.record(op, false) }

func (l *Log) record(op *audit.Op, reserved bool) {
	line := l.d.line(op)
	b := line.encode()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remember(b)
	switch {
	case reserved:
		l.reserved--
	case l.full(1) && l.c.WhenFull == Refuse:
		l.status.Dropped++
		return
	case l.full(1):
		l.status.Dropped++
		l.lose("the audit can't keep up: operations are done without a record until it can", 1)
		return
	}
	l.put(b)
}

// put queues a line. The caller holds l.mu.
func (l *Log) put(b []byte) {
	l.lines = append(l.lines, b)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// lose counts an operation whose n records had no room, and says so at the
// first. The caller holds l.mu.
func (l *Log) lose(msg string, n int) {
	if l.lost.n++; l.lost.n == 1 {
		l.lost.since = time.Now()
		l.c.Log.Error(msg, "file", l.c.File, "problem", l.problemLocked(n))
	}
}

// problemLocked says why n more records have no room, or why none is written;
// "" if all is well. The caller holds l.mu.
func (l *Log) problemLocked(n int) string {
	if l.status.Problem == "" && !l.since.IsZero() && time.Since(l.since) > stalled {
		return fmt.Sprintf("%s has taken nothing for %s", l.c.File, time.Since(l.since).Round(time.Second))
	}
	waiting := len(l.lines) + l.writing
	switch {
	case l.status.Problem != "" || !l.full(n):
		return l.status.Problem
	case l.reserved > waiting:
		return fmt.Sprintf("%d places of the queue of %d are held for the ends of open files: close some, or set a larger audit queue", l.reserved, l.c.Queue)
	}
	return fmt.Sprintf("%d records wait to be written", waiting)
}

// remember keeps a line for Recent. The caller holds l.mu.
func (l *Log) remember(b []byte) {
	l.recent = append(l.recent, b)
	l.size += len(b)
	drop := 0
	for l.size > recentBytes {
		l.size -= len(l.recent[drop])
		l.recent[drop] = nil
		drop++
	}
	l.recent = l.recent[drop:]
}

// Recent returns the newest records, about a megabyte of them, also those that
// are not in the file.
func (l *Log) Recent() []byte {
	l.mu.Lock()
	lines := slices.Clone(l.recent)
	l.mu.Unlock()
	return bytes.Join(lines, nil)
}

// Status returns how it goes.
func (l *Log) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.status
	s.Queued = int64(len(l.lines) + l.writing)
	s.Problem = l.problemLocked(1)
	return s
}

// write is the writer.
func (l *Log) write() {
	defer close(l.done)
	pause := minPause
	for {
		batch, end := l.take()
		if len(batch) == 0 {
			if end {
				return
			}
			<-l.wake
			continue
		}
		for len(batch) > 0 {
			n, err := l.file.write(batch)
			batch = batch[n:]
			l.wrote(n, err)
			if err == nil {
				pause = minPause
				continue
			}
			time.Sleep(pause)
			pause = min(2*pause, maxPause)
		}
	}
}

// take returns the next lines, and whether there will be no more.
func (l *Log) take() (batch [][]byte, end bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.lines), batchRecords)
	batch = l.lines[:n:n]
	l.lines = l.lines[n:]
	l.writing = n
	if n > 0 {
		l.since = time.Now()
	}
	return batch, l.closing && n == 0
}

// wrote notes what became of a write.
func (l *Log) wrote(n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writing -= n
	l.status.Written += int64(n)
	l.since = time.Time{}
	if l.writing > 0 {
		l.since = time.Now()
	}
	if err != nil {
		if problem := err.Error(); l.status.Problem != problem {
			l.status.Problem = problem
			l.c.Log.Warn("writing the audit failed; it is tried again", "err", err, "queued", len(l.lines)+l.writing)
		}
		return
	}
	l.status.Problem = ""
	if l.lost.n > 0 && !l.full(1) {
		l.recovered()
	}
}

// recovered says, in the log and in the audit, what had no room. The caller
// holds l.mu.
func (l *Log) recovered() {
	result := "dropped"
	if l.c.WhenFull == Refuse {
		result = "refused"
	}
	line := Line{
		Time: time.Now(), Op: OpAudit, Result: result, Count: l.lost.n, Since: &l.lost.since,
		PID: uint32(os.Getpid()), UID: uint32(os.Geteuid()),
	}
	l.c.Log.Warn("the audit works again", "file", l.c.File, result, l.lost.n, "since", l.lost.since)
	b := line.encode()
	l.lost = lost{}
	l.remember(b)
	l.put(b)
}

// Close ends the log when everything is written, or when ctx ends: the error
// then says how many records are lost.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	select {
	case <-l.done:
		return l.file.close()
	case <-ctx.Done():
	}
	s := l.Status()
	return fmt.Errorf("the audit's last %d records could not be written to %s: %s", s.Queued, s.File, s.Problem)
}
