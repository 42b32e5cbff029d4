package memory

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// uploads holds the uploads that were not ended. Their parts are nameless
// files, counted against the limit as all are.
type uploads struct {
	limits backends.PartLimits

	mu    sync.Mutex
	begun map[string]*begun // by id
}

func newUploads(c Config) *uploads {
	return &uploads{
		limits: backends.PartLimits{
			MinSize: cmp.Or(c.MinPart, 5<<20), MaxSize: c.Size, Good: cmp.Or(c.GoodPart, 8<<20), MaxParts: 10_000,
		},
		begun: map[string]*begun{},
	}
}

// begun is an upload that was not ended.
type begun struct {
	name    string
	started time.Time

	mu    sync.Mutex // held while it is completed
	parts map[int]part
	ended bool
}

type part struct {
	n    *tree.Node
	size int64
}

func (p part) file() *file { return p.n.Data.(*file) }

func (p part) tag() string { return fmt.Sprintf("%x", p.n.ID()) }

// upload is the handle of an upload, begun here or resumed.
type upload struct {
	s        *Store
	name, id string
	opts     backends.PutOptions
}

// BeginUpload implements [backends.Uploader].
func (s *Store) BeginUpload(_ context.Context, name string, opts backends.PutOptions) (backends.Upload, error) {
	const op = "upload"
	if err := backends.CheckName(op, name); err != nil {
		return nil, err
	}
	if n, err := s.find(op, name); err == nil && n.IsDir() {
		return nil, &fs.PathError{Op: op, Path: name, Err: backends.ErrIsDir}
	}
	if opts.Operation == "" {
		opts.Operation = rand.Text() // by which a second Complete knows the first
	}
	u := &upload{s: s, name: name, id: rand.Text(), opts: opts}
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	s.uploads.begun[u.id] = &begun{name: name, started: time.Now(), parts: map[int]part{}}
	return u, nil
}

// ResumeUpload implements [backends.Uploader].
func (s *Store) ResumeUpload(name, id string, opts backends.PutOptions) backends.Upload {
	return &upload{s: s, name: name, id: id, opts: opts}
}

// PartLimits implements [backends.Uploader].
func (s *Store) PartLimits() backends.PartLimits { return s.uploads.limits }

