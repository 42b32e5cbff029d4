package cache_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// bare is a store that, like S3, keeps no attribute of a file.
type bare struct{ backends.Store }

func (b bare) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	o.Attr = backends.AttrChange{}
	return b.Store.Put(ctx, name, body, o)
}

// unpacking writes files into directories in turn, as tar does with an archive in
// such an order, and counts what their records cost. The clock is that of the
// test: a round is as long as it says.
type unpacking struct {
	t     *testing.T
	p     *probe
	f     *cache.FS
	dirs  []backends.Node
	round int
	ops   map[string]int // requests about records, and listings of the directories
}

func newUnpacking(t *testing.T, dirs int) *unpacking {
	return unpackingTo(t, bare{newMemory(t)}, dirs)
}

func unpackingTo(t *testing.T, store backends.Store, dirs int) *unpacking {
	u := &unpacking{t: t, p: newProbe(store), ops: map[string]int{}}
	s := glancing{asking{u.p}, 1000} // a name is asked for by a listing, as of S3
	u.f = newCache(t, s, cache.Config{Durability: "writeback", TTL: 5 * time.Second, Identity: "test:unpacking"})
	for i := range dirs {
		u.dirs = append(u.dirs, mkdir(t, u.f, fmt.Sprint("d", i), 0o755))
	}
	u.p.setRefuse(func(op, name string) error {
		switch { // the probe's lock is held
		case (op == "list" || op == "page") && name != ".":
			u.ops["list"]++
		case strings.Contains(name, backends.RecordPrefix):
			u.ops[op]++
		}
		return nil
	})
	return u
}

// inTurn unpacks a file into each directory, with a time of its own, each a pause
// after the one before it.
func (u *unpacking) inTurn(pause time.Duration) {
	u.t.Helper()
	for i, d := range u.dirs {
		n, _, h, err := u.f.Create(u.t.Context(), d, u.name(u.round), os.O_WRONLY, backends.CreateAttr{Mode: 0o644})
		if err != nil {
			u.t.Fatal(err)
		}
		writeAt(u.t, h, "x", 0)
		if err := closeFile(u.t, h); err != nil {
			u.t.Fatal(err)
		}
		setAttr(u.t, u.f, n, backends.AttrChange{Set: backends.SetMtime, Mtime: u.time(u.round, i)})
		time.Sleep(pause)
	}
	u.round++
}

func (u *unpacking) name(round int) string { return fmt.Sprint("f", round) }

func (u *unpacking) time(round, dir int) time.Time {
	return someTime.Add(time.Duration(round*len(u.dirs) + dir))
}

// count returns how many requests there were about records.
func (u *unpacking) count(op string) int {
	u.p.mu.Lock()
	defer u.p.mu.Unlock()
	return u.ops[op]
}

// elsewhere is another machine that has seen nothing yet.
func (u *unpacking) elsewhere() *cache.FS {
	u.t.Helper()
	return newCache(u.t, plain{u.p.Store}, cache.Config{Identity: "test:elsewhere"})
}

// wantAll fails unless another machine sees all times.
func (u *unpacking) wantAll() {
	u.t.Helper()
	there := u.elsewhere()
	for i := range u.dirs {
		for round := range u.round {
			if _, a := lookup(u.t, there, fmt.Sprintf("d%d/%s", i, u.name(round))); !a.Mtime.Equal(u.time(round, i)) {
				u.t.Fatalf("elsewhere d%d/%s has the time %v", i, u.name(round), a.Mtime)
			}
		}
	}
}

// An archive whose files go round many directories costs a record for many of a
// directory's files, although each comes long after the one before it, and no
// listing for what this machine has itself put there.
func TestUnpackingInTurnCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const dirs, rounds = 40, 50
		u := newUnpacking(t, dirs)
		for range rounds {
			u.inTurn(50 * time.Millisecond)
		}
		syncAll(t, u.f)
		puts, removals, lists := u.count("put"), u.count("remove"), u.count("list")
		t.Logf("%d files in %d directories, %d rounds of 2 s: %d puts and %d removals of records, %d listings",
			dirs*rounds, dirs, rounds, puts, removals, lists)
		if puts > dirs*rounds/3 || removals > dirs*rounds/3 || lists > dirs {
			t.Error("that is too many")
		}
		u.wantAll()
	})
}

// What waits for more does not wait any more when nobody changes anything: then
// the records are there within a second of the last change.
func TestAttributesDontRestInQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUnpacking(t, 10)
		for range 20 {
			u.inTurn(200 * time.Millisecond)
		}
		before := u.count("put")
		time.Sleep(time.Second)
		if n := u.count("put") - before; n == 0 {
			t.Error("no attributes were waiting")
		}
		u.wantAll()
	})
}

// A barrier doesn't wait for the rest of attributes.
func TestBarriersEndTheRest(t *testing.T) {
	for name, sync := range map[string]func(*testing.T, *unpacking){
		"sync": func(t *testing.T, u *unpacking) { syncAll(t, u.f) },
		"fsync": func(t *testing.T, u *unpacking) {
			for i := range u.dirs {
				n, _ := lookup(t, u.f, fmt.Sprintf("d%d/%s", i, u.name(u.round-1)))
				if err := openFile(t, u.f, n, os.O_RDONLY).Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUnpacking(t, 10)
				for range 20 {
					u.inTurn(200 * time.Millisecond)
				}
				before, since := u.count("put"), time.Now()
				sync(t, u)
				if d := time.Since(since); d > 100*time.Millisecond {
					t.Errorf("it took %v", d)
				}
				if n := u.count("put") - before; n == 0 {
					t.Error("no attributes were waiting")
				}
				u.wantAll()
			})
		})
	}
}

