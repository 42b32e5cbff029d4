package protocol

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"sync"
	"unicode/utf8"
)

const (
	// sniffLen is how much of a file is looked at to tell text from binary,
	// as much as GNU grep and git take.
	sniffLen = 8000
	// window is how much of a line is looked at in one piece. Longer lines are
	// searched in windows that overlap, so that a match of up to overlap bytes
	// is found wherever it lies; ^ and $ then also match at a window's edge.
	window  = 1 << 20
	overlap = 32 << 10
	// excerpt is how much of a line longer than a window is returned.
	excerpt = 256
)

// readers are buffers of one window, kept because a search reads many files
// that are much smaller.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, window) }}

// errNoText means that a content is binary and was not searched.
var errNoText = errors.New("not a text")

// scan calls emit for every matching line of r and for the lines around it,
// until emit returns false.
func scan(r io.Reader, g *grep, emit func(Match) bool) error {
	br := readers.Get().(*bufio.Reader)
	br.Reset(r)
	defer func() {
		br.Reset(nil)
		readers.Put(br)
	}()
	head, err := br.Peek(sniffLen)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if bytes.IndexByte(head, 0) >= 0 {
		return errNoText
	}
	var before []Match // the last g.Before lines that were not emitted
	after := 0         // lines of context still to come
	for number := int64(1); ; number++ {
		text, cut, matched, err := readLine(br, g)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case matched:
			for _, l := range before {
				if !emit(l) {
					return nil
				}
			}
			before = before[:0]
			if !emit(Match{Line: number, Text: string(text), Cut: cut}) {
				return nil
			}
			after = g.After
		case after > 0:
			after--
			if !emit(Match{Line: number, Text: string(text), Cut: cut, Context: true}) {
				return nil
			}
		case g.Before > 0:
			if len(before) == g.Before {
				before = before[1:] // append moves the rest, once per many lines
			}
			before = append(before, Match{Line: number, Text: string(text), Cut: cut, Context: true})
		}
	}
}

// readLine reads one line and reports whether it matches, and whether the text
// is only a part of it. The text is valid until the next read. At the end of the
// file the error is io.EOF.
func readLine(br *bufio.Reader, g *grep) (text []byte, cut, matched bool, err error) {
	line, err := br.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		if err != nil && (len(line) == 0 || !errors.Is(err, io.EOF)) {
			return nil, false, false, err
		}
		line = trimEOL(line)
		if g.MaxText == 0 || len(line) <= g.MaxText {
			return line, false, g.re.Match(line), nil
		}
		at := g.re.FindIndex(line)
		return around(line, at, g.MaxText), true, at != nil, nil
	}
	// A long line: the first window is line, the following begin with the end
	// of the one before.
	text = append([]byte(nil), line[:excerpt]...)
	win := append(make([]byte, 0, overlap+window), line...)
	for {
		if at := g.re.FindIndex(trimEOL(win)); at != nil && !matched {
			matched = true
			text = append(text[:0], around(win, at, excerpt)...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if err != nil && !errors.Is(err, io.EOF) {
				return nil, false, false, err
			}
			return trimEOL(text), true, matched, nil
		}
		win = win[:copy(win, win[len(win)-min(overlap, len(win)):])]
		line, err = br.ReadSlice('\n')
		win = append(win, line...)
	}
}

// around returns at most room bytes of line in whole characters: those around
// the match at, or the first without one.
func around(line []byte, at []int, room int) []byte {
	from := 0
	if at != nil {
		from = max(0, min(at[0]-room/4, len(line)-room))
	}
	for i := 0; from > 0 && i < utf8.UTFMax && from < len(line) && !utf8.RuneStart(line[from]); i++ {
		from++
	}
	return wholeRunes(line[from:min(len(line), from+room)])
}

// trimEOL removes the end of a line, the carriage return of DOS included.
func trimEOL(b []byte) []byte {
	b = bytes.TrimSuffix(b, newline)
	return bytes.TrimSuffix(b, []byte{'\r'})
}
