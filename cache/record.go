package cache

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
	"github.com/agentfs/agentfs/cache/journal"
)

// What the journal holds, by the first letter of the key:
//
//	n/ID       a node that differs from the store, or the way to one (nodeRecord)
//	x/ID       the map of a content that is not just its local file (mapRecord)
//	x/ID/SEQ   a change of that map since (row)
//	u/ID       an upload under way (uploadRecord), for whoever has to abort it
//	g/KEY      a ghost (ghostRecord)
//	c/TIME     a conflict (Conflict), for people
//	synced     when everything in the room was last made safe from a power loss
//
// Everything else is in the store, and asked again.

// text is a string of any bytes in JSON: as it is if it is UTF-8.
type text string

const notUTF8 = "\x00base64:"

// MarshalJSON implements json.Marshaler.
func (t text) MarshalJSON() ([]byte, error) {
	s := string(t)
	if !utf8.ValidString(s) || strings.HasPrefix(s, notUTF8) {
		s = notUTF8 + base64.StdEncoding.EncodeToString([]byte(s))
	}
	return json.Marshal(s)
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if enc, ok := strings.CutPrefix(s, notUTF8); ok {
		raw, err := base64.StdEncoding.DecodeString(enc)
		if err != nil {
			return err
		}
		s = string(raw)
	}
	*t = text(s)
	return nil
}

// nodeRecord is a node in the journal.
type nodeRecord struct {
	Parent uint64      `json:"p"`
	Name   text        `json:"n"`
	Mode   fs.FileMode `json:"m"`
	UID    uint32      `json:"u,omitempty"`
	GID    uint32      `json:"g,omitempty"`
	Atime  int64       `json:"at"`
	Mtime  int64       `json:"mt"`
	Ctime  int64       `json:"ct"`
	Target text        `json:"target,omitempty"`
	// Pending: it differs from the store. Otherwise it is the way to one that
	// does.
	Pending bool `json:"pending,omitempty"`

	// Attrs: the records lack something of its attributes. MtimeSet, AtimeSet
	// and ModeSet say which were set by somebody.
	Attrs    bool            `json:"attrs,omitempty"`
	MtimeSet bool            `json:"mts,omitempty"`
	AtimeSet bool            `json:"ats,omitempty"`
	ModeSet  bool            `json:"ms,omitempty"`
	Xattrs   map[text][]byte `json:"x,omitempty"`

	// Of files.
	Base    *storedRecord `json:"base,omitempty"`
	Changed bool          `json:"changed,omitempty"` // the store lacks the content
	Layer   string        `json:"layer,omitempty"`   // the local file
	Map     bool          `json:"map,omitempty"`     // there is a map beside it
	Ops     []attempt     `json:"ops,omitempty"`

	// Of directories.
	Local  bool `json:"local,omitempty"`
	Marker bool `json:"marker,omitempty"`
}

// attempt is a change of an object whose outcome nobody knows yet.
type attempt struct {
	Op     string `json:"op"`
	Key    text   `json:"key"`
	Change uint64 `json:"change"`
}

type storedRecord struct {
	Key     text             `json:"k"`
	Version backends.Version `json:"v"`
	Size    int64            `json:"s"`
}

func recordOf(s *stored) *storedRecord {
	if s == nil {
		return nil
	}
	return &storedRecord{text(s.key), s.version, s.size}
}

// mapRecord is the map of a content.
type mapRecord struct {
	Len     int64          `json:"len"`
	Sources []storedRecord `json:"src,omitempty"`
	// Ext has off, end, source (from 1; 0 is the local file) and offset in it.
	Ext [][4]int64 `json:"ext,omitempty"`
}

// row is a change of a map.
type row struct {
	Off  int64 `json:"o,omitempty"`
	End  int64 `json:"e,omitempty"`
	Hole bool  `json:"h,omitempty"` // else local bytes
	Len  int64 `json:"l"`
}

// maxRows is how many rows a map may have beside it before it is written anew.
const maxRows = 512

// ghostRecord is a ghost.
type ghostRecord struct {
	Version backends.Version `json:"v,omitempty"`
	Size    int64            `json:"s,omitempty"`
	Dir     bool             `json:"d,omitempty"`
	Look    bool             `json:"l,omitempty"`
	Maybe   *maybe           `json:"maybe,omitempty"`
}

func nodeKey(id uint64) string { return idKey("n/", id) }
func mapKey(id uint64) string  { return idKey("x/", id) }

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("cache: %T has no JSON: %v", v, err)) // our own types
	}
	return b
}

// batch is what one operation changes in the journal.
type batch struct {
	journal.Batch
	undo []func() // takes back what is remembered of the batch if it fails
	done []func() // remembers that it has not; whoever has these doesn't wait
	// after is what can be done once the journal has it.
	after []func()
}

// grow makes room for so many more changes, of so many bytes.
func (b *batch) grow(changes, bytes int) {
	b.Grow(changes, bytes)
	b.undo = slices.Grow(b.undo, changes)
}

