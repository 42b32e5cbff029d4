package protocol

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// EditOptions modify an Edit.
type EditOptions struct {
	All    bool // replace every occurrence instead of asking for exactly one
	DryRun bool // look, and change nothing
}

// maxEditLines is how many line numbers an EditResult or an AmbiguousError
// carries at most: enough to choose more context by, and bounded.
const maxEditLines = 20

// EditResult says what an Edit replaced.
type EditResult struct {
	Item
	Replaced int64 `json:"replaced"`
	// Lines are the lines, counted from 1, where the replaced texts began:
	// the first 20.
	Lines []int64 `json:"lines"`
}

// ErrNoMatch means that the text to replace is not in the file.
var ErrNoMatch = errors.New("the text to replace is not in the file")

// AmbiguousError means that the text to replace is in the file more than once.
type AmbiguousError struct {
	Count int64
	Lines []int64 // where they begin, counted from 1: the first 20
}

func (e *AmbiguousError) Error() string {
	lines := make([]string, len(e.Lines))
	for i, l := range e.Lines {
		lines[i] = fmt.Sprint(l)
	}
	more := ""
	if int64(len(lines)) < e.Count {
		more = ", ..."
	}
	return fmt.Sprintf("the text to replace is there %d times (lines %s%s): give more of the text around it, or replace all",
		e.Count, strings.Join(lines, ", "), more)
}

// Edit replaces the text old by new in the file p. old must be there exactly
// once, byte for byte, unless o.All. The file is written only if it still
// holds the version that was read, else the error is [backends.ErrChanged].
// Files of any size need the same memory.
func Edit(ctx context.Context, s backends.Store, p, old, new string, o EditOptions) (EditResult, error) {
	name, err := Name(p)
	if err != nil {
		return EditResult{}, err
	}
	fail := func(err error) (EditResult, error) {
		return EditResult{}, &fs.PathError{Op: "edit", Path: name, Err: err}
	}
	switch {
	case old == "":
		return fail(fmt.Errorf("%w: the text to replace is empty", fs.ErrInvalid))
	case old == new:
		return fail(fmt.Errorf("%w: the old text and the new are the same", fs.ErrInvalid))
	}
	r, e, err := open(ctx, s, "edit", name)
	if err != nil {
		return EditResult{}, err
	}
	defer r.Close()
	tmp, err := scratch()
	if err != nil {
		return EditResult{}, err
	}
	defer tmp.Close()
	out := bufio.NewWriterSize(tmp, 256<<10)
	res := EditResult{Item: itemOf(e)}
	size, err := replace(out, r, []byte(old), []byte(new), &res)
	if err == nil {
		err = out.Flush()
	}
	switch {
	case err != nil:
		return EditResult{}, backends.WrapPath("edit", name, err)
	case res.Replaced == 0:
		return fail(ErrNoMatch)
	case res.Replaced > 1 && !o.All:
		return fail(&AmbiguousError{Count: res.Replaced, Lines: res.Lines})
	case o.DryRun:
		return res, nil
	}
	put, err := s.Put(ctx, name, io.NewSectionReader(tmp, 0, size), backends.PutOptions{
		If: backends.If{Match: e.Version},
	})
	if err != nil {
		return EditResult{}, err
	}
	res.Item = itemOf(put)
	return res, nil
}

// replace copies r to w with every old replaced, counts into res, and returns
// the number of bytes written.
func replace(w io.Writer, r io.Reader, old, new []byte, res *EditResult) (size int64, err error) {
	line := int64(1)
	put := func(b []byte) error {
		n, err := w.Write(b)
		size += int64(n)
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
			return size, err
		}
		rest := buf
		for {
			i := bytes.Index(rest, old)
			if i < 0 {
				break
			}
			line += int64(bytes.Count(rest[:i], newline))
			res.Replaced++
			if len(res.Lines) < maxEditLines {
				res.Lines = append(res.Lines, line)
			}
			line += int64(bytes.Count(old, newline))
			if err := put(rest[:i]); err != nil {
				return size, err
			}
			if err := put(new); err != nil {
				return size, err
			}
			rest = rest[i+len(old):]
		}
		// What could be the beginning of an occurrence waits for the rest.
		keep := min(len(rest), len(old)-1)
		if eof {
			keep = 0
		}
		done := rest[:len(rest)-keep]
		line += int64(bytes.Count(done, newline))
		if err := put(done); err != nil {
			return size, err
		}
		buf = buf[:copy(buf, rest[len(rest)-keep:])]
	}
	return size, nil
}

var newline = []byte{'\n'}
