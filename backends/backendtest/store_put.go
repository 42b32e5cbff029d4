package backendtest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
)

var storePutUnits = []unit[*storeEnv]{
	{"Put/Replace", func(e *storeEnv) {
		seen := map[backends.Version]string{}
		for _, content := range []string{"one", "a longer second content", "", "two", "x"} {
			v := e.put("d/f", content).Version
			if other, ok := seen[v]; ok {
				e.Fatalf("contents %q and %q have the same version %q", other, content, v)
			}
			seen[v] = content
			e.wantContent("d/f", content)
			if got := e.stat("d/f").Version; got != v {
				e.Fatalf("Put returned version %q, Stat has %q", v, got)
			}
		}
		e.wantList("d", "f")
	}},
	{"Put/Parents", func(e *storeEnv) {
		e.put("a/b/c/f", "x")
		e.wantContent("a/b/c/f", "x")
		for _, dir := range []string{"a", "a/b", "a/b/c"} {
			if !e.stat(dir).IsDir() {
				e.Errorf("%s did not come into being with the file below it", dir)
			}
		}
		e.wantList("a/b", "c/")
	}},
	{"Put/OnDir", func(e *storeEnv) {
		e.mkdir("empty")
		e.put("full/f", "x")
		for _, name := range []string{"empty", "full", "."} {
			_, err := e.s.Put(e.ctx, name, section("x"), backends.PutOptions{})
			e.wantErr(err, backends.ErrIsDir, "Put(%q)", name)
		}
		e.wantList(".", "empty/", "full/")
	}},
	{"Put/BelowFile", func(e *storeEnv) {
		e.put("f", "x")
		_, err := e.s.Put(e.ctx, "f/below", section("y"), backends.PutOptions{})
		if err != nil {
			e.wantErr(err, backends.ErrNotDir, "Put below a file")
			e.wantContent("f", "x")
			return
		}
		// The store holds both: the directory hides the file.
		if !e.stat("f").IsDir() {
			e.Fatal("a name with something below it is not a directory")
		}
		e.wantContent("f/below", "y")
		e.wantList(".", "f/")
	}},
	{"Put/Large", func(e *storeEnv) {
		if testing.Short() {
			e.Skip("20 MiB: not with -short")
		}
		content := patterned(20<<20+17, 3)
		e.put("large", content)
		e.wantContent("large", content)
		got, _, err := e.read("large", backends.Range{Off: 16<<20 - 5, Len: 1 << 20}, backends.If{})
		if err != nil || got != content[16<<20-5:17<<20-5] {
			e.Fatalf("a range of a large file is wrong (%v)", err)
		}
		e.put("large", "small again")
		e.wantContent("large", "small again")
	}},
	{"Put/SectionOfBody", func(e *storeEnv) {
		// The body may be a section that doesn't begin at its reader's start.
		r := strings.NewReader("0123456789")
		if _, err := e.s.Put(e.ctx, "f", io.NewSectionReader(r, 2, 5), backends.PutOptions{}); err != nil {
			e.Fatal(err)
		}
		e.wantContent("f", "23456")
		// Nor does its position matter.
		body := io.NewSectionReader(r, 0, 10)
		if _, err := body.Seek(7, io.SeekStart); err != nil {
			e.Fatal(err)
		}
		if _, err := e.s.Put(e.ctx, "f", body, backends.PutOptions{}); err != nil {
			e.Fatal(err)
		}
		e.wantContent("f", "0123456789")
	}},
	{"Put/BodyFails", func(e *storeEnv) {
		e.put("f", "old")
		for _, name := range []string{"f", "fresh"} {
			body := io.NewSectionReader(failingReader{good: 100 << 10}, 0, 300<<10)
			if _, err := e.s.Put(e.ctx, name, body, backends.PutOptions{}); err == nil {
				e.Fatalf("Put(%q) of a body that can't be read reported success", name)
			}
		}
		e.wantContent("f", "old")
		e.wantGone("fresh")
		e.wantList(".", "f")
	}},
	{"Put/Attr", func(e *storeEnv) {
		mtime := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
		e.putWith("f", "x", backends.PutOptions{Attr: backends.AttrChange{
			Set: backends.SetMode | backends.SetMtime, Mode: 0o640, Mtime: mtime,
		}})
		e.wantContent("f", "x")
		got := e.stat("f")
		if p := got.Mode.Perm(); p != 0 && p != 0o640 {
			e.Errorf("the mode is %v, want 0640 or none kept", p)
		}
		if got.Mode.Perm() != 0 && !closeEnough(got.ModTime, mtime) && time.Since(got.ModTime).Abs() > time.Hour {
			e.Errorf("ModTime is %v, neither as set nor the time of the Put", got.ModTime)
		}
		if got.Mode&fs.ModeType != 0 {
			e.Errorf("the mode is %v, want a regular file", got.Mode)
		}
	}},
	{"Put/AtomicForReaders", func(e *storeEnv) {
		const size = 256 << 10
		contents := [2]string{patterned(size, 1), patterned(size, 2)}
		e.put("f", contents[0])
		var done atomic.Bool
		var reads atomic.Int64
		parallel(5, func(i int) {
			if i == 0 {
				defer done.Store(true)
				for n := 0; n < 50 || (reads.Load() == 0 && n < 1000); n++ {
					if _, err := e.s.Put(e.ctx, "f", section(contents[n%2]), backends.PutOptions{}); err != nil {
						e.Errorf("Put: %v", err)
						return
					}
				}
				return
			}
			for !done.Load() {
				got, entry, err := e.read("f", backends.Range{}, backends.If{})
				if errors.Is(err, backends.ErrChanged) {
					continue
				}
				if err != nil {
					e.Errorf("Open beside a Put: %v", err)
					return
				}
				if entry.Size != size || got != contents[0] && got != contents[1] {
					e.Errorf("a reader beside a Put saw %s, neither the old content nor the new", brief(got))
					return
				}
				reads.Add(1)
			}
		})
		e.wantList(".", "f")
	}},
	{"Put/Concurrent", func(e *storeEnv) {
		// New names in one new directory, made by many at once.
		const n = 8
		parallel(n, func(i int) {
			for j := range 5 {
				name := fmt.Sprintf("new/dir/f%d-%d", i, j)
				if _, err := e.s.Put(e.ctx, name, section(name), backends.PutOptions{}); err != nil {
					e.Errorf("Put(%q): %v", name, err)
				}
			}
		})
		if got := len(e.list("new/dir", "")); got != n*5 {
			e.Fatalf("%d names after %d Puts", got, n*5)
		}
		e.wantContent("new/dir/f3-2", "new/dir/f3-2")
	}},
}

// failingReader reads zeros up to offset good and fails beyond.
type failingReader struct{ good int64 }

var errBody = errors.New("the body can't be read")

func (r failingReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.good {
		return 0, errBody
	}
	clear(p)
	return len(p), nil
}
