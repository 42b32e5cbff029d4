package protocol

import (
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/agentfs/agentfs/backends"
)

// ReadOptions select lines.
type ReadOptions struct {
	Offset int64 // lines to skip
	Limit  int64 // lines to return; 0 means all
}

// ReadResult says what a Read wrote.
type ReadResult struct {
	Item
	// Lines is the number of lines written; a last line without a newline
	// counts.
	Lines int64 `json:"lines"`
	// More reports whether there are lines after the last one written.
	More bool `json:"more"`
}

// Read writes lines of the file p to w. It needs the same memory for a file
// of any size and for lines of any length.
func Read(ctx context.Context, s backends.Store, p string, w io.Writer, o ReadOptions) (ReadResult, error) {
	name, err := Name(p)
	if err != nil {
		return ReadResult{}, err
	}
	// The reader is cut off by this context when the lines asked for are
	// there, so that a store needn't send the rest of a large file.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, e, err := open(ctx, s, "read", name)
	if err != nil {
		return ReadResult{}, err
	}
	defer r.Close()
	res := ReadResult{Item: itemOf(e)}
	br := bufio.NewReaderSize(r, 64<<10)
	for line := int64(0); ; {
		if o.Limit > 0 && res.Lines >= o.Limit {
			_, err := br.Peek(1)
			if err != nil && !errors.Is(err, io.EOF) {
				return res, backends.WrapPath("read", name, err)
			}
			res.More = err == nil
			return res, nil
		}
		part, err := br.ReadSlice('\n')
		if len(part) > 0 && line >= o.Offset {
			if _, werr := w.Write(part); werr != nil {
				return res, werr
			}
		}
		switch {
		case err == nil || errors.Is(err, io.EOF) && len(part) > 0:
			if line >= o.Offset {
				res.Lines++
			}
			line++
		case errors.Is(err, bufio.ErrBufferFull):
			// The line goes on.
		case errors.Is(err, io.EOF):
			return res, nil
		default:
			return res, backends.WrapPath("read", name, err)
		}
	}
}
