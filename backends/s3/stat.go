package s3

import (
	"context"
	"errors"
	"io/fs"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/agentfs/agentfs/backends"
)

// Stat implements [backends.Store]: a HEAD of the file and a LIST of one key
// below the directory, side by side. The root's asks nothing.
func (s *Store) Stat(ctx context.Context, name string) (backends.Entry, error) {
	const op = "stat"
	if name == "." {
		return dirEntry("."), nil
	}
	if err := s.keys.checkFile(op, name); err != nil {
		return backends.Entry{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dir := s.probeDir(ctx, name)
	obj, err := s.head(ctx, s.keys.file(name), "")
	isDir, dirErr := dir()
	switch {
	case isDir:
		if err == nil {
			s.hides(name)
		}
		return dirEntry(name), nil
	case dirErr != nil && (err != nil || !errors.Is(s.explain(ctx, dirErr), fs.ErrPermission)):
		// Who may read objects but not list sees files and no directories.
		return backends.Entry{}, s.fail(ctx, op, name, dirErr)
	case err != nil:
		return backends.Entry{}, s.fail(ctx, op, name, err)
	}
	return obj.named(name), nil
}

// StatFile implements [backends.FileStatter]: a HEAD, and what Stat asks only if
// that finds nothing.
func (s *Store) StatFile(ctx context.Context, name string) (backends.Entry, error) {
	if name == "." {
		return dirEntry("."), nil
	}
	if err := s.keys.checkFile("stat", name); err != nil {
		return backends.Entry{}, err
	}
	obj, err := s.head(ctx, s.keys.file(name), "")
	if err != nil {
		return s.Stat(ctx, name)
	}
	return obj.named(name), nil
}

// hides notes that a directory and a file share a name.
func (s *Store) hides(name string) {
	s.notices.warn("hides", "a directory hides the file of the same name", "key", quote(s.keys.file(name)))
}

// probeDir begins to find out whether name is a directory; the function that
// it returns waits for the answer.
func (s *Store) probeDir(ctx context.Context, name string) func() (bool, error) {
	type answer struct {
		is  bool
		err error
	}
	ch := make(chan answer, 1)
	go func() {
		keys, err := s.keysBelow(ctx, s.keys.dir(name), 1)
		ch <- answer{len(keys) > 0, err}
	}()
	return func() (bool, error) {
		a := <-ch
		return a.is, a.err
	}
}

// keysBelow returns the first n keys that begin with prefix.
func (s *Store) keysBelow(ctx context.Context, prefix string, n int32) ([]string, error) {
	if len(prefix) > maxKey {
		return nil, nil
	}
	out, err := s.api.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
		Bucket: s.bucket(), Prefix: &prefix, MaxKeys: &n, EncodingType: types.EncodingTypeUrl, RequestPayer: s.payer(),
	}, s.call(ctx).use)
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, o := range out.Contents {
		key, err := decodeKey(o.Key, out.EncodingType)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// head asks for the object at key. With match it must be that version.
func (s *Store) head(ctx context.Context, key string, match backends.Version) (object, error) {
	in := &s3.HeadObjectInput{Bucket: s.bucket(), Key: &key, RequestPayer: s.payer()}
	out, err := s.api.HeadObject(ctx, in, s.call(ctx).use)
	if err != nil {
		return object{}, err
	}
	obj := objectOfHead(out)
	if match != "" && obj.version != match {
		return object{}, backends.ErrChanged
	}
	s.seen.put(key, obj)
	return obj, nil
}
