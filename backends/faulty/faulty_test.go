package faulty_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/backends/faulty"
	"github.com/agentfs/agentfs/backends/local"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

var errNet = errors.New("connection reset")

func openLocal(t *testing.T) *local.Store {
	t.Helper()
	s, err := local.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func openMemory(t *testing.T) *memory.Store {
	t.Helper()
	return memorytest.New(t, memory.Config{NoTmpfs: true, MinPart: 100, GoodPart: 200})
}

// Without rules the wrapper is a store as any other.
func TestStore(t *testing.T) {
	backendtest.Store(t, func(t *testing.T) backends.Store { return faulty.Store(openMemory(t)) })
}

func TestFileSystem(t *testing.T) {
	backendtest.FileSystem(t, func(t *testing.T) backends.FileSystem {
		return faulty.FileSystem(openMemory(t).FileSystem())
	})
}

// bare hides every capability.
type bare struct{ backends.Store }

func TestStoreWithoutCapabilities(t *testing.T) {
	backendtest.Store(t, func(t *testing.T) backends.Store { return faulty.Store(bare{openMemory(t)}) },
		backendtest.Exception{Test: "Operation/RemoveMany", Reason: "the fall-back removes by name and version only"})
}

func put(ctx context.Context, s backends.Store, name, content string) error {
	_, err := s.Put(ctx, name, io.NewSectionReader(strings.NewReader(content), 0, int64(len(content))), backends.PutOptions{})
	return err
}

func content(t *testing.T, s backends.Store, name string) string {
	t.Helper()
	rc, _, err := s.Open(t.Context(), name, backends.Range{}, backends.If{})
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFail(t *testing.T) {
	inner := openLocal(t)
	s := faulty.Store(inner, faulty.On(faulty.And(faulty.OnOp("Put"), faulty.OnName("d/*"), faulty.Nth(2)), faulty.Fail(errNet)))
	for i, want := range []error{nil, nil, errNet, nil} {
		name := fmt.Sprintf("d/f%d", i)
		if i == 0 {
			name = "elsewhere"
		}
		if err := put(t.Context(), s, name, "x"); !errors.Is(err, want) {
			t.Errorf("Put %d: %v, want %v", i, err, want)
		}
	}
	if _, err := inner.Stat(t.Context(), "d/f2"); err == nil {
		t.Error("a Put that failed was made")
	}
	if got := s.Calls("Put"); got != 4 {
		t.Errorf("%d calls of Put, want 4", got)
	}
	if got := s.Injected(); got != 1 {
		t.Errorf("%d faults, want 1", got)
	}
	s.ResetCalls()
	if got := s.Calls(); got != 0 {
		t.Errorf("%d calls after ResetCalls", got)
	}
}

func TestLostAnswer(t *testing.T) {
	inner := openLocal(t)
	ctx := t.Context()
	if err := errors.Join(put(ctx, inner, "a", "1"), put(ctx, inner, "b", "2"), put(ctx, inner, "c", "3")); err != nil {
		t.Fatal(err)
	}
	s := faulty.Store(inner, faulty.On(faulty.Mutating(), faulty.LostAnswer(errNet)))
	_, copyErr := backends.Copy(ctx, s, "b", backends.If{}, "copied", backends.PutOptions{})
	for op, err := range map[string]error{
		"Put":     put(ctx, s, "new", "x"),
		"Remove":  s.Remove(ctx, "a", backends.If{}),
		"Mkdir":   s.Mkdir(ctx, "d", backends.AttrChange{}),
		"Rename":  backends.Rename(ctx, s, "c", backends.If{}, "renamed", backends.If{}),
		"Copy":    copyErr,
		"Symlink": backends.Symlink(ctx, s, "x", "link"),
	} {
		if !errors.Is(err, errNet) {
			t.Errorf("%s: %v, want the lost answer", op, err)
		}
	}
	var names []string
	for e, err := range inner.List(ctx, ".", "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Key())
	}
	if got := strings.Join(names, " "); got != "b copied d/ link new renamed" {
		t.Errorf("the changes were not made: %s", got)
	}
	// A call that fails by itself keeps its own error.
	if err := s.Remove(ctx, "nope", backends.If{}); errors.Is(err, errNet) {
		t.Errorf("Remove of a missing name: %v", err)
	}
}

func TestCutBody(t *testing.T) {
	inner := openLocal(t)
	ctx := t.Context()
	whole := strings.Repeat("0123456789", 1000)
	if err := put(ctx, inner, "f", whole); err != nil {
		t.Fatal(err)
	}
	s := faulty.Store(inner, faulty.On(faulty.OnOp("Open", "Put", "List"), faulty.CutBody(0)))
	if err := put(ctx, s, "f", "new"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Put with a cut body: %v", err)
	}
	if got := content(t, inner, "f"); got != whole {
		t.Errorf("a Put with a cut body left %d bytes", len(got))
	}
	for e, err := range s.List(ctx, ".", "") {
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a listing cut at 0 has %+v, %v", e, err)
		}
	}
	s.SetRules(faulty.On(faulty.OnOp("Open"), faulty.CutBody(1234)))
	rc, _, err := s.Open(ctx, "f", backends.Range{}, backends.If{})
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if b, err := io.ReadAll(rc); len(b) != 1234 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body cut at 1234 gave %d bytes, %v", len(b), err)
	}
}

