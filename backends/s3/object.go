package s3

import (
	"maps"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/agentfs/agentfs/backends"
)

// object is what a HEAD, a GET or a PUT tells of an object.
type object struct {
	version backends.Version
	size    int64
	modTime time.Time
	headers headers
	// tags is how many tags the object has; a HEAD doesn't say which.
	tags int32
}

// headers is what an object carries beside its bytes. The maps are not changed
// once they are in here.
type headers struct {
	meta         map[string]string
	contentType  *string
	encoding     *string
	disposition  *string
	language     *string
	cacheControl *string
	expires      *string
	class        types.StorageClass
	tagging      *string // as the x-amz-tagging header has it
}

func (o object) entry(name string) backends.Entry {
	return backends.Entry{Name: name, Size: o.size, ModTime: o.modTime, Version: o.version}
}

// named is entry with the operation that made the object.
func (o object) named(name string) backends.Entry {
	e := o.entry(name)
	e.Operation = o.headers.meta[metaOperation]
	return e
}

func objectOfHead(h *s3.HeadObjectOutput) object {
	return object{
		version: version(h.ETag), size: aws.ToInt64(h.ContentLength), modTime: modTime(h.LastModified), tags: aws.ToInt32(h.TagCount),
		headers: headers{
			meta: h.Metadata, contentType: h.ContentType, encoding: h.ContentEncoding, disposition: h.ContentDisposition,
			language: h.ContentLanguage, cacheControl: h.CacheControl, expires: h.ExpiresString, class: h.StorageClass,
		},
	}
}

func objectOfGet(g *s3.GetObjectOutput, size int64) object {
	return object{
		version: version(g.ETag), size: size, modTime: modTime(g.LastModified), tags: aws.ToInt32(g.TagCount),
		headers: headers{
			meta: g.Metadata, contentType: g.ContentType, encoding: g.ContentEncoding, disposition: g.ContentDisposition,
			language: g.ContentLanguage, cacheControl: g.CacheControl, expires: g.ExpiresString, class: g.StorageClass,
		},
	}
}

// withMeta returns h with other metadata.
func (h headers) withMeta(change func(map[string]string)) headers {
	m := maps.Clone(h.meta)
	if m == nil {
		m = map[string]string{}
	}
	change(m)
	h.meta = m
	return h
}

// seen remembers what was last learned of keys, so that a rewrite that keeps
// an object's metadata needs no HEAD of its own.
type seen struct {
	mu      sync.Mutex
	objects map[string]object
}

// maxSeen bounds the keys remembered; one is a few hundred bytes.
const maxSeen = 4096

func newSeen() *seen { return &seen{objects: map[string]object{}} }

func (s *seen) put(key string, o object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[key]; !ok && len(s.objects) >= maxSeen {
		for k := range s.objects { // any one: the order of a map is random
			delete(s.objects, k)
			break
		}
	}
	s.objects[key] = o
}

// get returns what is known of key, at this version unless it is "".
func (s *seen) get(key string, v backends.Version) (object, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[key]
	if !ok || v != "" && o.version != v {
		return object{}, false
	}
	return o, true
}

func (s *seen) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
}
