package attrs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentfs/agentfs/backends"
)

// Alive reports whether name is in the directory with version v ("" for a
// directory), as far as a listing knows that is not older than keepDead. It is
// called by one goroutine.
type Alive = func(name string, v backends.Version) bool

// Save records changes and returns what is known then. It puts one new record,
// or a few if the changes are many, and merges earlier ones where that is worth
// while. prev is what was known; it may be nil if the directory has no records.
// Changed of the changes is set here. The name "." stands for dir itself.
//
// When Save returns an error, the changes may have been recorded or not, also
// in part; to save them again is right in any case. A merge that fails is no
// error: a later Save makes up for it.
//
// An entry for which alive says no is dropped in a merge once it is an hour old:
// until then what it describes may be on its way. With alive nil only those go
// that say that nothing is recorded.
//
// Records that are known to have been there no longer than trust ago, and not
// longer than maxTrust, are merged without a look whether they still are. That is for
// how long the caller believes that the directory is the one that it was: if
// it was removed and made again, what was recorded in the old one comes back.
//
// A change that can't be recorded is an error matching [fs.ErrInvalid] (no name
// of a file, a mode beyond 07777) or [backends.ErrTooLarge], and nothing is saved.
func Save(ctx context.Context, s backends.Store, dir string, prev *Dir, changes map[string]Attr, alive Alive, trust time.Duration) (*Dir, error) {
	return save(ctx, s, dir, prev, changes, alive, trust, now())
}

// save is Save at a time of day in nanoseconds.
func save(ctx context.Context, s backends.Store, dir string, prev *Dir, changes map[string]Attr, alive Alive, trust time.Duration, at int64) (*Dir, error) {
	if prev == nil {
		prev = &Dir{}
	}
	if len(changes) == 0 {
		return prev, nil
	}
	entries, err := newEntries(changes, min(max(at, prev.changed+1), maxChanged))
	if err == nil {
		var rs []*record
		if rs, err = putRecords(ctx, s, dir, entries, max(at, prev.id+1)); err == nil {
			seen := prev.seen
			if len(prev.records) == 0 {
				seen = at
			}
			d := newDir(append(rs, prev.records...), seen, prev)
			return tidy(ctx, s, dir, d, alive, min(trust, maxTrust), at), nil
		}
	}
	return nil, backends.WrapPath("save attributes", dir, err)
}

// newEntries returns changes as the entries that a reader will find.
func newEntries(changes map[string]Attr, changed int64) ([]*entry, error) {
	entries := make([]*entry, 0, len(changes))
	for _, name := range sortedKeys(changes) {
		e := &entry{name: name, Attr: changes[name]}
		e.Changed = changed
		if err := e.check(); err != nil {
			return nil, err
		}
		// Read back: what is known is what is written, and shares no memory
		// with the caller.
		e, err := decodeEntry(e.encode())
		if err != nil {
			return nil, fmt.Errorf("attributes of %q: %w", name, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// putRecords puts entries, which are in the order of their names, as new records
// whose names say at.
func putRecords(ctx context.Context, s backends.Store, dir string, entries []*entry, at int64) ([]*record, error) {
	bodies, err := encodeRecords(entries)
	if err != nil {
		return nil, err
	}
	rs := make([]*record, len(bodies))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, b := range bodies {
		g.Go(func() error {
			r := &record{name: newRecordName(at), stored: int64(len(b.stored)), size: b.size, entries: b.entries}
			rs[i] = r
			var err error
			r.version, err = putRecord(ctx, s, path.Join(dir, r.name), b.stored)
			return err
		})
	}
	return rs, g.Wait()
}

func putRecord(ctx context.Context, s backends.Store, name string, stored []byte) (backends.Version, error) {
	e, err := s.Put(ctx, name, io.NewSectionReader(bytes.NewReader(stored), 0, int64(len(stored))), backends.PutOptions{
		If:        backends.If{Absent: true},
		Operation: path.Base(name),
	})
	if errors.Is(err, fs.ErrExist) {
		// Nobody else has this name: it is an attempt of the store's own whose
		// answer was lost.
		e, err = s.Stat(ctx, name)
	}
	return e.Version, err
}

// removeRecords removes rs from the store and returns what is known then; ok says
// that all are gone.
func removeRecords(ctx context.Context, s backends.Store, dir string, d *Dir, rs []*record) (after *Dir, ok bool) {
	removals := make([]backends.Removal, len(rs))
	for i, r := range rs {
		removals[i] = backends.Removal{Name: path.Join(dir, r.name), If: backends.If{Match: r.version}}
	}
	errs := backends.RemoveMany(ctx, s, removals)
	gone := map[*record]bool{}
	seen := d.seen
	for i, r := range rs {
		err := errs[i]
		// ErrChanged: somebody else was faster, or has put something of his
		// own there, which the next listing will show.
		gone[r] = err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, backends.ErrChanged)
		if err != nil && gone[r] {
			seen = 0 // others merge, too: look before the next merge
		}
	}
	left := slices.DeleteFunc(slices.Clone(d.records), func(r *record) bool { return gone[r] })
	return newDir(left, seen, d), len(left) == len(d.records)-len(rs)
}

// latest is the last time that now has returned.
var latest atomic.Int64

// now returns the time of day in nanoseconds, later at every call, even if the
// clock is set back: a change that is saved again after an error must win over
// its first attempt.
func now() int64 {
	for {
		last := latest.Load()
		t := max(time.Now().UnixNano(), last+1)
		if latest.CompareAndSwap(last, t) {
			return t
		}
	}
}