// sluggish is a store that takes its time with what is below a name.
type sluggish struct {
	backends.Store
	below string
	takes time.Duration
}

func (s sluggish) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	if strings.HasPrefix(name, s.below) {
		time.Sleep(s.takes)
	}
	return s.Store.Put(ctx, name, body, o)
}

// A barrier saves the attributes of a directory as soon as its files are stored, not
// when all files are.
func TestBarrierSavesAttributesOnTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const takes = 200 * time.Millisecond // less than attributes wait for others
		u := unpackingTo(t, sluggish{bare{newMemory(t)}, "d9/f", takes}, 10)
		time.Sleep(time.Second) // the directories are stored
		u.inTurn(time.Millisecond)
		since := time.Now()
		time.AfterFunc(takes/2, func() {
			if n := u.count("put"); n < len(u.dirs)-1 {
				t.Errorf("%d of %d directories had their attributes saved when all but one had their files", n, len(u.dirs))
			}
		})
		syncAll(t, u.f)
		if d := time.Since(since); d < takes || d > takes+50*time.Millisecond {
			t.Errorf("the barrier took %v", d)
		}
		u.wantAll()
	})
}

// Attributes of new files wait for more; others don't: a link that would be seen as a
// file, a mode that hides the file, and what is known by that name.
func TestEagerAttributes(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*testing.T, *unpacking)
		seen   func(*testing.T, *cache.FS) bool
		rests  bool
	}{
		"new file": {
			func(t *testing.T, u *unpacking) {
				setAttr(t, u.f, createIn(t, u.f, "d0", "new", "x"), backends.AttrChange{Set: backends.SetMode, Mode: 0o755})
			},
			func(t *testing.T, f *cache.FS) bool { _, a := lookup(t, f, "d0/new"); return a.Mode == 0o755 },
			true,
		},
		"link": {
			func(t *testing.T, u *unpacking) { symlink(t, u.f, u.dirs[0], "link", "f0") },
			func(t *testing.T, f *cache.FS) bool {
				_, a := lookup(t, f, "d0/link")
				return a.Mode.Type() == fs.ModeSymlink
			},
			false,
		},
		"secret": {
			func(t *testing.T, u *unpacking) {
				setAttr(t, u.f, createIn(t, u.f, "d0", "secret", "x"), backends.AttrChange{Set: backends.SetMode, Mode: 0o600})
			},
			func(t *testing.T, f *cache.FS) bool { _, a := lookup(t, f, "d0/secret"); return a.Mode == 0o600 },
			false,
		},
		"known file": {
			func(t *testing.T, u *unpacking) {
				n, _ := lookup(t, u.f, "d0/f0")
				setAttr(t, u.f, n, backends.AttrChange{Set: backends.SetMode, Mode: 0o755})
			},
			func(t *testing.T, f *cache.FS) bool { _, a := lookup(t, f, "d0/f0"); return a.Mode == 0o755 },
			false,
		},
		"renamed directory": {
			func(t *testing.T, u *unpacking) {
				if err := u.f.Rename(t.Context(), u.f.Root(), "d0", u.f.Root(), "e0", 0); err != nil {
					t.Fatal(err)
				}
			},
			func(t *testing.T, f *cache.FS) bool {
				_, a := lookup(t, f, "e0/f0")
				return a.Mtime.Equal(someTime)
			},
			false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUnpacking(t, 10)
				for range 10 {
					u.inTurn(200 * time.Millisecond)
				}
				for before := u.count("put"); u.count("put") == before; {
					u.inTurn(200 * time.Millisecond)
				} // all were saved, and the next time is far away
				c.change(t, u)
				u.inTurn(200 * time.Millisecond) // 2 s
				u.inTurn(50 * time.Millisecond)
				if c.seen(t, u.elsewhere()) == c.rests {
					t.Errorf("seen elsewhere after 2.5 s: %v", c.rests)
				}
				syncAll(t, u.f)
				if !c.seen(t, u.elsewhere()) {
					t.Error("not seen elsewhere after a sync")
				}
			})
		})
	}
}

// Who saves attributes in a directory doesn't look for the records of others with
// each new name, but does before it takes a name to have none: a new directory doesn't
// get the mode of one that another machine had there, of which this one has never heard.
func TestNewNameOfARecordedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUnpacking(t, 10)
		for range 5 {
			u.inTurn(500 * time.Millisecond)
		}
		// An answer of the very moment of a change is taken to be older than that.
		moment := func() { time.Sleep(time.Millisecond) }
		there := u.elsewhere()
		mkdir(t, there, "d0/sub", 0o700)
		syncAll(t, there)
		moment()
		d, _ := lookup(t, there, "d0")
		if err := there.Rmdir(t.Context(), d, "sub"); err != nil {
			t.Fatal(err)
		}
		syncAll(t, there)
		u.inTurn(500 * time.Millisecond) // a second question within a second is one for all names
		before := u.count("list")
		mkdir(t, u.f, "d0/sub", 0o755)
		if n := u.count("list") - before; n != 0 {
			t.Errorf("%d listings before the new name was saved", n)
		}
		syncAll(t, u.f)
		moment()
		if _, a := lookup(t, u.f, "d0/sub"); a.Mode.Perm() != 0o755 {
			t.Errorf("it has the mode %v", a.Mode)
		}
		if _, a := lookup(t, u.elsewhere(), "d0/sub"); a.Mode.Perm() != 0o755 {
			t.Errorf("elsewhere it has the mode %v", a.Mode)
		}
		u.wantAll()
	})
}
