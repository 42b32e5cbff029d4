package s3

import (
	"cmp"
	"context"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"golang.org/x/sync/errgroup"

	"github.com/agentfs/agentfs/backends"
)

const (
	// maxBatch is S3's limit of keys in one DeleteObjects.
	maxBatch = 1000
	// manyAtOnce bounds the requests of one RemoveMany that run side by side: at 40 ms each,
	// they stay below the 3,500 writes a second that S3 takes under a prefix.
	manyAtOnce = 128
)

// deletion is one removal that can go into a DeleteObjects.
type deletion struct {
	i     int // which of the removals
	key   string
	match backends.Version // "" for none
}

// RemoveMany implements [backends.ManyRemover]: DeleteObjects in batches for
// what has no condition, the markers of directories included if the Store is
// lean. A removal with If.Match goes there too where the endpoint honours an
// ETag for each key; else it is a conditional DELETE of its own, side by side
// with the others; where that isn't honoured either, listings and HEADs find
// out which versions are still there, and those go into the batches. A file
// that isn't there counts as removed if there was no condition, and always if
// the Store is lean.
func (s *Store) RemoveMany(ctx context.Context, rs []backends.Removal) []error {
	errs := make([]error, len(rs))
	var batch, markers, conditional []deletion
	var single, dirs []int
	for i, r := range rs {
		check := s.keys.checkFile
		key := s.keys.file(r.Name)
		if r.Dir {
			check, key = s.keys.checkDir, s.keys.dir(r.Name)
		}
		switch {
		case r.Name == ".":
			errs[i] = &fs.PathError{Op: "remove", Path: r.Name, Err: backends.ErrBusy}
		case check("remove", r.Name) != nil:
			errs[i] = check("remove", r.Name)
		case r.Dir && !s.lean:
			dirs = append(dirs, i)
		case !inXML(r.Name) || r.If.Absent && !r.Dir:
			single = append(single, i)
		case r.If.Match != "" && !r.Dir:
			conditional = append(conditional, deletion{i, key, r.If.Match})
		case r.Dir:
			markers = append(markers, deletion{i, key, ""})
		default:
			batch = append(batch, deletion{i, key, ""})
		}
	}
	native, alone, err := s.sortConditional(ctx, rs, conditional, errs)
	if err != nil {
		for _, d := range conditional {
			errs[d.i] = s.fail(ctx, "remove", rs[d.i].Name, err)
		}
	}
	batch, single = append(batch, native...), append(single, alone...)
	// Servers over directories remove a marker only after what is below it (side
	// by side they keep a directory that nobody asked for), and take the keys of a
	// request in their order.
	slices.SortStableFunc(markers, func(a, b deletion) int { return len(b.key) - len(a.key) })
	if len(single) == 0 && len(batch)+len(markers) <= maxBatch {
		batch, markers = append(batch, markers...), nil
	}
	g := new(errgroup.Group)
	g.SetLimit(manyAtOnce)
	for some := range slices.Chunk(batch, maxBatch) {
		g.Go(func() error { // errors go into errs
			s.removeBatch(ctx, rs, some, errs)
			return nil
		})
	}
	for _, i := range single {
		g.Go(func() error {
			errs[i] = s.removeAlone(ctx, rs[i])
			return nil
		})
	}
	g.Wait()
	for some := range slices.Chunk(markers, maxBatch) {
		s.removeBatch(ctx, rs, some, errs)
	}
	s.removeDirs(ctx, rs, dirs, errs)
	s.keepParents(ctx, rs, errs)
	return errs
}

// sortConditional returns which of the removals with a condition can go into a
// batch, and the numbers of those that need a request of their own. What fails
// already is in errs.
func (s *Store) sortConditional(ctx context.Context, rs []backends.Removal, all []deletion, errs []error) (batch []deletion, alone []int, err error) {
	if len(all) == 0 {
		return nil, nil, nil
	}
	if ok, err := s.honours(ctx, condDeleteMany); err != nil || ok {
		return all, nil, err
	}
	ok, err := s.honours(ctx, condDelete)
	if err != nil {
		return nil, nil, err
	}
	if ok {
		for _, d := range all {
			alone = append(alone, d.i)
		}
		return nil, alone, nil
	}
	s.notHonoured(condDelete)
	keys := make([]string, len(all))
	for i, d := range all {
		keys[i] = d.key
	}
	now, err := s.versionsOf(ctx, keys)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range all {
		switch v := now[d.key]; {
		case v == d.match:
			batch = append(batch, deletion{d.i, d.key, ""})
		case v == "" && s.lean:
		case len(rs[d.i].Earlier) > 0 || s.lost.any(d.key):
			alone = append(alone, d.i)
		default:
			errs[d.i] = &fs.PathError{Op: "remove", Path: rs[d.i].Name, Err: backends.ErrChanged}
		}
	}
	return batch, alone, nil
}