func TestDelay(t *testing.T) {
	s := faulty.Store(openLocal(t), faulty.On(faulty.Always(), faulty.Delay(time.Hour)))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Stat(ctx, "."); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a delayed call beyond its deadline: %v", err)
	}
	s.SetRules(faulty.On(faulty.Always(), faulty.Delay(30*time.Millisecond)))
	start := time.Now()
	if _, err := s.Stat(t.Context(), "."); err != nil || time.Since(start) < 30*time.Millisecond {
		t.Errorf("a delayed call: %v after %v", err, time.Since(start))
	}
}

func TestRemoveManyEach(t *testing.T) {
	inner := &many{Store: openLocal(t)}
	ctx := t.Context()
	var rs []backends.Removal
	for i := range 4 {
		name := fmt.Sprint("f", i)
		if err := put(ctx, inner, name, "x"); err != nil {
			t.Fatal(err)
		}
		rs = append(rs, backends.Removal{Name: name})
	}
	s := faulty.Store(inner,
		faulty.On(faulty.OnName("f1"), faulty.Fail(errNet)),
		faulty.On(faulty.OnName("f2"), faulty.LostAnswer(errNet)))
	for i, err := range backends.RemoveMany(ctx, s, rs) {
		if want := i == 1 || i == 2; errors.Is(err, errNet) != want {
			t.Errorf("removal %d: %v", i, err)
		}
		_, err := inner.Stat(ctx, rs[i].Name)
		if stays := i == 1; (err == nil) != stays {
			t.Errorf("after removal %d Stat is %v", i, err)
		}
	}
	if inner.requests != 1 {
		t.Errorf("%d requests, want 1", inner.requests)
	}
}

// many is a store that removes many files in one request.
type many struct {
	backends.Store
	requests int
}

func (m *many) RemoveMany(ctx context.Context, rs []backends.Removal) []error {
	m.requests++
	return backends.RemoveMany(ctx, m.Store, rs)
}

