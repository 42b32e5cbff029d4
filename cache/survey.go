package cache

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

const (
	// surveyWorkers is how many ranges of one survey are listed at once.
	surveyWorkers = 8
	// surveyWindow is how many pages the first survey of a walk may be ahead at
	// its beginning.
	surveyWindow = 4
	// surveyIdle is after how long without a reader a survey that is far enough
	// ahead ends.
	surveyIdle = 10 * time.Second
	// surveyPatience is for how many pages a reader waits for a range to come to
	// its directory.
	surveyPatience = 3
	// pageEntries is how many entries a page has, about.
	pageEntries = 1000
)

// surveys are those under way, by the directory whose children they list.
type surveys struct {
	n  atomic.Int32
	mu sync.Mutex
	by map[*tree.Node]*survey
}

// survey lists what lies below the children of a directory, one after the
// other, ahead of somebody who goes through them.
type survey struct {
	c   *FS
	top *tree.Node

	names []string // children that are to be listed, in the order of keys
	back  bool     // the reader goes through them backwards
	// window is how many pages it may be ahead at its beginning.
	window int

	mu      sync.Mutex
	moved   chan struct{} // closed at the next progress
	taken   []bool        // names that are in a range, or were
	left    int           // names that are not
	ranges  []*surveyRange
	workers int
	pages   int // that were asked for
	entries int // listed that somebody has read since
	ended   bool
	// How many entries so many children have, to guess by what the others have.
	known, knownEntries int
}

// surveyRange is a row of children that are listed in one go: names[from:to]. It
// takes in those that follow as far as its pages have them.
type surveyRange struct {
	from, to int

	pages  int
	wanted bool   // a reader waits for the next page
	pos    string // the key of the last entry, from the top
	at     string // the directory that it is in
}

// dirKey is the key by which a listing sorts the directory called name.
func dirKey(name string) string { return name + "/" }

// surveyed reports whether a survey has listed p, waiting for it. fork is where
// the reader has gone from one child to another, nil if it hasn't.
func (c *FS) surveyed(ctx context.Context, fork *fork, p *tree.Node) bool {
	if c.cfg.TTL == 0 || c.noPages.Load() || fork == nil && c.surveys.n.Load() == 0 {
		return false
	}
	s := c.surveys.over(c.tree, p)
	switch {
	case s != nil && s.wait(ctx, p):
		return true
	case fork == nil || s != nil && !c.outdated(p):
		return false
	}
	// The reader takes longer than the ttl for what was listed ahead of him. The
	// next survey is not so far ahead.
	window := surveyWindow
	if s != nil {
		window = s.retire()
	}
	s = c.survey(fork, window)
	return s != nil && s.wait(ctx, p)
}

// outdated reports whether p was listed longer ago than is believed.
func (c *FS) outdated(p *tree.Node) bool {
	d := dirOf(p)
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.local && !d.listed.IsZero() && !c.fresh(d.listed)
}

// over returns the survey that p lies in.
func (all *surveys) over(t *tree.Tree, p *tree.Node) *survey {
	all.mu.Lock()
	defer all.mu.Unlock()
	for n := p; ; {
		parent, _, ok := t.Where(n)
		if !ok || parent == n {
			return nil
		}
		if s := all.by[parent]; s != nil {
			return s
		}
		n = parent
	}
}

// remove ends that s is one of those under way.
func (all *surveys) remove(s *survey) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.by[s.top] == s {
		delete(all.by, s.top)
		all.n.Add(-1)
	}
}

