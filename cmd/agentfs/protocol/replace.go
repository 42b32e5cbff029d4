package protocol

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
)

var newline = []byte{'\n'}

// replaced says what a replace did.
type replaced struct {
	size  int64   // of the new content
	count int64   // how many were replaced
	lines []int64 // where they began: the first maxEditLines
}

// replace writes r to the file tmp, from its beginning, with every old replaced.
func replace(r io.Reader, tmp *os.File, old, new []byte) (done replaced, err error) {
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return done, err
	}
	w := bufio.NewWriterSize(tmp, 256<<10)
	line := int64(1)
	put := func(b []byte) error {
		n, err := w.Write(b)
		done.size += int64(n)
		return err
	}
	buf := make([]byte, 0, max(256<<10, 4*len(old)))
	for eof := false; !eof; {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
			eof = true
		case err != nil:
			return done, err
		}
		rest := buf
		for {
			i := bytes.Index(rest, old)
			if i < 0 {
				break
			}
			line += int64(bytes.Count(rest[:i], newline))
			done.count++
			if len(done.lines) < maxEditLines {
				done.lines = append(done.lines, line)
			}
			line += int64(bytes.Count(old, newline))
			if err := errors.Join(put(rest[:i]), put(new)); err != nil {
				return done, err
			}
			rest = rest[i+len(old):]
		}
		// What could be the beginning of an occurrence waits for the rest.
		keep := min(len(rest), len(old)-1)
		if eof {
			keep = 0
		}
		sure := rest[:len(rest)-keep]
		line += int64(bytes.Count(sure, newline))
		if err := put(sure); err != nil {
			return done, err
		}
		buf = buf[:copy(buf, rest[len(rest)-keep:])]
	}
	return done, w.Flush()
}
