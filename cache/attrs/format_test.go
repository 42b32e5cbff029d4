package attrs

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends"
)

func put(t testing.TB, s backends.Store, name, content string) {
	t.Helper()
	if _, err := s.Put(t.Context(), name, section([]byte(content)), backends.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func zipped(plain string) []byte {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write([]byte(plain)); err != nil {
		panic(err)
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

const (
	head1 = `{"agentfs-attrs":1,"entries":1}` + "\n"
	line1 = `{"name":"a","changed":1}` + "\n"
)

// good and bad are records by what is remarkable about them.
var (
	good = map[string][]byte{
		"none":           []byte(`{"agentfs-attrs":1,"entries":0}`),
		"one":            []byte(head1 + line1),
		"no newline":     []byte(head1 + strings.TrimSpace(line1)),
		"gzip":           zipped(head1 + line1),
		"unknown fields": []byte(`{"agentfs-attrs":1,"entries":1,"more":[]}` + "\n" + `{"name":"a","changed":1,"acl":{"x":[1]}}`),
		"base64":         []byte(head1 + `{"name":{"base64":"/w=="},"changed":1}`),
		"full": []byte(head1 + `{"name":"a","version":"v","changed":4611686018427387904,"mode":4095,"uid":4294967295,"gid":0,` +
			`"mtime":-9223372036854775808,"atime":9223372036854775807,"symlink":true,"target":"t","xattrs":[{"name":"n","value":"AA=="}],"removed":true}`),
	}
	bad = map[string][]byte{
		"nothing":         nil,
		"empty lines":     []byte("\n\n"),
		"text":            []byte("hello"),
		"other JSON":      []byte("{}\n"),
		"null":            []byte("null\n"),
		"newer":           []byte(`{"agentfs-attrs":2,"entries":0}`),
		"version as text": []byte(`{"agentfs-attrs":"1","entries":0}`),
		"cut off":         []byte(`{"agentfs-attrs":1,"entries":2}` + "\n" + line1),
		"too many":        []byte(`{"agentfs-attrs":1,"entries":0}` + "\n" + line1),
		"absurd count":    []byte(`{"agentfs-attrs":1,"entries":9223372036854775807}`),
		"twice":           []byte(`{"agentfs-attrs":1,"entries":2}` + "\n" + line1 + line1),
		"no name":         []byte(head1 + `{"changed":1}`),
		"null entry":      []byte(head1 + `null`),
		"slash":           []byte(head1 + `{"name":"a/b","changed":1}`),
		"slash in base64": []byte(head1 + `{"name":{"base64":"L/8="},"changed":1}`),
		"NUL":             []byte(head1 + `{"name":"a\u0000","changed":1}`),
		"parent":          []byte(head1 + `{"name":"..","changed":1}`),
		"never changed":   []byte(head1 + `{"name":"a"}`),
		"before 1970":     []byte(head1 + `{"name":"a","changed":-1}`),
		"far future":      []byte(head1 + `{"name":"a","changed":4611686018427387905}`),
		"absurd number":   []byte(head1 + `{"name":"a","changed":1e400}`),
		"fraction":        []byte(head1 + `{"name":"a","changed":1.5}`),
		"type in mode":    []byte(head1 + `{"name":"a","changed":1,"mode":33188}`),
		"negative uid":    []byte(head1 + `{"name":"a","changed":1,"uid":-1}`),
		"two in a line":   []byte(head1 + `{"name":"a","changed":1}{"name":"b","changed":1}`),
		"deep":            []byte(head1 + strings.Repeat(`{"name":`, 20000)),
		"gzip cut off":    zipped(head1 + line1)[:30],
		"gzip of nothing": zipped(""),
		"bytes after":     append(zipped(head1+line1), "more"...),
	}
)

// bomb is a small file that becomes larger than memory should.
func bomb(line string) []byte {
	return zipped(head1 + strings.Repeat(line, maxText/len(line)+1))
}

func TestDecode(t *testing.T) {
	for name, p := range good {
		if _, _, err := decodeRecord(p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, p := range bad {
		if es, _, err := decodeRecord(p); err == nil {
			t.Errorf("%s is read as %v", name, es)
		}
	}
	if _, _, err := decodeRecord(bomb("a")); err == nil {
		t.Error("a line without end is read")
	}
	// In order, each entry good: the length alone is too much.
	var many strings.Builder
	many.WriteString(head1)
	for i := 0; many.Len() <= maxText; i++ {
		fmt.Fprintf(&many, `{"name":"%08d%s","changed":1}`+"\n", i, strings.Repeat("x", 200_000))
	}
	if _, _, err := decodeRecord(zipped(many.String())); err == nil {
		t.Error("too much text is read")
	}
}

// A record that can't be understood is reported, and neither merged nor removed;
// the others count.
func TestSkipped(t *testing.T) {
	s := newMemory(t)
	i := int64(0)
	for name, p := range bad {
		if name != "nothing" {
			i++
			put(t, s, newRecordName(i), string(p))
		}
	}
	put(t, s, recordPrefix+"other", string(good["one"]))
	put(t, s, newRecordName(now()), string(bomb("\n")))
	skipped := len(listed(t, s, "."))
	d := load(t, s, ".", nil)
	for i := range 40 {
		d = mustSave(t, s, ".", d, map[string]Attr{fmt.Sprint(i): {Version: "v"}}, nil)
	}
	for _, d := range []*Dir{d, load(t, s, ".", nil)} {
		if d.Len() != 40 || len(d.Skipped()) != skipped {
			t.Errorf("%d names; of %d records %d are skipped", d.Len(), skipped, len(d.Skipped()))
		}
	}
	if n := len(listed(t, s, ".")); n > skipped+maxRecords || n <= skipped {
		t.Errorf("%d records, %d of them not to be touched", n, skipped)
	}
	if err := errors.Join(d.Skipped()...); !errors.Is(err, errOther) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("%v", err)
	}
}

// Fields that this program doesn't know survive being merged by it.
func TestUnknownFieldsSurvive(t *testing.T) {
	s := newMemory(t)
	put(t, s, newRecordName(1), string(good["unknown fields"]))
	d := load(t, s, ".", nil)
	for i := range maxRecords {
		d = mustSave(t, s, ".", d, map[string]Attr{fmt.Sprint(i): {Version: "v"}}, nil)
	}
	es := listed(t, s, ".")
	if len(es) != 1 {
		t.Fatalf("%d records", len(es))
	}
	p, err := fetch(t.Context(), s, es[0].Name, "")
	if err != nil || !bytes.Contains(p, []byte(`"acl":{"x":[1]}`)) {
		t.Errorf("%s, %v", p, err)
	}
}

// FuzzDecode: any bytes are read or refused; what is read can be written, and is
// the same when it is read again.
func FuzzDecode(f *testing.F) {
	for _, p := range good {
		f.Add(p)
	}
	for _, p := range bad {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		entries, size, err := decodeRecord(p)
		if err != nil {
			return
		}
		if size < int64(len(p)) && !bytes.HasPrefix(p, gzipMagic) {
			t.Errorf("%d bytes are said to be %d", len(p), size)
		}
		bodies, err := encodeRecords(entries)
		if errors.Is(err, backends.ErrTooLarge) {
			return // escaped, it can be longer
		}
		if err != nil {
			t.Fatal(err)
		}
		var again []*entry
		for _, b := range bodies {
			es, size, err := decodeRecord(b.stored)
			if err != nil || size != b.size {
				t.Fatalf("%s: %d bytes for %d, %v", b.stored, size, b.size, err)
			}
			again = append(again, es...)
		}
		if !reflect.DeepEqual(entries, again) {
			t.Errorf("%+v is read again as %+v", entries, again)
		}
		for _, e := range entries {
			if e.check() != nil || compareEntries(e, e) != 0 {
				t.Errorf("%+v", e)
			}
		}
	})
}
