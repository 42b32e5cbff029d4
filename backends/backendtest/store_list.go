package backendtest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/agentfs/agentfs/backends"
)

var storeListUnits = []unit[*storeEnv]{
	{"List/Order", func(e *storeEnv) {
		// "a-", "a." and "a/" sort before "a0": a directory compares with
		// its slash, not as the bare name.
		for _, name := range []string{"b", "a0", "a-", "a.txt", "B", "ab", "é", "~"} {
			e.put(name, name)
		}
		e.put("a/inner", "x")
		e.mkdir("ab.d")
		e.wantList(".", "B", "a-", "a.txt", "a/", "a0", "ab", "ab.d/", "b", "~", "é")
		e.wantList("a", "inner")
		e.wantList("ab.d")
	}},
	{"List/Complete", func(e *storeEnv) {
		e.put("d/file", "12345")
		e.mkdir("d/sub")
		e.put("d/implied/x", "1")
		for _, got := range e.list("d", "") {
			want := e.stat(got.Name)
			if got.Name != want.Name || got.Mode != want.Mode || got.Size != want.Size || got.Version != want.Version || !closeEnough(got.ModTime, want.ModTime) {
				e.Errorf("List has %+v where Stat has %+v", got, want)
			}
		}
	}},
	{"List/DirectChildrenOnly", func(e *storeEnv) {
		e.put("d/a/b/c", "x")
		e.put("d/f", "x")
		e.put("d2/f", "x")
		e.wantList("d", "a/", "f")
		e.wantList(".", "d/", "d2/")
	}},
	{"List/After", func(e *storeEnv) {
		for _, name := range []string{"d/a", "d/b.x", "d/b/x", "d/c", "d/e"} {
			e.put(name, "x")
		}
		all := []string{"a", "b.x", "b/", "c", "e"}
		e.wantList("d", all...)
		for _, c := range []struct {
			after string
			want  []string
		}{
			{"", all},
			{"a", all[1:]},
			{"b", all[1:]}, // no such key
			{"b.x", all[2:]},
			{"b/", all[3:]},
			{"c", all[4:]},
			{"d", all[4:]}, // no such key
			{"e", nil},
			{"zzz", nil},
		} {
			if got := keysOf(e.list("d", c.after)); !slices.Equal(got, c.want) {
				e.Errorf("List after %q has %q, want %q", c.after, got, c.want)
			}
		}
	}},
	{"List/Stop", func(e *storeEnv) {
		for i := range 5 {
			e.put(fmt.Sprintf("f%d", i), "x")
		}
		var got []string
		for entry, err := range e.s.List(e.ctx, ".", "") {
			if err != nil {
				e.Fatal(err)
			}
			got = append(got, entry.Name)
			if len(got) == 2 {
				break
			}
		}
		if !slices.Equal(got, []string{"f0", "f1"}) {
			e.Fatalf("the first two are %q", got)
		}
	}},
	{"List/Again", func(e *storeEnv) {
		e.put("f", "x")
		seq := e.s.List(e.ctx, ".", "")
		for range 2 {
			if entries, err := collect(seq); err != nil || len(entries) != 1 {
				e.Fatalf("ranging over one List twice: %v, %v", entries, err)
			}
		}
	}},
	{"List/Missing", func(e *storeEnv) {
		for _, after := range []string{"", "x"} {
			entries, err := collect(e.s.List(e.ctx, "nope", after))
			e.wantErr(err, errNotExist, "List of a missing directory after %q", after)
			if len(entries) != 0 {
				e.Errorf("List of a missing directory has %v", entries)
			}
		}
	}},
	{"List/File", func(e *storeEnv) {
		e.put("f", "x")
		_, err := collect(e.s.List(e.ctx, "f", ""))
		e.wantErr(err, backends.ErrNotDir, "List of a file")
	}},
	{"List/EmptyAfterEnd", func(e *storeEnv) {
		// An existing directory with nothing after the key is no missing one.
		e.put("d/a", "x")
		e.mkdir("empty")
		for _, dir := range []string{"d", "empty"} {
			if entries := e.list(dir, "zzz"); len(entries) != 0 {
				e.Errorf("List(%q, \"zzz\") = %v", dir, entries)
			}
		}
	}},
	{"List/Many", func(e *storeEnv) {
		if testing.Short() {
			e.Skip("2,500 files: not with -short")
		}
		const files = 2500
		want := make([]string, files)
		for i := range want {
			want[i] = fmt.Sprintf("n%05d", i)
		}
		const workers = 8
		parallel(workers, func(w int) {
			for i := w; i < files; i += workers {
				if _, err := e.s.Put(e.ctx, "big/"+want[i], section("x"), backends.PutOptions{}); err != nil {
					e.Errorf("Put: %v", err)
					return
				}
			}
		})
		if e.Failed() {
			return
		}
		if got := keysOf(e.list("big", "")); !slices.Equal(got, want) {
			e.Fatalf("List has %d names, want %d, sorted and each once", len(got), files)
		}
		for _, i := range []int{0, 998, 999, 1000, 1001, 2498} {
			if got := keysOf(e.list("big", want[i])); !slices.Equal(got, want[i+1:]) {
				e.Fatalf("List after %s has %d names, want %d", want[i], len(got), files-i-1)
			}
		}
		e.wantList(".", "big/")
	}},
}
