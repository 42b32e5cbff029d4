package crash_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

// driver does operations on a file system as the kernel would: a path is
// looked up name by name.
type driver struct {
	fs      backends.FileSystem
	handles map[int]handle
}

type handle struct {
	n backends.Node
	f backends.File
}

func newDriver(f backends.FileSystem) *driver { return &driver{f, map[int]handle{}} }

// outcome is how an operation ended.
type outcome int

const (
	// asWanted: with what POSIX wants, be it an error.
	asWanted outcome = iota
	// notTried: it failed before it could change anything.
	notTried
	// failed: with an error that is the world's fault; it may have happened.
	failed
	// wrong: with what the model contradicts.
	wrong
)

// semantic are the errors that say something about the tree.
var semantic = []error{fs.ErrExist, fs.ErrNotExist, backends.ErrIsDir, backends.ErrNotDir, backends.ErrNotEmpty, fs.ErrInvalid}

func isSemantic(err error) bool {
	return slices.ContainsFunc(semantic, func(e error) bool { return errors.Is(err, e) })
}

// errMismatch is the error of a read or listing that shows something else than
// the model.
var errMismatch = errors.New("differs from the model")

// do does o, of which m is the state before.
func (d *driver) do(ctx context.Context, o op, m *model) (outcome, error) {
	want := m.expect(o)
	err := d.run(ctx, o, m)
	var before *beforeError
	switch {
	case errors.Is(err, errMismatch):
		return wrong, err
	case want == nil && err == nil, want != nil && errors.Is(err, want):
		return asWanted, err
	case err == nil:
		return wrong, fmt.Errorf("succeeded, want %w", want)
	case errors.Is(err, backends.ErrChanged), errors.Is(err, backends.ErrBusy):
		return failed, err
	case isSemantic(err):
		return wrong, fmt.Errorf("%w, want %v", err, want)
	case errors.As(err, &before):
		return notTried, err
	}
	return failed, err
}

// beforeError is the error of a lookup that an operation begins with.
type beforeError struct{ err error }

func (e *beforeError) Error() string { return "lookup: " + e.err.Error() }
func (e *beforeError) Unwrap() error { return e.err }

// resolve looks a path up.
func (d *driver) resolve(ctx context.Context, path string) (backends.Node, error) {
	n := d.fs.Root()
	if path == "." || path == "" {
		return n, nil
	}
	for seg := range strings.SplitSeq(path, "/") {
		var err error
		if n, _, err = d.fs.Lookup(ctx, n, seg); err != nil {
			return nil, &beforeError{err}
		}
	}
	return n, nil
}

func (d *driver) parent(ctx context.Context, path string) (backends.Node, string, error) {
	dir, name := split(path)
	n, err := d.resolve(ctx, dir)
	return n, name, err
}

func (d *driver) run(ctx context.Context, o op, m *model) error {
	switch o.Kind {
	case opCreate, opMkdir, opSymlink, opUnlink, opRmdir, opRename:
		return d.names(ctx, o)
	case opOpen, opTruncate, opChmod, opList, opBarrier:
		n, err := d.resolve(ctx, o.Path)
		if err != nil {
			return err
		}
		return d.node(ctx, n, o, m)
	}
	h := d.handles[o.H]
	switch o.Kind {
	case opWrite:
		_, err := h.f.WriteAt(ctx, fill(o.Seed, o.Len), o.Off)
		return err
	case opPunch:
		return h.f.(backends.Allocator).Allocate(ctx, o.Off, o.Len, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE)
	case opFtruncate:
		_, err := d.fs.SetAttr(ctx, h.n, backends.AttrChange{Set: backends.SetSize, Size: o.Off})
		return err
	case opRead:
		return d.read(ctx, h, m.file(o))
	case opFlush:
		return h.f.Flush(ctx)
	case opSync:
		return h.f.Sync(ctx)
	case opClose:
		delete(d.handles, o.H)
		err := h.f.Flush(ctx)
		if cerr := h.f.Close(ctx); err == nil {
			err = cerr
		}
		return err
	}
	return fmt.Errorf("no such operation: %s", o.Kind)
}

