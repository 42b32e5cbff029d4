package s3

import (
	"context"
	"io/fs"
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
	// manyAtOnce bounds the single removals that run side by side.
	manyAtOnce = 32
)

// RemoveMany implements [backends.ManyRemover]: DeleteObjects in batches, for
// removals without condition and, where the endpoint honours an ETag for each
// key, for those with If.Match; the rest by a DELETE each, side by side. A
// file that isn't there counts as removed if there was no condition.
func (s *Store) RemoveMany(ctx context.Context, rs []backends.Removal) []error {
	errs := make([]error, len(rs))
	conditional := false
	for _, r := range rs {
		conditional = conditional || r.If.Match != ""
	}
	batched := true
	if conditional {
		var err error
		if batched, err = s.honours(ctx, condDeleteMany); err != nil {
			for i := range errs {
				errs[i] = s.fail(ctx, "remove", rs[i].Name, err)
			}
			return errs
		}
	}
	var batch, single []int
	for i, r := range rs {
		switch {
		case r.Name == ".":
			errs[i] = &fs.PathError{Op: "remove", Path: r.Name, Err: backends.ErrBusy}
		case s.keys.checkFile("remove", r.Name) != nil:
			errs[i] = s.keys.checkFile("remove", r.Name)
		case r.If.Absent || r.If.Match != "" && !batched || !inXML(r.Name):
			single = append(single, i)
		default:
			batch = append(batch, i)
		}
	}
	g := new(errgroup.Group)
	g.SetLimit(manyAtOnce)
	for _, i := range single {
		g.Go(func() error { // errors go into errs
			errs[i] = s.Remove(ctx, rs[i].Name, rs[i].If)
			return nil
		})
	}
	for some := range slices.Chunk(batch, maxBatch) {
		g.Go(func() error {
			s.removeBatch(ctx, rs, some, errs)
			return nil
		})
	}
	g.Wait()
	s.keepParents(ctx, rs, batch, errs)
	return errs
}

// inXML reports whether a key survives an XML request: control characters
// can't be written in it.
func inXML(name string) bool {
	return strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r == 0xFFFE || r == 0xFFFF }) < 0
}

// removeBatch removes those of rs whose numbers are in some.
func (s *Store) removeBatch(ctx context.Context, rs []backends.Removal, some []int, errs []error) {
	keys := make([]string, len(some))
	versions := make([]backends.Version, len(some))
	for j, i := range some {
		keys[j], versions[j] = s.keys.file(rs[i].Name), rs[i].If.Match
	}
	for j, err := range s.deleteKeys(ctx, keys, versions) {
		errs[some[j]] = s.fail(ctx, "remove", rs[some[j]].Name, gone(err, versions[j]))
	}
}

// deleteKeys sends one DeleteObjects and returns an error for each key.
func (s *Store) deleteKeys(ctx context.Context, keys []string, versions []backends.Version) []error {
	errs := make([]error, len(keys))
	at := make(map[string]int, len(keys))
	ids := make([]types.ObjectIdentifier, len(keys))
	for i, k := range keys {
		at[k] = i
		ids[i].Key = &keys[i]
		if versions[i] != "" {
			ids[i].ETag = etag(versions[i])
		}
		s.seen.forget(k)
	}
	c := s.call(ctx)
	out, err := s.api.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: s.bucket(), Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)}, RequestPayer: s.payer(),
	}, c.use)
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	for _, e := range out.Errors {
		i, ok := at[aws.ToString(e.Key)]
		if !ok {
			continue
		}
		err := error(&smithy.GenericAPIError{Code: aws.ToString(e.Code), Message: aws.ToString(e.Message)})
		if missing(err) && (c.unknown || versions[i] == "") {
			continue
		}
		errs[i] = err
	}
	return errs
}

// keepParents puts markers for the directories that a batch has emptied.
func (s *Store) keepParents(ctx context.Context, rs []backends.Removal, batch []int, errs []error) {
	if s.lean {
		return
	}
	parents := map[string]bool{}
	for _, i := range batch {
		if p := path.Dir(rs[i].Name); p != "." && errs[i] == nil {
			parents[p] = true
		}
	}
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
