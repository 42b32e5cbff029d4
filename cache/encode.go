package cache

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
)

// The records of which an operation writes one or, where a directory moves, some
// thousands are put into JSON by hand: by reflection it took longer than all the
// rest of putting them down. The result is what json.Marshal makes of them.

// object appends the fields of a JSON object.
type object struct {
	b    []byte
	more bool
}

func newObject(b []byte) *object { return &object{b: append(b, '{')} }

func (o *object) end() []byte { return append(o.b, '}') }

// key begins a field, whose value is to be appended to o.b.
func (o *object) key(name string) {
	if o.more {
		o.b = append(o.b, ',')
	}
	o.more = true
	o.b = append(append(append(o.b, '"'), name...), '"', ':')
}

func (o *object) int(name string, v int64) {
	o.key(name)
	o.b = strconv.AppendInt(o.b, v, 10)
}

func (o *object) uint(name string, v uint64) {
	o.key(name)
	o.b = strconv.AppendUint(o.b, v, 10)
}

// flag appends v if it is true.
func (o *object) flag(name string, v bool) {
	if v {
		o.key(name)
		o.b = append(o.b, "true"...)
	}
}

// text appends a string of any bytes, see [text].
func (o *object) text(name string, s text) {
	o.key(name)
	if plainText(string(s)) {
		o.b = append(append(append(o.b, '"'), s...), '"')
	} else {
		o.b = append(o.b, mustJSON(s)...)
	}
}

// string appends a string of UTF-8.
func (o *object) string(name, s string) {
	o.key(name)
	if plainText(s) {
		o.b = append(append(append(o.b, '"'), s...), '"')
	} else {
		o.b = append(o.b, mustJSON(s)...)
	}
}

// plainText reports whether s is in JSON as it is.
func plainText(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

// encode appends r in JSON.
func (r *nodeRecord) encode(b []byte) []byte {
	o := newObject(b)
	o.uint("p", r.Parent)
	o.text("n", r.Name)
	o.uint("m", uint64(r.Mode))
	if r.UID != 0 {
		o.uint("u", uint64(r.UID))
	}
	if r.GID != 0 {
		o.uint("g", uint64(r.GID))
	}
	o.int("at", r.Atime)
	o.int("mt", r.Mtime)
	o.int("ct", r.Ctime)
	if r.Target != "" {
		o.text("target", r.Target)
	}
	o.flag("pending", r.Pending)
	o.flag("attrs", r.Attrs)
	o.flag("mts", r.MtimeSet)
	o.flag("ats", r.AtimeSet)
	o.flag("ms", r.ModeSet)
	if len(r.Xattrs) > 0 {
		o.key("x")
		o.b = append(o.b, mustJSON(r.Xattrs)...)
	}
	if r.Base != nil {
		o.key("base")
		o.b = r.Base.encode(o.b)
	}
	o.flag("changed", r.Changed)
	if r.Layer != "" {
		o.string("layer", r.Layer)
	}
	o.flag("map", r.Map)
	if len(r.Ops) > 0 {
		o.key("ops")
		for i, a := range r.Ops {
			o.b = a.encode(append(o.b, "[,"[min(i, 1)]))
		}
		o.b = append(o.b, ']')
	}
	o.flag("local", r.Local)
	o.flag("marker", r.Marker)
	return o.end()
}

func (r *storedRecord) encode(b []byte) []byte {
	o := newObject(b)
	o.text("k", r.Key)
	o.string("v", string(r.Version))
	o.int("s", r.Size)
	return o.end()
}

func (a *attempt) encode(b []byte) []byte {
	o := newObject(b)
	o.string("op", a.Op)
	o.text("key", a.Key)
	o.uint("change", a.Change)
	return o.end()
}

// encode appends r in JSON.
func (r *ghostRecord) encode(b []byte) []byte {
	o := newObject(b)
	if r.Version != "" {
		o.string("v", string(r.Version))
	}
	if r.Size != 0 {
		o.int("s", r.Size)
	}
	o.flag("d", r.Dir)
	o.flag("l", r.Look)
	if r.Maybe != nil {
		o.key("maybe")
		o.b = append(o.b, mustJSON(r.Maybe)...)
	}
	return o.end()
}

// encode appends r in JSON.
func (r *row) encode(b []byte) []byte {
	o := newObject(b)
	if r.Off != 0 {
		o.int("o", r.Off)
	}
	if r.End != 0 {
		o.int("e", r.End)
	}
	o.flag("h", r.Hole)
	o.int("l", r.Len)
	return o.end()
}

// idKey returns an id as 16 digits, after what it is an id of.
func idKey(of string, id uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], id)
	var key [32]byte
	return string(hex.AppendEncode(append(key[:0], of...), b[:]))
}
