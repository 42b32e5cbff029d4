package prefix

import (
	"context"
	"fmt"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// FileSystem returns the part of f below its directory dir, which must exist.
// Nodes are those of f. The directory is the root by identity: it stays the
// root when it is renamed in f.
func FileSystem(ctx context.Context, f backends.FileSystem, dir string) (backends.FileSystem, error) {
	if err := backends.CheckName("prefix", dir); err != nil {
		return nil, fmt.Errorf("%w: write it as a/b, without a slash at either end", err)
	}
	root := f.Root()
	if dir != "." {
		for _, name := range strings.Split(dir, "/") {
			n, _, err := f.Lookup(ctx, root, name)
			if err != nil {
				return nil, fmt.Errorf("the directory %s, which is to be the root: %w", dir, err)
			}
			root = n
		}
	}
	a, err := f.Attr(ctx, root)
	if err != nil {
		return nil, fmt.Errorf("the directory %s, which is to be the root: %w", dir, err)
	}
	if !a.Mode.IsDir() {
		return nil, fmt.Errorf("%s is to be the root: %w", dir, backends.ErrNotDir)
	}
	return &fileSystem{FileSystem: f, root: root}, nil
}

type fileSystem struct {
	backends.FileSystem
	root backends.Node
}

var (
	_ backends.Symlinker      = (*fileSystem)(nil)
	_ backends.Linker         = (*fileSystem)(nil)
	_ backends.Mknoder        = (*fileSystem)(nil)
	_ backends.Xattrer        = (*fileSystem)(nil)
	_ backends.DirSyncer      = (*fileSystem)(nil)
	_ backends.ChangeNotifier = (*fileSystem)(nil)
	_ backends.RangeCopier    = (*fileSystem)(nil)
)

func (p *fileSystem) Root() backends.Node { return p.root }

// Forget keeps the root, which is used as long as the file system is.
func (p *fileSystem) Forget(n backends.Node) {
	if n != p.root {
		p.FileSystem.Forget(n)
	}
}

func (p *fileSystem) Symlink(ctx context.Context, parent backends.Node, name, target string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return backends.SymlinkAt(ctx, p.FileSystem, parent, name, target, a)
}

func (p *fileSystem) Readlink(ctx context.Context, n backends.Node) (string, error) {
	return backends.ReadlinkAt(ctx, p.FileSystem, n)
}

func (p *fileSystem) Link(ctx context.Context, n, newParent backends.Node, newName string) (backends.Attr, error) {
	return backends.LinkAt(ctx, p.FileSystem, n, newParent, newName)
}

func (p *fileSystem) Mknod(ctx context.Context, parent backends.Node, name string, a backends.CreateAttr) (backends.Node, backends.Attr, error) {
	return backends.MknodAt(ctx, p.FileSystem, parent, name, a)
}

func (p *fileSystem) GetXattr(ctx context.Context, n backends.Node, name string) ([]byte, error) {
	return backends.GetXattrAt(ctx, p.FileSystem, n, name)
}

func (p *fileSystem) SetXattr(ctx context.Context, n backends.Node, name string, value []byte, flags backends.XattrFlags) error {
	return backends.SetXattrAt(ctx, p.FileSystem, n, name, value, flags)
}

func (p *fileSystem) ListXattr(ctx context.Context, n backends.Node) ([]string, error) {
	return backends.ListXattrAt(ctx, p.FileSystem, n)
}

func (p *fileSystem) RemoveXattr(ctx context.Context, n backends.Node, name string) error {
	return backends.RemoveXattrAt(ctx, p.FileSystem, n, name)
}

func (p *fileSystem) SyncDir(ctx context.Context, dir backends.Node) error {
	return backends.SyncDirAt(ctx, p.FileSystem, dir)
}

func (p *fileSystem) CopyRange(ctx context.Context, src backends.File, srcOff int64, dst backends.File, dstOff, n int64) (int64, error) {
	return backends.CopyRangeAt(ctx, p.FileSystem, src, srcOff, dst, dstOff, n)
}

func (p *fileSystem) OnChange(changed func(parent backends.Node, name string)) {
	if c, ok := p.FileSystem.(backends.ChangeNotifier); ok {
		c.OnChange(changed)
	}
}
