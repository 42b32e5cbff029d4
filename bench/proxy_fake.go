package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
)

// fakeList makes up one directory with very many keys, which would take long to
// put into a store. LIST and HEAD know of them; they have no contents.
type fakeList struct {
	prefix string // the directory's, with the slash
	n      int
	slow   bool // answers take as long as others
}

// covers reports whether r asks for a listing within the directory, or a flat one
// of what it lies in, which is taken to have nothing else, or about a key there.
func (f *fakeList) covers(r *http.Request) bool {
	if f == nil {
		return false
	}
	switch operation(r) {
	case "List":
		q := r.URL.Query()
		prefix := q.Get("prefix")
		return strings.HasPrefix(prefix, f.prefix) || strings.HasPrefix(f.prefix, prefix) && q.Get("delimiter") == ""
	case "Head":
		return strings.HasPrefix(keyOf(r), f.prefix)
	}
	return false
}

// mark puts one of the keys into the store, which answers a listing of the directory above
// by itself: a mount that has seen such a listing knows what is there.
func (f *fakeList) mark(ctx context.Context, direct *sdk) error {
	return direct.put(ctx, f.prefix+f.name(0), make([]byte, smallSize))
}

// keyOf returns the key that a request is about; the bucket is in its path.
func keyOf(r *http.Request) string {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return key
}

// answer is what a store would answer that has the keys.
func (f *fakeList) answer(r *http.Request) *http.Response {
	if operation(r) == "Head" {
		return f.head(r)
	}
	return f.list(r)
}

// head is the answer to a question about one key.
func (f *fakeList) head(r *http.Request) *http.Response {
	i, err := strconv.Atoi(strings.TrimPrefix(strings.TrimPrefix(keyOf(r), f.prefix), "f"))
	if err != nil || i >= f.n || keyOf(r) != f.prefix+f.name(i) {
		return xmlAnswer(r, http.StatusNotFound, "")
	}
	resp := xmlAnswer(r, http.StatusOK, "")
	resp.ContentLength = smallSize
	resp.Header.Set("Content-Length", strconv.Itoa(smallSize))
	resp.Header.Set("ETag", etag(i))
	resp.Header.Set("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
	return resp
}

// etag is the version of the i-th key.
func etag(i int) string { return fmt.Sprintf(`"%032x"`, i) }

// name returns the i-th key below the directory; keys ascend with i.
func (f *fakeList) name(i int) string { return fmt.Sprintf("f%08d", i) }

// list is a page of the listing. Delimiters change nothing: there are no
// directories in it.
func (f *fakeList) list(r *http.Request) *http.Response {
	q := r.URL.Query()
	limit := 1000
	if n, err := strconv.Atoi(q.Get("max-keys")); err == nil {
		limit = min(n, limit)
	}
	after := q.Get("start-after")
	if token, err := base64.StdEncoding.DecodeString(q.Get("continuation-token")); err == nil && len(token) > 0 {
		after = string(token)
	}
	prefix := q.Get("prefix")
	var b strings.Builder
	fmt.Fprintf(&b, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>%s</Name><Prefix>%s</Prefix><MaxKeys>%d</MaxKeys>`, bucket, escapeKey(q, prefix), limit)
	count, last, more := 0, "", false
	first := sort.Search(f.n, func(i int) bool {
		key := f.prefix + f.name(i)
		return key > after && key >= prefix
	})
	for i := first; i < f.n; i++ {
		key := f.prefix + f.name(i)
		if !strings.HasPrefix(key, prefix) {
			break
		}
		if more = count == limit; more {
			break
		}
		fmt.Fprintf(&b, `<Contents><Key>%s</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;%032x&quot;</ETag><Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>`, escapeKey(q, key), i, smallSize)
		count, last = count+1, key
	}
	if q.Get("encoding-type") == "url" {
		b.WriteString(`<EncodingType>url</EncodingType>`)
	}
	fmt.Fprintf(&b, `<KeyCount>%d</KeyCount><IsTruncated>%t</IsTruncated>`, count, more)
	if more {
		fmt.Fprintf(&b, `<NextContinuationToken>%s</NextContinuationToken>`, base64.StdEncoding.EncodeToString([]byte(last)))
	}
	b.WriteString(`</ListBucketResult>`)
	return xmlAnswer(r, http.StatusOK, b.String())
}

// escapeKey writes a key as the request wants it; those here need no XML escapes.
func escapeKey(q url.Values, key string) string {
	if q.Get("encoding-type") == "url" {
		return url.QueryEscape(key)
	}
	return key
}
