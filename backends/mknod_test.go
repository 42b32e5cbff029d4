package backends_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

// unflushed is a file system without Mknod whose new files can't be closed.
type unflushed struct{ backends.FileSystem }

var errFlush = errors.New("the store is down")

func (u unflushed) Create(ctx context.Context, p backends.Node, name string, flags int, at backends.CreateAttr) (backends.Node, backends.Attr, backends.File, error) {
	n, a, f, err := u.FileSystem.Create(ctx, p, name, flags, at)
	return n, a, unflushedFile{f}, err
}

type unflushedFile struct{ backends.File }

func (unflushedFile) Flush(context.Context) error { return errFlush }

// A mknod(2) that fails leaves no name.
func TestMknodAtFails(t *testing.T) {
	f := unflushed{memorytest.New(t, memory.Config{NoTmpfs: true}).FileSystem()}
	if _, _, err := backends.MknodAt(t.Context(), f, f.Root(), "f", backends.CreateAttr{Mode: 0o644}); !errors.Is(err, errFlush) {
		t.Errorf("a file that can't be closed: %v", err)
	}
	if _, _, err := f.Lookup(t.Context(), f.Root(), "f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after that its name: %v", err)
	}
}
