package s3

import (
	"bytes"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithytime "github.com/aws/smithy-go/time"
)

// A listing of 1000 keys is 300 KB of XML, for which encoding/xml takes longer than the
// server and the network. So the plain form that servers send is read here, which
// takes a sixth of the time; whatever is in any way out of the ordinary (comments, attributes,
// unknown elements, what is no XML) is left to the SDK, whose answer is the same for
// what is read here.

// parseListing returns what an answer to ListObjectsV2 says. ok is false if it is to be
// left to the SDK.
func parseListing(body []byte) (out *s3.ListObjectsV2Output, ok bool) {
	if !plainText(body) {
		return nil, false
	}
	x := xmlReader{b: body, ok: true}
	x.space()
	if x.has("<?xml ") {
		x.until("?>")
		x.space()
	}
	x.root("ListBucketResult")
	out = &s3.ListObjectsV2Output{}
	objects := newObjects(bytes.Count(body, []byte("<Contents>")))
	for x.ok {
		name, end := x.tag()
		switch {
		case end:
			x.space()
			x.ok = x.ok && name == "ListBucketResult" && len(x.b) == 0
			out.Contents = objects.all
			return out, x.ok
		case name == "Contents":
			x.object(objects.next())
		case name == "CommonPrefixes":
			var p types.CommonPrefix
			x.children(name, func(child string) bool {
				if child != "Prefix" {
					return false
				}
				p.Prefix = x.value(child)
				return true
			})
			out.CommonPrefixes = append(out.CommonPrefixes, p)
		case name == "IsTruncated":
			v, err := strconv.ParseBool(x.text(name))
			out.IsTruncated, x.ok = &v, x.ok && err == nil
		case name == "KeyCount":
			out.KeyCount = x.int32(name)
		case name == "MaxKeys":
			out.MaxKeys = x.int32(name)
		case name == "EncodingType":
			out.EncodingType = types.EncodingType(x.text(name))
		case name == "ContinuationToken":
			out.ContinuationToken = x.value(name)
		case name == "NextContinuationToken":
			out.NextContinuationToken = x.value(name)
		case name == "Delimiter":
			out.Delimiter = x.value(name)
		case name == "Name":
			out.Name = x.value(name)
		case name == "Prefix":
			out.Prefix = x.value(name)
		case name == "StartAfter":
			out.StartAfter = x.value(name)
		default:
			x.ok = false
		}
	}
	return nil, false
}

// objects makes room for many objects at once.
type objects struct {
	all    []types.Object
	values []objectValues
}

// objectValues is what an object's fields point to.
type objectValues struct {
	key, etag string
	size      int64
	modified  time.Time
}

func newObjects(n int) *objects {
	if n == 0 {
		return &objects{}
	}
	return &objects{make([]types.Object, 0, n), make([]objectValues, n)}
}

// next returns the next object and its values.
func (o *objects) next() (*types.Object, *objectValues) {
	i := len(o.all)
	o.all = append(o.all, types.Object{})
	return &o.all[i], &o.values[i]
}

// object reads an object, the tag of which was read.
func (x *xmlReader) object(o *types.Object, v *objectValues) {
	x.children("Contents", func(child string) bool {
		var err error
		switch child {
		case "Key":
			v.key = x.text(child)
			o.Key = &v.key
		case "ETag":
			v.etag = x.text(child)
			o.ETag = &v.etag
		case "Size":
			v.size, err = strconv.ParseInt(x.text(child), 10, 64)
			o.Size = &v.size
		case "LastModified":
			v.modified, err = smithytime.ParseDateTime(x.text(child))
			o.LastModified = &v.modified
		case "StorageClass":
			// Mostly one and the same.
			if c := x.text(child); c == string(types.ObjectStorageClassStandard) {
				o.StorageClass = types.ObjectStorageClassStandard
			} else {
				o.StorageClass = types.ObjectStorageClass(c)
			}
		case "ChecksumAlgorithm":
			o.ChecksumAlgorithm = append(o.ChecksumAlgorithm, types.ChecksumAlgorithm(x.text(child)))
		case "ChecksumType":
			o.ChecksumType = types.ChecksumType(x.text(child))
		case "Owner":
			o.Owner = &types.Owner{}
			x.children(child, func(part string) bool {
				switch part {
				case "ID":
					o.Owner.ID = x.value(part)
				case "DisplayName":
					o.Owner.DisplayName = x.value(part)
				default:
					return false
				}
				return true
			})
		default:
			return false
		}
		return err == nil
	})
}

