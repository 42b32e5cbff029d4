package protocol

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// WriteOptions are the preconditions of a Write.
type WriteOptions struct {
	// CreateOnly writes only if there is nothing under the path yet.
	CreateOnly bool
	// IfVersion writes only if the file still holds this version.
	IfVersion backends.Version
}

type syncKey struct{}

// WithSync returns a context in which a change is in its store when the call
// returns. Only a mount on which the store follows later has to look at it;
// without a mount there is no other way.
func WithSync(ctx context.Context) context.Context { return context.WithValue(ctx, syncKey{}, true) }

// Syncs reports whether ctx is one of WithSync.
func Syncs(ctx context.Context) bool { return ctx.Value(syncKey{}) != nil }

// Write makes all of r the content of the file p, all or nothing. Missing
// directories are made. An unmet precondition is [fs.ErrExist] or
// [backends.ErrChanged]; whether one holds is the store's to say, so Write then
// waits for it as [WithSync] does.
func (t *Tree) Write(ctx context.Context, p string, r io.Reader, o WriteOptions) (Item, error) {
	name, err := fileName("write", p)
	if err != nil {
		return Item{}, err
	}
	if o.CreateOnly && o.IfVersion != "" {
		return Item{}, &fs.PathError{Op: "write", Path: name, Err: invalid("create-only and if-version exclude each other")}
	}
	body, done, err := rewindable(r)
	if err != nil {
		return Item{}, fmt.Errorf("taking what to write to %s: %w", Path(name, false), err)
	}
	defer done()
	if o != (WriteOptions{}) {
		ctx = WithSync(ctx)
	}
	e, err := t.Store.Put(ctx, name, body, backends.PutOptions{
		If: backends.If{Absent: o.CreateOnly, Match: o.IfVersion},
	})
	if err != nil {
		return Item{}, err
	}
	return itemOf(e), nil
}

// inMemory is how much is held in memory to be written; more goes to a
// temporary file.
const inMemory = 1 << 20

// rewindable returns r's content as a Put needs it, until done is called.
func rewindable(r io.Reader) (body *io.SectionReader, done func(), err error) {
	var head bytes.Buffer
	n, err := io.CopyN(&head, r, inMemory)
	if err == io.EOF {
		return io.NewSectionReader(bytes.NewReader(head.Bytes()), 0, n), func() {}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	tmp, err := scratch()
	if err != nil {
		return nil, nil, err
	}
	if n, err = io.Copy(tmp, io.MultiReader(&head, r)); err != nil {
		return nil, nil, errors.Join(err, tmp.Close())
	}
	return io.NewSectionReader(tmp, 0, n), func() { _ = tmp.Close() }, nil
}

// scratch returns a temporary file without a name, for content that a Put
// must be able to read more than once.
func scratch() (*os.File, error) {
	f, err := os.CreateTemp("", "agentfs-*")
	if err != nil {
		return nil, fmt.Errorf("room for the content (set TMPDIR to a directory with space): %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// FileWrite is one of several files to write.
type FileWrite struct {
	Path    string `json:"path" jsonschema:"where to write"`
	Content string `json:"content" jsonschema:"the whole new content"`
	// Encoding is "base64" if Content is, else "text" or empty.
	Encoding   string           `json:"encoding,omitempty" jsonschema:"base64 if the content is; otherwise it is taken as text"`
	CreateOnly bool             `json:"create_only,omitempty" jsonschema:"write only if there is nothing under the path"`
	IfVersion  backends.Version `json:"if_version,omitempty" jsonschema:"write only if the file still has this version"`
}

// Body returns the content's bytes.
func (w FileWrite) Body() (io.Reader, error) {
	switch w.Encoding {
	case "", "text":
		return strings.NewReader(w.Content), nil
	case "base64":
		b, err := base64.StdEncoding.DecodeString(w.Content)
		if err != nil {
			return nil, invalid("the content is not base64: %v", err)
		}
		return bytes.NewReader(b), nil
	}
	return nil, invalid("%q is no encoding; there are text and base64", w.Encoding)
}

// WriteFile is Write of a FileWrite.
func (t *Tree) WriteFile(ctx context.Context, w FileWrite) (Item, error) {
	r, err := w.Body()
	if err != nil {
		return Item{}, &fs.PathError{Op: "write", Path: w.Path, Err: err}
	}
	return t.Write(ctx, w.Path, r, WriteOptions{CreateOnly: w.CreateOnly, IfVersion: w.IfVersion})
}
