package protocol

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"strings"
	"unicode/utf8"

	"github.com/agentfs/agentfs/backends"
)

// What a Read does with a file that is no text.
const (
	BinaryBase64 = "base64" // returns it in base64
	BinaryRefuse = "refuse" // is ErrBinary
	BinaryRaw    = "raw"    // takes any file as lines, and returns the bytes that are there
)

// ErrBinary means that a file is no text and was not to be read as one.
var ErrBinary = errors.New("is not a text")

// ReadOptions select what to read. Of a text, offset and limit are lines; of a
// binary file that is returned in base64, bytes.
type ReadOptions struct {
	Offset int64 // what to skip
	Limit  int64 // how much to return; 0 means all
	// DefaultLines is the limit for a text if Limit is 0.
	DefaultLines int64
	// Numbers puts the number of each line, from 1, and a tab before it.
	Numbers bool
	// Binary is BinaryBase64, which "" is too, BinaryRefuse or BinaryRaw.
	Binary string
	// MaxBytes is how much of the file to return at most, in whole lines; 0 is
	// no bound. If the first line alone is longer, its beginning is returned.
	MaxBytes int64
	// CountBytes is how much more of the file may be read only to count its
	// lines, or to find the end of one that is not returned whole; -1 is no bound.
	CountBytes int64
}

// ReadResult says what a Read returned.
type ReadResult struct {
	Item
	// Encoding is "base64" if the content is, else "text".
	Encoding string `json:"encoding" jsonschema:"text or base64"`
	// Unit is what Offset, Count, Next and Total count: "lines" or "bytes".
	Unit   string `json:"unit" jsonschema:"what offset, count, next and total count: lines or bytes"`
	Offset int64  `json:"offset" jsonschema:"where the content begins, from 0"`
	// Count is how much was returned; a last line without a newline counts.
	Count int64 `json:"count" jsonschema:"how many lines or bytes are returned"`
	// More reports whether there is more, and Next is the offset at which it
	// begins. Behind a line whose end was too far away there may be nothing.
	More bool  `json:"more" jsonschema:"there is more; give next as offset to go on"`
	Next int64 `json:"next,omitempty" jsonschema:"offset of what follows, if there is more"`
	// Total is how much the file has in all; nil if that is not known, because
	// the rest of a large file would have had to be read for it.
	Total *int64 `json:"total,omitempty" jsonschema:"how many there are in all, if that is known"`
	// Cut reports that a line was longer than MaxBytes and its end left out.
	Cut bool `json:"cut,omitempty" jsonschema:"the line is too long; its end was left out"`
}

// Read writes some of the file p to w. It needs the same memory for a file of
// any size and, without MaxBytes, for lines of any length. Bytes are those of
// the file, line ends included.
func (t *Tree) Read(ctx context.Context, p string, w io.Writer, o ReadOptions) (ReadResult, error) {
	if o.Offset < 0 || o.Limit < 0 || o.MaxBytes < 0 {
		return ReadResult{}, invalid("offset and limit are not negative")
	}
	name, err := Name(p)
	if err != nil {
		return ReadResult{}, err
	}
	// The reader is cut off by this context when what was asked for is there,
	// so that a store needn't send the rest of a large file.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f, err := t.open(ctx, "read", name)
	if err != nil {
		return ReadResult{}, err
	}
	defer f.Close()
	r := &lineReader{ReadOptions: o, br: bufio.NewReaderSize(f, 64<<10), w: w}
	r.res = ReadResult{Item: itemOf(f.entry), Encoding: "text", Unit: "lines", Offset: o.Offset}
	head, err := r.br.Peek(sniffLen)
	if err != nil && !errors.Is(err, io.EOF) {
		return ReadResult{}, backends.WrapPath("read", name, err)
	}
	switch binary := isBinary(head, err == nil); {
	case o.Binary != "" && o.Binary != BinaryBase64 && o.Binary != BinaryRefuse && o.Binary != BinaryRaw:
		err = invalid("%q is nothing to do with a binary file; there are base64, refuse and raw", o.Binary)
	case o.Binary == BinaryRaw || !binary:
		if r.Limit == 0 {
			r.Limit = o.DefaultLines
		}
		err = r.lines()
	case o.Binary == BinaryRefuse:
		err = ErrBinary
	case o.Offset == 0:
		err = r.encode(r.br)
	default:
		err = t.encodeFrom(ctx, f.entry, r)
	}
	if werr := (writeError{}); errors.As(err, &werr) {
		return r.res, werr.err
	}
	return r.res, backends.WrapPath("read", name, err)
}

// encodeFrom is r's encode of what follows an offset, which is asked for anew so
// that what comes before it needn't be transferred.
func (t *Tree) encodeFrom(ctx context.Context, e backends.Entry, r *lineReader) error {
	f, _, err := t.Store.Open(ctx, e.Name, backends.Range{Off: r.Offset}, backends.If{Match: e.Version})
	if err != nil {
		return err
	}
	defer f.Close()
	return r.encode(f)
}

// isBinary reports whether what begins with head is no text: it has a NUL byte
// or is no UTF-8. cut says that it goes on after head.
func isBinary(head []byte, cut bool) bool {
	if bytes.IndexByte(head, 0) >= 0 {
		return true
	}
	for len(head) > 0 {
		r, n := utf8.DecodeRune(head)
		if r == utf8.RuneError && n <= 1 {
			return !cut || utf8.FullRune(head)
		}
		head = head[n:]
	}
	return false
}

// Text is the content of a file, or some of it, in memory.
type Text struct {
	ReadResult
	Content string `json:"content" jsonschema:"the text, or base64 as encoding says"`
}

// ReadText is Read into memory. What is no UTF-8, which neither JSON nor an
// agent can hold, is in base64, also where it was not seen at the beginning.
func (t *Tree) ReadText(ctx context.Context, p string, o ReadOptions) (Text, error) {
	var b strings.Builder
	res, err := t.Read(ctx, p, &b, o)
	if err != nil {
		return Text{}, err
	}
	text := Text{ReadResult: res, Content: b.String()}
	if !utf8.ValidString(text.Content) {
		text.Encoding, text.Content = "base64", base64.StdEncoding.EncodeToString([]byte(text.Content))
	}
	return text, nil
}

// open opens the file name. Where there is something else, the error says what
// it is: a store only says that it can't be opened.
func (t *Tree) open(ctx context.Context, op, name string) (*reader, error) {
	r, e, err := t.Store.Open(ctx, name, backends.Range{}, backends.If{})
	if err == nil {
		return &reader{r, e}, nil
	}
	if errors.Is(err, fs.ErrInvalid) {
		if e, serr := t.Store.Stat(ctx, name); serr == nil && !e.IsDir() {
			if rerr := t.regular(ctx, op, e); rerr != nil {
				err = rerr
			}
		}
	}
	return nil, err
}
