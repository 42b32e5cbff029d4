package crash_test

import (
	"crypto/sha256"
	"encoding/json"
	"io/fs"
	"slices"

	"github.com/agentfs/agentfs/backends"
)

// op is one operation, as a process reports it before it does it.
type op struct {
	W    int    `json:"w"`           // the worker
	N    int    `json:"n"`           // its number among those of the worker
	Kind kind   `json:"k,omitempty"` //
	Path string `json:"p,omitempty"` // where there is no handle
	To   string `json:"to,omitempty"`
	H    int    `json:"h,omitempty"`
	Off  int64  `json:"off,omitempty"`  // also the size of a truncate
	Len  int64  `json:"len,omitempty"`  // of a write
	Seed uint64 `json:"seed,omitempty"` // of its bytes; the mode of a chmod
	// Write and Trunc are flags of an open.
	Write bool `json:"wr,omitempty"`
	Trunc bool `json:"tr,omitempty"`
}

type kind string

const (
	opCreate    kind = "create" // O_EXCL, opened as H
	opOpen      kind = "open"
	opWrite     kind = "write"
	opPunch     kind = "punch"
	opTruncate  kind = "truncate"  // by path
	opFtruncate kind = "ftruncate" // by handle
	opRead      kind = "read"
	opFlush     kind = "flush" // close(2) of a duplicate
	opSync      kind = "fsync"
	opClose     kind = "close" // the last one
	opMkdir     kind = "mkdir"
	opRmdir     kind = "rmdir"
	opUnlink    kind = "unlink"
	opRename    kind = "rename"
	opList      kind = "list"
	opBarrier   kind = "barrier" // fsync of a directory
	opChmod     kind = "chmod"
	opSymlink   kind = "symlink" // Path to To
)

