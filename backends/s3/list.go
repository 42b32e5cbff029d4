package s3

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"iter"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/agentfs/agentfs/backends"
)

// List implements [backends.Store]: a LIST with delimiter, page after page as
// the consumer goes on.
func (s *Store) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return s.listing(ctx, "list", dir, after, "/", func(e backends.Entry) string { return e.Key() })
}

// Walk implements [backends.Walker]: a flat LIST. Directories without a marker
// are left out.
func (s *Store) Walk(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return s.listing(ctx, "walk", dir, after, "", backends.WalkKey)
}

// WalkPage implements [backends.PageWalker]: what one flat LIST has, but for
// files at its end of which the next one tells whether a directory hides them.
func (s *Store) WalkPage(ctx context.Context, dir, after string) (backends.Page, error) {
	const op = "walk"
	l, err := s.lister(ctx, op, dir, after, "")
	if err != nil || l == nil {
		return backends.Page{}, err
	}
	var p backends.Page
	for {
		if len(p.Entries) > 0 && l.waits() {
			p.More = true
			return p, nil
		}
		it, ok, err := l.next()
		switch {
		case err != nil:
			return backends.Page{}, s.fail(ctx, op, dir, err)
		case !ok:
			return p, s.existed(ctx, l, op, dir)
		case it.shown() && backends.WalkKey(it.entry) > after:
			p.Entries = append(p.Entries, it.entry)
		}
	}
}

// lister returns what lists below dir after after; nil if nothing can follow.
func (s *Store) lister(ctx context.Context, op, dir, after, delimiter string) (*lister, error) {
	if err := s.keys.checkDir(op, dir); err != nil {
		return nil, err
	}
	l := &lister{s: s, ctx: ctx, prefix: s.keys.dir(dir), delimiter: delimiter, more: true}
	switch {
	case after == "":
	case delimiter == "":
		l.start = s.keys.prefix + after
	default:
		l.start = l.prefix + after
	}
	if delimiter != "" {
		l.first = backends.ExpectedEntries(ctx)
	}
	if l.skipped() {
		return nil, nil
	}
	return l, nil
}

// listing lists below dir. order is the key by which entries come and by which
// after is meant.
func (s *Store) listing(ctx context.Context, op, dir, after, delimiter string, order func(backends.Entry) string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		l, err := s.lister(ctx, op, dir, after, delimiter)
		if err != nil {
			yield(backends.Entry{}, err)
			return
		}
		if l == nil {
			return
		}
		for {
			it, ok, err := l.next()
			switch {
			case err != nil:
				yield(backends.Entry{}, s.fail(ctx, op, dir, err))
				return
			case !ok:
				if err := s.existed(ctx, l, op, dir); err != nil {
					yield(backends.Entry{}, err)
				}
				return
			case !it.shown() || after != "" && order(it.entry) <= after:
				continue
			}
			if !yield(it.entry, nil) {
				return
			}
		}
	}
}

// skipped reports whether nothing below the prefix can follow the start, and
// drops a start that is before everything.
func (l *lister) skipped() bool {
	if l.start == "" || strings.HasPrefix(l.start, l.prefix) {
		return false
	}
	if l.start > l.prefix {
		l.more, l.any = false, true
		return true
	}
	l.start = ""
	return false
}

// existed returns the error of a listing that found nothing because there is
// no such directory.
func (s *Store) existed(ctx context.Context, l *lister, op, dir string) error {
	if l.any || dir == "." {
		return nil
	}
	if l.start != "" {
		if keys, err := s.keysBelow(ctx, l.prefix, 1); err != nil || len(keys) > 0 {
			return s.fail(ctx, op, dir, err)
		}
	}
	_, err := s.head(ctx, s.keys.file(dir), "")
	if err == nil {
		err = backends.ErrNotDir
	}
	return s.fail(ctx, op, dir, err)
}

// item is one key of a listing.
type item struct {
	key    string
	entry  backends.Entry // without a name for a key that is not shown
	hidden bool           // by a directory of the same name
}

func (it item) shown() bool { return !it.hidden && it.entry.Name != "" }

// lister reads a listing in the order of its keys and finds the files that a
// directory hides. "x/" may come long after "x" ("x-1" and "x.txt" lie between
// them), so a file waits until the listing has passed the place where its
// directory would be.
type lister struct {
	s         *Store
	ctx       context.Context
	prefix    string
	only      string // keys that begin with this, not all below the prefix
	delimiter string
	start     string  // list after this key
	first     int     // keys of the first page, if it is to be smaller than others
	token     *string // of the next page
	more      bool    // there are further pages
	any       bool    // anything was listed, the marker of the directory itself included
	queue     []item
	last      string // the last key that went into queue
}

// maxWaiting bounds the keys that wait for a decision, in pages; beyond it the
// directory is asked for.
const maxWaiting = 4

// next returns the next item.
func (l *lister) next() (item, bool, error) {
	for {
		if len(l.queue) > 0 {
			it := l.queue[0]
			decided, hidden := l.hidden(it)
			if !decided && len(l.queue) > maxWaiting*l.s.cfg.PageSize {
				keys, err := l.s.keysBelow(l.ctx, it.key+"/", 1)
				if err != nil {
					return item{}, false, err
				}
				decided, hidden = true, len(keys) > 0
			}
			if decided {
				l.queue = l.queue[1:]
				if it.hidden = hidden; hidden {
					l.s.hides(it.entry.Name)
				}
				return it, true, nil
			}
		}
		if !l.more {
			return item{}, false, nil
		}
		if err := l.page(); err != nil {
			return item{}, false, err
		}
	}
}

