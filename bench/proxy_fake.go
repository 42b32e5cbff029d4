package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
)

// fakeList makes listings of one directory with very many keys, which would
// take long to put into a store. Only LIST knows of them.
type fakeList struct {
	prefix string // the directory's, with the slash
	n      int
}

// covers reports whether r asks for a listing within the directory, or a flat one
// of what it lies in, which is taken to have nothing else.
func (f *fakeList) covers(r *http.Request) bool {
	if f == nil || operation(r) != "List" {
		return false
	}
	q := r.URL.Query()
	prefix := q.Get("prefix")
	return strings.HasPrefix(prefix, f.prefix) || strings.HasPrefix(f.prefix, prefix) && q.Get("delimiter") == ""
}

// name returns the i-th key below the directory; keys ascend with i.
func (f *fakeList) name(i int) string { return fmt.Sprintf("f%08d", i) }

// answer is a page of the listing. Delimiters change nothing: there are no
// directories in it.
func (f *fakeList) answer(r *http.Request) *http.Response {
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