// Every step of an upload can fail, and can be done without an answer.
func TestUploadFaults(t *testing.T) {
	s := faulty.Store(openMemory(t))
	ctx := t.Context()
	if err := put(ctx, s, "from", "0123456789"); err != nil {
		t.Fatal(err)
	}
	body := io.NewSectionReader(strings.NewReader("content"), 0, 7)
	for what, effect := range map[string]faulty.Effect{"fail": faulty.Fail(errNet), "lost": faulty.LostAnswer(errNet)} {
		u, err := s.BeginUpload(ctx, "f", backends.PutOptions{Operation: what})
		if err != nil {
			t.Fatal(err)
		}
		part, err := u.Put(ctx, 1, body)
		if err != nil {
			t.Fatal(err)
		}
		parts := []backends.Part{part}
		s.SetRules(faulty.On(faulty.And(faulty.Mutating(), faulty.OnName("f")), effect))
		_, beginErr := s.BeginUpload(ctx, "f", backends.PutOptions{})
		_, putErr := u.Put(ctx, 2, body)
		_, copyErr := u.Copy(ctx, 3, "from", backends.If{}, backends.Range{})
		_, completeErr := u.Complete(ctx, parts)
		for op, err := range map[string]error{"BeginUpload": beginErr, "UploadPart": putErr, "UploadCopy": copyErr, "Complete": completeErr, "Abort": u.Abort(ctx)} {
			if !errors.Is(err, errNet) {
				t.Errorf("%s: %s: %v", what, op, err)
			}
			if s.Calls(op) == 0 {
				t.Errorf("%s was not counted", op)
			}
		}
		s.SetRules()
		if _, err := u.Complete(ctx, parts); err != nil {
			t.Errorf("%s: Complete again: %v", what, err)
		}
		if got := content(t, s, "f"); got != "content" {
			t.Errorf("%s: the content is %q", what, got)
		}
	}
	u, err := s.BeginUpload(ctx, "f", backends.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.SetRules(faulty.On(faulty.OnOp("UploadPart"), faulty.CutBody(3)))
	if _, err := u.Put(ctx, 1, body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a part with a cut body: %v", err)
	}
}

func TestPredicates(t *testing.T) {
	count := func(p faulty.Predicate) (n int) {
		for range 100 {
			if p(faulty.Call{Op: "Put", Name: "a/b"}) {
				n++
			}
		}
		return n
	}
	for what, c := range map[string]struct {
		p    faulty.Predicate
		want int
	}{
		"EveryNth":       {faulty.EveryNth(7), 14},
		"Nth":            {faulty.Nth(100), 1},
		"Or":             {faulty.Or(faulty.OnOp("Get"), faulty.EveryNth(2)), 50},
		"Not":            {faulty.Not(faulty.OnName("a/*")), 0},
		"bad pattern":    {faulty.OnName("["), 0},
		"Probability 0":  {faulty.Probability(1, 0), 0},
		"Probability 1":  {faulty.Probability(1, 1), 100},
		"Mutating":       {faulty.Mutating(), 100},
		"nothing in And": {faulty.And(), 100},
	} {
		if got := count(c.p); got != c.want {
			t.Errorf("%s selects %d of 100, want %d", what, got, c.want)
		}
	}
	if a, b := count(faulty.Probability(5, 0.3)), count(faulty.Probability(5, 0.3)); a != b || a < 10 || a > 60 {
		t.Errorf("Probability of 0.3 with one seed selects %d and %d of 100", a, b)
	}
}

func TestFileFaults(t *testing.T) {
	ctx := t.Context()
	f := faulty.FileSystem(openLocal(t).FileSystem(), faulty.On(faulty.And(faulty.OnOp("WriteAt"), faulty.Nth(2)), faulty.CutBody(3)))
	n, _, file, err := f.Create(ctx, f.Root(), "f", os.O_RDWR|os.O_CREATE|os.O_EXCL, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt(ctx, []byte("0123456789"), 0); err != nil {
		t.Fatal(err)
	}
	if n, err := file.WriteAt(ctx, []byte("abcdef"), 0); n != 3 || err == nil {
		t.Errorf("a cut write: %d, %v", n, err)
	}
	f.SetRules(faulty.On(faulty.OnOp("Flush"), faulty.LostAnswer(errNet)), faulty.On(faulty.OnOp("Rename"), faulty.LostAnswer(errNet)))
	if err := file.Flush(ctx); !errors.Is(err, errNet) {
		t.Errorf("Flush: %v", err)
	}
	if err := file.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := f.Rename(ctx, f.Root(), "f", f.Root(), "g", 0); !errors.Is(err, errNet) {
		t.Errorf("Rename: %v", err)
	}
	if got, _, err := f.Lookup(ctx, f.Root(), "g"); err != nil || got != n {
		t.Errorf("a rename whose answer was lost was not made: %v", err)
	}
}