// plainText reports whether b is UTF-8 without characters that XML does not allow or
// treats in a way of its own.
func plainText(b []byte) bool {
	if !utf8.Valid(b) || bytes.Contains(b, []byte("\uFFFE")) || bytes.Contains(b, []byte("\uFFFF")) || bytes.Contains(b, []byte("]]>")) {
		return false
	}
	for _, c := range b {
		if c < ' ' && c != '\t' && c != '\n' {
			return false
		}
	}
	return true
}

// xmlReader reads the plainest XML: elements without attributes that have either text
// or elements. Once ok is false, nothing that it returns is of use.
type xmlReader struct {
	b  []byte // what is left
	ok bool
}

func (x *xmlReader) has(prefix string) bool { return bytes.HasPrefix(x.b, []byte(prefix)) }

func (x *xmlReader) space() { x.b = bytes.TrimLeft(x.b, " \t\n") }

// until returns what is before end, and goes on behind it.
func (x *xmlReader) until(end string) []byte {
	i := bytes.Index(x.b, []byte(end))
	if i < 0 || !x.ok {
		x.ok = false
		return nil
	}
	p := x.b[:i]
	x.b = x.b[i+len(end):]
	return p
}

// root reads the tag of the root element, which may have one attribute, that of its
// name space.
func (x *xmlReader) root(name string) {
	rest, ok := strings.CutPrefix(string(x.until(">")), "<"+name)
	if rest != "" {
		uri, ok2 := strings.CutPrefix(rest, ` xmlns="`)
		uri, ok3 := strings.CutSuffix(uri, `"`)
		ok = ok && ok2 && ok3 && !strings.ContainsAny(uri, `"<&`)
	}
	x.ok = x.ok && ok
}

// tag reads a tag, with the space before it.
func (x *xmlReader) tag() (name string, end bool) {
	x.space()
	if !x.has("<") {
		x.ok = false
		return "", false
	}
	x.b = x.b[1:]
	if end = x.has("/"); end {
		x.b = x.b[1:]
	}
	// Others are not to be read here: attributes, and elements without an end tag.
	name, ok := elements[string(x.until(">"))]
	x.ok = x.ok && ok
	return name, end
}

// elements has the names that are known, so that none is made anew for each tag.
var elements = map[string]string{}

func init() {
	for _, name := range []string{
		"ListBucketResult", "Contents", "CommonPrefixes", "IsTruncated", "KeyCount", "MaxKeys", "EncodingType", "ContinuationToken",
		"NextContinuationToken", "Delimiter", "Name", "Prefix", "StartAfter", "Key", "ETag", "Size", "LastModified", "StorageClass",
		"ChecksumAlgorithm", "ChecksumType", "Owner", "ID", "DisplayName",
	} {
		elements[name] = name
	}
}

// children reads what is in the element name, the tag of which was read, up to its end:
// read is called behind the tag of each child.
func (x *xmlReader) children(name string, read func(child string) bool) {
	for x.ok {
		child, end := x.tag()
		if end {
			x.ok = x.ok && child == name
			return
		}
		x.ok = x.ok && read(child) && x.ok
	}
}

// text returns the text of the element name, the tag of which was read, up to its end.
func (x *xmlReader) text(name string) string {
	p := x.until("<")
	if end := x.until(">"); len(end) == 0 || end[0] != '/' || string(end[1:]) != name {
		x.ok = false
		return ""
	}
	if bytes.IndexByte(p, '&') < 0 {
		return string(p)
	}
	s, ok := unescape(string(p))
	x.ok = x.ok && ok
	return s
}

func (x *xmlReader) value(name string) *string {
	s := x.text(name)
	return &s
}

func (x *xmlReader) int32(name string) *int32 {
	n, err := strconv.ParseInt(x.text(name), 10, 32)
	x.ok = x.ok && err == nil
	v := int32(n)
	return &v
}

// unescape replaces the five entities of XML and references to ASCII characters;
// nothing else is to be read here.
func unescape(s string) (string, bool) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "&")
		b.WriteString(before)
		if !found {
			return b.String(), true
		}
		entity, rest, found := strings.Cut(after, ";")
		if !found {
			return "", false
		}
		s = rest
		switch entity {
		case "amp":
			b.WriteByte('&')
		case "lt":
			b.WriteByte('<')
		case "gt":
			b.WriteByte('>')
		case "quot":
			b.WriteByte('"')
		case "apos":
			b.WriteByte('\'')
		default:
			n, base := strings.TrimPrefix(entity, "#"), 10
			if n == entity {
				return "", false
			}
			if hex := strings.TrimPrefix(n, "x"); hex != n {
				n, base = hex, 16
			}
			c, err := strconv.ParseUint(n, base, 7)
			if err != nil || c < ' ' && c != '\t' && c != '\n' && c != '\r' {
				return "", false
			}
			b.WriteByte(byte(c))
		}
	}
}
