package cache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// Changes of one name: the store is asked first, then the tree is changed, so
// that the caller hears what the store says. Only a new file waits for its
// first close.

// enter takes the locks for a change of names in p. The names are marked as
// changing until leave is called.
func (c *FS) enter(p *tree.Node, name string) (leave func()) {
	c.names.RLock()
	d := dirOf(p)
	d.op.Lock()
	d.begin(name)
	return func() {
		d.end(name)
		d.op.Unlock()
		c.names.RUnlock()
	}
}

// absent makes sure that p has no child called name, as far as the ttl says.
func (c *FS) absent(ctx context.Context, p *tree.Node, name string) error {
	switch _, err := c.lookup(ctx, p, name); {
	case err == nil:
		return fs.ErrExist
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return err
	}
}

// make gives the new node n a name after the store has made it.
func (c *FS) make(ctx context.Context, p *tree.Node, name string, n *tree.Node, inStore func(path string) error) error {
	if err := c.absent(ctx, p, name); err != nil {
		return err
	}
	leave := c.enter(p, name)
	defer leave()
	path, err := c.checkNew(p, name)
	if err != nil {
		return err
	}
	if err := c.tree.CheckInsert(p, name); err != nil {
		return err
	}
	if err := inStore(path); err != nil {
		return err
	}
	return c.tree.Insert(p, name, n)
}

// Create implements [backends.FileSystem]. The store hears of the file at its
// first close.
func (c *FS) Create(ctx context.Context, parent backends.Node, name string, flags int, a backends.CreateAttr) (backends.Node, backends.Attr, backends.File, error) {
	fail := func(err error) (backends.Node, backends.Attr, backends.File, error) {
		return nil, backends.Attr{}, nil, err
	}
	p, err := c.ownDir(parent)
	if err != nil {
		return fail(err)
	}
	for range 8 {
		n, err := c.create(ctx, p, name, a)
		created := err == nil
		if errors.Is(err, fs.ErrExist) && flags&os.O_EXCL == 0 {
			n, err = c.lookup(ctx, p, name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // gone again in between
			}
		}
		if err != nil {
			return fail(err)
		}
		h, err := c.open(ctx, n, flags)
		if errors.Is(err, backends.ErrChanged) {
			continue // removed in between
		}
		if err != nil {
			return fail(err)
		}
		h.created = created
		return n, c.attr(n), h, nil
	}
	return fail(backends.ErrChanged)
}

func (c *FS) create(ctx context.Context, p *tree.Node, name string, a backends.CreateAttr) (*tree.Node, error) {
	if err := c.absent(ctx, p, name); err != nil {
		return nil, err
	}
	leave := c.enter(p, name)
	defer leave()
	if _, err := c.checkNew(p, name); err != nil {
		return nil, err
	}
	a.Mode &^= fs.ModeType
	// A new file is a change that the store hasn't got.
	f := &file{fs: c, change: 1}
	n := c.tree.NewNode(a, f)
	f.node = n
	if err := c.tree.Insert(p, name, n); err != nil {
		return nil, err
	}
	c.await(f)
	return n, nil
}

// Open implements [backends.FileSystem].
func (c *FS) Open(ctx context.Context, n backends.Node, flags int) (backends.File, error) {
	t, err := c.tree.Own(n)
	if err != nil {
		return nil, err
	}
	h, err := c.open(ctx, t, flags)
	if err != nil {
		return nil, err // not a nil *handle in an interface
	}
	return h, nil
}

func (c *FS) open(ctx context.Context, n *tree.Node, flags int) (*handle, error) {
	f, ok := n.Data.(*file)
	switch {
	case n.IsDir():
		return nil, backends.ErrIsDir
	case !ok:
		return nil, fs.ErrInvalid
	}
	return f.open(ctx, flags)
}

// Mkdir implements [backends.FileSystem].
func (c *FS) Mkdir(ctx context.Context, parent backends.Node, name string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	p, err := c.ownDir(parent)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	a.Mode = a.Mode&^fs.ModeType | fs.ModeDir
	d := &dir{seen: time.Now(), listed: time.Now(), marker: true} // it is known to be empty
	n := c.tree.NewNode(a, d)
	err = c.make(ctx, p, name, n, func(path string) error {
		return c.store.Mkdir(ctx, path, backends.AttrChange{})
	})
	if errors.Is(err, fs.ErrExist) {
		c.forgetName(p, name) // somebody else made it meanwhile
	}
	if err != nil {
		return nil, backends.Attr{}, err
	}
	return n, c.attr(n), nil
}

// keepDir makes sure that p outlives the removal of its last child: in an
// object store a directory may be there only because of what is in it. It
// comes before the removal, so that no crash takes the directory along.
func (c *FS) keepDir(ctx context.Context, p *tree.Node) error {
	d := dirOf(p)
	d.mu.Lock()
	kept := d.marker
	d.mu.Unlock()
	if kept || p == c.tree.Root() || c.tree.Len(p) > 1 {
		return nil
	}
	path, ok := c.tree.Path(p)
	if !ok {
		return nil
	}
	if err := c.store.Mkdir(ctx, path, backends.AttrChange{}); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d.mu.Lock()
	d.marker = true
	d.mu.Unlock()
	return nil
}

