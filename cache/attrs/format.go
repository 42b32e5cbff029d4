package attrs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/agentfs/agentfs/backends"
)

const (
	formatVersion = 1

	// maxRecord is how much text a record holds, in bytes, unless its last entry
	// makes it longer. What is more becomes several records.
	maxRecord = 4 << 20
	// maxEntry bounds one entry's text.
	maxEntry = 4 << 20
	// maxText is the most text that is read of a record, and maxStored the most
	// bytes that are fetched for it. No record that is written here comes near.
	maxText   = 16 << 20
	maxStored = 16 << 20
	// plainText is up to how much text is left uncompressed, to be read by eye.
	plainText = 4 << 10
)

var gzipMagic = []byte{0x1f, 0x8b}

// errOther: a record in a format that is not known here, but may be to others.
var errOther = errors.New("unknown format")

// header is the first line. Version is a pointer to tell a missing one.
type header struct {
	Version *int `json:"agentfs-attrs"`
	Entries int  `json:"entries"`
}

// line is one entry as it is written.
type line struct {
	Name    text    `json:"name"`
	Version text    `json:"version,omitempty"`
	Changed int64   `json:"changed"`
	Mode    *uint32 `json:"mode,omitempty"`
	UID     *uint32 `json:"uid,omitempty"`
	GID     *uint32 `json:"gid,omitempty"`
	Mtime   *int64  `json:"mtime,omitempty"`
	Atime   *int64  `json:"atime,omitempty"`
	Symlink bool    `json:"symlink,omitempty"`
	Target  text    `json:"target,omitempty"`
	Xattrs  []xattr `json:"xattrs,omitempty"`
	Removed bool    `json:"removed,omitempty"`
}

type xattr struct {
	Name  text   `json:"name"`
	Value []byte `json:"value"`
}

// text is a string of any bytes: JSON's strings can hold UTF-8 only, and would
// silently replace the rest.
type text string

type base64Text struct {
	Base64 []byte `json:"base64"`
}

func (t text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(base64Text{[]byte(t)})
}

func (t *text) UnmarshalJSON(p []byte) error {
	if len(p) > 0 && p[0] == '{' {
		var b base64Text
		err := json.Unmarshal(p, &b)
		*t = text(b.Base64)
		return err
	}
	return json.Unmarshal(p, (*string)(t))
}

// encode returns e as a line without its end. The same entry always gives the
// same bytes.
func (e *entry) encode() []byte {
	if e.raw != nil {
		return e.raw
	}
	l := line{
		Name: text(e.name), Version: text(e.Version), Changed: e.Changed,
		Mode: e.Mode, UID: e.UID, GID: e.GID, Mtime: e.Mtime, Atime: e.Atime,
		Symlink: e.Symlink, Target: text(e.Target), Removed: e.Removed,
	}
	for _, name := range sortedKeys(e.Xattrs) {
		l.Xattrs = append(l.Xattrs, xattr{text(name), append([]byte{}, e.Xattrs[name]...)})
	}
	p, err := json.Marshal(l)
	if err != nil {
		panic(err) // no value of these types can fail
	}
	return p
}

// decodeEntry reads one line. What it returns does not refer to p.
func decodeEntry(p []byte) (*entry, error) {
	var l line
	strict := json.NewDecoder(bytes.NewReader(p))
	strict.DisallowUnknownFields()
	e := &entry{}
	if err := strict.Decode(&l); err != nil || len(bytes.TrimSpace(p[strict.InputOffset():])) > 0 {
		l = line{}
		if err := json.Unmarshal(p, &l); err != nil {
			return nil, err
		}
		e.raw = bytes.Clone(p)
	}
	e.name = string(l.Name)
	e.Attr = Attr{
		Version: backends.Version(l.Version), Changed: l.Changed,
		Mode: l.Mode, UID: l.UID, GID: l.GID, Mtime: l.Mtime, Atime: l.Atime,
		Symlink: l.Symlink, Target: string(l.Target), Removed: l.Removed,
	}
	if len(l.Xattrs) > 0 {
		e.Xattrs = make(map[string][]byte, len(l.Xattrs))
		for _, x := range l.Xattrs {
			e.Xattrs[string(x.Name)] = append([]byte{}, x.Value...)
		}
	}
	return e, e.check()
}

