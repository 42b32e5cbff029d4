package s3

import (
	"context"
	"io/fs"
	"mime"
	"net/url"
	"path"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/agentfs/agentfs/backends"
)

// User metadata that we write. mtime is rclone's (seconds since the epoch with
// a fraction), the next three are s3fs's (decimal).
const (
	metaMtime     = "mtime"
	metaMode      = "mode"
	metaUID       = "uid"
	metaGID       = "gid"
	metaOperation = "agentfs-op"
)

// headersFor returns what the new content of a key carries: what the old one
// had, as far as it is known, or what its name says.
func (s *Store) headersFor(ctx context.Context, key, name string, opts backends.PutOptions) (headers, error) {
	h := headers{class: types.StorageClass(s.cfg.StorageClass)}
	if ct := mime.TypeByExtension(path.Ext(name)); ct != "" {
		h.contentType = &ct
	}
	if opts.If.Absent {
		return h.withAttr(opts.Attr), nil
	}
	o, ok := s.seen.get(key, opts.If.Match)
	if !ok && opts.If.Match != "" {
		match := opts.If.Match
		if s.lost.any(key) || opts.Operation != "" || len(opts.Earlier) > 0 {
			match = "" // what is there may be our own: settled decides
		}
		var err error
		if o, err = s.head(ctx, key, match); err != nil && !s.unreadable(ctx, err) {
			return headers{}, err
		}
		ok = err == nil
	}
	if ok {
		h = o.headers
		if o.tags > 0 {
			var err error
			if h.tagging, err = s.tagging(ctx, key); err != nil && !s.unreadable(ctx, err) {
				return headers{}, err
			}
		}
		if h.class == "" && s.cfg.StorageClass != "" {
			h.class = types.StorageClassStandard // a HEAD leaves the default class out
		}
	}
	// The old content's time is not the new one's.
	h = h.withMeta(func(m map[string]string) {
		delete(m, metaMtime)
		delete(m, metaOperation)
	})
	return h.withAttr(opts.Attr), nil
}

// unreadable reports that what an object carries can't be kept because we may
// write it and not look at it.
func (s *Store) unreadable(ctx context.Context, err error) bool {
	if kindOf(s.explain(ctx, err)) != fs.ErrPermission {
		return false
	}
	s.notices.warn("metadata", "metadata of rewritten objects is not kept: reading it is not allowed", "err", s.explain(ctx, err))
	return true
}

func kindOf(err error) error {
	if e, ok := err.(*Error); ok {
		return e.Kind
	}
	return err
}

// withAttr returns h with a's attributes in its metadata.
func (h headers) withAttr(a backends.AttrChange) headers {
	return h.withMeta(func(m map[string]string) {
		if a.Has(backends.SetMtime) {
			m[metaMtime] = strconv.FormatFloat(float64(a.Mtime.UnixNano())/1e9, 'f', 9, 64)
		}
		if a.Has(backends.SetMode) {
			m[metaMode] = strconv.FormatUint(uint64(unixMode(a.Mode)), 10)
		}
		if a.Has(backends.SetUID) {
			m[metaUID] = strconv.FormatUint(uint64(a.UID), 10)
		}
		if a.Has(backends.SetGID) {
			m[metaGID] = strconv.FormatUint(uint64(a.GID), 10)
		}
	})
}

// unixMode is st_mode of a regular file with these permissions, as s3fs keeps
// it.
func unixMode(m fs.FileMode) uint32 {
	const regular = 0o100000
	u := regular | uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		u |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		u |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		u |= 0o1000
	}
	return u
}

// tagging returns a key's tags as the x-amz-tagging header has them.
func (s *Store) tagging(ctx context.Context, key string) (*string, error) {
	out, err := s.api.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: s.bucket(), Key: &key, RequestPayer: s.payer()}, s.call(ctx).use)
	if err != nil {
		return nil, err
	}
	v := url.Values{}
	for _, t := range out.TagSet {
		v.Set(aws.ToString(t.Key), aws.ToString(t.Value))
	}
	return ptr(v.Encode()), nil
}