// commit puts a batch down, after what waits in c.late. What is not in the
// journal has not happened, so its error is that of the operation. c.ns is
// held.
func (c *FS) commit(b *batch) error {
	if b.Len() == 0 {
		return nil
	}
	whole, waiting := &b.Batch, c.late.Len()
	if waiting > 0 {
		c.late.Append(&b.Batch)
		whole = &c.late.Batch
	}
	if err := c.put(whole); err != nil {
		c.late.Truncate(waiting)
		for _, f := range slices.Backward(b.undo) {
			f()
		}
		return err
	}
	c.late.after = append(append(c.late.after, b.done...), b.after...)
	c.lateIsIn()
	return nil
}

// lateIsIn is called when the journal has all that was late.
func (c *FS) lateIsIn() {
	done := c.late.after
	c.late.after = nil
	c.late.Reset()
	for _, f := range done {
		f()
	}
}

// put gives a batch to the journal.
func (c *FS) put(b *journal.Batch) error {
	err := c.journal.Commit(b)
	if journal.Full(err) && c.room.giveUpReserve() {
		err = c.journal.Commit(b)
	}
	if err != nil {
		return diskError(fmt.Errorf("journal: %w", err))
	}
	return nil
}

// commitLate is commit for what has happened anyway, in the store: it goes with
// the next commit, or shortly. Until then nothing is replaced or removed in the
// store that the journal takes to be there; all the rest would be found done.
// c.ns is held.
func (c *FS) commitLate(b *batch) {
	if b.Len() == 0 {
		return
	}
	if c.late.Len() == 0 {
		c.lateTimer.Reset(lateCommit)
	}
	c.late.Append(&b.Batch)
	c.late.after = append(append(c.late.after, b.done...), b.after...)
	if len(b.done) > 0 {
		// The map of a content: what is written to it from now on must not
		// come before it.
		_ = c.catchUp()
	}
}

// lateCommit is how long what can wait does.
const lateCommit = 50 * time.Millisecond

// flushLate commits what waits.
func (c *FS) flushLate() { _ = c.catchUpNow() }

// catchUpNow is catchUp for who does not hold c.ns.
func (c *FS) catchUpNow() error {
	c.ns.Lock()
	defer c.ns.Unlock()
	return c.catchUp()
}

// catchUp brings the journal up to date. If that can't be, it is tried again
// soon. c.ns is held.
func (c *FS) catchUp() error {
	if c.late.Len() == 0 {
		return nil
	}
	if err := c.put(&c.late.Batch); err != nil {
		c.log.Warn("the journal could not be brought up to date; that is tried again", "err", err)
		c.lateTimer.Reset(time.Second)
		return err
	}
	c.lateIsIn()
	return nil
}

// record puts n, and the directories on the way to it, into b. With at not
// nil it is recorded as the child called name of at, where it is going to be.
// c.ns is held.
func (c *FS) record(b *batch, n *tree.Node, at *tree.Node, name string) {
	if at == nil {
		var ok bool
		if at, name, ok = c.attrPlace(n); !ok {
			return
		}
	}
	c.anchor(b, at)
	a := c.tree.Attr(n)
	r := nodeRecord{
		Parent: at.ID(), Name: text(name), Mode: a.Mode, UID: a.UID, GID: a.GID,
		Atime: a.Atime.UnixNano(), Mtime: a.Mtime.UnixNano(), Ctime: a.Ctime.UnixNano(),
	}
	c.recordAttrs(&r, n)
	switch x := n.Data.(type) {
	case *dir:
		r.Pending, r.Local, r.Marker = x.job != nil, x.local, x.marker
		if !x.recorded {
			x.recorded = true
			b.undo = append(b.undo, func() { x.recorded = false })
		}
	case *file:
		x.mu.Lock()
		x.recordLocked(b, &r)
		x.mu.Unlock()
		x.recorded = true
	default:
		return
	}
	c.scratch = r.encode(c.scratch[:0])
	b.Put(nodeKey(n.ID()), c.scratch)
}

// anchor records the way to d. c.ns is held.
func (c *FS) anchor(b *batch, d *tree.Node) {
	for d != c.tree.Root() && !dirOf(d).recorded {
		at, name, ok := c.tree.Where(d)
		if !ok {
			return
		}
		c.record(b, d, at, name)
	}
}

