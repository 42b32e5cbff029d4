package auditlog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// maxLine bounds what is taken for a line: names and programs have at most
// 4 KiB each, six times that if all of it is escaped.
const maxLine = 1 << 20

// pollEvery is how often Follow looks for more.
const pollEvery = 250 * time.Millisecond

// Scan calls visit for every record that r has, with its line as it is there,
// and returns how many lines were none. A last line without an end is not looked
// at: it is being written.
func Scan(r io.Reader, visit func(l *Line, raw []byte) error) (damaged int, err error) {
	s := scanner{visit: visit}
	err = s.all(bufio.NewReaderSize(r, 64<<10))
	return s.damaged, err
}

type scanner struct {
	visit   func(l *Line, raw []byte) error
	part    []byte // of a line whose end was not there yet
	damaged int
}

// all takes what r has now.
func (s *scanner) all(r *bufio.Reader) error {
	for {
		b, err := r.ReadSlice('\n')
		s.part = append(s.part, b...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && len(s.part) < maxLine:
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
		if verr := s.line(s.part); verr != nil {
			return verr
		}
		s.part = s.part[:0]
	}
}

func (s *scanner) line(b []byte) error {
	b = bytes.TrimRight(b, "\n")
	var l Line
	if err := json.Unmarshal(b, &l); err != nil || l.Op == "" {
		s.damaged++
		return nil
	}
	return s.visit(&l, b)
}

// Read calls visit for every record in the file and those that were rotated,
// the oldest first. With follow it goes on with what comes until ctx ends, which
// is no error then.
func Read(ctx context.Context, name string, follow bool, visit func(l *Line, raw []byte) error) (damaged int, err error) {
	s := scanner{visit: visit}
	current, err := s.rotated(name)
	if err != nil {
		return s.damaged, err
	}
	defer func() { current.Close() }()
	r := bufio.NewReaderSize(current, 64<<10)
	for {
		// Rotated first, read to the end then: nothing comes after that.
		gone := isRotated(current, name)
		if err := s.all(r); err != nil || !follow {
			return s.damaged, err
		}
		if gone {
			next, err := os.Open(name)
			if err == nil {
				current.Close()
				current, s.part = next, nil
				r.Reset(current)
				continue
			} else if !errors.Is(err, fs.ErrNotExist) {
				return s.damaged, err
			}
		}
		select {
		case <-ctx.Done():
			return s.damaged, nil
		case <-time.After(pollEvery):
		}
	}
}

// rotated takes the files that were rotated and returns the newest file, open
// and unread. It opens all before it reads any, the newest first: after a
// rotation meanwhile one comes twice and none is missed.
func (s *scanner) rotated(name string) (*os.File, error) {
	files := []*os.File{}
	closeAll := func() {
		for _, f := range files {
			f.Close()
		}
	}
	for i := 0; ; i++ {
		f, err := os.Open(backup(name, i))
		if i > 0 && errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			closeAll()
			return nil, err
		}
		if i > 0 && same(f, files[len(files)-1]) {
			f.Close()
			continue
		}
		files = append(files, f)
	}
	for i := len(files) - 1; i > 0; i-- {
		if err := s.all(bufio.NewReaderSize(files[i], 64<<10)); err != nil {
			closeAll()
			return nil, err
		}
		s.part = nil
		files[i].Close()
	}
	return files[0], nil
}

func same(f, g *os.File) bool {
	a, err1 := f.Stat()
	b, err2 := g.Stat()
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

func isRotated(f *os.File, name string) bool {
	a, err := f.Stat()
	if err != nil {
		return true
	}
	b, err := os.Stat(name)
	return err != nil || !os.SameFile(a, b)
}
