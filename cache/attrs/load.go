package attrs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentfs/agentfs/backends"
)

// maxRounds is how often a directory is listed again because a record went
// between the listing and the reading.
const maxRounds = 8

// parallel is how many records are fetched or put side by side. A variable for a
// test that lets others act between two requests.
var parallel = 8

// errGone: a record that was listed is not there any more.
var errGone = errors.New("record is gone")

// Load returns what the records of dir say. records are what a listing of dir
// that was asked for at asked has of files for which IsRecord holds; s is a form
// of the store that shows them ([backends.Leaner]). What prev, which may be nil, has
// read is not read again: if nothing is new, there is no request, and the answer is
// prev, seen again. With a zero time nobody knows how old the listing is, and
// the next merge looks for itself.
//
// A record that is gone, because somebody merged it, makes Load list the
// records again. One that can't be understood is counted in [Dir.Skipped] and
// otherwise left alone. One that can't be read is an error: without it older
// entries would count.
func Load(ctx context.Context, s backends.Store, dir string, records []backends.Entry, asked time.Time, prev *Dir) (*Dir, error) {
	var seen int64
	if !asked.IsZero() {
		seen = asked.UnixNano()
	}
	d, err := loadSeen(ctx, s, dir, records, seen, prev)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// loadSeen is Load of a listing that was asked for at a time in nanoseconds. With an
// error it returns prev, which says what it did, with all that was read to spare.
func loadSeen(ctx context.Context, s backends.Store, dir string, records []backends.Entry, seen int64, prev *Dir) (*Dir, error) {
	if prev == nil {
		prev = &Dir{}
	}
	known := map[string]*record{}
	for _, r := range slices.Concat(prev.records, prev.spare) {
		known[r.name] = r
	}
	fail := func(err error) (*Dir, error) {
		d := *prev
		d.spare = slices.Collect(maps.Values(known))
		return &d, err
	}
	for range maxRounds {
		rs, gone, err := readAll(ctx, s, dir, records, known)
		if err != nil {
			return fail(err)
		}
		if !gone {
			if len(rs) == len(prev.records) && containsAll(rs, prev.records) {
				return prev.seenAt(seen), nil
			}
			d := newDir(rs, seen, prev)
			d.spare = nil
			return d, nil
		}
		if records, err = listRecords(ctx, s, dir); err != nil {
			return fail(err)
		}
	}
	return fail(&fs.PathError{Op: "read attributes", Path: dir, Err: backends.ErrChanged})
}

// Records returns the records of dir, none for a directory that is not there. It
// costs one request, however large the directory is.
func Records(ctx context.Context, s backends.Store, dir string) ([]backends.Entry, error) {
	es, err := listRecords(ctx, s, dir)
	if errors.Is(err, backends.ErrNotDir) {
		return nil, nil
	}
	return es, err
}

// Read is Load for who has no listing of dir.
func Read(ctx context.Context, s backends.Store, dir string) (*Dir, error) {
	asked := time.Now()
	records, err := Records(ctx, s, dir)
	if err != nil || len(records) == 0 {
		return nil, err
	}
	return Load(ctx, s, dir, records, asked, nil)
}

// readAll returns the records that are listed, from known if they are there, and
// adds to known what it has read, also if it fails. gone says that one is not there
// any more.
func readAll(ctx context.Context, s backends.Store, dir string, listed []backends.Entry, known map[string]*record) (rs []*record, gone bool, err error) {
	var missing []backends.Entry
	for _, e := range listed {
		if !e.Mode.IsRegular() || !IsRecord(e.Base()) {
			continue
		}
		if r := known[e.Base()]; r != nil && r.version == e.Version {
			rs = append(rs, r)
		} else {
			missing = append(missing, e)
		}
	}
	read := make([]*record, len(missing))
	var g *errgroup.Group
	g, ctx = errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, e := range missing {
		g.Go(func() error {
			r, err := readRecord(ctx, s, dir, e)
			if errors.Is(err, errGone) {
				return nil
			}
			read[i] = r
			return err
		})
	}
	err = g.Wait()
	for _, r := range read {
		if r == nil {
			gone = true
			continue
		}
		known[r.name] = r
		rs = append(rs, r)
	}
	return rs, gone, err
}

// readRecord reads the record e. Only what the store can't give is an error.
func readRecord(ctx context.Context, s backends.Store, dir string, e backends.Entry) (*record, error) {
	name := path.Join(dir, e.Base())
	r := &record{name: e.Base(), version: e.Version, stored: e.Size}
	skip := func(err error) (*record, error) {
		r.skipped = fmt.Errorf("attribute record %s is left alone: %w", name, err)
		return r, nil
	}
	if _, ok := recordTime(r.name); !ok {
		return skip(errors.New("its name says no time"))
	}
	if e.Size > maxStored {
		return skip(fmt.Errorf("it has %d bytes", e.Size))
	}
	stored, err := fetch(ctx, s, name, e.Version)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, backends.ErrChanged):
		return nil, errGone
	case err != nil:
		return nil, backends.WrapPath("read attributes", name, err)
	case len(stored) > maxStored:
		return skip(errors.New("it is too large"))
	}
	r.stored = int64(len(stored))
	if r.entries, r.size, err = decodeRecord(stored); err != nil {
		return skip(err)
	}
	return r, nil
}

// fetch returns the content of a file, or the beginning of a large one.
func fetch(ctx context.Context, s backends.Store, name string, v backends.Version) (p []byte, err error) {
	rc, e, err := s.Open(ctx, name, backends.Range{}, backends.If{Match: v})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	if p, err = io.ReadAll(io.LimitReader(rc, maxStored+1)); err != nil {
		return nil, err
	}
	// What ends early is not damaged: it was cut on the way.
	if int64(len(p)) < min(e.Size, maxStored) {
		return nil, io.ErrUnexpectedEOF
	}
	return p, nil
}

// listRecords returns the records of dir. They lie side by side in a listing, so
// that it costs one request, however large the directory is.
func listRecords(ctx context.Context, s backends.Store, dir string) ([]backends.Entry, error) {
	var es []backends.Entry
	for e, err := range s.List(ctx, dir, backends.RecordPrefix) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		switch key := e.Key(); {
		case strings.HasPrefix(key, recordPrefix):
			es = append(es, e)
		case key > recordPrefix:
			return es, nil
		}
	}
	return slices.Clip(es), nil
}