// recordLocked fills r, and puts the content's map into b if it needs one.
// f.mu is held, and FS.ns.
func (f *file) recordLocked(b *batch, r *nodeRecord) {
	r.Pending, r.Base, r.Changed, r.Ops = f.pending, recordOf(f.base), f.changedLocked(), f.ops
	if f.c == nil {
		return
	}
	c := f.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !r.Changed {
		c.dropMap(b)
		c.unname(b)
		return
	}
	was := c.named
	c.named = true
	// If it does not fit where it lies and can't be moved, the disk is full, or
	// worse; see below.
	_ = c.lie(c.length)
	if former := slices.Clone(c.former); len(former) > 0 {
		b.after = append(b.after, func() {
			c.mu.Lock()
			c.dropFormer(former)
			c.mu.Unlock()
		})
	}
	b.undo = append(b.undo, func() {
		c.mu.Lock()
		c.kept, c.recorded, c.named = notJournaled, false, was
		c.mu.Unlock()
	})
	now := asMap
	if c.ext.complete() && c.layer.truncate(c.length) == nil && c.layer.appear(r.Ctime) == nil {
		// Otherwise the disk is full, or worse, and the map tells the length.
		now = asFile
	}
	r.Layer, r.Map = c.layer.name(), now == asMap
	if c.kept != now {
		c.kept, c.recorded = now, false
	}
	b.done = append(b.done, func() {
		c.mu.Lock()
		c.recorded = c.recorded || c.kept == now
		c.mu.Unlock()
	})
	if now == asFile {
		c.dropMap(b)
		return
	}
	c.putMap(b)
}

// putMap puts the whole map into b. c.mu is held, and FS.ns: two maps must not
// overtake each other.
func (c *content) putMap(b *batch) {
	m := mapRecord{Len: c.length}
	sources := c.ext.sources()
	index := make(map[*stored]int64, len(sources))
	for i, s := range sources {
		index[s] = int64(i + 1)
		m.Sources = append(m.Sources, *recordOf(s))
	}
	for _, e := range c.ext {
		m.Ext = append(m.Ext, [4]int64{e.off, e.end, index[e.src], e.at})
	}
	c.dropMap(b)
	c.mapped = true
	b.Put(mapKey(c.id), mustJSON(m))
}

// dropMap takes out whatever map the journal has, with the ranges up to now: of
// those that come while the batch is on its way nothing is known yet. c.mu is
// held, and FS.ns.
func (c *content) dropMap(b *batch) {
	if !c.mapped {
		return
	}
	was := c.rowMap
	b.Delete(mapKey(c.id))
	for c.rowMap < c.row {
		c.rowMap++
		b.Delete(c.rowKey(c.rowMap))
	}
	c.mapped = false
	b.undo = append(b.undo, func() {
		c.mu.Lock()
		c.mapped, c.rowMap = true, was
		c.mu.Unlock()
	})
}

// unname lets the local bytes go once the journal does not name them any more.
// c.mu is held.
func (c *content) unname(b *batch) {
	if c.named {
		b.after = append(b.after, func() {
			c.mu.Lock()
			c.named = c.kept != notJournaled
			if c.freed && !c.named {
				c.dropFormer(slices.Clone(c.former))
			}
			c.mu.Unlock()
		})
	}
}

// rowBase makes the numbers of rows equally long.
const rowBase = 1 << 40

func (c *content) rowKey(n int64) string {
	return mapKey(c.id) + "/" + strconv.FormatInt(rowBase+n, 16)
}

// journalRow records a change of a content that is in the journal as a map.
// c.mu is held.
func (c *content) journalRow(r row) error {
	if c.kept != asMap {
		return nil
	}
	var b batch
	c.row++
	b.Put(c.rowKey(c.row), r.encode(nil))
	return c.fs.put(&b.Batch)
}

// inJournal reports whether nothing about the content is still to be recorded.
func (c *content) inJournal() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept != notJournaled && c.recorded && c.row-c.rowMap < maxRows
}

// forgetRecord takes a node's records out. c.ns is held.
func (c *FS) forgetRecord(b *batch, n *tree.Node) {
	switch x := n.Data.(type) {
	case *dir:
		if x.recorded {
			x.recorded = false
			b.undo = append(b.undo, func() { x.recorded = true })
			b.Delete(nodeKey(n.ID()))
		}
	case *file:
		if !x.recorded {
			return
		}
		x.recorded = false
		b.undo = append(b.undo, func() { x.recorded = true })
		b.Delete(nodeKey(n.ID()))
		x.mu.Lock()
		if x.c != nil {
			x.c.mu.Lock()
			x.c.dropMap(b)
			x.c.unname(b)
			x.c.kept, x.c.recorded = notJournaled, false
			x.c.mu.Unlock()
		}
		x.mu.Unlock()
	}
}

// dirtied records the first change of a file that the store had, and whatever
// else about its content the journal lacks.
func (c *FS) dirtied(f *file) error {
	c.ns.Lock()
	defer c.ns.Unlock()
	return c.dirtiedLocked(f)
}

// dirtiedLocked is dirtied with c.ns held.
func (c *FS) dirtiedLocked(f *file) error {
	if _, ok := c.tree.Path(f.node); !ok {
		f.mu.Lock()
		if f.astray == "" {
			f.sent = f.change
		}
		f.mu.Unlock()
		return nil
	}
	c.await(f)
	var b batch
	c.record(&b, f.node, nil, "")
	return c.commit(&b)
}

// await makes f one of the files that differ from the store. c.ns is held.
func (c *FS) await(f *file) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending = true
	if f.job == nil {
		f.job = c.q.newJob(jobFile, func(j *job) { j.f = f })
	}
}

// timeOf is the reverse of time.Time.UnixNano.
func timeOf(ns int64) time.Time { return time.Unix(0, ns) }
