package attrs

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/agentfs/agentfs/backends"
)

const (
	// maxRecords is how many small records a directory may have before somebody
	// merges.
	maxRecords = 8
	// full is the size, in bytes of text that counts, above which a record is not
	// merged any more.
	full = maxRecord / 2
	// minWeight is what a record weighs at least when it is decided what to merge:
	// below, the request is what costs.
	minWeight = 1 << 10
	// keepDead is for how long an entry is kept, in nanoseconds, although what it
	// describes is not there.
	keepDead = int64(time.Hour)
	// maxTrust is for how long at most records that were seen are taken to be there:
	// a small part of keepDead, whose rest is for requests that take long and for
	// clocks that differ.
	maxTrust = 5 * time.Minute
)

// tidy merges records if there are too many, and returns what is known then; on
// an error, what was known.
func tidy(ctx context.Context, s backends.Store, dir string, d *Dir, alive Alive, trust time.Duration, at int64) *Dir {
	if p := d.plan(maxRecords, alive, at); p.nothing() {
		return d
	}
	if !d.current(trust, at) {
		listed, err := listRecords(ctx, s, dir)
		if err != nil {
			return d
		}
		if d, err = loadSeen(ctx, s, dir, listed, at, d); err != nil {
			return d
		}
	}
	p := d.plan(maxRecords, alive, at)
	if len(p.covered) > 0 {
		var ok bool
		if d, ok = removeRecords(ctx, s, dir, d, p.covered); !ok {
			return d // where nothing can be removed, merging only adds
		}
		// However few are left: else what is dead in them would stay for as
		// long as changes are of the same few names.
		p = d.plan(0, alive, at)
	}
	if len(p.merge) == 0 {
		return d
	}
	merged, err := putRecords(ctx, s, dir, p.keep, max(at, d.id+1))
	if err != nil {
		left := *d
		left.unsure, left.seen = true, 0
		return &left
	}
	d = newDir(append(merged, d.records...), d.seen, d)
	d, _ = removeRecords(ctx, s, dir, d, p.merge)
	return d
}

// current reports whether what d has can be merged at a time of day in nanoseconds
// without another look at what there is. Others may have merged it meanwhile, and a
// merge of what is not there any more brings back what they dropped; but they
// drop nothing that is not older than keepDead, and of a name only the last entry,
// so whatever could be hurt by what comes back is in d. See the package's comment.
func (d *Dir) current(trust time.Duration, at int64) bool {
	return d.seen <= at && at-d.seen < int64(trust)
}

// plan is what tidying up would do.
type plan struct {
	covered []*record // have no entry that counts
	merge   []*record // are to become one
	keep    []*entry  // which has these; in the order of names
}

func (p plan) nothing() bool { return len(p.covered) == 0 && len(p.merge) == 0 }

// plan returns what to tidy up at a time of day in nanoseconds; nothing if there
// are no more small records than enough.
func (d *Dir) plan(enough int, alive Alive, at int64) plan {
	small := 0
	for _, r := range d.records {
		if r.skipped == nil && r.size <= full {
			small++
		}
	}
	if small <= enough {
		return plan{}
	}
	// Who knows another format may find an older entry there.
	readable := !slices.ContainsFunc(d.records, func(r *record) bool { return errors.Is(r.skipped, errOther) })
	holders := d.holders()
	drop := make([]bool, len(d.index))
	wins := map[*record]int{} // entries that count
	kept := map[*record]int{} // entries that a merge would keep
	for i, h := range d.index {
		drop[i] = readable && holders[i] == 1 && h.dead(alive, at)
		wins[h.in]++
		if !drop[i] {
			kept[h.in]++
		}
	}
	var p plan
	var weights []weight
	for _, r := range d.records {
		switch {
		case r.skipped != nil:
		case wins[r] == 0:
			p.covered = append(p.covered, r)
		default:
			size := r.size * int64(kept[r]) / int64(len(r.entries))
			if size <= full {
				weights = append(weights, weight{r, max(size, minWeight)})
			}
		}
	}
	p.merge = similar(weights)
	for i, h := range d.index {
		if !drop[i] && slices.Contains(p.merge, h.in) {
			p.keep = append(p.keep, h.entry)
		}
	}
	return p
}

// dead reports whether nothing is lost without the entry.
func (e *entry) dead(alive Alive, at int64) bool {
	if e.Changed > at-keepDead {
		return false
	}
	return e.Removed || alive != nil && !alive(e.name, e.Version)
}

// weight is a record and the bytes that merging it would write.
type weight struct {
	*record
	bytes int64
}

// similar returns the longest series of records, from the smallest, of which the
// largest is not larger than all others together; nil if there is none. Merging
// them makes a record at least twice as large as any of them, and what is left
// without such a series grows at least twofold from one to the next, so there
// are few.
func similar(ws []weight) []*record {
	slices.SortFunc(ws, func(a, b weight) int {
		return cmp.Or(cmp.Compare(a.bytes, b.bytes), strings.Compare(a.name, b.name))
	})
	var sum int64
	n := 0
	for i, w := range ws {
		if i > 0 && w.bytes <= sum {
			n = i + 1
		}
		sum += w.bytes
	}
	if n == 0 {
		return nil
	}
	rs := make([]*record, n)
	for i := range rs {
		rs[i] = ws[i].record
	}
	return rs
}

// holders returns, for each name of the index, how many records have it.
func (d *Dir) holders() []int32 {
	counts := make([]int32, len(d.index))
	for _, r := range d.records {
		i := 0
		for _, e := range r.entries {
			i += gallop(d.index[i:], e.name)
			counts[i]++
		}
	}
	return counts
}

// gallop returns where name is in hs, in steps that are logarithmic in the
// distance: the records together are hardly longer than the index, but each may
// be much shorter.
func gallop(hs []hit, name string) int {
	end := 1
	for end < len(hs) && hs[end].name < name {
		end *= 2
	}
	begin := end / 2
	end = min(end+1, len(hs))
	return begin + sort.Search(end-begin, func(i int) bool { return hs[begin+i].name >= name })
}
