package policy

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/agentfs/agentfs/backends"
)

// making returns the verdict on a name that is to be made in parent, or why it
// may not. The caller calls done when it is made.
func (f *files) making(ctx context.Context, op string, parent backends.Node, name string) (v *verdict, done func(), err error) {
	v, err = f.child(ctx, op, parent, name)
	if err != nil {
		return nil, nil, err
	}
	// Again, now that no directory above can be renamed into other rules.
	moving := &f.moving[v.route]
	moving.RLock()
	if v, err = f.child(ctx, op, parent, name); err == nil {
		if class := f.class(ctx); v.access(class) < Append {
			err = f.p.deny(op, v, class)
		}
	}
	if err != nil {
		moving.RUnlock()
		return nil, nil, err
	}
	return v, moving.RUnlock, nil
}

// Create makes a new file, or opens the one that is there as Open does.
func (f *files) Create(ctx context.Context, parent backends.Node, name string, flags int, a backends.CreateAttr) (backends.Node, backends.Attr, backends.File, error) {
	for {
		n, attr, h, err := f.createNew(ctx, parent, name, flags, a)
		if flags&os.O_EXCL != 0 || !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrPermission) {
			return n, attr, h, err
		}
		n, _, lerr := f.Lookup(ctx, parent, name)
		switch {
		case errors.Is(lerr, fs.ErrNotExist) && errors.Is(err, fs.ErrExist):
			continue // removed between the two
		case errors.Is(lerr, fs.ErrNotExist):
			return nil, backends.Attr{}, nil, err
		case lerr != nil:
			return nil, backends.Attr{}, nil, lerr
		}
		if h, err = f.Open(ctx, n, flags&^(os.O_CREATE|os.O_EXCL)); err != nil {
			return nil, backends.Attr{}, nil, err
		}
		if attr, err = f.Attr(ctx, n); err != nil {
			return nil, backends.Attr{}, nil, errors.Join(err, h.Close(ctx))
		}
		return n, attr, h, nil
	}
}

func (f *files) createNew(ctx context.Context, parent backends.Node, name string, flags int, a backends.CreateAttr) (backends.Node, backends.Attr, backends.File, error) {
	v, done, err := f.making(ctx, "create", parent, name)
	if err != nil {
		return nil, backends.Attr{}, nil, err
	}
	defer done()
	n, attr, in, err := f.FileSystem.Create(ctx, parent, name, flags|os.O_CREATE|os.O_EXCL, a)
	if err != nil {
		return nil, backends.Attr{}, nil, err
	}
	h, err := f.opened(ctx, n, v, f.class(ctx), in, flags)
	return n, attr, h, err
}

func (f *files) Mkdir(ctx context.Context, parent backends.Node, name string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	v, done, err := f.making(ctx, "mkdir", parent, name)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	defer done()
	n, attr, err := f.FileSystem.Mkdir(ctx, parent, name, a)
	return n, f.dress(v, attr), err
}

// Symlink asks for nothing under target: whoever follows the link needs the
// rights there.
func (f *files) Symlink(ctx context.Context, parent backends.Node, name, target string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	_, done, err := f.making(ctx, "symlink", parent, name)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	defer done()
	return f.ForwardFiles.Symlink(ctx, parent, name, target, a)
}

func (f *files) Mknod(ctx context.Context, parent backends.Node, name string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	_, done, err := f.making(ctx, "mknod", parent, name)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	defer done()
	return f.ForwardFiles.Mknod(ctx, parent, name, a)
}

// Link gives n a name with the same rights as those that it has.
func (f *files) Link(ctx context.Context, n, newParent backends.Node, newName string) (backends.Attr, error) {
	v, done, err := f.making(ctx, "link", newParent, newName)
	if err != nil {
		return backends.Attr{}, err
	}
	defer done()
	class := f.class(ctx)
	paths := f.names.Paths(n)
	if len(paths) == 0 {
		old, err := f.node(ctx, "link", n, class)
		if err != nil {
			return backends.Attr{}, err
		}
		paths = []string{nameOf(old.path)}
	}
	for _, name := range paths {
		// (Between routes there are no links anyway, as the router says.)
		if old := f.p.at(toPath(name)); old.route == v.route && !old.sameRights(v, f.p.classes()) {
			return backends.Attr{}, f.p.denyMove("link", old, class)
		}
	}
	return f.ForwardFiles.Link(ctx, n, newParent, newName)
}

// removing returns an error unless the caller may take the name away.
func (f *files) removing(ctx context.Context, op string, parent backends.Node, name string) error {
	v, err := f.child(ctx, op, parent, name)
	if err != nil {
		return err
	}
	switch class := f.class(ctx); {
	case v.hidden():
		return absent(op, v.path)
	case v.access(class) < Write:
		return f.p.deny(op, v, class)
	}
	return nil
}

func (f *files) Unlink(ctx context.Context, parent backends.Node, name string) error {
	if err := f.removing(ctx, "unlink", parent, name); err != nil {
		return err
	}
	return f.FileSystem.Unlink(ctx, parent, name)
}

func (f *files) Rmdir(ctx context.Context, parent backends.Node, name string) error {
	if err := f.removing(ctx, "rmdir", parent, name); err != nil {
		return err
	}
	return f.FileSystem.Rmdir(ctx, parent, name)
}