// retire ends s and returns how far ahead of the same reader the next one may be.
func (s *survey) retire() (pages int) {
	s.end()
	s.c.surveys.remove(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(max(1, s.entries/pageEntries), surveyWindow)
}

// survey begins one at f that may be so many pages ahead.
func (c *FS) survey(f *fork, window int) *survey {
	s := &survey{c: c, top: f.dir, back: f.back, window: window, moved: make(chan struct{})}
	s.look(f.name)
	if len(s.names) < 2 {
		return nil // one directory is listed as fast by its reader
	}
	c.surveys.mu.Lock()
	defer c.surveys.mu.Unlock()
	if now := c.surveys.by[f.dir]; now != nil {
		return now
	}
	if c.surveys.by == nil {
		c.surveys.by = map[*tree.Node]*survey{}
	}
	c.surveys.by[f.dir] = s
	c.surveys.n.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.take(slices.Index(s.names, f.name)); r != nil {
		s.start(r)
	}
	s.hire()
	return s
}

// look finds the directories that have to be listed, from the child called from
// on in the direction of the reader, and how large those are that are known.
func (s *survey) look(from string) {
	t := s.c.tree
	t.Children(s.top, func(name string, n *tree.Node) {
		ahead := dirKey(name) >= dirKey(from)
		if s.back {
			ahead = dirKey(name) <= dirKey(from)
		}
		switch {
		case !n.IsDir():
		case s.c.listedNow(n):
			s.known++
			s.knownEntries += t.Len(n)
		case ahead:
			s.names = append(s.names, name)
		}
	})
	slices.SortFunc(s.names, func(a, b string) int { return strings.Compare(dirKey(a), dirKey(b)) })
	s.taken, s.left = make([]bool, len(s.names)), len(s.names)
}

// hire starts workers, more of them as more is used. s.mu is held.
func (s *survey) hire() {
	for s.workers < min(surveyWorkers, 2+s.entries/pageEntries) && s.left > 0 && !s.ended {
		s.start(s.take(s.next()))
	}
}

// start starts a worker with r. s.mu is held.
func (s *survey) start(r *surveyRange) {
	s.workers++
	s.c.flushed.Go(func() { s.work(r) })
}

// mayAsk reports whether a page of r may be asked for. s.mu is held.
func (s *survey) mayAsk(r *surveyRange) bool {
	return r.wanted || s.pages < s.window+2*s.entries/pageEntries
}

// step says that something has changed that others wait for. s.mu is held.
func (s *survey) step() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// work lists r and then range after range.
func (s *survey) work(r *surveyRange) {
	defer s.leave()
	for r != nil {
		err := s.list(r)
		s.mu.Lock()
		s.ranges = slices.DeleteFunc(s.ranges, func(o *surveyRange) bool { return o == r })
		s.known += r.to - r.from
		s.ended = s.ended || err != nil
		r = s.take(s.next())
		s.step()
		s.mu.Unlock()
	}
}

// leave ends a worker, and with the last one the survey.
func (s *survey) leave() {
	s.mu.Lock()
	s.workers--
	last := s.workers == 0
	if last {
		s.ended = true
		s.step()
	}
	s.mu.Unlock()
	if !last {
		return
	}
	s.c.surveys.remove(s)
}

// next returns the index of the next name for a worker, -1 if none is left. s.mu
// is held.
func (s *survey) next() int {
	if s.back {
		for i := len(s.taken) - 1; i >= 0; i-- {
			if !s.taken[i] {
				return i
			}
		}
		return -1
	}
	return slices.Index(s.taken, false)
}

// take returns the range that begins with names[i]: a part of what is left, so
// that all workers are busy until the end, but whole pages if that can be told.
// s.mu is held.
func (s *survey) take(i int) *surveyRange {
	if s.ended || i < 0 || s.taken[i] {
		return nil
	}
	page := 1 // children
	if s.knownEntries > 0 {
		page = max(1, s.known*pageEntries/s.knownEntries)
	}
	n := max(1, s.left/(2*surveyWorkers)/page) * page
	r := &surveyRange{from: i, to: i + 1}
	if s.back {
		for r.from > 0 && r.to-r.from < n && !s.taken[r.from-1] {
			r.from--
		}
	} else {
		for r.to < len(s.names) && r.to-r.from < n && !s.taken[r.to] {
			r.to++
		}
	}
	for i := r.from; i < r.to; i++ {
		s.taken[i] = true
	}
	s.left -= r.to - r.from
	s.ranges = append(s.ranges, r)
	return r
}

// extend takes into r what follows it up to key. s.mu is held.
func (s *survey) extend(r *surveyRange, key string) {
	for r.to < len(s.names) && !s.taken[r.to] && dirKey(s.names[r.to]) <= key {
		s.taken[r.to] = true
		s.left--
		r.to++
	}
}

// grant waits until the survey may ask for a page; false says that it is over.
func (s *survey) grant(r *surveyRange) bool {
	idle := time.NewTimer(surveyIdle)
	defer idle.Stop()
	for {
		s.mu.Lock()
		if !s.ended && s.mayAsk(r) {
			s.pages++
			r.pages++
			r.wanted = false
			s.mu.Unlock()
			return true
		}
		ended, moved := s.ended, s.moved
		s.mu.Unlock()
		if ended {
			return false
		}
		select {
		case <-moved:
		case <-s.c.q.ctx.Done():
			return false
		case <-idle.C:
			s.end()
			return false
		}
	}
}

func (s *survey) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.step()
}

