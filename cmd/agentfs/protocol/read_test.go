package protocol_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// What a Read says of what it has left out is right, whatever bounds it had.
func TestReadText(t *testing.T) {
	late := strings.Repeat("text\n", 4000) + "\xff\n" // no UTF-8, but far from the beginning
	s := newStore(t, map[string]string{
		"f": "one\ntwo\nthree\nfour", "crlf": "a\r\nb\r\n", "nul": "a\x00b", "latin": "caf\xe9\n", "late": late,
		"long": strings.Repeat("x", 100) + "\nshort\n",
		"wide": "a" + strings.Repeat("é", 50) + "\n",
		"cut":  strings.Repeat("a", 7999) + "é\n", // the text that is looked at ends within a character
	})
	none := int64(-1)
	for _, c := range []struct {
		name, path string
		o          protocol.ReadOptions
		want       string
		unit       string
		count      int64
		next       int64 // 0: there is no more
		total      int64 // -1: not known
	}{
		{"all", "f", protocol.ReadOptions{}, "one\ntwo\nthree\nfour", "lines", 4, 0, 4},
		{"some", "f", protocol.ReadOptions{Offset: 1, Limit: 2}, "two\nthree\n", "lines", 2, 3, none},
		{"counted", "f", protocol.ReadOptions{Offset: 1, Limit: 2, CountBytes: -1}, "two\nthree\n", "lines", 2, 3, 4},
		{"counted within", "late", protocol.ReadOptions{Limit: 1, CountBytes: 1 << 20}, "text\n", "lines", 1, 1, 4001},
		{"too much to count", "late", protocol.ReadOptions{Limit: 1, CountBytes: 1}, "text\n", "lines", 1, 1, none},
		{"to the end", "f", protocol.ReadOptions{Offset: 3, Limit: 1}, "four", "lines", 1, 0, 4},
		{"beyond the end", "f", protocol.ReadOptions{Offset: 9, Limit: 1}, "", "lines", 0, 0, 4},
		{"numbers", "f", protocol.ReadOptions{Offset: 2, Numbers: true}, "     3\tthree\n     4\tfour", "lines", 2, 0, 4},
		{"line ends", "crlf", protocol.ReadOptions{Limit: 1}, "a\r\n", "lines", 1, 1, none},
		{"default", "f", protocol.ReadOptions{DefaultLines: 1}, "one\n", "lines", 1, 1, none},
		{"room for two", "f", protocol.ReadOptions{MaxBytes: 9, CountBytes: -1}, "one\ntwo\n", "lines", 2, 2, 4},
		{"room for all", "f", protocol.ReadOptions{MaxBytes: 18}, "one\ntwo\nthree\nfour", "lines", 4, 0, 4},
		{"the last has no room", "f", protocol.ReadOptions{Offset: 2, MaxBytes: 7, CountBytes: -1}, "three\n", "lines", 1, 3, 4},
		{"too long a line", "long", protocol.ReadOptions{MaxBytes: 10, CountBytes: -1}, "xxxxxxxxxx", "lines", 1, 1, 2},
		{"too long a last line", "f", protocol.ReadOptions{Offset: 3, MaxBytes: 2}, "fo", "lines", 1, 0, 4},
		{"too long a line, cut within a character", "wide", protocol.ReadOptions{MaxBytes: 10}, "aéééé", "lines", 1, 0, 1},
		{"NUL", "nul", protocol.ReadOptions{}, "base64:a\x00b", "bytes", 3, 0, 3},
		{"some of it", "nul", protocol.ReadOptions{Offset: 1, Limit: 1}, "base64:\x00", "bytes", 1, 2, 3},
		{"bound of it", "nul", protocol.ReadOptions{MaxBytes: 2, DefaultLines: 1}, "base64:a\x00", "bytes", 2, 2, 3},
		{"no UTF-8", "latin", protocol.ReadOptions{}, "base64:caf\xe9\n", "bytes", 5, 0, 5},
		{"raw", "latin", protocol.ReadOptions{Binary: protocol.BinaryRaw}, "base64:caf\xe9\n", "lines", 1, 0, 1},
		{"no UTF-8 further on", "late", protocol.ReadOptions{Offset: 4000}, "base64:\xff\n", "lines", 1, 0, 4001},
		{"cut character", "cut", protocol.ReadOptions{}, strings.Repeat("a", 7999) + "é\n", "lines", 1, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := tree(s).ReadText(t.Context(), c.path, c.o)
			if err != nil {
				t.Fatal(err)
			}
			if got.Encoding == "base64" {
				b, err := base64.StdEncoding.DecodeString(got.Content)
				if err != nil {
					t.Fatal(err)
				}
				got.Content = "base64:" + string(b)
			}
			total := none
			if got.Total != nil {
				total = *got.Total
			}
			if got.Content != c.want || got.Unit != c.unit || got.Count != c.count || total != c.total ||
				got.More != (c.next > 0) || got.Next != c.next || got.Cut != strings.Contains(c.name, "too long") {
				t.Errorf("got %.50q, %+v, total %d\nwant %+v", got.Content, got.ReadResult, total, c)
			}
		})
	}
	if _, err := tree(s).ReadText(t.Context(), "nul", protocol.ReadOptions{Binary: protocol.BinaryRefuse}); !errors.Is(err, protocol.ErrBinary) {
		t.Errorf("refused: %v", err)
	}
	for _, o := range []protocol.ReadOptions{{Offset: -1}, {Limit: -1}, {Binary: "other"}} {
		if _, err := tree(s).ReadText(t.Context(), "f", o); protocol.KindOf(err) != protocol.KindInvalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// lines is a store with one file of very many lines, which nobody holds.
type lines struct {
	backends.Store
	n    int64
	sent int64
}

func (l *lines) Open(_ context.Context, name string, _ backends.Range, _ backends.If) (io.ReadCloser, backends.Entry, error) {
	return l, backends.Entry{Name: name, Size: l.n * 16, ModTime: time.Unix(1, 0)}, nil
}

func (l *lines) Read(p []byte) (int, error) {
	const line = "fifteen letters\n"
	n := 0
	for ; len(p)-n >= len(line) && l.n > 0; l.n-- {
		n += copy(p[n:], line)
	}
	l.sent += int64(n)
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (l *lines) Close() error { return nil }

// Reading far into a large file takes no memory for it, and ends where enough
// is known.
func TestReadTakesNoMemory(t *testing.T) {
	const at = 5_000_000
	s := &lines{n: 10 * at}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	text, err := tree(s).ReadText(t.Context(), "f", protocol.ReadOptions{Offset: at, Limit: 3})
	runtime.ReadMemStats(&after)
	if err != nil || text.Count != 3 || !text.More || text.Next != at+3 || len(text.Content) != 48 {
		t.Errorf("%+v, %v", text, err)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("%d bytes were allocated to read %d", grown, s.sent)
	}
	if s.sent > at*16+1<<20 {
		t.Errorf("%d bytes were read for the %d lines before offset %d", s.sent, at, at)
	}
}

// oneLine is a store with one file that is a single line, which nobody holds.
type oneLine struct {
	backends.Store
	size, sent int64
}

func (l *oneLine) Open(_ context.Context, name string, _ backends.Range, _ backends.If) (io.ReadCloser, backends.Entry, error) {
	l.sent = 0
	return l, backends.Entry{Name: name, Size: l.size, ModTime: time.Unix(1, 0)}, nil
}

func (l *oneLine) Read(p []byte) (int, error) {
	n := int(min(int64(len(p)), l.size-l.sent))
	if n == 0 {
		return 0, io.EOF
	}
	copy(p[:n], bytes.Repeat([]byte{'x'}, n))
	l.sent += int64(n)
	return n, nil
}

func (l *oneLine) Close() error { return nil }

// Of a line that does not fit, no more is read than may be for counting.
func TestReadOfAnEndlessLine(t *testing.T) {
	s := &oneLine{size: 256 << 20}
	o := protocol.ReadOptions{MaxBytes: 256 << 10, CountBytes: 1 << 20, DefaultLines: 10}
	text, err := tree(s).ReadText(t.Context(), "f", o)
	if err != nil || len(text.Content) != 256<<10 || !text.Cut || !text.More || text.Next != 1 || text.Total != nil || text.Count != 1 {
		t.Errorf("%d bytes, %+v, %v", len(text.Content), text.ReadResult, err)
	}
	if s.sent > 2<<20 {
		t.Errorf("%d bytes were read for %d", s.sent, len(text.Content))
	}
	s.size = 1 << 20
	text, err = tree(s).ReadText(t.Context(), "f", o)
	if err != nil || text.More || text.Total == nil || *text.Total != 1 {
		t.Errorf("where its end is near: %+v, %v", text.ReadResult, err)
	}
}

// failing is a writer that takes so much.
type failing struct{ room int }

func (f *failing) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

// A writer's error is returned as it is, and no error of the file.
func TestReadIntoNothing(t *testing.T) {
	s := newStore(t, map[string]string{"f": "one\ntwo\n", "b": strings.Repeat("\x00", 100)})
	for _, path := range []string{"f", "b"} {
		if _, err := tree(s).Read(t.Context(), path, &failing{room: 5}, protocol.ReadOptions{}); err != io.ErrShortWrite {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Several files in one call: one that fails does not keep the others.
func TestMany(t *testing.T) {
	s := newStore(t, map[string]string{"a": "A", "c": "C"})
	var read []string
	err := tree(s).ReadMany(t.Context(), []string{"a", "/b", "c"}, protocol.ReadOptions{}, func(o protocol.Outcome[protocol.Text]) error {
		if o.Result != nil {
			read = append(read, o.Path+"="+o.Result.Content)
			return o.Err()
		}
		read = append(read, string(o.Failure.Kind)+" "+o.Failure.Path)
		return nil
	})
	if got := strings.Join(read, ", "); err != nil || got != "a=A, not-found /b, c=C" {
		t.Errorf("read: %s, %v", got, err)
	}
	var wrote []string
	err = tree(s).WriteMany(t.Context(), []protocol.FileWrite{
		{Path: "a", Content: "new", CreateOnly: true}, {Path: "d/e", Content: "AAE=", Encoding: "base64"}, {Path: "f", Content: "*", Encoding: "base64"}, {Path: "g", Encoding: "rot13"},
	}, func(o protocol.Outcome[protocol.Item]) error {
		kind := "written"
		if o.Failure != nil {
			kind = string(o.Failure.Kind)
		}
		wrote = append(wrote, o.Path+" "+kind)
		return nil
	})
	if got := strings.Join(wrote, ", "); err != nil || got != "a exists, d/e written, f invalid, g invalid" {
		t.Errorf("wrote: %s, %v", got, err)
	}
	if content(t, s, "a") != "A" || content(t, s, "d/e") != "\x00\x01" {
		t.Error("the contents are others")
	}
}

// A content too large for memory is written from a file, one that fails midway
// not at all.
func TestWriteLarge(t *testing.T) {
	s := newStore(t, nil)
	large := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	if _, err := tree(s).Write(t.Context(), "f", bytes.NewReader(large), protocol.WriteOptions{}); err != nil || content(t, s, "f") != string(large) {
		t.Errorf("a large file: %v", err)
	}
	broken := io.MultiReader(bytes.NewReader(large), iotestErr{})
	if _, err := tree(s).Write(t.Context(), "g", broken, protocol.WriteOptions{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a broken source: %v", err)
	}
	if _, err := s.Stat(t.Context(), "g"); protocol.KindOf(err) != protocol.KindNotExist {
		t.Errorf("a part of it was written: %v", err)
	}
}

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
