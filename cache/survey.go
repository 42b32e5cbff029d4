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
	// surveyWindow is how many pages a survey may be ahead at its beginning.
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

	mu      sync.Mutex
	moved   chan struct{} // closed at the next progress
	names   []string      // children that are to be listed, the next first
	back    bool          // the reader goes through them backwards
	ranges  []*surveyRange
	workers int
	pages   int // that were asked for
	entries int // listed that somebody has read since
	ended   bool
}

// surveyRange is a row of children that are listed in one go.
type surveyRange struct {
	names  []string // in the order of keys
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
	if s == nil && fork != nil {
		s = c.survey(fork)
	}
	return s != nil && s.wait(ctx, p)
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

// survey begins one at f.
func (c *FS) survey(f *fork) *survey {
	s := &survey{c: c, top: f.dir, back: f.back, moved: make(chan struct{})}
	s.names = s.missing(f.name)
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
	s.hire()
	s.mu.Unlock()
	return s
}

// missing returns the directories from the child called from on, in the order
// of the reader, that have to be listed.
func (s *survey) missing(from string) (names []string) {
	s.c.tree.Children(s.top, func(name string, n *tree.Node) {
		after := dirKey(name) >= dirKey(from)
		if s.back {
			after = dirKey(name) <= dirKey(from)
		}
		if after && n.IsDir() && !s.c.listedNow(n) {
			names = append(names, name)
		}
	})
	slices.SortFunc(names, func(a, b string) int {
		if s.back {
			a, b = b, a
		}
		return strings.Compare(dirKey(a), dirKey(b))
	})
	return names
}

// hire starts workers, more of them as more is used. s.mu is held.
func (s *survey) hire() {
	for s.workers < min(surveyWorkers, 2+s.entries/pageEntries) && len(s.names) > 0 && !s.ended {
		s.start(s.take())
	}
}

// start starts a worker with r. s.mu is held.
func (s *survey) start(r *surveyRange) {
	s.workers++
	s.c.flushed.Go(func() { s.work(r) })
}

// mayAsk reports whether a page of r may be asked for. s.mu is held.
func (s *survey) mayAsk(r *surveyRange) bool {
	return r.wanted || s.pages < surveyWindow+2*s.entries/pageEntries
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
		s.ended = s.ended || err != nil
		r = s.take()
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
	all := &s.c.surveys
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.by, s.top)
	all.n.Add(-1)
}

// take returns the next range: a part of what is left, so that the ranges become
// smaller towards the end and all workers are busy until then; nil if nothing is
// left. s.mu is held.
func (s *survey) take() *surveyRange {
	if s.ended || len(s.names) == 0 {
		return nil
	}
	n := 1 + len(s.names)/(2*surveyWorkers)
	return s.begin(slices.Clone(s.names[:n]), s.names[n:])
}

// begin makes a range of names, and leaves rest. s.mu is held.
func (s *survey) begin(names, rest []string) *surveyRange {
	if s.back {
		slices.Reverse(names)
	}
	r := &surveyRange{names: names}
	s.names, s.ranges = rest, append(s.ranges, r)
	return r
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
	first := join(m.key, r.names[0])
	l.enter(first)
	after, last := dirKey(first), dirKey(r.names[len(r.names)-1])
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
			after, over = s.sort(l, r, p, m.key, last)
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
func (s *survey) sort(l *flat, r *surveyRange, p backends.Page, top, last string) (after string, over bool) {
	key := ""
	over = !p.More
	for _, e := range p.Entries {
		if after = backends.WalkKey(e); e.Name == top || !under(e.Name, top) {
			continue
		}
		if key = after; top != "." {
			key = after[len(top)+1:]
		}
		if key > last && !strings.HasPrefix(key, last) {
			over = true
			break
		}
		if strings.Contains(key, "/") {
			l.add(e)
		}
	}
	if key == "" {
		over = true // nothing of this is below the top
	}
	if !over && !strings.Contains(key, "/") {
		// It is among the files of the top itself, which are known: on with the
		// next directory.
		i, _ := slices.BinarySearchFunc(r.names, key, func(name, key string) int { return strings.Compare(dirKey(name), key) })
		if over = i == len(r.names); !over {
			next := join(top, r.names[i])
			l.enter(next)
			after = dirKey(next)
		}
	}
	if over {
		l.enter(top)
	}
	s.mu.Lock()
	r.pos = key
	s.mu.Unlock()
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
	for _, r := range s.ranges {
		if slices.Contains(r.names, child) {
			return r
		}
	}
	i := slices.Index(s.names, child)
	if i < 0 || s.ended {
		return nil
	}
	r := s.begin([]string{child}, slices.Delete(slices.Clone(s.names), i, i+1))
	s.start(r)
	return r
}
