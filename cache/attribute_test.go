package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// described is a cache over s whose sends don't wait.
func described(t *testing.T, s backends.Store, c cache.Config) *cache.FS {
	t.Helper()
	c.Durability, c.Grace = "writeback", 5*time.Millisecond
	if c.TTL == 0 {
		c.TTL = time.Hour
	}
	return newCache(t, s, c)
}

func syncAll(t *testing.T, f *cache.FS) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := f.SyncDir(ctx, f.Root()); err != nil {
		t.Fatal(err)
	}
	if st := f.State(); st.PendingCount != 0 {
		t.Fatalf("after a sync there is pending: %+v", st.Pending)
	}
}

func mkdir(t *testing.T, f *cache.FS, name string, mode fs.FileMode) backends.Node {
	t.Helper()
	p, base := f.Root(), name
	if i := strings.LastIndex(name, "/"); i >= 0 {
		p, _ = lookup(t, f, name[:i])
		base = name[i+1:]
	}
	n, _, err := f.Mkdir(t.Context(), p, base, backends.CreateAttr{Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// createIn is create in a directory.
func createIn(t *testing.T, f *cache.FS, dir, name, content string) backends.Node {
	t.Helper()
	d, _ := lookup(t, f, dir)
	n, _, h, err := f.Create(t.Context(), d, name, os.O_RDWR|os.O_CREATE, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	writeAt(t, h, content, 0)
	if err := closeFile(t, h); err != nil {
		t.Fatal(err)
	}
	return n
}

func setAttr(t *testing.T, f *cache.FS, n backends.Node, ch backends.AttrChange) {
	t.Helper()
	if _, err := f.SetAttr(t.Context(), n, ch); err != nil {
		t.Fatal(err)
	}
}

func setXattr(t *testing.T, f *cache.FS, n backends.Node, name, value string) {
	t.Helper()
	if err := f.SetXattr(t.Context(), n, name, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, f *cache.FS, p backends.Node, name, target string) backends.Node {
	t.Helper()
	n, _, err := f.Symlink(t.Context(), p, name, target, backends.CreateAttr{Mode: 0o777})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// records returns the keys of s that are records, and those that are not.
func records(t *testing.T, s backends.Store) (records, others []string) {
	t.Helper()
	for e, err := range backends.Walk(t.Context(), s, ".", "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(e.Base(), backends.RecordPrefix) {
			records = append(records, e.Name)
		} else {
			others = append(others, e.Name)
		}
	}
	return records, others
}

var someTime = time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)

// everything sets one of each kind of attribute.
func everything(t *testing.T, f *cache.FS) {
	t.Helper()
	n := create(t, f, "script", "#!/bin/sh\n")
	setAttr(t, f, n, backends.AttrChange{Set: backends.SetMode, Mode: 0o755 | fs.ModeSetgid})
	n = create(t, f, "old", "old")
	setAttr(t, f, n, backends.AttrChange{Set: backends.SetMtime | backends.SetAtime, Mtime: someTime, Atime: someTime.Add(time.Hour)})
	n = create(t, f, "theirs", "theirs")
	setAttr(t, f, n, backends.AttrChange{Set: backends.SetUID | backends.SetGID, UID: 12, GID: 34})
	n = create(t, f, "tagged", "tagged")
	setXattr(t, f, n, "user.tag", "bin\x00\xff")
	d := mkdir(t, f, "dir", 0o700)
	setXattr(t, f, d, "trusted.dir", "")
	symlink(t, f, d, "link", "../old")
	setAttr(t, f, d, backends.AttrChange{Set: backends.SetMtime, Mtime: someTime})
	setAttr(t, f, f.Root(), backends.AttrChange{Set: backends.SetMode, Mode: 0o711})
	create(t, f, "plain", "plain")
}

func wantEverything(t *testing.T, f *cache.FS) {
	t.Helper()
	if _, a := lookup(t, f, "script"); a.Mode != 0o755|fs.ModeSetgid {
		t.Errorf("script: %v", a.Mode)
	}
	if _, a := lookup(t, f, "old"); !a.Mtime.Equal(someTime) || !a.Atime.Equal(someTime.Add(time.Hour)) || a.Mode != 0o644 {
		t.Errorf("old: %+v", a)
	}
	if _, a := lookup(t, f, "theirs"); a.UID != 12 || a.GID != 34 {
		t.Errorf("theirs: %+v", a)
	}
	n, _ := lookup(t, f, "tagged")
	if v, err := f.GetXattr(t.Context(), n, "user.tag"); err != nil || string(v) != "bin\x00\xff" {
		t.Errorf("tagged: %q, %v", v, err)
	}
	n, a := lookup(t, f, "dir")
	if v, err := f.GetXattr(t.Context(), n, "trusted.dir"); err != nil || len(v) > 0 || a.Mode != 0o700|fs.ModeDir || !a.Mtime.Equal(someTime) {
		t.Errorf("dir: %q, %v, %+v", v, err, a)
	}
	n, a = lookup(t, f, "dir/link")
	if to, err := f.Readlink(t.Context(), n); err != nil || to != "../old" || a.Mode.Type() != fs.ModeSymlink || a.Size != 6 {
		t.Errorf("link: %q, %v, %+v", to, err, a)
	}
	if a, err := f.Attr(t.Context(), f.Root()); err != nil || a.Mode != 0o711|fs.ModeDir {
		t.Errorf("root: %+v, %v", a, err)
	}
	if _, a := lookup(t, f, "plain"); a.Mode != 0o644 {
		t.Errorf("plain: %+v", a)
	}
}

func list(t *testing.T, f *cache.FS, n backends.Node) (names []string) {
	t.Helper()
	es, err := f.ReadDir(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		names = append(names, e.Name)
	}
	return names
}

// What was set is there after a remount, by lone lookups as by listings, at a
// request per record and not per file. The objects are plain.
func TestAttributesSurviveARemount(t *testing.T) {
	s := newMemory(t)
	f := described(t, plain{s}, cache.Config{})
	everything(t, f)
	wantEverything(t, f)
	syncAll(t, f)
	recs, others := records(t, s)
	if want := []string{"dir", "dir/link", "old", "plain", "script", "tagged", "theirs"}; !slices.Equal(others, want) && !slices.Equal(others, want[1:]) {
		t.Errorf("the store has %q beside the records", others)
	}
	if len(recs) < 2 || len(recs) > 4 {
		t.Errorf("there are the records %q", recs)
	}
	if got := get(t, s, "dir/link"); got != "../old" {
		t.Errorf("the link's object has %q", got)
	}
	t.Run("looked up", func(t *testing.T) { wantEverything(t, described(t, plain{s}, cache.Config{TTL: time.Nanosecond})) })
	t.Run("listed", func(t *testing.T) {
		p := newProbe(s)
		f := described(t, p, cache.Config{})
		if got := fmt.Sprint(list(t, f, f.Root())); got != "[dir old plain script tagged theirs]" {
			t.Errorf("the root shows %s", got)
		}
		d, _ := lookup(t, f, "dir")
		if got := fmt.Sprint(list(t, f, d)); got != "[link]" {
			t.Errorf("dir shows %s", got)
		}
		wantEverything(t, f)
		if got, want := p.reset(), fmt.Sprintf("map[list:2 open:%d]", len(recs)); got != want {
			t.Errorf("cost %s, want %s", got, want)
		}
	})
}

// Nothing special needs no record.
func TestPlainFilesHaveNoRecords(t *testing.T) {
	s := newMemory(t)
	f := described(t, plain{s}, cache.Config{})
	mkdir(t, f, "d", 0o755)
	n := createIn(t, f, "d", "f", "x")
	setAttr(t, f, n, backends.AttrChange{Set: backends.SetMode, Mode: 0o644})
	syncAll(t, f)
	if recs, _ := records(t, s); len(recs) > 0 {
		t.Errorf("there are the records %q", recs)
	}
}

// A new content keeps what somebody gave the file, but for its time.
func TestAttributesOfANewContent(t *testing.T) {
	s := newMemory(t)
	f := described(t, plain{s}, cache.Config{})
	n := create(t, f, "f", "x")
	setAttr(t, f, n, backends.AttrChange{Set: backends.SetMode | backends.SetMtime, Mode: 0o755, Mtime: someTime})
	syncAll(t, f)
	h := openFile(t, f, n, os.O_WRONLY)
	if _, err := h.WriteAt(t.Context(), []byte("another"), 0); err != nil {
		t.Fatal(err)
	}
	if err := closeFile(t, h); err != nil {
		t.Fatal(err)
	}
	syncAll(t, f)
	next := described(t, plain{s}, cache.Config{})
	if _, a := lookup(t, next, "f"); a.Mode != 0o755 || a.Mtime.Equal(someTime) || a.Size != 7 {
		t.Errorf("after a remount: %+v", a)
	}
}

// A renamed file, a renamed directory and what is in it keep their attributes;
// the old directory is gone from the store, records included.
func TestAttributesOfRenamed(t *testing.T) {
	s := newMemory(t)
	f := described(t, plain{s}, cache.Config{})
	d := mkdir(t, f, "d", 0o700)
	mkdir(t, f, "d/sub", 0o711)
	n := createIn(t, f, "d/sub", "f", "x")
	setAttr(t, f, n, backends.AttrChange{Set: backends.SetMode, Mode: 0o600})
	symlink(t, f, d, "l", "sub/f")
	g := create(t, f, "g", "y")
	setXattr(t, f, g, "user.x", "1")
	syncAll(t, f)
	rename := func(from, to string) {
		t.Helper()
		if err := f.Rename(t.Context(), f.Root(), from, f.Root(), to, 0); err != nil {
			t.Fatal(err)
		}
	}
	rename("d", "e")
	rename("g", "h")
	syncAll(t, f)
	recs, others := records(t, s)
	for _, name := range append(recs, others...) {
		if name == "d" || strings.HasPrefix(name, "d/") {
			t.Errorf("left behind: %s", name)
		}
	}
	next := described(t, plain{s}, cache.Config{})
	for name, want := range map[string]fs.FileMode{"e": 0o700 | fs.ModeDir, "e/sub": 0o711 | fs.ModeDir, "e/sub/f": 0o600, "e/l": 0o777 | fs.ModeSymlink} {
		if _, a := lookup(t, next, name); a.Mode != want {
			t.Errorf("%s: %v, want %v", name, a.Mode, want)
		}
	}
	h, _ := lookup(t, next, "h")
	if v, err := next.GetXattr(t.Context(), h, "user.x"); err != nil || string(v) != "1" {
		t.Errorf("h: %q, %v", v, err)
	}
}

// A removed directory is gone with its records, and what is made in its place
// has nothing of its attributes.
func TestRecordsOfRemoved(t *testing.T) {
	s := newMemory(t)
	f := described(t, plain{s}, cache.Config{})
	d := mkdir(t, f, "d", 0o700)
	n := createIn(t, f, "d", "f", "x")
	setAttr(t, f, n, backends.AttrChange{Set: backends.SetMode, Mode: 0o600})
	create(t, f, "keep", "x")
	setAttr(t, f, create(t, f, "empty", ""), backends.AttrChange{Set: backends.SetMode, Mode: 0o600})
	syncAll(t, f)
	if err := f.Unlink(t.Context(), d, "f"); err != nil {
		t.Fatal(err)
	}
	if err := f.Rmdir(t.Context(), f.Root(), "d"); err != nil {
		t.Fatal(err)
	}
	if err := f.Unlink(t.Context(), f.Root(), "empty"); err != nil {
		t.Fatal(err)
	}
	syncAll(t, f)
	recs, others := records(t, s)
	for _, name := range append(recs, others...) {
		if name == "d" || strings.HasPrefix(name, "d/") {
			t.Errorf("left behind: %s", name)
		}
	}
	mkdir(t, f, "d", 0o755)
	create(t, f, "empty", "") // the same version as before, where versions are sums
	syncAll(t, f)
	next := described(t, plain{s}, cache.Config{})
	if _, a := lookup(t, next, "d"); a.Mode != 0o755|fs.ModeDir {
		t.Errorf("the new directory has mode %v", a.Mode)
	}
	if _, a := lookup(t, next, "empty"); a.Mode != 0o644 {
		t.Errorf("the new file has mode %v", a.Mode)
	}
}

// What was recorded of a content says nothing about another one that somebody
// else has put.
func TestForeignContentHasNoAttributes(t *testing.T) {
	s := newMemory(t)
	f := described(t, plain{s}, cache.Config{})
	n := create(t, f, "f", "x")
	setAttr(t, f, n, backends.AttrChange{Set: backends.SetMode, Mode: 0o600})
	d := f.Root()
	symlink(t, f, d, "l", "f")
	syncAll(t, f)
	for _, name := range []string{"f", "l"} {
		// The memory store keeps a mode of its own for a file that stays.
		if err := s.Remove(t.Context(), name, backends.If{}); err != nil {
			t.Fatal(err)
		}
		put(t, s, name, "another")
	}
	next := described(t, plain{s}, cache.Config{})
	for _, name := range []string{"f", "l"} {
		if _, a := lookup(t, next, name); a.Mode != 0o644 {
			t.Errorf("%s: %v", name, a.Mode)
		}
	}
}

// Two machines that change attributes in one directory lose none, and see each
// other's after the ttl.
func TestTwoMachinesChangeAttributes(t *testing.T) {
	s := newMemory(t)
	const n = 20
	for i := range 2 * n {
		put(t, s, fmt.Sprintf("f%02d", i), "x")
	}
	machines := []*cache.FS{
		described(t, plain{s}, cache.Config{TTL: 50 * time.Millisecond}),
		described(t, plain{s}, cache.Config{TTL: 50 * time.Millisecond}),
	}
	for i := range n {
		for m, f := range machines {
			node, _ := lookup(t, f, fmt.Sprintf("f%02d", 2*i+m))
			setAttr(t, f, node, backends.AttrChange{Set: backends.SetMode, Mode: 0o600 + fs.FileMode(m)})
		}
		time.Sleep(3 * time.Millisecond)
	}
	for _, f := range machines {
		syncAll(t, f)
	}
	time.Sleep(60 * time.Millisecond)
	for who, f := range append(machines, described(t, plain{s}, cache.Config{})) {
		list(t, f, f.Root())
		for i := range 2 * n {
			if _, a := lookup(t, f, fmt.Sprintf("f%02d", i)); a.Mode != 0o600+fs.FileMode(i%2) {
				t.Errorf("machine %d: f%02d has mode %v", who, i, a.Mode)
			}
		}
	}
}

// What waits survives a kill.
func TestAttributesSurviveAKill(t *testing.T) {
	for what, before := range map[string]bool{"of what waits as well": false, "of what is stored": true} {
		t.Run(what, func(t *testing.T) {
			s := newMemory(t)
			p := newProbe(s)
			dir := t.TempDir()
			f, err := cache.New(t.Context(), p, cache.Config{Dir: dir, Identity: "test:kill", TTL: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			if before {
				for _, name := range []string{"script", "old", "theirs", "tagged", "plain", "dir/x"} {
					put(t, s, name, name)
				}
			}
			p.setRefuse(func(op, name string) error {
				if op == "put" || op == "mkdir" {
					return errDown
				}
				return nil
			})
			if before {
				everythingOf(t, f)
			} else {
				everything(t, f)
			}
			after := t.TempDir()
			if err := os.CopyFS(after, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			keepTimes(t, dir, after)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := f.Close(ctx); err == nil {
				t.Error("Close says that everything is stored")
			}
			p.setRefuse(nil)
			next := described(t, p, cache.Config{Dir: after, Identity: "test:kill"})
			wantEverything(t, next)
			syncAll(t, next)
			wantEverything(t, next)
			wantEverything(t, described(t, plain{s}, cache.Config{}))
		})
	}
}

// keepTimes gives a copied tree the times that it was copied from.
func keepTimes(t *testing.T, from, to string) {
	t.Helper()
	// What has come into being in from since then was not copied.
	err := fs.WalkDir(os.DirFS(to), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(filepath.Join(from, name))
		if err != nil {
			return err
		}
		return os.Chtimes(filepath.Join(to, name), info.ModTime(), info.ModTime())
	})
	if err != nil {
		t.Fatal(err)
	}
}

// everythingOf is everything for files that are there.
func everythingOf(t *testing.T, f *cache.FS) {
	t.Helper()
	at := func(name string) backends.Node {
		n, _ := lookup(t, f, name)
		return n
	}
	setAttr(t, f, at("script"), backends.AttrChange{Set: backends.SetMode, Mode: 0o755 | fs.ModeSetgid})
	setAttr(t, f, at("old"), backends.AttrChange{Set: backends.SetMtime | backends.SetAtime, Mtime: someTime, Atime: someTime.Add(time.Hour)})
	setAttr(t, f, at("theirs"), backends.AttrChange{Set: backends.SetUID | backends.SetGID, UID: 12, GID: 34})
	setXattr(t, f, at("tagged"), "user.tag", "bin\x00\xff")
	d := at("dir")
	setAttr(t, f, d, backends.AttrChange{Set: backends.SetMode, Mode: 0o700})
	setXattr(t, f, d, "trusted.dir", "")
	symlink(t, f, d, "link", "../old")
	setAttr(t, f, d, backends.AttrChange{Set: backends.SetMtime, Mtime: someTime})
	setAttr(t, f, f.Root(), backends.AttrChange{Set: backends.SetMode, Mode: 0o711})
}

// With attributes off nothing is recorded, and what can't be had is refused.
func TestAttributesOff(t *testing.T) {
	s := newMemory(t)
	on := described(t, plain{s}, cache.Config{})
	everything(t, on)
	syncAll(t, on)
	before, _ := records(t, s)
	f := described(t, plain{s}, cache.Config{NoAttributes: true})
	if got := fmt.Sprint(list(t, f, f.Root())); got != "[dir old plain script tagged theirs]" {
		t.Errorf("the root shows %s", got)
	}
	n, _ := lookup(t, f, "plain")
	if err := f.SetXattr(t.Context(), n, "user.x", nil, 0); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("SetXattr: %v", err)
	}
	if _, _, err := f.Symlink(t.Context(), f.Root(), "l", "x", backends.CreateAttr{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Symlink: %v", err)
	}
	setAttr(t, f, n, backends.AttrChange{Set: backends.SetMode, Mode: 0o600})
	if _, a := lookup(t, f, "plain"); a.Mode != 0o600 {
		t.Errorf("chmod: %v", a.Mode)
	}
	d, _ := lookup(t, f, "dir")
	if err := f.Unlink(t.Context(), d, "link"); err != nil {
		t.Fatal(err)
	}
	if err := f.Rmdir(t.Context(), f.Root(), "dir"); err != nil {
		t.Fatal(err)
	}
	syncAll(t, f)
	after, _ := records(t, s)
	if len(after) > len(before) || slices.ContainsFunc(after, func(name string) bool { return strings.HasPrefix(name, "dir/") }) {
		t.Errorf("records before: %q, after: %q", before, after)
	}
}

// agentfs's own extended attributes are nobody else's to set, and a file has
// only so many.
func TestXattrLimits(t *testing.T) {
	f := described(t, plain{newMemory(t)}, cache.Config{})
	n := create(t, f, "f", "x")
	for _, name := range []string{"user.agentfs.version", "user.agentfs.other"} {
		if err := f.SetXattr(t.Context(), n, name, nil, 0); !errors.Is(err, backends.ErrNotPermitted) {
			t.Errorf("SetXattr %s: %v", name, err)
		}
	}
	var err error
	for i := 0; err == nil && i < 100; i++ {
		err = f.SetXattr(t.Context(), n, fmt.Sprint("user.", i), make([]byte, 64<<10), 0)
	}
	if !errors.Is(err, backends.ErrNoSpace) {
		t.Errorf("SetXattr without end: %v", err)
	}
	syncAll(t, f)
}

// Unpacking costs a put per file, and a few more for all attributes together.
func TestUnpackingCosts(t *testing.T) {
	const n = 5000
	s := newMemory(t)
	p := newProbe(s)
	f := described(t, p, cache.Config{})
	d := mkdir(t, f, "d", 0o755)
	for i := range n {
		_, _, h, err := f.Create(t.Context(), d, fmt.Sprint("f", i), os.O_WRONLY, backends.CreateAttr{Mode: 0o755})
		if err != nil {
			t.Fatal(err)
		}
		node, _ := lookup(t, f, fmt.Sprint("d/f", i))
		setAttr(t, f, node, backends.AttrChange{Set: backends.SetMtime, Mtime: someTime.Add(time.Duration(i))})
		if err := closeFile(t, h); err != nil {
			t.Fatal(err)
		}
	}
	syncAll(t, f)
	recs, _ := records(t, s)
	var bytes int64
	for _, r := range recs {
		e, err := s.Stat(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		bytes += e.Size
	}
	st := f.State().Stats
	p.mu.Lock()
	counts := fmt.Sprint(p.counts)
	puts := p.counts["put"]
	p.mu.Unlock()
	t.Logf("%d files: %s; %d records of %d bytes; %d uploads", n, counts, len(recs), bytes, st.Uploads)
	if puts > n+n/10 || bytes > 200*n {
		t.Errorf("%d files cost %s and %d bytes of records", n, counts, bytes)
	}
	next := described(t, plain{s}, cache.Config{})
	list(t, next, func() backends.Node { d, _ := lookup(t, next, "d"); return d }())
	for i := range n {
		if _, a := lookup(t, next, fmt.Sprint("d/f", i)); !a.Mtime.Equal(someTime.Add(time.Duration(i))) || a.Mode != 0o755 {
			t.Fatalf("f%d: %+v", i, a)
		}
	}
}
