package crash_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/faulty"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/cache"
)

// sequence is one run of operations that bytes decide, without a kill: the
// cache is compared with the model after each of them.
type sequence struct {
	script *script
	dir    string
	mem    *memory.Store
	bad    *faulty.Faulty
	rules  func() []faulty.Rule
	ttl    time.Duration

	c    *cache.FS
	d    *driver
	m    *model
	g    *generator
	done []string
	n    int // contents of foreign, to tell them apart
}

// The bits of a script's first byte.
const (
	withFaults = 1 << iota
	withoutTTL
	withForeign
)

// bothDir is where another client of the store makes changes, too; the model
// does not know it.
const bothDir = "both"

// run does what the bytes say. The error says what was wrong, and after what.
func runSequence(data []byte) (err error) {
	if len(data) == 0 {
		return nil
	}
	dir, err := os.MkdirTemp("", "agentfs-crash-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	mem, err := memory.New(memory.Config{NoTmpfs: true, Size: 1 << 28})
	if err != nil {
		return err
	}
	defer mem.Close()
	s := &sequence{script: &script{data[1:]}, dir: dir, mem: mem, d: newDriver(nil), m: newModel(), ttl: time.Hour}
	s.m.lax, s.m.live, s.m.attrs = !journaled(), true, keepsAttributes
	s.bad = faulty.Store(newRemembering(plain{mem}))
	s.rules = func() []faulty.Rule { return nil }
	if data[0]&withFaults != 0 {
		s.rules = func() []faulty.Rule { return faults["flaky"](uint64(len(data)))[:1] }
	}
	if data[0]&withoutTTL != 0 {
		s.ttl = 0
	}
	s.g = &generator{choices: s.script, m: s.m, home: home(0), barriers: true, attrs: keepsAttributes}
	if err := s.all(data[0]&withForeign != 0); err != nil {
		last := s.done[max(0, len(s.done)-30):]
		return fmt.Errorf("%w\nafter %d operations, the last:\n%s", err, len(s.done), strings.Join(last, "\n"))
	}
	return nil
}

func (s *sequence) all(foreign bool) error {
	ctx, cancel := seconds(60)
	defer cancel()
	if err := s.open(ctx); err != nil {
		return err
	}
	for _, dir := range []string{home(0), bothDir} {
		if err := s.do(ctx, op{Kind: opMkdir, Path: dir}); err != nil {
			return err
		}
	}
	s.m.cut(bothDir)
	s.bad.SetRules(s.rules()...)
	for !s.script.ended() && len(s.done) < 300 {
		var err error
		switch x := s.script.pick(24); {
		case x == 0:
			err = s.reopen(ctx)
		case x == 1:
			err = s.barrier(ctx)
		case x == 2 && foreign:
			err = s.foreign(ctx)
		default:
			o, ok := s.g.next()
			if !ok {
				continue
			}
			err = s.do(ctx, o)
		}
		if err != nil {
			return err
		}
		if err := s.compare(ctx); err != nil {
			return err
		}
	}
	return errors.Join(s.reopen(ctx), s.c.Close(ctx))
}

func (s *sequence) note(format string, args ...any) {
	s.done = append(s.done, fmt.Sprintf(format, args...))
}

func (s *sequence) open(ctx context.Context) (err error) {
	c := config(filepath.Join(s.dir, "cache"))
	c.TTL, c.Grace = s.ttl, time.Millisecond
	s.c, err = cache.New(ctx, s.bad, c)
	s.d.fs = s.c
	return err
}

// do does one operation and follows it in the model.
func (s *sequence) do(ctx context.Context, o op) error {
	s.note("%v", o)
	r, err := s.d.do(ctx, o, s.m)
	if err != nil {
		s.note("    %v", err)
	}
	switch {
	case r == wrong:
		return err
	case r == asWanted && err == nil:
		s.m.done(o)
	case r == failed:
		s.m.unsure(o)
	}
	if r != asWanted && len(s.rules()) == 0 {
		return fmt.Errorf("failed without a fault: %w", err)
	}
	return nil
}

// healthy does something while the store has no faults.
func (s *sequence) healthy(f func() error) error {
	s.bad.SetRules()
	defer func() { s.bad.SetRules(s.rules()...) }()
	return f()
}

// compare compares all that the cache shows with the model.
func (s *sequence) compare(ctx context.Context) error {
	return s.healthy(func() error {
		got, err := readTree(ctx, s.c)
		if err != nil {
			return err
		}
		return isTree("the tree", s.m, got)
	})
}

func isTree(what string, m *model, got listing) error {
	if bad := m.check(got.without(bothDir)); len(bad) > 0 {
		return fmt.Errorf("%s:\n%s", what, strings.Join(bad, "\n"))
	}
	return nil
}

// barrier makes all of it durable: the store is then what the model is.
func (s *sequence) barrier(ctx context.Context) error {
	s.note("barrier")
	return s.healthy(func() error {
		if err := s.c.SyncDir(ctx, s.c.Root()); err != nil {
			return fmt.Errorf("a barrier without faults: %w", err)
		}
		s.m.done(op{Kind: opBarrier, Path: "."})
		return s.stored(ctx)
	})
}

func (s *sequence) stored(ctx context.Context) error {
	got, err := readStore(ctx, s.mem, ".")
	if err != nil || keepsAttributes {
		return err
	}
	return isTree("the store", s.m, got)
}

// reopen closes all files and the cache, and begins anew with what is there.
func (s *sequence) reopen(ctx context.Context) error {
	for _, h := range s.g.open(true) {
		if err := s.do(ctx, op{Kind: opClose, H: h}); err != nil {
			return err
		}
	}
	s.note("reopen")
	return s.healthy(func() error {
		if err := s.c.Close(ctx); err != nil {
			return fmt.Errorf("closing the cache without faults: %w", err)
		}
		if err := s.stored(ctx); err != nil {
			return err
		}
		if err := s.open(ctx); err != nil {
			return err
		}
		got, err := readTree(ctx, s.c)
		if err != nil {
			return err
		}
		if err := isTree("the tree after reopening", s.m, got); err != nil {
			return err
		}
		s.m.adopt(got.without(bothDir))
		return nil
	})
}

// foreign lets somebody else replace or remove a file that is open here and
// changed after that: neither content is lost.
func (s *sequence) foreign(ctx context.Context) error {
	return s.healthy(func() error { return s.foreignChange(ctx) })
}

func (s *sequence) foreignChange(ctx context.Context) error {
	s.n++
	name := fmt.Sprintf("%s/x%d", bothDir, s.script.pick(3))
	text := func(who string) string {
		return strings.Repeat(fmt.Sprintf("%s %d of %s. ", who, s.n, name), 1+s.script.pick(300))
	}
	ours, theirs, removes := text("ours"), text("theirs"), s.script.pick(4) == 0
	s.note("foreign change of %s, removal: %v", name, removes)
	if err := s.replace(ctx, name, text("before"), func() error { return nil }); err != nil && !errors.Is(err, backends.ErrChanged) {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	// Both know the same version before they part.
	if err := s.settle(ctx); err != nil {
		return err
	}
	err := s.replace(ctx, name, ours, func() error {
		if removes {
			return s.mem.Remove(ctx, name, backends.If{})
		}
		_, err := s.mem.Put(ctx, name, io.NewSectionReader(strings.NewReader(theirs), 0, int64(len(theirs))), backends.PutOptions{})
		return err
	})
	if err != nil && !errors.Is(err, backends.ErrChanged) {
		return fmt.Errorf("writing %s against somebody else: %w", name, err)
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	got, err := readStore(ctx, s.mem, bothDir)
	if err != nil {
		return err
	}
	if !removes && string(got[name].data) != theirs {
		return fmt.Errorf("%s does not hold what somebody else put there, but %s", name, brief(got[name].data))
	}
	for path, e := range got {
		if (path == name || strings.HasPrefix(path, name+".conflict-")) && string(e.data) == ours {
			return nil
		}
	}
	if s.isKept(ours) {
		return nil
	}
	return fmt.Errorf("what was written to %s is nowhere", name)
}

// settle waits until the cache has told all of conflicts.
func (s *sequence) settle(ctx context.Context) error {
	for range 10 {
		err := s.c.SyncDir(ctx, s.c.Root())
		if err == nil {
			s.m.done(op{Kind: opBarrier, Path: "."})
			return nil
		}
		if !errors.Is(err, backends.ErrChanged) {
			return fmt.Errorf("a barrier: %w", err)
		}
	}
	return errors.New("barriers go on to find conflicts")
}

// replace opens a file, which is made if need be, and gives it a content; in
// between something else happens.
func (s *sequence) replace(ctx context.Context, path, content string, between func() error) error {
	p, name, err := s.d.parent(ctx, path)
	if err != nil {
		return err
	}
	n, a, f, err := s.c.Create(ctx, p, name, os.O_RDWR|os.O_CREATE, backends.CreateAttr{Mode: 0o644})
	if err != nil {
		return err
	}
	// What is open has been read: it is the version from which we go on.
	if _, err = readAll(ctx, f, a.Size); err == nil {
		err = between()
	}
	if err == nil {
		_, err = f.WriteAt(ctx, []byte(content), 0)
	}
	if err == nil && a.Size > int64(len(content)) {
		_, err = s.c.SetAttr(ctx, n, backends.AttrChange{Set: backends.SetSize, Size: int64(len(content))})
	}
	if err == nil {
		err = f.Flush(ctx)
	}
	return errors.Join(err, f.Close(ctx))
}

// isKept looks for a content among what rooms keep.
func (s *sequence) isKept(content string) bool {
	found := false
	_ = filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.Contains(path, "/kept/") && d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			found = found || err == nil && bytes.Equal(b, []byte(content))
		}
		return nil
	})
	return found
}

func brief(b []byte) string { return fmt.Sprintf("%.40q (%d bytes)", b, len(b)) }