func (d *driver) names(ctx context.Context, o op) error {
	p, name, err := d.parent(ctx, o.Path)
	if err != nil {
		return err
	}
	switch o.Kind {
	case opCreate:
		n, _, f, err := d.fs.Create(ctx, p, name, os.O_RDWR|os.O_CREATE|os.O_EXCL, backends.CreateAttr{Mode: 0o644})
		if err == nil {
			d.handles[o.H] = handle{n, f}
		}
		return err
	case opMkdir:
		_, _, err = d.fs.Mkdir(ctx, p, name, backends.CreateAttr{Mode: 0o755})
	case opSymlink:
		_, _, err = backends.SymlinkAt(ctx, d.fs, p, name, o.To, backends.CreateAttr{Mode: 0o777})
	case opUnlink:
		err = d.fs.Unlink(ctx, p, name)
	case opRmdir:
		err = d.fs.Rmdir(ctx, p, name)
	case opRename:
		to, toName, rerr := d.parent(ctx, o.To)
		if rerr != nil {
			return rerr
		}
		err = d.fs.Rename(ctx, p, name, to, toName, 0)
	}
	return err
}

// node does what is done to a node by its path.
func (d *driver) node(ctx context.Context, n backends.Node, o op, m *model) error {
	switch o.Kind {
	case opOpen:
		flags := os.O_RDONLY
		if o.Write {
			flags = os.O_RDWR
		}
		if o.Trunc {
			flags |= os.O_TRUNC
		}
		f, err := d.fs.Open(ctx, n, flags)
		if err == nil {
			d.handles[o.H] = handle{n, f}
		}
		return err
	case opTruncate:
		_, err := d.fs.SetAttr(ctx, n, backends.AttrChange{Set: backends.SetSize, Size: o.Off})
		return err
	case opChmod:
		_, err := d.fs.SetAttr(ctx, n, backends.AttrChange{Set: backends.SetMode, Mode: fs.FileMode(o.Seed)})
		return err
	case opBarrier:
		return backends.SyncDirAt(ctx, d.fs, n)
	}
	return d.list(ctx, n, o, m)
}

// read compares a file that is open with the model.
func (d *driver) read(ctx context.Context, h handle, want *node) error {
	a, err := d.fs.Attr(ctx, h.n)
	if err != nil {
		return err
	}
	if a.Size != int64(len(want.data)) {
		return fmt.Errorf("size %d, want %d: %w", a.Size, len(want.data), errMismatch)
	}
	got, err := readAll(ctx, h.f, a.Size)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want.data) {
		return fmt.Errorf("%s: %w", difference(got, want.data), errMismatch)
	}
	return nil
}

// readAll reads a file piece by piece, and asks for more than there is.
func readAll(ctx context.Context, f backends.File, size int64) ([]byte, error) {
	var all []byte
	for buf := make([]byte, min(size+1, 300<<10)); ; {
		n, err := f.ReadAt(ctx, buf, int64(len(all)))
		if err != nil {
			return nil, err
		}
		all = append(all, buf[:n]...)
		if n < len(buf) || int64(len(all)) > size {
			return all, nil
		}
	}
}

// list compares the names in a directory with the model's, as far as they are
// the worker's and nothing is in doubt.
func (d *driver) list(ctx context.Context, n backends.Node, o op, m *model) error {
	entries, err := d.fs.ReadDir(ctx, n)
	if err != nil {
		return err
	}
	got := map[string]bool{}
	for _, e := range entries {
		path := join(o.Path, e.Name)
		if m.isDoubtful(path, true) {
			continue
		}
		got[e.Name] = true
		want := m.at(path)
		if want == nil {
			return fmt.Errorf("%s is in the listing: %w", path, errMismatch)
		}
		if want.dir != e.Mode.IsDir() {
			return fmt.Errorf("%s is listed as %v: %w", path, e.Mode, errMismatch)
		}
	}
	for name := range m.at(o.Path).kids {
		if !got[name] && !m.isDoubtful(join(o.Path, name), true) {
			return fmt.Errorf("%s is not in the listing: %w", join(o.Path, name), errMismatch)
		}
	}
	return nil
}

// difference says where two contents part, and whether it is zeros that are
// there or are missing.
func difference(got, want []byte) string {
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	end := min(len(got), len(want))
	for end > i && got[end-1] == want[end-1] {
		end--
	}
	zeros := func(b []byte) int { return bytes.Count(b[i:end], []byte{0}) }
	return fmt.Sprintf("%d bytes, want %d; they differ from %d to %d, where %d are zeros and %d should be", len(got), len(want), i, end, zeros(got), zeros(want))
}