// Uploads implements [backends.Uploader].
func (s *Store) Uploads(context.Context) iter.Seq2[backends.UploadInfo, error] {
	return func(yield func(backends.UploadInfo, error) bool) {
		s.uploads.mu.Lock()
		var all []backends.UploadInfo
		for id, b := range s.uploads.begun {
			all = append(all, backends.UploadInfo{Name: b.name, ID: id, Started: b.started})
		}
		s.uploads.mu.Unlock()
		for _, info := range all {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// ID implements [backends.Upload].
func (u *upload) ID() string { return u.id }

func (u *upload) fail(err error) error { return backends.WrapPath("upload", u.name, err) }

// begun returns the upload, locked, or fs.ErrNotExist.
func (u *upload) begun() (*begun, error) {
	u.s.uploads.mu.Lock()
	b := u.s.uploads.begun[u.id]
	u.s.uploads.mu.Unlock()
	if b == nil {
		return nil, fs.ErrNotExist
	}
	b.mu.Lock()
	if b.ended {
		b.mu.Unlock()
		return nil, fs.ErrNotExist
	}
	return b, nil
}

// end gives an upload's parts back. b.mu is held.
func (u *upload) end(b *begun) {
	b.ended = true
	for _, p := range b.parts {
		p.file().unlinked()
	}
	u.s.uploads.mu.Lock()
	delete(u.s.uploads.begun, u.id)
	u.s.uploads.mu.Unlock()
}

// Put implements [backends.Upload].
func (u *upload) Put(ctx context.Context, n int, body *io.SectionReader) (backends.Part, error) {
	l := u.s.uploads.limits
	if n < 1 || n > l.MaxParts || body.Size() > l.MaxSize {
		return backends.Part{}, u.fail(fs.ErrInvalid)
	}
	node, err := u.s.newNode(u.s.createAttr(ctx, 0o600))
	if err != nil {
		return backends.Part{}, u.fail(err)
	}
	p := part{node, body.Size()}
	err = p.file().fillFrom(ctx, node, body)
	if err == nil {
		err = u.set(n, p)
	}
	if err != nil {
		p.file().unlinked()
		return backends.Part{}, u.fail(err)
	}
	return backends.Part{N: n, Size: p.size, Tag: p.tag()}, nil
}

// set makes p part n, in place of an earlier one.
func (u *upload) set(n int, p part) error {
	b, err := u.begun()
	if err != nil {
		return err
	}
	defer b.mu.Unlock()
	if old, ok := b.parts[n]; ok {
		old.file().unlinked()
	}
	b.parts[n] = p
	return nil
}

// Copy implements [backends.Upload].
func (u *upload) Copy(ctx context.Context, n int, from string, src backends.If, r backends.Range) (backends.Part, error) {
	rc, e, err := u.s.Open(ctx, from, r, src)
	if err != nil {
		return backends.Part{}, err
	}
	defer rc.Close()
	size := e.Size - r.Off
	if r.Len > 0 {
		size = min(size, r.Len)
	}
	if size <= 0 {
		return backends.Part{}, u.fail(fs.ErrInvalid)
	}
	return u.Put(ctx, n, io.NewSectionReader(inOrder{rc}, 0, size))
}

// inOrder is a reader that is read from its beginning to its end, as fillFrom
// reads.
type inOrder struct{ io.Reader }

func (r inOrder) ReadAt(p []byte, _ int64) (int, error) { return io.ReadFull(r.Reader, p) }

// Complete implements [backends.Upload].
func (u *upload) Complete(ctx context.Context, parts []backends.Part) (backends.Entry, error) {
	b, err := u.begun()
	if errors.Is(err, fs.ErrNotExist) && u.opts.Operation != "" {
		// It was completed if what is there comes from it.
		if n, _, op := u.s.written(u.name); op == u.opts.Operation {
			return u.s.entry(n, u.name), nil
		}
	}
	if err != nil {
		return backends.Entry{}, u.fail(err)
	}
	defer b.mu.Unlock()
	body, err := b.content(parts, u.s.uploads.limits)
	if err != nil {
		return backends.Entry{}, u.fail(err)
	}
	e, err := u.s.Put(ctx, u.name, body, u.opts)
	if err == nil {
		u.end(b)
	}
	return e, err
}

// Abort implements [backends.Upload].
func (u *upload) Abort(context.Context) error {
	b, err := u.begun()
	if err != nil {
		return nil
	}
	defer b.mu.Unlock()
	u.end(b)
	return nil
}

// content returns what the parts make. b.mu is held.
func (b *begun) content(parts []backends.Part, l backends.PartLimits) (*io.SectionReader, error) {
	if len(parts) == 0 {
		return nil, fmt.Errorf("%w: an upload without parts", fs.ErrInvalid)
	}
	parts = slices.SortedFunc(slices.Values(parts), func(a, b backends.Part) int { return cmp.Compare(a.N, b.N) })
	var c chain
	size := int64(0)
	for i, p := range parts {
		have, ok := b.parts[p.N]
		switch {
		case !ok || have.tag() != p.Tag:
			return nil, fmt.Errorf("%w: part %d is not the one that was made", fs.ErrInvalid, p.N)
		case i > 0 && parts[i-1].N == p.N:
			return nil, fmt.Errorf("%w: part %d twice", fs.ErrInvalid, p.N)
		case i < len(parts)-1 && have.size < l.MinSize:
			return nil, fmt.Errorf("%w: part %d has %d bytes, less than %d", fs.ErrInvalid, p.N, have.size, l.MinSize)
		}
		size += have.size
		c = append(c, link{have, size})
	}
	return io.NewSectionReader(c, 0, size), nil
}

// chain reads parts one after the other.
type chain []link

// link is a part and where in the chain it ends.
type link struct {
	part
	end int64
}

// ReadAt implements [io.ReaderAt], up to the end of one part at a time.
func (c chain) ReadAt(p []byte, off int64) (int, error) {
	i, _ := slices.BinarySearchFunc(c, off, func(l link, off int64) int { return cmp.Compare(l.end, off+1) })
	if i == len(c) {
		return 0, io.EOF
	}
	l := c[i]
	at := off - (l.end - l.size)
	f := l.file()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.body.open(); err != nil {
		return 0, err
	}
	defer f.body.shut()
	return f.body.readAt(p[:min(int64(len(p)), l.size-at)], at)
}
