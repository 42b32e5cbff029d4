package names

import (
	"context"
	"errors"
	"io/fs"

	"github.com/agentfs/agentfs/backends"
)

// FileSystem returns f, which passes through unchanged, and a tracker that
// learns the names of its nodes on the way. It stands below whoever asks the
// tracker, so that what is refused there is no name.
func FileSystem(f backends.FileSystem) (backends.FileSystem, *Tracker) {
	t := newTracker(f.Root())
	return &fileSystem{ForwardFiles: backends.ForwardFiles{FileSystem: f}, t: t}, t
}

type fileSystem struct {
	backends.ForwardFiles
	t *Tracker
}

// Lookup asks again if its answer was overtaken by a change of names in the
// directory: the kernel looks names up that it knows without the directory's
// lock, and an old answer would put a node back to where it was. One that is
// too new, of a change that the tracker has yet to hear of, would take away
// the name that is to be moved.
func (w *fileSystem) Lookup(ctx context.Context, parent backends.Node, name string) (backends.Node, backends.Attr, error) {
	for {
		changes, err := w.t.settled(ctx, parent, name)
		if err != nil {
			return nil, backends.Attr{}, err
		}
		n, a, err := w.FileSystem.Lookup(ctx, parent, name)
		switch {
		case err == nil && !w.t.found(parent, name, n, changes),
			errors.Is(err, fs.ErrNotExist) && !w.t.found(parent, name, nil, changes):
			if ctx.Err() == nil {
				continue
			}
			return nil, backends.Attr{}, ctx.Err()
		}
		return n, a, err
	}
}

// make makes a node as name in parent.
func (w *fileSystem) make(ctx context.Context, parent backends.Node, name string, do func() (backends.Node, backends.Attr, error)) (backends.Node, backends.Attr, error) {
	at := spot{parent, name}
	if err := w.t.begin(ctx, at); err != nil {
		return nil, backends.Attr{}, err
	}
	defer w.t.end(at)
	n, a, err := do()
	if err == nil {
		w.t.add(parent, name, n)
	}
	return n, a, err
}

func (w *fileSystem) Create(ctx context.Context, parent backends.Node, name string, flags int, at backends.CreateAttr) (n backends.Node, a backends.Attr, f backends.File, err error) {
	n, a, err = w.make(ctx, parent, name, func() (backends.Node, backends.Attr, error) {
		n, a, f, err = w.FileSystem.Create(ctx, parent, name, flags, at)
		return n, a, err
	})
	return n, a, f, err
}

func (w *fileSystem) Mkdir(ctx context.Context, parent backends.Node, name string, at backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return w.make(ctx, parent, name, func() (backends.Node, backends.Attr, error) {
		return w.FileSystem.Mkdir(ctx, parent, name, at)
	})
}

func (w *fileSystem) Symlink(ctx context.Context, parent backends.Node, name, target string, at backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return w.make(ctx, parent, name, func() (backends.Node, backends.Attr, error) {
		return w.ForwardFiles.Symlink(ctx, parent, name, target, at)
	})
}

func (w *fileSystem) Mknod(ctx context.Context, parent backends.Node, name string, at backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return w.make(ctx, parent, name, func() (backends.Node, backends.Attr, error) {
		return w.ForwardFiles.Mknod(ctx, parent, name, at)
	})
}

func (w *fileSystem) Link(ctx context.Context, n, newParent backends.Node, newName string) (backends.Attr, error) {
	_, a, err := w.make(ctx, newParent, newName, func() (backends.Node, backends.Attr, error) {
		a, err := w.ForwardFiles.Link(ctx, n, newParent, newName)
		return n, a, err
	})
	return a, err
}

// remove takes the name in parent away.
func (w *fileSystem) remove(ctx context.Context, parent backends.Node, name string, do func() error) error {
	at := spot{parent, name}
	if err := w.t.begin(ctx, at); err != nil {
		return err
	}
	defer w.t.end(at)
	err := do()
	if err == nil {
		w.t.remove(parent, name)
	}
	return err
}

func (w *fileSystem) Unlink(ctx context.Context, parent backends.Node, name string) error {
	return w.remove(ctx, parent, name, func() error { return w.FileSystem.Unlink(ctx, parent, name) })
}

func (w *fileSystem) Rmdir(ctx context.Context, parent backends.Node, name string) error {
	return w.remove(ctx, parent, name, func() error { return w.FileSystem.Rmdir(ctx, parent, name) })
}

func (w *fileSystem) Rename(ctx context.Context, oldParent backends.Node, oldName string, newParent backends.Node, newName string, flags backends.RenameFlags) error {
	at := []spot{{oldParent, oldName}, {newParent, newName}}
	if oldParent != newParent {
		at = append(at, across)
	}
	if err := w.t.begin(ctx, at...); err != nil {
		return err
	}
	defer w.t.end(at...)
	err := w.FileSystem.Rename(ctx, oldParent, oldName, newParent, newName, flags)
	if err == nil {
		w.t.rename(oldParent, oldName, newParent, newName, flags&backends.RenameExchange != 0)
	}
	return err
}

func (w *fileSystem) Forget(n backends.Node) {
	w.t.forget(n)
	w.FileSystem.Forget(n)
}
