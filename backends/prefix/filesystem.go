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
	return &fileSystem{ForwardFiles: backends.ForwardFiles{FileSystem: f}, root: root}, nil
}

type fileSystem struct {
	backends.ForwardFiles
	root backends.Node
}

func (p *fileSystem) Root() backends.Node { return p.root }

// Forget keeps the root, which is used as long as the file system is.
func (p *fileSystem) Forget(n backends.Node) {
	if n != p.root {
		p.FileSystem.Forget(n)
	}
}

// OnHold is not passed on: nobody who is asked would know that the root is in use.
func (p *fileSystem) OnHold(backends.NodeHolder) {}
