package backends

import (
	"context"
	"errors"
	"time"
)

// ForwardFiles is a file system that passes every call on to the one in it,
// optional methods included. A wrapper embeds it and overrides what it changes.
//
// Nodes are those of the wrapped file system. A wrapper that wraps files, too,
// has to unwrap them in CopyRange.
type ForwardFiles struct{ FileSystem }

var (
	_ Symlinker      = ForwardFiles{}
	_ Linker         = ForwardFiles{}
	_ Mknoder        = ForwardFiles{}
	_ Xattrer        = ForwardFiles{}
	_ DirSyncer      = ForwardFiles{}
	_ DirOpener      = ForwardFiles{}
	_ Lister         = ForwardFiles{}
	_ ChangeNotifier = ForwardFiles{}
	_ RangeCopier    = ForwardFiles{}
)

// Symlink implements [Symlinker].
func (w ForwardFiles) Symlink(ctx context.Context, parent Node, name, target string, a CreateAttr) (Node, Attr, error) {
	return SymlinkAt(ctx, w.FileSystem, parent, name, target, a)
}

// Readlink implements [Symlinker].
func (w ForwardFiles) Readlink(ctx context.Context, n Node) (string, error) {
	return ReadlinkAt(ctx, w.FileSystem, n)
}

// Link implements [Linker].
func (w ForwardFiles) Link(ctx context.Context, n, newParent Node, newName string) (Attr, error) {
	return LinkAt(ctx, w.FileSystem, n, newParent, newName)
}

// Mknod implements [Mknoder].
func (w ForwardFiles) Mknod(ctx context.Context, parent Node, name string, a CreateAttr) (Node, Attr, error) {
	return MknodAt(ctx, w.FileSystem, parent, name, a)
}

// GetXattr implements [Xattrer].
func (w ForwardFiles) GetXattr(ctx context.Context, n Node, name string) ([]byte, error) {
	return GetXattrAt(ctx, w.FileSystem, n, name)
}

// SetXattr implements [Xattrer].
func (w ForwardFiles) SetXattr(ctx context.Context, n Node, name string, value []byte, flags XattrFlags) error {
	return SetXattrAt(ctx, w.FileSystem, n, name, value, flags)
}

// ListXattr implements [Xattrer].
func (w ForwardFiles) ListXattr(ctx context.Context, n Node) ([]string, error) {
	return ListXattrAt(ctx, w.FileSystem, n)
}

// RemoveXattr implements [Xattrer].
func (w ForwardFiles) RemoveXattr(ctx context.Context, n Node, name string) error {
	return RemoveXattrAt(ctx, w.FileSystem, n, name)
}

// SyncDir implements [DirSyncer].
func (w ForwardFiles) SyncDir(ctx context.Context, dir Node) error {
	return SyncDirAt(ctx, w.FileSystem, dir)
}

// OpenDir implements [DirOpener].
func (w ForwardFiles) OpenDir(ctx context.Context, dir Node) error {
	return OpenDirAt(ctx, w.FileSystem, dir)
}

// Listing implements [Lister].
func (w ForwardFiles) Listing(dir Node) (stamp uint64, valid time.Duration) {
	return ListingOf(w.FileSystem, dir)
}

// CopyRange implements [RangeCopier].
func (w ForwardFiles) CopyRange(ctx context.Context, src File, srcOff int64, dst File, dstOff, n int64) (int64, error) {
	return CopyRangeAt(ctx, w.FileSystem, src, srcOff, dst, dstOff, n)
}

// OnChange implements [ChangeNotifier].
func (w ForwardFiles) OnChange(changed func(parent Node, name string)) {
	if c, ok := w.FileSystem.(ChangeNotifier); ok {
		c.OnChange(changed)
	}
}

// OnHold implements [NodeReclaimer].
func (w ForwardFiles) OnHold(h NodeHolder) {
	if r, ok := w.FileSystem.(NodeReclaimer); ok {
		r.OnHold(h)
	}
}

// ForwardFile is an open file that passes every call on to the one in it,
// optional methods included.
type ForwardFile struct{ File }

var (
	_ Allocator  = ForwardFile{}
	_ Seeker     = ForwardFile{}
	_ Descriptor = ForwardFile{}
	_ PageCacher = ForwardFile{}
	_ DirectIOer = ForwardFile{}
)

// Allocate implements [Allocator].
func (f ForwardFile) Allocate(ctx context.Context, off, length int64, mode uint32) error {
	if a, ok := f.File.(Allocator); ok {
		return a.Allocate(ctx, off, length, mode)
	}
	return errors.ErrUnsupported
}

// SeekData implements [Seeker].
func (f ForwardFile) SeekData(ctx context.Context, off int64) (int64, error) {
	if s, ok := f.File.(Seeker); ok {
		return s.SeekData(ctx, off)
	}
	return 0, errors.ErrUnsupported
}

// SeekHole implements [Seeker].
func (f ForwardFile) SeekHole(ctx context.Context, off int64) (int64, error) {
	if s, ok := f.File.(Seeker); ok {
		return s.SeekHole(ctx, off)
	}
	return 0, errors.ErrUnsupported
}

// Descriptor implements [Descriptor].
func (f ForwardFile) Descriptor() (int, bool) {
	if d, ok := f.File.(Descriptor); ok {
		return d.Descriptor()
	}
	return -1, false
}

// KeepPages implements [PageCacher].
func (f ForwardFile) KeepPages() bool {
	p, ok := f.File.(PageCacher)
	return ok && p.KeepPages()
}

// DirectIO implements [DirectIOer].
func (f ForwardFile) DirectIO() bool {
	d, ok := f.File.(DirectIOer)
	return ok && d.DirectIO()
}