// inXML reports whether a key survives an XML request: control characters
// can't be written in it.
func inXML(name string) bool {
	return strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r == 0xFFFE || r == 0xFFFF }) < 0
}

// removeAlone makes one removal by requests of its own.
func (s *Store) removeAlone(ctx context.Context, r backends.Removal) error {
	switch {
	case r.Dir:
		return s.fail(ctx, "remove", r.Name, s.deleteKey(ctx, s.keys.dir(r.Name), ""))
	case r.If.Match != "" && !r.If.Absent:
		return s.fail(ctx, "remove", r.Name, s.removeVersion(ctx, r.Name, r.If.Match, r.Earlier))
	}
	return s.Remove(ctx, r.Name, r.If)
}

// removeDirs removes directories of which nobody knows that they are empty,
// those that are in others first.
func (s *Store) removeDirs(ctx context.Context, rs []backends.Removal, dirs []int, errs []error) {
	slices.SortStableFunc(dirs, func(a, b int) int { return len(rs[b].Name) - len(rs[a].Name) })
	for _, i := range dirs {
		errs[i] = s.Remove(ctx, rs[i].Name, backends.If{})
	}
}

// removeBatch sends one DeleteObjects for some of rs.
func (s *Store) removeBatch(ctx context.Context, rs []backends.Removal, some []deletion, errs []error) {
	answers, unknown := s.deleteKeys(ctx, some)
	for j, err := range answers {
		d := some[j]
		if d.match != "" && preconditionFailed(err) && (unknown || s.lean || len(rs[d.i].Earlier) > 0 || s.lost.any(d.key)) {
			// It may be gone, or be ours.
			err = s.removeVersion(ctx, rs[d.i].Name, d.match, rs[d.i].Earlier)
		}
		errs[d.i] = s.fail(ctx, "remove", rs[d.i].Name, gone(err, d.match))
	}
}

// deleteKeys sends one DeleteObjects and returns an error for each deletion,
// and whether an earlier attempt may have taken effect.
func (s *Store) deleteKeys(ctx context.Context, ds []deletion) (errs []error, unknown bool) {
	errs = make([]error, len(ds))
	at := make(map[string][]int, len(ds)) // a caller may name one twice: the answer is for both
	ids := make([]types.ObjectIdentifier, len(ds))
	for i := range ds {
		d := &ds[i]
		at[d.key] = append(at[d.key], i)
		ids[i].Key = &d.key
		if d.match != "" {
			ids[i].ETag = etag(d.match)
		}
		s.seen.forget(d.key)
	}
	c := s.call(ctx)
	out, err := s.api.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: s.bucket(), Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)}, RequestPayer: s.payer(),
	}, c.use)
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs, c.unknown
	}
	var other error // of a key that is none of these
	for _, e := range out.Errors {
		err := error(&smithy.GenericAPIError{Code: aws.ToString(e.Code), Message: aws.ToString(e.Message)})
		same := at[aws.ToString(e.Key)]
		if len(same) == 0 {
			other = err
		}
		for _, i := range same {
			if missing(err) && (c.unknown || s.lean || ds[i].match == "") {
				continue
			}
			errs[i] = err
		}
	}
	// An answer names only what failed. One that doesn't say what did vouches
	// for nothing.
	for i := range errs {
		errs[i] = cmp.Or(errs[i], other)
	}
	return errs, c.unknown
}

// keepParents puts markers for the directories that these removals have emptied
// together: each for itself has seen the others' names still there.
func (s *Store) keepParents(ctx context.Context, rs []backends.Removal, errs []error) {
	if s.lean {
		return
	}
	parents := map[string]bool{}
	removed := map[string]bool{}
	for i, r := range rs {
		if errs[i] == nil {
			removed[r.Name] = r.Dir
			if p := path.Dir(r.Name); p != "." {
				parents[p] = true
			}
		}
	}
	maps.DeleteFunc(parents, func(p string, _ bool) bool { return removed[p] })
	g := new(errgroup.Group)
	g.SetLimit(manyAtOnce)
	for p := range parents {
		g.Go(func() error {
			keys, err := s.keysBelow(ctx, s.keys.dir(p), 1)
			if err == nil && len(keys) == 0 {
				err = s.putMarker(ctx, p)
			}
			if err != nil {
				s.notices.warn("marker", "an empty directory could not be kept", "key", quote(s.keys.dir(p)), "err", s.explain(ctx, err))
			}
			return nil
		})
	}
	g.Wait()
}