// body is a record's content as it is stored.
type body struct {
	stored  []byte
	size    int64 // of the text
	entries []*entry
}

// encodeRecords writes entries, which are in the order of their names, into as
// few records as maxRecord allows, all of about the same size.
func encodeRecords(entries []*entry) ([]body, error) {
	lines := make([][]byte, len(entries))
	total := 0
	for i, e := range entries {
		lines[i] = e.encode()
		if len(lines[i]) > maxEntry {
			return nil, fmt.Errorf("attributes of %q: %w", e.name, backends.ErrTooLarge)
		}
		total += len(lines[i]) + 1
	}
	n := (total + maxRecord - 1) / maxRecord
	var bodies []body
	for begin := 0; begin < len(entries); {
		end, size := begin, 0
		for end < len(entries) && (size < total/n || end == begin) {
			size += len(lines[end]) + 1
			end++
		}
		b, err := encodeRecord(lines[begin:end])
		if err != nil {
			return nil, err
		}
		b.entries = entries[begin:end]
		bodies = append(bodies, b)
		begin = end
	}
	return bodies, nil
}

func encodeRecord(lines [][]byte) (body, error) {
	version := formatVersion
	head, err := json.Marshal(header{&version, len(lines)})
	if err != nil {
		return body{}, err
	}
	plain := append(bytes.Join(append([][]byte{head}, lines...), []byte("\n")), '\n')
	b := body{stored: plain, size: int64(len(plain))}
	if len(plain) <= plainText {
		return b, nil
	}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, err = z.Write(plain)
	if err = errors.Join(err, z.Close()); err != nil {
		return body{}, err
	}
	b.stored = buf.Bytes()
	return b, nil
}

// decodeRecord reads what a record holds: its entries in the order of their
// names, and the length of its text. Any bytes are answered with an error at worst,
// and take memory in proportion to maxText.
func decodeRecord(stored []byte) (entries []*entry, size int64, err error) {
	var r io.Reader = bytes.NewReader(stored)
	if bytes.HasPrefix(stored, gzipMagic) {
		if r, err = gzip.NewReader(r); err != nil {
			return nil, 0, err
		}
	}
	limited := &io.LimitedReader{R: r, N: maxText + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(nil, maxEntry+2)
	if !lines.Scan() {
		return nil, 0, errors.Join(errors.New("no header"), lines.Err())
	}
	var h header
	if err := json.Unmarshal(lines.Bytes(), &h); err != nil {
		return nil, 0, fmt.Errorf("header: %w", err)
	}
	switch {
	case h.Version == nil:
		return nil, 0, errors.New("not an attribute record")
	case *h.Version != formatVersion:
		return nil, 0, fmt.Errorf("%w: version %d, and this program knows %d", errOther, *h.Version, formatVersion)
	}
	for lines.Scan() {
		e, err := decodeEntry(lines.Bytes())
		if err != nil {
			return nil, 0, fmt.Errorf("entry %d: %w", len(entries)+1, err)
		}
		if n := len(entries); n > 0 && entries[n-1].name >= e.name {
			return nil, 0, fmt.Errorf("entry %d: %q is not in order", n+1, e.name)
		}
		entries = append(entries, e)
	}
	switch err := lines.Err(); {
	case err != nil:
		return nil, 0, err
	case limited.N == 0:
		return nil, 0, fmt.Errorf("more than %d bytes", maxText)
	case len(entries) != h.Entries:
		return nil, 0, fmt.Errorf("%d entries where there should be %d", len(entries), h.Entries)
	}
	return entries, maxText + 1 - limited.N, nil
}
