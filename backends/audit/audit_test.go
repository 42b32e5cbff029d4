package audit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/audit"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/backends/process"
)

// recorder is a Log with room for a number of records. Only that many may be
// reserved at once; what is recorded takes no room.
type recorder struct {
	mu       sync.Mutex
	room     int
	reserved int
	ops      []audit.Op
}

func (r *recorder) Reserve(n int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reserved+n > r.room {
		return backends.ErrNotRecorded
	}
	r.reserved += n
	return nil
}

func (r *recorder) Record(op *audit.Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reserved--
	r.ops = append(r.ops, *op)
}

func (r *recorder) Release(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reserved -= n
}

// lines are the records since the last call, each as "kind path>to result".
func (r *recorder) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, op := range r.ops {
		s := fmt.Sprintf("%s %s", op.Kind, op.Path)
		if op.To != "" {
			s += ">" + op.To
		}
		if op.Err != nil {
			s += " failed"
		}
		all = append(all, s)
	}
	r.ops = nil
	return all
}

func (r *recorder) want(t *testing.T, want ...string) {
	t.Helper()
	if got := r.lines(); !slices.Equal(got, want) {
		t.Errorf("recorded %q, want %q", got, want)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reserved != 0 {
		t.Errorf("room for %d records is neither used nor given back", r.reserved)
	}
}

func openMemory(t *testing.T) *memory.Store {
	t.Helper()
	return memorytest.New(t, memory.Config{NoTmpfs: true, MinPart: 100, GoodPart: 200})
}

// With a log and without, the wrapper is a store and a file system as any
// other, and gives back the room that it takes.
func TestConformance(t *testing.T) {
	balanced := func(t *testing.T) audit.Config {
		r := &recorder{room: 1 << 30}
		t.Cleanup(func() {
			if r.reserved != 0 && !t.Failed() {
				t.Errorf("room for %d records is neither used nor given back", r.reserved)
			}
		})
		return audit.Config{Log: r, Processes: new(process.Table), Failed: func(*audit.Op) {}}
	}
	t.Run("Store", func(t *testing.T) {
		backendtest.Store(t, func(t *testing.T) backends.Store { return audit.Store(openMemory(t), balanced(t)) })
	})
	t.Run("FileSystem", func(t *testing.T) {
		backendtest.FileSystem(t, func(t *testing.T) backends.FileSystem {
			return audit.FileSystem(openMemory(t).FileSystem(), audit.Config{Log: &recorder{room: 1 << 30}, Processes: new(process.Table)})
		})
	})
	t.Run("FileSystemWithoutLog", func(t *testing.T) {
		backendtest.FileSystem(t, func(t *testing.T) backends.FileSystem {
			return audit.FileSystem(openMemory(t).FileSystem(), audit.Config{Failed: func(*audit.Op) {}})
		})
	})
}

var ctx = backends.WithCaller(context.Background(), backends.Caller{PID: 42, UID: 7})

func TestFileSystemRecords(t *testing.T) {
	r := &recorder{room: 100}
	var failed, made []string
	f := audit.FileSystem(openMemory(t).FileSystem(), audit.Config{
		Log: r, Processes: new(process.Table),
		Made:   func(p string) { made = append(made, p) },
		Failed: func(op *audit.Op) { failed = append(failed, string(op.Kind)+" "+op.Path) },
		Skip:   func(p string) bool { return p == ".control" || strings.HasPrefix(p, ".control/") },
	})
	root := f.Root()
	dir, _, err := f.Mkdir(ctx, root, "d", backends.CreateAttr{Mode: fs.ModeDir | 0o755})
	if err != nil {
		t.Fatal(err)
	}
	n, _, h, err := f.Create(ctx, dir, "x", os.O_RDWR, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.WriteAt(ctx, []byte("secret text"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := h.ReadAt(ctx, make([]byte, 6), 0); err != nil {
		t.Fatal(err)
	}
	if d, ok := h.(backends.Descriptor); ok {
		if _, ok := d.Descriptor(); ok {
			t.Error("a host file is given out although bytes are to be told")
		}
	}
	// A rename while it is open: the end is told under the new name.
	if err := f.Rename(ctx, root, "d", root, "e", 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Flush(ctx), h.Close(context.Background())); err != nil {
		t.Fatal(err)
	}
	last := r.ops[len(r.ops)-1]
	if last.Read != 6 || last.Written != 11 || last.Caller.PID != 42 || last.Caller.UID != 7 {
		t.Errorf("close is told as %+v, want 6 bytes read and 11 written by 42", last)
	}
	r.want(t, "mkdir d", "create d/x", "rename d>e", "close e/x")

	if _, err := f.SetAttr(ctx, n, backends.AttrChange{Set: backends.SetMode, Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	if err := backends.SetXattrAt(ctx, f, n, "user.a", []byte("secret"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := backends.LinkAt(ctx, f, n, root, "y"); err != nil {
		t.Fatal(err)
	}
	_ = f.Rmdir(ctx, root, "e")
	_ = f.Unlink(ctx, dir, "x")
	_ = f.Rmdir(ctx, root, "e")
	if err := backends.OpenDirAt(ctx, f, root); err != nil {
		t.Fatal(err)
	}
	r.want(t, "setattr e/x", "setxattr e/x", "link e/x>y", "rmdir e failed", "unlink e/x", "rmdir e", "opendir .")

	_, _, _ = f.Lookup(ctx, root, "absent")
	_, _, _ = f.Lookup(ctx, root, ".control")
	_, _, _, _ = f.Create(ctx, root, ".control", os.O_RDWR, backends.CreateAttr{Mode: 0o644})
	r.want(t)
	if want := []string{"rmdir e", "lookup absent"}; !slices.Equal(failed, want) {
		t.Errorf("told as failed: %q, want %q", failed, want)
	}
	if want := []string{"d", "d/x", "e", "y"}; !slices.Equal(made, want) {
		t.Errorf("told as made: %q, want %q", made, want)
	}
}

// What can't be recorded is refused before it is done.
func TestNoRoom(t *testing.T) {
	mem := openMemory(t)
	r := &recorder{room: 2}
	f := audit.FileSystem(mem.FileSystem(), audit.Config{Log: r, Processes: new(process.Table)})
	n, _, h, err := f.Create(ctx, f.Root(), "x", os.O_RDWR, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	r.room = 1 // what the open file's close has
	refused := map[string]error{}
	_, refused["open"] = f.Open(ctx, n, os.O_RDONLY)
	_, _, refused["mkdir"] = f.Mkdir(ctx, f.Root(), "d", backends.CreateAttr{Mode: fs.ModeDir | 0o755})
	refused["unlink"] = f.Unlink(ctx, f.Root(), "x")
	refused["rename"] = f.Rename(ctx, f.Root(), "x", f.Root(), "y", 0)
	_, refused["setattr"] = f.SetAttr(ctx, n, backends.AttrChange{Set: backends.SetSize})
	_, refused["link"] = backends.LinkAt(ctx, f, n, f.Root(), "z")
	_, _, refused["symlink"] = backends.SymlinkAt(ctx, f, f.Root(), "l", "x", backends.CreateAttr{})
	refused["fallocate"] = h.(backends.Allocator).Allocate(ctx, 0, 10, 0)
	for what, err := range refused {
		if !errors.Is(err, backends.ErrNotRecorded) {
			t.Errorf("%s: %v, want a refusal", what, err)
		}
	}
	if err := h.Close(ctx); err != nil {
		t.Fatal(err)
	}
	r.want(t, "create x", "close x")
	r.room = 0
	s := audit.Store(mem, audit.Config{Log: r, Processes: new(process.Table)})
	_, err = s.Put(ctx, "new", section("text"), backends.PutOptions{})
	_, _, err2 := s.Open(ctx, "x", backends.Range{}, backends.If{})
	for _, err := range []error{err, err2, s.Remove(ctx, "x", backends.If{}), backends.RemoveMany(ctx, s, []backends.Removal{{Name: "x"}})[0]} {
		if !errors.Is(err, backends.ErrNotRecorded) {
			t.Errorf("at the object depth: %v, want a refusal", err)
		}
	}
	es, err := f.ReadDir(ctx, f.Root())
	if err != nil || len(es) != 1 || es[0].Name != "x" {
		t.Errorf("there is %v (%v), want what was there before", es, err)
	}
}

func section(text string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(text), 0, int64(len(text)))
}

func TestStoreRecords(t *testing.T) {
	r := &recorder{room: 100}
	self := backends.Caller{PID: 9, UID: 3}
	s := audit.Store(openMemory(t), audit.Config{Log: r, Processes: new(process.Table), Self: self})
	bg := context.Background()
	e1, err := s.Put(bg, "a", section("one"), backends.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e2, err := s.Put(bg, "a", section("two!"), backends.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if op := r.ops[1]; op.Before != e1.Version || op.After != e2.Version || op.Written != 4 || op.Caller != self {
		t.Errorf("the second put is told as %+v, want %s -> %s", op, e1.Version, e2.Version)
	}
	rd, _, err := s.Open(bg, "a", backends.Range{}, backends.If{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(rd); err != nil || string(b) != "two!" {
		t.Fatal(string(b), err)
	}
	if err := errors.Join(rd.Close(), rd.Close()); err != nil {
		t.Fatal(err)
	}
	if op := r.ops[3]; op.Read != 4 || op.Before != e2.Version {
		t.Errorf("the reader's end is told as %+v", op)
	}
	_, err = backends.Copy(bg, s, "a", backends.If{}, "b", backends.PutOptions{})
	if err := errors.Join(err, backends.Rename(bg, s, "b", backends.If{}, "c", backends.If{})); err != nil {
		t.Fatal(err)
	}
	_ = backends.RemoveMany(bg, s, []backends.Removal{{Name: "c"}, {Name: "absent", If: backends.If{Match: "v"}}})
	r.want(t, "put a", "put a", "open a", "close a", "copy a>b", "rename b>c", "remove c", "remove absent failed")
}