// list lists the directories of r, page after page.
func (s *survey) list(r *surveyRange) error {
	m, ok := s.c.merging(s.top)
	if !ok {
		return nil
	}
	l := newFlat(m)
	l.open[0].part = true
	first := join(m.key, s.names[r.from])
	l.enter(first)
	after := dirKey(first)
	var left []flatDir
	for over := false; !over; {
		if !s.grant(r) {
			return nil
		}
		now, ok := s.c.merging(s.top)
		if !ok || now.key != m.key {
			return nil
		}
		l.asked, l.moves = now.asked, now.moves
		ctx, cancel := context.WithTimeout(s.c.q.ctx, storeTimeout)
		p, err := backends.WalkPage(ctx, s.c.store, m.key, after)
		if err == nil {
			after, over = s.sort(l, r, p, m.key)
			left, err = s.c.mergeFlat(ctx, append(left, l.take()...), s.listed)
		}
		cancel()
		if err != nil {
			if errors.Is(err, errors.ErrUnsupported) {
				s.c.noPages.Store(true)
			}
			return err
		}
		s.mu.Lock()
		r.at = l.at()
		s.step()
		s.mu.Unlock()
	}
	return nil
}

// sort takes a page. It returns after what the next one begins, or that the
// range is over.
func (s *survey) sort(l *flat, r *surveyRange, p backends.Page, top string) (after string, over bool) {
	rel := func(e backends.Entry) string {
		if e.Name == top || !under(e.Name, top) {
			return "" // a store that answers something else
		}
		if top == "." {
			return backends.WalkKey(e)
		}
		return backends.WalkKey(e)[len(top)+1:]
	}
	key := ""
	if n := len(p.Entries); n > 0 {
		key = rel(p.Entries[n-1])
	}
	s.mu.Lock()
	s.extend(r, key)
	to := r.to
	s.knownEntries += len(p.Entries)
	r.pos = key
	s.mu.Unlock()
	last := dirKey(s.names[to-1])
	over = !p.More || key == ""
	for _, e := range p.Entries {
		k := rel(e)
		if k > last && !strings.HasPrefix(k, last) {
			over = true
			break
		}
		if after = backends.WalkKey(e); strings.Contains(k, "/") {
			l.add(e)
		}
	}
	if !over && !strings.Contains(key, "/") {
		// It is among the files of the top itself, which are known: on with the
		// next directory.
		i, _ := slices.BinarySearchFunc(s.names[:to], key, func(name, key string) int { return strings.Compare(dirKey(name), key) })
		if over = i == to; !over {
			next := join(top, s.names[i])
			l.enter(next)
			after = dirKey(next)
		}
	}
	if over {
		l.enter(top)
	}
	return after, over
}

// listed notes what a reader will have of the survey.
func (s *survey) listed(l flatDir, d *dir) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ahead, d.aheadEntries = s, len(l.entries)+1
}

// used tells the survey that has listed d that somebody has come to it.
func (d *dir) used() {
	d.mu.Lock()
	s, n := d.ahead, d.aheadEntries
	d.ahead = nil
	d.mu.Unlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries += n
	s.hire()
	s.step()
}

// wait waits for the survey to list p, and reports whether it has. It doesn't
// wait for what would take longer than asking.
func (s *survey) wait(ctx context.Context, p *tree.Node) bool {
	child, key, ok := s.below(p)
	if !ok {
		return false
	}
	path, _ := s.c.tree.Path(p)
	var in *surveyRange
	var began int
	for {
		if s.c.listedNow(p) {
			return true
		}
		s.mu.Lock()
		r := s.find(child)
		if r == nil || s.ended || r.pos > key && !strings.HasPrefix(r.pos, key) {
			s.mu.Unlock()
			return false
		}
		if r != in {
			in, began = r, r.pages
		}
		if r.pages-began > surveyPatience && r.at != path {
			s.mu.Unlock()
			return false
		}
		if !s.mayAsk(r) {
			r.wanted = true
			s.step()
		}
		moved := s.moved
		s.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		}
	}
}

// below returns the child of the top that p lies in, and p's key from the top.
func (s *survey) below(p *tree.Node) (child, key string, ok bool) {
	for n := p; n != s.top; {
		parent, name, ok := s.c.tree.Where(n)
		if !ok || parent == n {
			return "", "", false
		}
		child, key = name, dirKey(name)+key
		n = parent
	}
	return child, key, child != ""
}

// find returns the range that child is in, and begins one if it has to. s.mu is
// held.
func (s *survey) find(child string) *surveyRange {
	i, found := slices.BinarySearchFunc(s.names, child, func(a, b string) int { return strings.Compare(dirKey(a), dirKey(b)) })
	if !found || s.ended {
		return nil
	}
	for _, r := range s.ranges {
		if r.from <= i && i < r.to {
			return r
		}
	}
	r := s.take(i)
	if r != nil {
		s.start(r)
	}
	return r
}
