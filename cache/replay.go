package cache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// replaying is what an earlier process has left in the journal.
type replaying struct {
	c      *FS
	nodes  map[uint64]*nodeRecord
	maps   map[uint64]*mapRecord
	rows   map[uint64][]row
	last   map[uint64]int64 // the number of the last row
	made   map[uint64]*tree.Node
	stored map[storedRecord]*stored // one for all who refer to it
	synced int64
	layers map[string]bool // that something refers to
}

// replay makes the tree differ from the store as the journal says, and returns
// the layers that the journal names.
func (c *FS) replay() (layers map[string]bool, err error) {
	r := &replaying{
		c: c, nodes: map[uint64]*nodeRecord{}, maps: map[uint64]*mapRecord{}, rows: map[uint64][]row{}, last: map[uint64]int64{},
		made: map[uint64]*tree.Node{}, stored: map[storedRecord]*stored{}, layers: map[string]bool{},
	}
	ghosts := map[string]ghostRecord{}
	damaged := 0
	err = c.journal.All(func(key string, value []byte) error {
		if err := r.read(key, value, ghosts); err != nil {
			damaged++
			c.log.Error("an entry of the journal can't be read", "key", key, "err", err)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("journal in %s: %w; move that directory away to start afresh, its contents lie beside the journal", c.room.dir, err)
	}
	if d := c.journal.Damage(); d != "" {
		c.log.Error("the journal was damaged", "room", c.room.dir, "damage", d)
		if c.journal.Lost() {
			if err := c.room.setAside(); err != nil {
				return nil, fmt.Errorf("%s; the contents that it named can't be set aside: %w", d, err)
			}
		}
		if err := c.room.oweRescue(); err != nil {
			return nil, fmt.Errorf("%s; the contents that it may have named are to be set aside: %w", d, err)
		}
	}
	c.ns.Lock()
	defer c.ns.Unlock()
	c.tree.SetIDs(r.highest())
	for id := range r.nodes {
		r.node(id, 0)
	}
	r.root()
	for key, g := range ghosts {
		r.ghost(key, g)
	}
	var b batch
	if err := r.files(&b); err != nil {
		return nil, err
	}
	for _, n := range r.made {
		if n != nil && n.IsDir() {
			c.place(n)
		}
	}
	r.sweepMaps(&b)
	if n := c.q.len(); n > 0 {
		c.log.Info("going on with what an earlier mount has left", "changes", n)
	}
	if len(r.nodes) == 0 && len(ghosts) == 0 && damaged == 0 {
		// Nothing to keep: what is left are the ways to nothing.
		b.DeletePrefix("n/")
		b.DeletePrefix("x/")
	}
	return r.layers, c.commit(&b)
}

// read takes one record.
func (r *replaying) read(key string, value []byte, ghosts map[string]ghostRecord) error {
	kind, rest, _ := strings.Cut(key, "/")
	switch kind {
	case "n":
		id, err := strconv.ParseUint(rest, 16, 64)
		if err != nil {
			return err
		}
		var n nodeRecord
		if err := json.Unmarshal(value, &n); err != nil {
			return err
		}
		r.nodes[id] = &n
	case "x":
		rest, seq, isRow := strings.Cut(rest, "/")
		id, err := strconv.ParseUint(rest, 16, 64)
		if err != nil {
			return err
		}
		if isRow {
			var x row
			if err := json.Unmarshal(value, &x); err != nil {
				return err
			}
			n, err := strconv.ParseInt(seq, 16, 64)
			if err != nil {
				return err
			}
			r.last[id] = max(r.last[id], n-rowBase)
			r.rows[id] = append(r.rows[id], x)
			return nil
		}
		var m mapRecord
		if err := json.Unmarshal(value, &m); err != nil {
			return err
		}
		r.maps[id] = &m
	case "g":
		var g ghostRecord
		if err := json.Unmarshal(value, &g); err != nil {
			return err
		}
		ghosts[rest] = g
	case "t":
		var s stragglerRecord
		if err := json.Unmarshal(value, &s); err != nil {
			return err
		}
		if len(s.Ops) > 0 {
			r.c.stragglers.add(rest, s)
		}
	case "u":
		var u uploadRecord
		if err := json.Unmarshal(value, &u); err != nil {
			return err
		}
		r.c.begun = append(r.c.begun, u)
	case "c":
		var x Conflict
		if err := json.Unmarshal(value, &x); err != nil {
			return err
		}
		r.c.conflicts = append(r.c.conflicts, x)
	case "synced":
		return json.Unmarshal(value, &r.synced)
	}
	return nil
}

func (r *replaying) highest() (id uint64) {
	for k, n := range r.nodes {
		id = max(id, k, n.Parent)
	}
	return id
}

// node makes the node of a record, and those on the way to it. It returns nil
// if that is not possible.
func (r *replaying) node(id uint64, depth int) *tree.Node {
	c := r.c
	if id == c.tree.Root().ID() {
		return c.tree.Root()
	}
	if n, ok := r.made[id]; ok {
		return n
	}
	rec, ok := r.nodes[id]
	if !ok || depth > 4096 {
		return nil
	}
	p := r.node(rec.Parent, depth+1)
	if p == nil || !p.IsDir() || tree.CheckName(string(rec.Name)) != nil {
		c.log.Error("an entry of the journal leads nowhere", "node", id, "name", string(rec.Name))
		r.made[id] = nil
		return nil
	}
	a := backends.CreateAttr{Mode: rec.Mode, UID: rec.UID, GID: rec.GID}
	var n *tree.Node
	if rec.Mode.IsDir() {
		// The children that were in the store are not in the journal: where
		// there may be any, it has to be asked.
		d := &dir{marker: rec.Marker, maybe: rec.Local, recorded: true}
		n = c.tree.NewNodeID(id, a, d)
		if rec.Pending {
			c.newDirJob(n)
			c.q.touch(d.job)
		}
	} else {
		f := &file{fs: c, base: r.storedOf(rec.Base), ops: rec.Ops, pending: rec.Pending, recorded: true}
		n = c.tree.NewNodeID(id, a, f)
		f.node = n
		if rec.Mode.Type() == fs.ModeSymlink {
			c.tree.SetTarget(n, string(rec.Target))
		}
	}
	replayAttrs(c, n, rec)
	n.SetModified(timeOf(rec.Mtime), timeOf(rec.Ctime))
	n.SetAccessed(timeOf(rec.Atime))
	if old := c.tree.Adopt(p, string(rec.Name), n); old != nil {
		c.log.Error("two entries of the journal have one name", "name", string(rec.Name))
	}
	if rec.Attrs {
		c.markAttrs(n, p, string(rec.Name))
	}
	r.made[id] = n
	return n
}

func (r *replaying) storedOf(rec *storedRecord) *stored {
	if rec == nil {
		return nil
	}
	s := r.stored[*rec]
	if s == nil {
		s = &stored{key: string(rec.Key), version: rec.Version, size: rec.Size}
		r.stored[*rec] = s
	}
	return s
}

// ghost makes a ghost. c.ns is held.
func (r *replaying) ghost(key string, rec ghostRecord) {
	c := r.c
	g := &ghost{key: strings.TrimSuffix(key, "/"), dir: rec.Dir, look: rec.Look, maybe: rec.Maybe}
	g.job = c.q.newJob(jobGhost, func(j *job) { j.g = g })
	if rec.Version != "" {
		g.st = r.storedOf(&storedRecord{text(key), rec.Version, rec.Size})
	}
	if rec.Maybe != nil && rec.Maybe.Layer != "" {
		r.layers[rec.Maybe.Layer] = true
	}
	c.ghosts[g.id()] = g
	c.q.touch(g.job)
}

// neverAgain is the change of an attempt of an earlier process.
const neverAgain = ^uint64(0)

// sweepMaps removes maps of nothing, of which a later node of that number would
// get the rows.
func (r *replaying) sweepMaps(b *batch) {
	sweep := func(id uint64) {
		if n := r.nodes[id]; n == nil || !n.Map {
			b.DeletePrefix(mapKey(id))
		}
	}
	for id := range r.maps {
		sweep(id)
	}
	for id := range r.rows {
		if r.maps[id] == nil {
			sweep(id)
		}
	}
}

// files gives the files their contents. What can't be used is kept aside; the error
// is that it can't even be that. c.ns is held.
func (r *replaying) files(b *batch) error {
	ids := make([]uint64, 0, len(r.made))
	for id, n := range r.made {
		if n != nil && !n.IsDir() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		n, rec := r.made[id], r.nodes[id]
		f := n.Data.(*file)
		if !rec.Pending && rec.Base != nil {
			f.rehold() // only its attributes wait
			continue
		}
		if rec.Changed {
			f.change = 1
			if err := r.content(f, rec); err != nil {
				at, _ := r.c.tree.Path(n)
				r.c.log.Error("a content in the room can't be used; what is there of it is kept", "name", at, "err", err)
				if err := r.salvage(f, at, err); err != nil {
					return err
				}
				if p, name, _ := r.c.tree.Where(n); name != "" {
					r.c.takeAway(b, p, name, f)
				}
				continue
			}
			r.c.rest(f) // it may be that nobody opens it
		}
		// What they have sent may be older than what is here now, even where
		// the numbers are the same: they are earlier attempts, none is to be
		// repeated.
		for i := range f.ops {
			f.ops[i].Change = neverAgain
		}
		r.c.await(f)
		f.rehold()
		r.c.q.touch(f.job)
	}
	return nil
}

// salvage keeps what is in the local file of a content that can't be used. c.ns is
// held.
func (r *replaying) salvage(f *file, name string, why error) (err error) {
	content := f.c
	if content.layer == nil {
		return nil
	}
	if _, _, err := content.layer.stat(); errors.Is(err, fs.ErrNotExist) {
		return nil // there is nothing
	}
	if content.ext, content.length, err = content.layer.extents(); err != nil {
		return fmt.Errorf("%s: %w: %w", name, why, err)
	}
	_, err = r.c.keep(f, name, why)
	return err
}

// content makes the content of a changed file. c.ns is held.
func (r *replaying) content(f *file, rec *nodeRecord) error {
	c := r.c
	id := f.node.ID()
	content := newContent(c, id, nil)
	content.dirty, content.kept, content.recorded, content.named = true, asFile, true, true
	f.c = content
	if rec.Layer != "" {
		if strings.Contains(rec.Layer, "/") {
			return errors.New("its file is not in the room")
		}
		content.layer = c.room.layerNamed(rec.Layer)
		r.layers[rec.Layer] = true
	}
	var local extents
	var length int64
	lost := false
	if content.layer != nil {
		_, written, err := content.layer.stat()
		if lost = errors.Is(err, fs.ErrNotExist) && c.journal.Rebooted(); lost && !rec.Map {
			return errLost
		}
		if err == nil && c.journal.Rebooted() && (rec.Map || written.UnixNano() > r.synced) {
			return errors.New("the machine was restarted before it was known to be on the disk")
		}
		if err == nil && written.After(timeOf(rec.Ctime)) {
			f.attrs.mtime.Store(false)
			f.node.SetModified(written, written)
		}
		if local, length, err = content.layer.extents(); err != nil {
			return err
		}
	}
	content.ext, content.length = local, length
	if rec.Map {
		m := r.maps[id]
		if m == nil {
			return errors.New("its map is missing")
		}
		if err := r.mapped(content, m, local, lost); err != nil {
			return err
		}
	}
	content.charged = content.ext.localBytes(0, content.length)
	c.room.force(content.charged)
	return nil
}

// errLost says that the journal has a content and the disk nothing of it.
var errLost = errors.New("the machine was restarted before any of it was on the disk")

// mapped gives a content the map of a record and its rows; lost says that its local
// file is.
func (r *replaying) mapped(c *content, m *mapRecord, local extents, lost bool) error {
	c.kept, c.mapped, c.row = asMap, true, r.last[c.id]
	c.ext, c.length = nil, m.Len
	set := func(e extent) error {
		if e.off < 0 || e.end < e.off || e.end > maxSize {
			return errors.New("its map is damaged")
		}
		c.ext = c.ext.set(e)
		return nil
	}
	for _, x := range m.Ext {
		e := extent{off: x[0], end: x[1], at: x[3]}
		if x[2] > 0 {
			if int(x[2]) > len(m.Sources) {
				return errors.New("its map is damaged")
			}
			e.src = r.storedOf(&m.Sources[x[2]-1])
		}
		if err := set(e); err != nil {
			return err
		}
	}
	for _, x := range r.rows[c.id] {
		if x.Hole || x.End == 0 {
			c.ext = c.ext.cut(x.Off, x.End)
		} else if err := set(extent{off: x.Off, end: x.End}); err != nil {
			return err
		}
		c.length = x.Len
	}
	c.ext = c.ext.cut(c.length, maxSize)
	if lost && c.ext.localBytes(0, c.length) > 0 {
		return errLost
	}
	// What was recorded and cut off at once never got to the file: it was never
	// acknowledged either.
	size := int64(0)
	if len(local) > 0 {
		size = local[len(local)-1].end
	}
	if c.layer != nil {
		if n, _, err := c.layer.stat(); err == nil {
			size = max(size, n)
		}
	}
	for _, e := range slices.Clone(c.ext) {
		if !e.remote() && e.end > size {
			c.ext = c.ext.cut(max(e.off, size), e.end)
		}
	}
	if c.layer == nil {
		return nil
	}
	// INVARIANT of content: holes are zeros in the file.
	at := int64(0)
	for _, e := range append(slices.Clone(c.ext), extent{off: size, end: size}) {
		if e.off > at && at < size {
			if err := c.layer.zero(at, min(e.off, size)); err != nil {
				return err
			}
		}
		at = e.end
	}
	c.layer.rest()
	return nil
}
