package s3

import (
	"context"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/agentfs/agentfs/backends"
)

// listFrom is the number of keys of one directory from which a listing is
// tried before a HEAD of each.
const listFrom = 4

// versionsOf returns the versions that keys have now, "" for one that is not
// there. Keys of one directory are looked up in its listing, as long as that
// is no more requests than a HEAD of each.
func (s *Store) versionsOf(ctx context.Context, keys []string) (map[string]backends.Version, error) {
	dirs := map[string][]string{}
	for _, k := range keys {
		dir := k[:strings.LastIndexByte(k, '/')+1]
		dirs[dir] = append(dirs[dir], k)
	}
	var mu sync.Mutex
	found := make(map[string]backends.Version, len(keys))
	know := func(key string, v backends.Version) {
		mu.Lock()
		defer mu.Unlock()
		found[key] = v
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(manyAtOnce)
	for dir, ks := range dirs {
		slices.Sort(ks)
		for len(ks) > 0 && len(ks) < listFrom {
			key := ks[0]
			ks = ks[1:]
			g.Go(func() error { return s.headVersion(gctx, key, know) })
		}
		if len(ks) > 0 {
			g.Go(func() error { return s.listVersions(gctx, dir, ks, know) })
		}
	}
	return found, g.Wait()
}

func (s *Store) headVersion(ctx context.Context, key string, know func(string, backends.Version)) error {
	o, err := s.head(ctx, key, "")
	if err != nil && !missing(err) {
		return err
	}
	know(key, o.version)
	return nil
}

// listVersions finds sorted keys in the listing of dir, and asks for those
// that it has not reached.
func (s *Store) listVersions(ctx context.Context, dir string, keys []string, know func(string, backends.Version)) error {
	in := &s3.ListObjectsV2Input{
		Bucket: s.bucket(), Prefix: &dir, Delimiter: aws.String("/"), MaxKeys: aws.Int32(int32(s.cfg.PageSize)),
		EncodingType: types.EncodingTypeUrl, RequestPayer: s.payer(),
	}
	// The listing begins after a key, so it has to be one before the first.
	_, last := utf8.DecodeLastRuneInString(keys[0])
	if start := keys[0][:len(keys[0])-last]; start > dir {
		in.StartAfter = &start
	}
	for range keys {
		out, err := s.api.ListObjectsV2(ctx, in, s.call(ctx).use)
		if err != nil {
			return err
		}
		reached := ""
		for i := range out.Contents {
			key, err := decodeKey(out.Contents[i].Key, out.EncodingType)
			if err != nil {
				return err
			}
			reached = max(reached, key)
			if _, ok := slices.BinarySearch(keys, key); ok {
				know(key, version(out.Contents[i].ETag))
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			return nil
		}
		for i := range out.CommonPrefixes {
			key, err := decodeKey(out.CommonPrefixes[i].Prefix, out.EncodingType)
			if err != nil {
				return err
			}
			reached = max(reached, key)
		}
		n, found := slices.BinarySearch(keys, reached)
		if found {
			n++
		}
		if keys = keys[n:]; len(keys) == 0 || aws.ToString(out.NextContinuationToken) == "" {
			break
		}
		in.ContinuationToken = out.NextContinuationToken
	}
	for _, key := range keys {
		if err := s.headVersion(ctx, key, know); err != nil {
			return err
		}
	}
	return nil
}