// forgetName makes the next lookup of name ask the store.
func (c *FS) forgetName(p *tree.Node, name string) {
	d := dirOf(p)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.absent, name)
	d.listed = time.Time{}
	if n, err := c.tree.Lookup(p, name); err == nil {
		if f, ok := n.Data.(*file); ok {
			f.mu.Lock()
			f.seen = time.Time{}
			f.mu.Unlock()
		}
	}
}

// Unlink implements [backends.FileSystem].
func (c *FS) Unlink(ctx context.Context, parent backends.Node, name string) error {
	p, err := c.ownDir(parent)
	if err != nil {
		return err
	}
	if _, err := c.lookup(ctx, p, name); err != nil {
		return err
	}
	leave := c.enter(p, name)
	defer leave()
	n, err := c.tree.CheckUnlink(p, name)
	if err != nil {
		return err
	}
	path, err := c.path(p, name)
	if err != nil {
		return err
	}
	if err := c.keepDir(ctx, p); err != nil {
		return err
	}
	if f, ok := n.Data.(*file); ok {
		f.up.Lock()
		defer f.up.Unlock()
		err = c.removeStored(ctx, f, path)
	} else {
		err = c.store.Remove(ctx, path, backends.If{})
	}
	if errors.Is(err, backends.ErrChanged) {
		// Somebody else's newer content stays.
		c.forgetName(p, name)
		c.changed(p, name)
		err = &unseenError{path}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// It may have taken effect all the same: the next lookup asks.
		c.forgetName(p, name)
		return err
	}
	if _, _, err := c.tree.Unlink(p, name, n); err != nil {
		return err
	}
	dirOf(p).gone(name)
	c.detached(n)
	return nil
}

// unseenError is the error of a call on a name that would take away a content
// which somebody else has put there meanwhile. It matches ErrChanged, and
// ErrBusy first of all: a kernel that hears ESTALE looks the name up again and
// repeats the call by itself, and then what nobody here has seen is gone.
type unseenError struct{ path string }

func (e *unseenError) Error() string { return e.path + ": changed elsewhere meanwhile; look again" }

// Is makes e match both.
func (e *unseenError) Is(target error) bool {
	return target == backends.ErrBusy || target == backends.ErrChanged
}

// removeStored removes what the store has under f's name. Whoever has f open
// keeps its content: it is fetched before it goes. f.up is held.
func (c *FS) removeStored(ctx context.Context, f *file, path string) error {
	f.mu.Lock()
	cond := backends.If{Match: f.replaces}
	if f.base != nil {
		cond.Match = f.base.version
	}
	f.mu.Unlock()
	if cond.Match == "" {
		return nil // the store never had it
	}
	if err := c.keepForReaders(ctx, f); err != nil {
		return err
	}
	err := c.store.Remove(ctx, path, cond)
	if errors.Is(err, backends.ErrChanged) {
		// Changed, or gone, which is what the caller wants.
		if _, serr := c.store.Stat(ctx, path); errors.Is(serr, fs.ErrNotExist) {
			return serr
		}
	}
	return err
}

// keepForReaders makes f's content complete if somebody has it open, before
// the store loses it. Where there is no room for that, the removal goes on all
// the same, and the readers get ESTALE for what they have not read: a file
// that is too large to keep must not be one that nobody can remove. f.up is
// held.
func (c *FS) keepForReaders(ctx context.Context, f *file) error {
	f.mu.Lock()
	content := f.c
	open := f.handles > 0
	if open {
		content.use()
	}
	f.mu.Unlock()
	if !open {
		return nil
	}
	defer content.done()
	err := content.fetchAll(ctx)
	if errors.Is(err, backends.ErrNoSpace) {
		name, _ := c.tree.Path(f.node)
		c.log.Warn("removed while it is open, and too large to keep for those who read it", "name", name, "size", content.size())
		return nil
	}
	return err
}

// Rmdir implements [backends.FileSystem].
func (c *FS) Rmdir(ctx context.Context, parent backends.Node, name string) error {
	p, err := c.ownDir(parent)
	if err != nil {
		return err
	}
	n, err := c.lookup(ctx, p, name)
	if err != nil {
		return err
	}
	if !n.IsDir() {
		return backends.ErrNotDir
	}
	// Both directories, in the order of their ids like everybody: nobody
	// creates in the one that goes.
	leave := c.enterTwo(p, name, n, "")
	defer leave()
	if now, err := c.tree.Lookup(p, name); err != nil {
		return err
	} else if now != n {
		return backends.ErrChanged
	}
	if _, err := c.tree.CheckRmdir(p, name); err != nil && !errors.Is(err, backends.ErrNotEmpty) {
		return err
	} else if err != nil && c.anyLocal(n) {
		return err
	}
	d := dirOf(n)
	path, err := c.path(p, name)
	if err != nil {
		return err
	}
	if err := c.keepDir(ctx, p); err != nil {
		return err
	}
	// Whether it is empty the store knows, also where our listing is old.
	err = c.store.Remove(ctx, path, backends.If{})
	if errors.Is(err, backends.ErrNotEmpty) || errors.Is(err, backends.ErrNotDir) {
		d.mu.Lock()
		d.listed = time.Time{}
		d.mu.Unlock()
		return err
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := c.tree.Rmdir(p, name); errors.Is(err, backends.ErrNotEmpty) {
		// The store says it is empty: what we still show has been removed
		// elsewhere.
		c.strayed(c.tree.Drop(p, name), path)
	} else if err != nil {
		return err
	}
	dirOf(p).gone(name)
	return nil
}
