package fs

import (
	"slices"

	"github.com/agentfs/agentfs/backends"
)

// listing is what the kernel was last told of a directory whose listings it may
// keep for a while. Guarded by inode.mu.
type listing struct {
	entries []backends.DirEntry
	order   []place
	stamp   uint64 // of entries; 0 if nobody knows
}

// offsetStep is the distance of two names' offsets when they are new.
const offsetStep = 1 << 20

// kept reports whether the listing that the kernel was told last has that
// stamp, so that it is still right.
func (n *inode) kept(stamp uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.listing != nil && n.listing.stamp == stamp && stamp != 0
}

// unlist forgets what the kernel was told if nobody is in the midst of it. The next
// listing begins with new offsets then, which is right if the kernel drops what it
// has, as it does at the next opendir(3).
func (n *inode) unlist() (had, free bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	had = n.listing != nil
	if had && n.readers.Load() > 0 {
		return true, false
	}
	n.listing = nil
	return had, true
}

// list reads the directory and gives the entries offsets: those that their names
// had before, and between them new ones.
func (n *inode) list(read func() ([]backends.DirEntry, error)) ([]backends.DirEntry, []place, error) {
	// Which stamp belongs to the entries is sure if it is the same before and
	// after. Where the first reading has asked the store, the second does not,
	// unless the first took longer than an answer counts.
	stamp, _ := backends.ListingOf(n.m.fsys, n.node)
	entries, err := read()
	if err != nil {
		return nil, nil, err
	}
	switch now, valid := backends.ListingOf(n.m.fsys, n.node); {
	case now == stamp:
	case valid <= 0:
		stamp = 0
	default:
		stamp = now
		if entries, err = read(); err != nil {
			return nil, nil, err
		}
		if now, _ := backends.ListingOf(n.m.fsys, n.node); now != stamp {
			stamp = 0
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.listing
	if old == nil || !slices.Equal(old.entries, entries) {
		n.listing = &listing{entries: entries, order: old.offsets(entries)}
	}
	n.listing.stamp = stamp
	return entries, n.listing.order, nil
}

// offsets gives entries, in the order of their names, rising offsets. Where
// there is no room between two for those that are new, all get new ones: who is in
// the middle of the directory then may miss some or see some twice, after twenty
// new names in one place and none removed.
func (l *listing) offsets(entries []backends.DirEntry) []place {
	order := make([]place, len(entries))
	fresh := func() []place {
		for i := range order {
			order[i] = place{off: uint64(i+1) * offsetStep, i: i}
		}
		return order
	}
	if l == nil {
		return fresh()
	}
	last, j := uint64(dots), 0 // the offset before, the next of the old ones
	for i := 0; i < len(entries); {
		// Those from i to k are new, the one at k is not.
		k := i
		for ; k < len(entries); k++ {
			for j < len(l.entries) && l.entries[j].Name < entries[k].Name {
				j++
			}
			if j < len(l.entries) && l.entries[j].Name == entries[k].Name {
				break
			}
		}
		step := uint64(offsetStep)
		if k < len(entries) {
			step = (l.order[j].off - last) / uint64(k-i+1)
		} else {
			// Behind all that ever had one, lest it is taken for a name that is gone.
			last = max(last, l.top())
		}
		if step == 0 {
			return fresh()
		}
		for ; i < k; i++ {
			last += step
			order[i] = place{off: last, i: i}
		}
		if k < len(entries) {
			last = l.order[j].off
			order[k] = place{off: last, i: k}
			i, j = k+1, j+1
		}
	}
	return order
}

// top returns the highest offset.
func (l *listing) top() uint64 {
	if len(l.order) == 0 {
		return dots
	}
	return l.order[len(l.order)-1].off
}
