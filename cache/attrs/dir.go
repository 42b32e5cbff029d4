package attrs

import (
	"cmp"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// Dir is what the records of one directory say. It never changes, and may be
// used by many goroutines at once. The zero Dir, and nil, has no records.
type Dir struct {
	records []*record // in the order of their names
	// index has, for each name, the entry that counts; in the order of names.
	index []hit
	named int // how many of them are not Removed
	// changed is the latest Changed, and id the latest time in a record's name.
	changed, id int64
	// seen: each of the records was there at this moment or later, in nanoseconds
	// since 1970: listed, or put. Zero if that is not known.
	seen int64
	// spare was read by a look that failed, so that the next one needs less. It says
	// nothing: among what is missing may be what counts.
	spare []*record
	// unsure: there may be another one, the answer about which was lost.
	unsure bool
}

// Unsure reports whether Save may have put a record that is not known here: a
// merge's, that counts no more than those that it was made of.
func (d *Dir) Unsure() bool { return d != nil && d.unsure }

// Lookup returns what is recorded of name, if it describes version v; for a
// directory v is "".
func (d *Dir) Lookup(name string, v backends.Version) (Attr, bool) {
	if d == nil {
		return Attr{}, false
	}
	i, ok := d.find(name)
	if !ok || d.index[i].Removed || d.index[i].Version != v {
		return Attr{}, false
	}
	return d.index[i].Attr, true
}

// Has reports whether anything was ever recorded of name, as far as that is known.
func (d *Dir) Has(name string) bool {
	if d == nil {
		return false
	}
	_, ok := d.find(name)
	return ok
}

// find returns where name is in the index, or would be.
func (d *Dir) find(name string) (int, bool) {
	return slices.BinarySearchFunc(d.index, name, func(h hit, name string) int {
		return strings.Compare(h.name, name)
	})
}

// Len returns of how many names something is recorded, of whatever version.
func (d *Dir) Len() int {
	if d == nil {
		return 0
	}
	return d.named
}

// All yields every name of which something is recorded, in the order of the
// names' bytes.
func (d *Dir) All() iter.Seq2[string, Attr] {
	return func(yield func(string, Attr) bool) {
		if d == nil {
			return
		}
		for _, h := range d.index {
			if !h.Removed && !yield(h.name, h.Attr) {
				return
			}
		}
	}
}

// Records returns the names and versions of the records of dir, the directory
// that d is of, that d knows: what has to go if the directory is removed.
func (d *Dir) Records(dir string) []backends.Entry {
	if d == nil {
		return nil
	}
	es := make([]backends.Entry, len(d.records))
	for i, r := range d.records {
		es[i] = backends.Entry{Name: path.Join(dir, r.name), Size: r.stored, Version: r.version}
	}
	return es
}

// Skipped returns, for each record that can't be understood, why.
func (d *Dir) Skipped() []error {
	if d == nil {
		return nil
	}
	var errs []error
	for _, r := range d.records {
		if r.skipped != nil {
			errs = append(errs, r.skipped)
		}
	}
	return errs
}

// newDir returns what records say, each of which was there at seen or later. If
// prev has none but these, only the others are looked at; prev may be nil.
func newDir(records []*record, seen int64, prev *Dir) *Dir {
	d := &Dir{records: slices.Clone(records), seen: seen}
	if prev != nil {
		d.spare = prev.spare
	}
	slices.SortFunc(d.records, func(a, b *record) int { return strings.Compare(a.name, b.name) })

	added := slices.Clone(d.records)
	if prev != nil && containsAll(d.records, prev.records) {
		d.index = prev.index
		added = slices.DeleteFunc(added, func(r *record) bool { return slices.Contains(prev.records, r) })
	}
	// The small ones first: what is large is gone through once.
	slices.SortStableFunc(added, func(a, b *record) int { return cmp.Compare(len(a.entries), len(b.entries)) })
	var fresh []hit
	for _, r := range added {
		fresh = mergeHits(fresh, r.hits())
	}
	d.index = mergeHits(d.index, fresh)

	for _, r := range d.records {
		if at, ok := recordTime(r.name); ok {
			d.id = max(d.id, at)
		}
	}
	for _, h := range d.index {
		d.changed = max(d.changed, h.Changed)
		if !h.Removed {
			d.named++
		}
	}
	return d
}

// seenAt returns d, all of whose records were found to be there at seen.
func (d *Dir) seenAt(seen int64) *Dir {
	if seen <= d.seen && len(d.spare) == 0 {
		return d
	}
	again := *d
	again.seen, again.spare = max(seen, d.seen), nil
	return &again
}

func containsAll(all, some []*record) bool {
	for _, r := range some {
		if !slices.Contains(all, r) {
			return false
		}
	}
	return true
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
