package backendtest

import (
	"context"
	"io"
	"time"

	"github.com/agentfs/agentfs/backends"
)

var storeContextUnits = []unit[*storeEnv]{
	{"Context/Cancelled", func(e *storeEnv) {
		// With a context that is over, a call either does its work all the
		// same or answers the context's error, at once.
		e.put("f", "old")
		e.put("g", "old")
		ctx, cancel := context.WithCancel(e.ctx)
		cancel()
		start := time.Now()
		for op, call := range map[string]func() error{
			"Stat": func() error { _, err := e.s.Stat(ctx, "f"); return err },
			"List": func() error { _, err := collect(e.s.List(ctx, ".", "")); return err },
			"Open": func() error {
				rc, _, err := e.s.Open(ctx, "f", backends.Range{}, backends.If{})
				if err == nil {
					_, err = io.ReadAll(rc)
					rc.Close()
				}
				return err
			},
			"Put":    func() error { _, err := e.s.Put(ctx, "f", section("new"), backends.PutOptions{}); return err },
			"Mkdir":  func() error { return e.s.Mkdir(ctx, "d", backends.AttrChange{}) },
			"Remove": func() error { return e.s.Remove(ctx, "g", backends.If{}) },
		} {
			if err := call(); err != nil {
				e.wantErr(err, context.Canceled, "%s with a cancelled context", op)
			}
		}
		if took := time.Since(start); took > 10*time.Second {
			e.Errorf("calls with a cancelled context took %v", took)
		}
		got, _, err := e.read("f", backends.Range{}, backends.If{})
		if err != nil || got != "old" && got != "new" {
			e.Fatalf("after a cancelled Put the content is %q, %v", got, err)
		}
	}},
	{"Context/Deadline", func(e *storeEnv) {
		e.put("f", "old")
		ctx, cancel := context.WithDeadline(e.ctx, time.Now().Add(-time.Second))
		defer cancel()
		if _, err := e.s.Stat(ctx, "f"); err != nil {
			e.wantErr(err, context.DeadlineExceeded, "Stat beyond its deadline")
		}
		if _, err := e.s.Put(ctx, "f", section("new"), backends.PutOptions{}); err != nil {
			e.wantErr(err, context.DeadlineExceeded, "Put beyond its deadline")
		}
	}},
	{"Context/CancelledPut", func(e *storeEnv) {
		// Cancelled while the body is being read: old or new, never a part.
		const size = 6 << 20
		old := patterned(size, 1)
		fresh := patterned(size, 2)
		e.put("f", old)
		ctx, cancel := context.WithCancel(e.ctx)
		defer cancel()
		body := cancellingReader{section(fresh), cancel}
		_, err := e.s.Put(ctx, "f", io.NewSectionReader(body, 0, size), backends.PutOptions{})
		if err != nil {
			e.wantErr(err, context.Canceled, "Put that was cancelled")
		}
		got, _, rerr := e.read("f", backends.Range{}, backends.If{})
		if rerr != nil || got != fresh && (got != old || err == nil) {
			e.Fatalf("after a cancelled Put (%v) the content is %s, %v", err, brief(got), rerr)
		}
		e.wantList(".", "f")
		e.put("f", "usable")
		e.wantContent("f", "usable")
	}},
}

// cancellingReader cancels a context once something beyond the middle of it is
// read.
type cancellingReader struct {
	*io.SectionReader
	cancel func()
}

func (r cancellingReader) ReadAt(p []byte, off int64) (int, error) {
	if off > r.Size()/2 {
		r.cancel()
	}
	return r.SectionReader.ReadAt(p, off)
}
