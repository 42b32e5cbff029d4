package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// The names of a large directory, asked for in their order.
//
// A directory that is too large to be listed for a lookup is asked for one name at
// a time. Who goes through all of them (ls -l, find -size, rm -r, a script over
// what ls has printed) would pay a request for each: of a million names every
// one, since to list them takes longer than the ttl. So a name that follows the
// last one is asked for with the stretch of names behind it, in one LIST.
//
// Names in no order would pay for stretches that they have no use for. Each stretch in vain
// doubles the number of single questions before the next try.

const (
	// stretchNames is how many names a stretch has. Fewer than a page: of its last entry
	// S3 tells only with the next page whether a directory hides it.
	stretchNames = smallDir
	// maxStretches is how many places in a directory are remembered, so that several
	// can go through it.
	maxStretches = 8
	// maxStretchWait is log2 of the most single questions between two tries.
	maxStretchWait = 6
)

// stretch is a part of a directory that was listed: the entries whose keys
// ([backends.Entry.Key]) are after after, up to last, or to the end.
type stretch struct {
	after, last string
	end         bool
	asked       time.Time
}

// covers reports whether the stretch would have name, be it a file or a directory.
func (r *stretch) covers(name string) bool {
	return r.after < name && (r.end || dirKey(name) <= r.last)
}

// stretches are the places in a directory where somebody has asked for names.
type stretches struct {
	all  []stretch // the latest last
	vain int       // stretches without what was asked for, one after another
	wait int       // single questions until the next stretch
}

// follow returns after which key a stretch with name begins that goes on from an
// earlier place.
func (s *stretches) follow(name string) (after string, ok bool) {
	var near *stretch
	for i := range s.all {
		if r := &s.all[i]; r.after < name && (near == nil || r.after > near.after) {
			near = r
		}
	}
	switch {
	case near == nil:
		return "", false
	case s.wait > 0:
		s.wait--
		return "", false
	case near.last < name:
		return near.last, true
	}
	return near.after, true // it was known too long ago
}

// note remembers a place instead of the one that it goes on from.
func (s *stretches) note(r stretch) {
	s.all = slices.DeleteFunc(s.all, func(old stretch) bool { return old.after == r.after || old.last == r.after })
	if len(s.all) == maxStretches {
		s.all = slices.Delete(s.all, 0, 1)
	}
	s.all = append(s.all, r)
}

// tried notes whether a stretch had what was asked for.
func (s *stretches) tried(found bool) {
	if found {
		s.vain = 0
		return
	}
	s.wait = 1 << min(s.vain, maxStretchWait)
	s.vain++
}

// askStretch asks for name with the stretch of names that begins after after, and reports
// whether that was enough to know of it.
func (m merging) askStretch(ctx context.Context, name, after string) (asked time.Time, known bool, err error) {
	c, d := m.c, dirOf(m.dir)
	asked, err = c.share(ctx, m.asked, fmt.Sprint("stretch ", m.dir.ID(), " ", after), func(ctx context.Context, _ func()) error {
		return m.stretch(ctx, after)
	})
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist), errors.Is(err, backends.ErrNotDir):
		// The question for the one name says more.
	case err != nil:
		return asked, false, err
	default:
		m.asked = asked
		if known, err = m.settle(name); err != nil {
			return asked, false, err
		}
	}
	d.mu.Lock()
	d.stretches.tried(known)
	d.mu.Unlock()
	return asked, known, nil
}

// stretch lists what follows after and merges it.
func (m merging) stretch(ctx context.Context, after string) error {
	r := stretch{after: after, last: after, end: true, asked: m.asked}
	var all []backends.Entry
	for e, err := range m.c.store.List(ctx, m.key, after) {
		if err != nil {
			return err
		}
		all = append(all, e)
		if len(all) == stretchNames {
			r.end = false
			break
		}
	}
	if len(all) > 0 {
		r.last = all[len(all)-1].Key()
	}
	shown, _ := split(all)
	targets, err := m.c.targets(ctx, shown)
	if err != nil {
		return err
	}
	if !m.c.cfg.NoAttributes {
		if err := m.c.loadRecords(ctx, m.dir, m.c.cfg.TTL); err != nil {
			return err
		}
	}
	end, err := m.begin()
	if err != nil {
		return err
	}
	defer end()
	d := dirOf(m.dir)
	m.attrs = d.records.known
	d.mu.Lock()
	for _, e := range shown {
		if !m.c.haunts(e) {
			m.present(d, e.Base(), e, targets[e.Name])
		}
	}
	d.stretches.note(r)
	d.mu.Unlock()
	m.c.learned()
	m.seen()
	return nil
}

// settle merges what the stretch that was asked for at m.asked says about name, and
// reports whether it says anything.
func (m merging) settle(name string) (known bool, err error) {
	end, err := m.begin()
	if err != nil {
		return false, err
	}
	defer end()
	d := dirOf(m.dir)
	d.mu.Lock()
	defer d.mu.Unlock()
	if n, err := m.c.tree.Lookup(m.dir, name); err == nil && seenSince(n, m.asked) {
		return true, nil
	}
	if !slices.ContainsFunc(d.stretches.all, func(r stretch) bool { return r.asked.Equal(m.asked) && r.covers(name) }) {
		return false, nil
	}
	m.missing(d, name)
	if !d.oursSince(name, m.asked) {
		m.c.setAbsent(d, name, m.asked)
	}
	return true, nil
}

// seenSince reports whether the store has confirmed n by an answer to a question
// that was asked at t, or later.
func seenSince(n *tree.Node, t time.Time) bool {
	switch x := n.Data.(type) {
	case *file:
		x.mu.Lock()
		defer x.mu.Unlock()
		return !x.seen.Before(t)
	case *dir:
		x.mu.Lock()
		defer x.mu.Unlock()
		return !x.seen.Before(t)
	}
	return false
}