// waits reports whether the next item needs another page.
func (l *lister) waits() bool {
	if len(l.queue) == 0 {
		return l.more
	}
	decided, _ := l.hidden(l.queue[0])
	return !decided
}

// hidden reports whether a directory hides it, and whether that is known yet.
func (l *lister) hidden(it item) (decided, hidden bool) {
	if it.entry.Name == "" || it.entry.IsDir() {
		return true, false
	}
	dir := it.key + "/"
	i := sort.Search(len(l.queue), func(i int) bool { return l.queue[i].key >= dir })
	if i < len(l.queue) {
		return true, strings.HasPrefix(l.queue[i].key, dir)
	}
	return !l.more, false
}

// page puts the next page into the queue.
func (l *lister) page() error {
	s := l.s
	n := s.cfg.PageSize
	if l.token == nil && l.first > 0 {
		n = min(n, l.first)
	}
	in := &s3.ListObjectsV2Input{
		Bucket: s.bucket(), Prefix: aws.String(cmp.Or(l.only, l.prefix)), MaxKeys: aws.Int32(int32(n)), EncodingType: types.EncodingTypeUrl,
		ContinuationToken: l.token, RequestPayer: s.payer(),
	}
	if l.delimiter != "" {
		in.Delimiter = &l.delimiter
	}
	if l.token == nil && l.start != "" {
		in.StartAfter = aws.String(startAfter(l.start, l.delimiter))
	}
	out, err := s.api.ListObjectsV2(l.ctx, in, s.call(l.ctx).use)
	if err != nil {
		return err
	}
	items, err := l.items(out)
	if err != nil {
		return err
	}
	l.queue = append(slices.Clip(l.queue), items...)
	l.more = aws.ToBool(out.IsTruncated)
	if l.more && (aws.ToString(out.NextContinuationToken) == "" || aws.ToString(out.NextContinuationToken) == aws.ToString(l.token)) {
		return fmt.Errorf("%s sent a part of a listing without saying how to go on", s.where())
	}
	l.token = out.NextContinuationToken
	return nil
}

// startAfter returns what to send as start-after. With a delimiter, the keys
// below "NAME/" would all roll up into NAME/ once more: the highest character
// leads past them in one step. A key that begins with that character brings
// NAME/ back, and the caller drops what is not after its start.
func startAfter(start, delimiter string) string {
	const highest = "\U0010FFFF"
	if delimiter != "" && strings.HasSuffix(start, delimiter) && len(start)+len(highest) <= maxKey {
		return start + highest
	}
	return start
}

// items returns what a page holds, sorted: objects and common prefixes come in
// two lists.
func (l *lister) items(out *s3.ListObjectsV2Output) ([]item, error) {
	items := make([]item, 0, len(out.Contents)+len(out.CommonPrefixes))
	for i := range out.Contents {
		o := &out.Contents[i]
		key, err := decodeKey(o.Key, out.EncodingType)
		if err != nil {
			return nil, err
		}
		it := l.item(key, out.EncodingType)
		if it.entry.Name != "" && !it.entry.IsDir() {
			it.entry.Size = aws.ToInt64(o.Size)
			it.entry.ModTime = modTime(o.LastModified)
			it.entry.Version = version(o.ETag)
		}
		items = append(items, it)
	}
	for i := range out.CommonPrefixes {
		key, err := decodeKey(out.CommonPrefixes[i].Prefix, out.EncodingType)
		if err != nil {
			return nil, err
		}
		items = append(items, l.item(key, out.EncodingType))
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.key, b.key) })
	l.any = l.any || len(items) > 0
	// A server may repeat a common prefix on the next page.
	fresh := items[:0]
	for _, it := range items {
		if it.key != l.prefix && (l.last == "" || it.key > l.last) {
			l.last = it.key
			fresh = append(fresh, it)
		}
	}
	return fresh, nil
}

// item returns the item of a key, without size and times. A server that doesn't
// encode keys has only U+FFFD for what XML can't hold: nothing could be found
// under such a name.
func (l *lister) item(key string, enc types.EncodingType) item {
	it := item{key: key}
	if key == l.prefix {
		return it
	}
	name, dir, ok, reason := l.s.keys.name(key)
	if ok && enc != types.EncodingTypeUrl && strings.ContainsRune(key, utf8.RuneError) {
		ok, reason = false, "the server can't list control characters"
	}
	switch {
	case ok && dir:
		it.entry = dirEntry(name)
	case ok:
		it.entry = backends.Entry{Name: name}
	case reason != "":
		l.s.notices.warn("key", "a key can't be shown as a file", "key", quote(key), "reason", reason)
	}
	return it
}

// decodeKey returns a key as a listing has it. Only what the server says it
// has encoded is decoded; "+" is a space, as in a query.
func decodeKey(p *string, enc types.EncodingType) (string, error) {
	key := aws.ToString(p)
	if enc != types.EncodingTypeUrl {
		return key, nil // control characters are lost: see lister.item
	}
	dec, err := url.QueryUnescape(key)
	if err != nil {
		return "", &fs.PathError{Op: "decode key", Path: quote(key), Err: err}
	}
	return dec, nil
}

// quote makes a key fit for one line of a log.
func quote(key string) string {
	const most = 200
	if len(key) > most {
		return strconv.Quote(key[:most]) + "..."
	}
	return strconv.Quote(key)
}
