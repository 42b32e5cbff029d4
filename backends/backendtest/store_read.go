package backendtest

import (
	"errors"
	"io"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

var storeReadUnits = []unit[*storeEnv]{
	{"Stat/Root", func(e *storeEnv) {
		root := e.stat(".")
		if root.Name != "." || !root.IsDir() {
			e.Fatalf("the root's entry is %+v, want a directory named \".\"", root)
		}
		e.wantList(".")
	}},
	{"Stat/Missing", func(e *storeEnv) {
		e.wantGone("a")
		e.wantGone("a/b/c")
		e.put("file", "x")
		e.wantGone("fil")
		e.wantGone("file2")
		_, err := e.s.Stat(e.ctx, "file/below")
		wantErrOf(e.T, err, []error{errNotExist, backends.ErrNotDir}, "Stat below a file")
	}},
	{"Stat/File", func(e *storeEnv) {
		put := e.put("dir/file", "hello")
		got := e.stat("dir/file")
		if got.Name != "dir/file" || got.Size != 5 || !got.Mode.IsRegular() || got.Version != put.Version {
			e.Fatalf("Stat returned %+v after a Put that returned %+v", got, put)
		}
		if got.ModTime.IsZero() {
			e.Fatal("Stat of a file has no ModTime")
		}
	}},
	{"Stat/Dir", func(e *storeEnv) {
		e.put("implied/deep/file", "x")
		e.mkdir("made")
		for _, name := range []string{"implied", "implied/deep", "made"} {
			d := e.stat(name)
			if d.Name != name || !d.IsDir() || d.Size != 0 || d.Version != "" {
				e.Fatalf("Stat(%q) = %+v, want a directory without size or version", name, d)
			}
		}
	}},
	{"Open/Whole", func(e *storeEnv) {
		put := e.put("f", "0123456789")
		got, entry, err := e.read("f", backends.Range{}, backends.If{})
		if err != nil || got != "0123456789" {
			e.Fatalf("Open = %q, %v", got, err)
		}
		if entry.Name != "f" || entry.Size != 10 || entry.Version != put.Version {
			e.Fatalf("Open returned %+v, want the entry of Put, %+v", entry, put)
		}
	}},
	{"Open/Range", func(e *storeEnv) {
		const content = "0123456789"
		e.put("f", content)
		for _, c := range []struct {
			r    backends.Range
			want string
		}{
			{backends.Range{Off: 0, Len: 1}, "0"},
			{backends.Range{Off: 3, Len: 4}, "3456"},
			{backends.Range{Off: 9, Len: 1}, "9"},
			{backends.Range{Off: 4}, "456789"},
			{backends.Range{Off: 8, Len: 100}, "89"},
			{backends.Range{Off: 0, Len: 100}, content},
			{backends.Range{Off: 10}, ""},
			{backends.Range{Off: 10, Len: 5}, ""},
			{backends.Range{Off: 1 << 40, Len: 5}, ""},
		} {
			got, entry, err := e.read("f", c.r, backends.If{})
			if err != nil || got != c.want {
				e.Fatalf("Open(%+v) = %q, %v, want %q", c.r, got, err, c.want)
			}
			if entry.Size != int64(len(content)) {
				e.Fatalf("Open(%+v) returned an entry of size %d, want the whole file's, %d", c.r, entry.Size, len(content))
			}
		}
	}},
	{"Open/EmptyFile", func(e *storeEnv) {
		e.put("f", "")
		for _, r := range []backends.Range{{}, {Off: 5}, {Len: 5}} {
			if got, entry, err := e.read("f", r, backends.If{}); err != nil || got != "" || entry.Size != 0 {
				e.Fatalf("Open(%+v) of an empty file = %q, %+v, %v", r, got, entry, err)
			}
		}
	}},
	{"Open/Missing", func(e *storeEnv) {
		_, _, err := e.read("nope", backends.Range{}, backends.If{})
		e.wantErr(err, errNotExist, "Open of a missing name")
		_, _, err = e.read("nope", backends.Range{Off: 3, Len: 2}, backends.If{})
		e.wantErr(err, errNotExist, "Open of a range of a missing name")
	}},
	{"Open/Dir", func(e *storeEnv) {
		e.put("d/f", "x")
		e.mkdir("empty")
		for _, name := range []string{".", "d", "empty"} {
			_, _, err := e.read(name, backends.Range{}, backends.If{})
			e.wantErr(err, backends.ErrIsDir, "Open(%q)", name)
		}
	}},
	{"Open/IfMatch", func(e *storeEnv) {
		old := e.put("f", "old content")
		got, _, err := e.read("f", backends.Range{Off: 4}, backends.If{Match: old.Version})
		if err != nil || got != "content" {
			e.Fatalf("Open of the right version = %q, %v", got, err)
		}
		e.put("f", "new content")
		for _, r := range []backends.Range{{}, {Off: 4, Len: 3}, {Off: 100}} {
			_, _, err := e.read("f", r, backends.If{Match: old.Version})
			e.wantErr(err, backends.ErrChanged, "Open(%+v) of a version that was replaced", r)
		}
		e.remove("f")
		_, _, err = e.read("f", backends.Range{}, backends.If{Match: old.Version})
		wantErrOf(e.T, err, []error{backends.ErrChanged, errNotExist}, "Open of a version whose name is gone")
	}},
	{"Open/BoundToVersion", func(e *storeEnv) {
		// Larger than what a socket and its buffers hold.
		old := patterned(8<<20, 1)
		e.put("f", old)
		check := func(change func()) {
			rc, _, err := e.s.Open(e.ctx, "f", backends.Range{}, backends.If{})
			if err != nil {
				e.Fatal(err)
			}
			defer rc.Close()
			head := make([]byte, 1000)
			if _, err := io.ReadFull(rc, head); err != nil {
				e.Fatal(err)
			}
			change()
			rest, err := io.ReadAll(rc)
			got := string(head) + string(rest)
			if !strings.HasPrefix(old, got) {
				e.Fatal("a reader saw bytes of another version than the one it opened")
			}
			if err == nil && len(got) != len(old) {
				e.Fatalf("a reader of %d bytes ended after %d without an error", len(old), len(got))
			}
			if err != nil && !errors.Is(err, backends.ErrChanged) {
				e.Fatalf("a reader whose file was replaced failed with %v, want ErrChanged or the old content", err)
			}
		}
		check(func() { e.put("f", patterned(8<<20, 2)) })
		e.put("f", old)
		check(func() { e.put("f", "short") })
		e.put("f", old)
		check(func() { e.remove("f") })
	}},
	{"Open/CloseEarly", func(e *storeEnv) {
		e.put("f", patterned(4<<20, 1))
		for range 20 {
			rc, _, err := e.s.Open(e.ctx, "f", backends.Range{}, backends.If{})
			if err != nil {
				e.Fatal(err)
			}
			if _, err := rc.Read(make([]byte, 10)); err != nil {
				e.Fatal(err)
			}
			if err := rc.Close(); err != nil {
				e.Fatalf("Close in the middle: %v", err)
			}
		}
		e.wantContent("f", patterned(4<<20, 1))
	}},
}
