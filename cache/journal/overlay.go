package journal

import (
	"bytes"
	"database/sql/driver"
	"maps"
	"slices"
	"strings"
)

// overlay is what the log has and the table has not: of each key that was changed
// the latest state.
type overlay struct {
	// wiped are the prefixes of keys that were all removed, before what is in changes.
	wiped   map[string]struct{}
	changes map[string]change
	bytes   int64 // of keys and values
}

// change is what a key has become.
type change struct {
	value []byte
	gone  bool
}

func newOverlay() *overlay {
	return &overlay{wiped: map[string]struct{}{}, changes: map[string]change{}}
}

func (o *overlay) empty() bool { return len(o.wiped) == 0 && len(o.changes) == 0 }

// apply adds the changes of b, of which it keeps copies.
func (o *overlay) apply(b *Batch) {
	buf := bytes.Clone(b.buf)
	for _, x := range b.ops {
		key := string(b.key(x))
		switch x.kind {
		case opPut:
			from, end := x.from+x.key, x.from+x.key+x.val
			o.set(key, change{value: buf[from:end:end]})
		case opDelete:
			o.set(key, change{gone: true})
		case opDeletePrefix:
			o.wipe(key)
		}
	}
}

func (o *overlay) set(key string, c change) {
	if was, ok := o.changes[key]; ok {
		o.bytes -= int64(len(key) + len(was.value))
	}
	o.bytes += int64(len(key) + len(c.value))
	o.changes[key] = c
}

func (o *overlay) wipe(prefix string) {
	for key, c := range o.changes {
		if strings.HasPrefix(key, prefix) {
			o.bytes -= int64(len(key) + len(c.value))
			delete(o.changes, key)
		}
	}
	o.wiped[prefix] = struct{}{}
}

// has reports whether the overlay says what key is.
func (o *overlay) has(key string) bool {
	if _, ok := o.changes[key]; ok {
		return true
	}
	if len(o.wiped) > 0 {
		for n := range len(key) + 1 {
			if _, ok := o.wiped[key[:n]]; ok {
				return true
			}
		}
	}
	return false
}

// stacked returns overlays as one, the latest of which comes last. nil is an empty
// one.
func stacked(overlays ...*overlay) *overlay {
	all := newOverlay()
	for _, o := range overlays {
		if o == nil {
			continue
		}
		for prefix := range o.wiped {
			all.wipe(prefix)
		}
		for key, c := range o.changes {
			all.set(key, c)
		}
	}
	return all
}

// records calls f with every record of the table as o makes it, in the order of the
// keys. What f gets is valid only during the call.
func (d *db) records(o *overlay, f func(key, value []byte) error) error {
	keys := slices.Sorted(maps.Keys(o.changes))
	upto := func(key []byte, end bool) error {
		for len(keys) > 0 && (end || keys[0] < string(key)) {
			if c := o.changes[keys[0]]; !c.gone {
				if err := f([]byte(keys[0]), c.value); err != nil {
					return err
				}
			}
			keys = keys[1:]
		}
		return nil
	}
	err := d.each("SELECT key, value FROM kv ORDER BY key", nil, func(row []driver.Value) error {
		key, _ := row[0].([]byte)
		value, _ := row[1].([]byte)
		if string(key) == bundleKey || o.has(string(key)) {
			return nil
		}
		if err := upto(key, false); err != nil {
			return err
		}
		return f(key, value)
	})
	if err != nil {
		return err
	}
	return upto(nil, true)
}

// count returns how many keys begin with prefix as o makes the table, of those
// whose values have one of the texts if there are any.
func (d *db) count(o *overlay, prefix string, anyOf []string) (n int64, err error) {
	if o.empty() {
		return d.countTable(prefix, anyOf)
	}
	err = d.records(o, func(key, value []byte) error {
		has := func(text string) bool { return bytes.Contains(value, []byte(text)) }
		if strings.HasPrefix(string(key), prefix) && (len(anyOf) == 0 || slices.ContainsFunc(anyOf, has)) {
			n++
		}
		return nil
	})
	return n, err
}
