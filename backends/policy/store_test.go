package policy_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/backends/policy"
)

func body(s string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(s), 0, int64(len(s)))
}

// storeOf returns a store with these rules over these files, and a context of
// user 1.
func storeOf(t *testing.T, rules string, files ...string) (backends.Store, context.Context) {
	t.Helper()
	raw := memorytest.New(t, memory.Config{NoTmpfs: true, MinPart: 1, GoodPart: 1})
	for _, name := range files {
		if _, err := raw.Put(t.Context(), name, body(name), backends.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return policy.Store(raw, newPolicy(t, rulesOf(rules))), backends.WithCaller(t.Context(), backends.Caller{UID: 1})
}

// Every operation under every access: + is allowed, - refused.
func TestStoreAccesses(t *testing.T) {
	for _, c := range []struct {
		op    string
		do    func(ctx context.Context, s backends.Store) error
		gives string // write, append, read, none
	}{
		{"stat", func(ctx context.Context, s backends.Store) error { _, err := s.Stat(ctx, "d/f"); return err }, "++++"},
		{"open", func(ctx context.Context, s backends.Store) error {
			_, _, err := s.Open(ctx, "d/f", backends.Range{}, backends.If{})
			return err
		}, "+++-"},
		{"put", func(ctx context.Context, s backends.Store) error {
			_, err := s.Put(ctx, "d/new", body("x"), backends.PutOptions{})
			return err
		}, "++--"},
		{"put over", func(ctx context.Context, s backends.Store) error {
			_, err := s.Put(ctx, "d/f", body("x"), backends.PutOptions{})
			return err
		}, "+---"},
		{"mkdir", func(ctx context.Context, s backends.Store) error { return s.Mkdir(ctx, "d/new", backends.AttrChange{}) }, "++--"},
		{"remove", func(ctx context.Context, s backends.Store) error { return s.Remove(ctx, "d/f", backends.If{}) }, "+---"},
		{"remove many", func(ctx context.Context, s backends.Store) error {
			errs := backends.RemoveMany(ctx, s, []backends.Removal{{Name: "free/f"}, {Name: "d/f"}})
			if errs[0] != nil && !errors.Is(errs[0], fs.ErrNotExist) {
				return errors.New("what may be removed was not")
			}
			return errs[1]
		}, "+---"},
		{"rename from", func(ctx context.Context, s backends.Store) error {
			return backends.Rename(ctx, s, "d/f", backends.If{}, "free/new", backends.If{})
		}, "+---"},
		{"rename to", func(ctx context.Context, s backends.Store) error {
			return backends.Rename(ctx, s, "free/f", backends.If{}, "d/new", backends.If{})
		}, "++--"},
		{"rename over", func(ctx context.Context, s backends.Store) error {
			return backends.Rename(ctx, s, "free/f", backends.If{}, "d/f", backends.If{})
		}, "+---"},
		{"rename of a directory with it", func(ctx context.Context, s backends.Store) error {
			return backends.Rename(ctx, s, "over", backends.If{}, "elsewhere", backends.If{})
		}, "+---"},
		{"copy from", func(ctx context.Context, s backends.Store) error {
			_, err := backends.Copy(ctx, s, "d/f", backends.If{}, "free/new", backends.PutOptions{})
			return err
		}, "+++-"},
		{"copy over", func(ctx context.Context, s backends.Store) error {
			_, err := backends.Copy(ctx, s, "free/f", backends.If{}, "d/f", backends.PutOptions{})
			return err
		}, "+---"},
		{"chmod", func(ctx context.Context, s backends.Store) error { return backends.SetAttr(ctx, s, "d/f", mode) }, "+---"},
		{"touch", func(ctx context.Context, s backends.Store) error { return backends.SetAttr(ctx, s, "d/f", now) }, "++--"},
		{"symlink", func(ctx context.Context, s backends.Store) error { return backends.Symlink(ctx, s, "x", "d/new") }, "++--"},
		{"upload over", func(ctx context.Context, s backends.Store) error {
			u, err := backends.BeginUpload(ctx, s, "d/f", backends.PutOptions{})
			if err != nil {
				return err
			}
			part, err := u.Put(ctx, 1, body("x"))
			if err != nil {
				return err
			}
			_, err = u.Complete(ctx, []backends.Part{part})
			return err
		}, "+---"},
		{"list", func(ctx context.Context, s backends.Store) error { return last(s.List(ctx, "d", "")) }, "+++-"},
		{"walk", func(ctx context.Context, s backends.Store) error { return last(backends.Walk(ctx, s, "d", "")) }, "+++-"},
	} {
		for i, access := range []string{"write", "append", "read", "none"} {
			s, ctx := storeOf(t, access+" u1 /d/**\n"+access+" u1 /over/*/f", "d/f", "free/f", "over/x/f")
			err := c.do(ctx, s)
			got := !errors.Is(err, fs.ErrPermission)
			if want := c.gives[i] == '+'; got != want || got && err != nil {
				t.Errorf("%s, %s: %s: %v", access, c.op, isTrue[got], err)
			}
			if err := c.do(backends.WithCaller(ctx, backends.Caller{UID: 2}), s); errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s, %s: refused to a user whom the rule is not about", access, c.op)
			}
		}
	}
}

// last returns the error of a listing.
func last(seq func(func(backends.Entry, error) bool)) (err error) {
	for _, e := range seq {
		err = e
	}
	return err
}

// A walk goes on behind what it may not look into, and says what that is; what
// is hidden it passes in silence.
func TestStoreWalk(t *testing.T) {
	s, ctx := storeOf(t, "hide h*\nnone u1 /b/**\nnone /c/x", "a/f", "a/h", "a/h2/f", "b/f", "b/g/f", "c/x/f", "c/y", "h/f", "z")
	walk := func(after string) (seen []string) {
		for e, err := range backends.Walk(ctx, s, ".", after) {
			switch {
			case errors.Is(err, fs.ErrPermission):
				var pe *fs.PathError
				errors.As(err, &pe)
				seen = append(seen, "!"+pe.Path)
			case err != nil:
				t.Fatal(err)
			default:
				seen = append(seen, backends.WalkKey(e))
			}
		}
		return seen
	}
	for after, want := range map[string][]string{
		"":    {"a/", "a/f", "b/", "!b", "c/", "c/x/", "!c/x", "c/y", "z"},
		"c/":  {"c/x/", "!c/x", "c/y", "z"},
		"c/y": {"z"},
	} {
		if got := walk(after); !slices.Equal(got, want) {
			t.Errorf("after %q: %q, want %q", after, got, want)
		}
	}
}

func TestStoreMore(t *testing.T) {
	s, ctx := storeOf(t, "none /shut\nhide /h\nread /ro\nwrite /ro/**\nappend *.log", "h/x", "ro/sub/f", "a.log", "shut/x")
	for name, err := range map[string]error{
		"h":       last(s.List(ctx, "h", "")),
		"h/x":     s.Remove(ctx, "h/x", backends.If{}),
		"h/other": backends.SetAttr(ctx, s, "h/other", mode),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want that it isn't there", name, err)
		}
	}
	if _, err := s.Stat(ctx, "h/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat of what is hidden: %v", err)
	}
	if _, err := s.Stat(ctx, "shut/x"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("stat below what is shut: %v", err)
	}
	// With a file come the directories above it.
	s2, ctx := storeOf(t, "write /new/sub/**\nread /new")
	if _, err := s2.Put(ctx, "new/sub/f", body("x"), backends.PutOptions{}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a directory came into being where nothing may: %v", err)
	}
	// What may only grow is replaced under no condition.
	e, err := s.Stat(ctx, "a.log")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(ctx, "a.log", body("x"), backends.PutOptions{If: backends.If{Match: e.Version}}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("put with If.Match: %v", err)
	}
	if _, err := s.Put(ctx, "a.log", body("x"), backends.PutOptions{If: backends.If{Absent: true}}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("put with If.Absent: %v", err)
	}
	for _, name := range []string{"ro/../h/x", "./h/x", "/h/x", "h//x", ""} {
		if _, err := s.Stat(ctx, name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("stat of %q: %v", name, err)
		}
	}
}

// An upload that is resumed is no way round a rule either.
func TestStoreResumedUpload(t *testing.T) {
	raw := memorytest.New(t, memory.Config{NoTmpfs: true, MinPart: 1, GoodPart: 1})
	s := policy.Store(raw, newPolicy(t, rulesOf("append *.log")))
	ctx := t.Context()
	u, err := raw.BeginUpload(ctx, "a.log", backends.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	part, err := u.Put(ctx, 1, body("new"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Put(ctx, "a.log", body("old"), backends.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	again, ok := backends.ResumeUpload(s, "a.log", u.ID(), backends.PutOptions{})
	if !ok {
		t.Fatal("no upload")
	}
	_, err = again.Complete(ctx, []backends.Part{part})
	if e, serr := raw.Stat(ctx, "a.log"); serr != nil || e.Size != 3 || err == nil {
		r, _, _ := raw.Open(ctx, "a.log", backends.Range{}, backends.If{})
		b, _ := io.ReadAll(r)
		t.Errorf("completed: %v, %q", err, b)
	}
}
