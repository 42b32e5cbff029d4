package protocol

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// lineReader is a Read under way.
type lineReader struct {
	ReadOptions
	br  *bufio.Reader
	w   io.Writer
	res ReadResult
	// within says that the last line goes on, and its end was not looked for.
	within bool
}

// writeError is an error of the writer and not of the file.
type writeError struct{ err error }

func (e writeError) Error() string { return e.err.Error() }

// write writes a piece of a line; first says that it is its beginning.
func (r *lineReader) write(b []byte, first bool) error {
	if r.Numbers && first {
		if _, err := fmt.Fprintf(r.w, "%6d\t", r.Offset+r.res.Count+1); err != nil {
			return writeError{err}
		}
	}
	if _, err := r.w.Write(b); err != nil {
		return writeError{err}
	}
	return nil
}

// lines writes the lines that were asked for.
func (r *lineReader) lines() error {
	skipped, end, err := countLines(r.br, r.Offset, -1)
	if end {
		r.res.Total = &skipped
	}
	if err != nil || end {
		return err
	}
	one := r.copyLine
	if r.MaxBytes > 0 {
		one = r.holdLine(r.MaxBytes)
	}
	for r.Limit == 0 || r.res.Count < r.Limit {
		switch err := one(); err {
		case nil:
			r.res.Count++
		case io.EOF:
			total := r.Offset + r.res.Count
			r.res.Total = &total
			return nil
		case errLeftOut:
			return r.rest(1)
		default:
			return err
		}
	}
	return r.rest(0)
}

// errLeftOut means that a line was read and is too much to be returned.
var errLeftOut = errors.New("more than may be returned")

// copyLine writes one line. At the end of the file the error is io.EOF.
func (r *lineReader) copyLine() error {
	for first := true; ; first = false {
		part, err := r.br.ReadSlice('\n')
		if err == io.EOF && (len(part) > 0 || !first) {
			err = nil // the last line has no newline
		} else if err != nil && err != bufio.ErrBufferFull {
			return err
		}
		if werr := r.write(part, first); werr != nil || err == nil {
			return werr
		}
	}
}

// holdLine returns a copyLine that writes no more than room bytes in all: a line
// that does not fit is left out, or cut if it is the first.
func (r *lineReader) holdLine(room int64) func() error {
	return func() error {
		if r.within {
			return errLeftOut
		}
		var line []byte
		for {
			part, err := r.br.ReadSlice('\n')
			if err == io.EOF && len(line)+len(part) > 0 {
				err = nil
			} else if err != nil && err != bufio.ErrBufferFull {
				return err
			}
			line = append(line, part...)
			if int64(len(line)) > room {
				if err != nil { // to the end of the line, if it is not far
					if err := r.endLine(); err != nil {
						return err
					}
				}
				if r.res.Count > 0 {
					return errLeftOut
				}
				line, room, r.res.Cut = wholeRunes(line[:room]), 0, true
				return r.write(line, true)
			}
			if err == nil {
				room -= int64(len(line))
				return r.write(line, true)
			}
		}
	}
}

// endLine reads to the end of a line, or gives up after CountBytes.
func (r *lineReader) endLine() error {
	ended, end, err := countLines(r.br, 1, r.CountBytes)
	if err != nil || ended > 0 || end {
		return err
	}
	if _, err = r.br.Peek(1); err == io.EOF {
		return nil
	}
	r.within = true
	return err
}

// wholeRunes returns b without the beginning of a character at its end: a text
// that is cut stays one.
func wholeRunes(b []byte) []byte {
	for i := len(b) - 1; i >= 0 && i >= len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if i > 0 && !utf8.FullRune(b[i:]) {
				return b[:i]
			}
			break
		}
	}
	return b
}

// rest finds out what comes after what was written; leftOut are lines that were
// read already.
func (r *lineReader) rest(leftOut int64) error {
	at := r.Offset + r.res.Count
	if r.within {
		r.res.More, r.res.Next = true, at
		return nil
	}
	_, err := r.br.Peek(1)
	if err != nil && err != io.EOF {
		return err
	}
	if r.res.More = err == nil || leftOut > 0; r.res.More {
		r.res.Next = at
	}
	total := at + leftOut
	if err == nil {
		if r.CountBytes == 0 {
			return nil
		}
		more, end, err := countLines(r.br, -1, r.CountBytes)
		if err != nil || !end {
			return err
		}
		total += more
	}
	r.res.Total = &total
	return nil
}

// countLines reads n lines, or all if n is negative, but ends after more than
// limit bytes unless that is negative. It returns how many lines it has read,
// and whether it came to the end of the file before the n.
func countLines(br *bufio.Reader, n, limit int64) (lines int64, end bool, err error) {
	begun := false // a line that has not ended
	for size := int64(0); n < 0 || lines < n; {
		if limit >= 0 && size > limit {
			return lines, false, nil
		}
		if _, err := br.Peek(1); err == io.EOF {
			if begun {
				lines++
			}
			return lines, n < 0 || lines < n, nil
		} else if err != nil {
			return lines, false, err
		}
		buf, _ := br.Peek(br.Buffered())
		count := int64(bytes.Count(buf, newline))
		if n < 0 || lines+count < n {
			lines += count
			begun = buf[len(buf)-1] != '\n'
			size += int64(len(buf))
			_, _ = br.Discard(len(buf)) // what is buffered can be discarded
			continue
		}
		used := 0
		for ; lines < n; lines++ {
			used += bytes.IndexByte(buf[used:], '\n') + 1
		}
		_, _ = br.Discard(used)
	}
	return lines, false, nil
}

// encode writes section r of a binary file, which is what f has, in base64.
func (r *lineReader) encode(f io.Reader) error {
	r.res.Encoding, r.res.Unit = "base64", "bytes"
	limit := r.Limit
	if r.MaxBytes > 0 && (limit == 0 || limit > r.MaxBytes) {
		limit = r.MaxBytes
	}
	if limit > 0 {
		f = io.LimitReader(f, limit)
	}
	to := &erringWriter{w: r.w}
	enc := base64.NewEncoder(base64.StdEncoding, to)
	n, err := io.Copy(enc, f)
	if err == nil {
		err = enc.Close()
	}
	if to.err != nil {
		return writeError{to.err}
	}
	total := r.res.Size
	r.res.Count, r.res.Total = n, &total
	if next := r.Offset + n; err == nil && next < total {
		r.res.More, r.res.Next = true, next
	}
	return err
}

// erringWriter remembers its error, to tell it from the reader's.
type erringWriter struct {
	w   io.Writer
	err error
}

func (c *erringWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	if err != nil {
		c.err = err
	}
	return n, err
}