func (o op) String() string {
	b, err := json.Marshal(o)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// paths are the names that the operation changes.
func (o op) paths() []string {
	switch o.Kind {
	case opRename:
		return []string{o.Path, o.To}
	case opCreate, opMkdir, opRmdir, opUnlink, opSymlink:
		return []string{o.Path}
	}
	return nil
}

// file returns the file that an operation on a content is about.
func (m *model) file(o op) *node {
	if h := m.handles[o.H]; h != nil && o.H != 0 && o.Kind != opOpen && o.Kind != opCreate {
		return h.n
	}
	return m.at(o.Path)
}

// after returns the content that an operation gives its file; changes is false
// if it leaves it as it is.
func (o op) after(data []byte) (after []byte, changes bool) {
	switch o.Kind {
	case opWrite:
		return written(data, fill(o.Seed, o.Len), o.Off), true
	case opPunch:
		out := resized(data, int64(len(data)))
		if o.Off < int64(len(out)) {
			clear(out[o.Off:min(int64(len(out)), o.Off+o.Len)])
		}
		return out, true
	case opTruncate, opFtruncate:
		return resized(data, o.Off), true
	case opOpen:
		return nil, o.Trunc
	}
	return data, false
}

// expect returns the error that POSIX wants for o, nil if it is to succeed.
func (m *model) expect(o op) error {
	n := m.at(o.Path)
	switch o.Kind {
	case opCreate, opMkdir, opSymlink:
		if n != nil {
			return fs.ErrExist
		}
	case opOpen, opTruncate, opChmod:
		switch {
		case n == nil:
			return fs.ErrNotExist
		case n.dir && o.Kind != opChmod:
			return backends.ErrIsDir
		}
	case opUnlink:
		switch {
		case n == nil:
			return fs.ErrNotExist
		case n.dir:
			return backends.ErrIsDir
		}
	case opRmdir:
		switch {
		case n == nil:
			return fs.ErrNotExist
		case !n.dir:
			return backends.ErrNotDir
		case len(n.kids) > 0:
			return backends.ErrNotEmpty
		}
	case opRename:
		return m.expectRename(n, m.at(o.To), o)
	}
	return nil
}

func (m *model) expectRename(n, to *node, o op) error {
	switch {
	case n == nil:
		return fs.ErrNotExist
	case o.Path == o.To:
		return nil
	case n.dir && under(o.To, o.Path):
		return fs.ErrInvalid
	case to == nil:
		return nil
	case to.dir && under(o.Path, o.To):
		return backends.ErrNotEmpty
	case n.dir && !to.dir:
		return backends.ErrNotDir
	case !n.dir && to.dir:
		return backends.ErrIsDir
	case to.dir && len(to.kids) > 0:
		return backends.ErrNotEmpty
	}
	return nil
}

// begin notes what the store may hold from now on because of o.
func (m *model) begin(o op) {
	if m.history == nil || m.expect(o) != nil {
		return
	}
	switch o.Kind {
	case opCreate:
		m.note(o.Path, nil)
	case opSymlink:
		m.note(o.Path, []byte(o.To)) // a link's object is its target
	case opOpen, opTruncate, opFtruncate, opPunch, opFlush, opClose, opSync:
		n := m.file(o)
		if n == nil {
			return
		}
		if path, ok := n.path(); ok {
			after, _ := o.after(n.data)
			m.note(path, after)
			m.noteTorn(path, n)
		}
	case opRename:
		m.at(o.Path).walk(func(rel string, n *node) {
			if !n.dir {
				// What was closed last may come before what is in it now, and so
				// may what the old name could show since, after a truncation for
				// instance; without a journal, also what an earlier rename has put.
				old := m.history[join(o.Path, rel)]
				for i, p := range n.past {
					if i == 0 || m.lax || slices.Contains(old, sum(p)) {
						m.note(join(o.To, rel), p)
					}
				}
				m.note(join(o.To, rel), n.body())
			}
		})
	case opBarrier:
		m.at(o.Path).walk(func(rel string, n *node) {
			if !n.dir {
				m.note(join(o.Path, rel), n.body())
				m.noteTorn(join(o.Path, rel), n)
			}
		})
	}
}

// body returns what the object of n holds.
func (n *node) body() []byte {
	if n.target != "" {
		return []byte(n.target)
	}
	return n.data
}

// anything in a history stands for contents that nobody can tell.
const anything = "*"

// noteTorn notes that a write of which nobody knows how far it came may be sent.
func (m *model) noteTorn(path string, n *node) {
	if len(n.torn) > 0 {
		m.history[path] = append(m.history[path], anything)
	}
}

func (m *model) note(path string, content []byte) {
	s := sum(content)
	if h := m.history[path]; len(h) == 0 || h[len(h)-1] != s {
		m.history[path] = append(h, s)
	}
}

func sum(content []byte) string {
	s := sha256.Sum256(content)
	return string(s[:12])
}

// done changes the model by an operation that was acknowledged, and that POSIX
// wants to succeed.
func (m *model) done(o op) {
	switch o.Kind {
	case opCreate:
		n := &node{made: !m.lax, mode: 0o644, writers: 1}
		m.put(o.Path, n)
		m.handles[o.H] = &open{n, true}
	case opOpen:
		n := m.at(o.Path)
		if o.Trunc {
			n.change(nil)
		}
		if o.Write {
			n.writers++
		}
		m.handles[o.H] = &open{n, o.Write}
	case opWrite, opPunch, opFtruncate:
		n := m.handles[o.H].n
		after, _ := o.after(n.data)
		n.change(after)
	case opTruncate:
		n := m.at(o.Path)
		after, _ := o.after(n.data)
		n.change(after)
		if n.writers == 0 {
			n.seal()
		}
	case opFlush:
		if h := m.handles[o.H]; h.write {
			h.n.seal()
		}
	case opSync:
		m.handles[o.H].n.seal()
	case opClose:
		h := m.handles[o.H]
		delete(m.handles, o.H)
		if h.write {
			h.n.writers--
			h.n.seal()
		}
	case opMkdir:
		m.put(o.Path, newDir())
	case opSymlink:
		m.put(o.Path, &node{target: o.To, made: true})
	case opRmdir, opUnlink:
		m.cut(o.Path)
	case opRename:
		if o.Path != o.To {
			n := m.at(o.Path)
			m.cut(o.Path)
			m.put(o.To, n)
		}
	case opBarrier:
		m.at(o.Path).walk(func(_ string, n *node) {
			if !n.dir {
				n.seal()
			}
		})
	case opChmod:
		n := m.at(o.Path)
		n.mode, n.modes = fs.FileMode(o.Seed), nil
	}
}

// unsure changes the model by an operation that failed, or whose process did
// not live to tell.
func (m *model) unsure(o op) {
	if m.expect(o) != nil {
		return // it can't have happened
	}
	n := m.file(o)
	if n != nil && !n.dir {
		if after, changes := o.after(n.data); changes {
			n.torn = append(n.torn, [2][]byte{n.data, after})
			n.frozen = true
		}
	}
	switch o.Kind {
	case opFlush, opSync:
		// The bytes are safe here; without a journal a later attempt might take
		// the former for somebody else's change.
		n.frozen = n.frozen || m.lax
	case opClose:
		h := m.handles[o.H]
		delete(m.handles, o.H)
		if h.write {
			h.n.writers--
			h.n.frozen = h.n.frozen || m.lax
		}
	case opChmod:
		n.modes = append(n.modes, fs.FileMode(o.Seed))
		n.frozen = true
	}
	if len(o.paths()) > 0 && o.Path != o.To {
		d := doubt{op: o, src: m.at(o.Path)}
		if o.Kind == opRename {
			d.dst = m.at(o.To)
			d.src.walk(func(_ string, n *node) { n.halved = m.lax })
		}
		m.doubts = append(m.doubts, d)
	}
}
