package router

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/agentfs/agentfs/backends"
)

var (
	_ backends.Xattrer        = (*files)(nil)
	_ backends.DirSyncer      = (*files)(nil)
	_ backends.DirOpener      = (*files)(nil)
	_ backends.ChangeNotifier = (*files)(nil)
	_ backends.Lister         = (*files)(nil)
	_ backends.RangeCopier    = (*files)(nil)
)

// noXattrs reports whether err is that of at for a point without a directory
// of its own, which has no attributes.
func noXattrs(n backends.Node, err error) bool {
	_, ok := n.(*point)
	return ok && missing(err)
}

// GetXattr implements [backends.Xattrer].
func (f *files) GetXattr(ctx context.Context, n backends.Node, name string) ([]byte, error) {
	r, in, err := f.at(ctx, "getxattr", n)
	if noXattrs(n, err) {
		return nil, &fs.PathError{Op: "getxattr", Path: name, Err: backends.ErrNoXattr}
	}
	if err != nil {
		return nil, err
	}
	return backends.GetXattrAt(ctx, r.files, in, name)
}

// SetXattr implements [backends.Xattrer].
func (f *files) SetXattr(ctx context.Context, n backends.Node, name string, value []byte, flags backends.XattrFlags) error {
	r, in, err := f.real(ctx, "setxattr", n)
	if err != nil {
		return err
	}
	return backends.SetXattrAt(ctx, r.files, in, name, value, flags)
}

// ListXattr implements [backends.Xattrer].
func (f *files) ListXattr(ctx context.Context, n backends.Node) ([]string, error) {
	r, in, err := f.at(ctx, "listxattr", n)
	if noXattrs(n, err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return backends.ListXattrAt(ctx, r.files, in)
}

// RemoveXattr implements [backends.Xattrer].
func (f *files) RemoveXattr(ctx context.Context, n backends.Node, name string) error {
	r, in, err := f.at(ctx, "removexattr", n)
	if noXattrs(n, err) {
		return &fs.PathError{Op: "removexattr", Path: name, Err: backends.ErrNoXattr}
	}
	if err != nil {
		return err
	}
	return backends.RemoveXattrAt(ctx, r.files, in, name)
}

// SyncDir implements [backends.DirSyncer]. In a point it waits for all routes
// at and below it, side by side.
func (f *files) SyncDir(ctx context.Context, dir backends.Node) error {
	p, ok := dir.(*point)
	if !ok || p.owner != f.rt {
		r, in, err := f.at(ctx, "fsync", dir)
		if err != nil {
			return err
		}
		return backends.SyncDirAt(ctx, r.files, in)
	}
	return each(p.routes(nil), func(r *route) error {
		in := r.files.Root()
		if r == p.r {
			var err error
			if in, _, err = p.find(ctx); err != nil {
				if missing(err) {
					return nil // nothing of r is there
				}
				return err
			}
		}
		return backends.SyncDirAt(ctx, r.files, in)
	})
}

// OpenDir implements [backends.DirOpener] for the routes that do.
func (f *files) OpenDir(ctx context.Context, dir backends.Node) error {
	if r := f.routeOf(dir); r != nil {
		if _, asks := r.files.(backends.DirOpener); !asks {
			return nil
		}
	}
	r, in, err := f.at(ctx, "opendir", dir)
	if _, isPoint := dir.(*point); isPoint && missing(err) {
		return nil // nothing but points is in it
	}
	if err != nil {
		return err
	}
	return backends.OpenDirAt(ctx, r.files, in)
}

// Listing implements [backends.Lister] for directories that belong to a route
// alone.
func (f *files) Listing(dir backends.Node) (stamp uint64, valid time.Duration) {
	if n, ok := dir.(node); ok && n.r.owner == f.rt {
		return backends.ListingOf(n.r.files, n.n)
	}
	return 0, 0
}

// routes appends the routes that have something at or below p.
func (p *point) routes(rs []*route) []*route {
	if p.mount || len(rs) == 0 {
		rs = append(rs, p.r)
	}
	for _, c := range p.order {
		rs = c.routes(rs)
	}
	return rs
}

// CopyRange implements [backends.RangeCopier] within a route. Files are those
// of the routes themselves, and a route knows its own.
func (f *files) CopyRange(ctx context.Context, src backends.File, srcOff int64, dst backends.File, dstOff, n int64) (int64, error) {
	for _, r := range f.rt.routes {
		copied, err := backends.CopyRangeAt(ctx, r.files, src, srcOff, dst, dstOff, n)
		if !errors.Is(err, errors.ErrUnsupported) {
			return copied, err
		}
	}
	return 0, errors.ErrUnsupported
}

// OnChange implements [backends.ChangeNotifier] for the routes that do.
func (f *files) OnChange(changed func(parent backends.Node, name string)) {
	for _, r := range f.rt.routes {
		if c, ok := r.files.(backends.ChangeNotifier); ok {
			c.OnChange(func(parent backends.Node, name string) {
				if n, visible := r.outer(parent, name); visible {
					changed(n, name)
				}
			})
		}
	}
}

// OnHold implements [backends.NodeReclaimer] for the routes that do.
func (f *files) OnHold(h backends.NodeHolder) {
	for _, r := range f.rt.routes {
		if c, ok := r.files.(backends.NodeReclaimer); ok {
			c.OnHold(&holder{h, r})
		}
	}
}

// holder tells a route which of its nodes are in use.
type holder struct {
	backends.NodeHolder
	r *route
}

// Holds implements [backends.NodeHolder].
func (h *holder) Holds(dir backends.Node) func(string) bool {
	out, _ := h.r.outer(dir, "")
	return h.NodeHolder.Holds(out)
}

// Release implements [backends.NodeHolder].
func (h *holder) Release(dir backends.Node, names []string) {
	out, _ := h.r.outer(dir, "")
	h.NodeHolder.Release(out, names)
}

// outer returns the node that stands for the directory parent of r, and
// whether the name in it is seen there at all.
func (r *route) outer(parent backends.Node, name string) (backends.Node, bool) {
	if parent == r.files.Root() {
		return r.point, !r.point.shadows(name)
	}
	for _, p := range r.inside {
		if dir := p.lastDir.Load(); dir != nil && *dir == parent {
			return p, !p.shadows(name)
		}
	}
	return node{parent, r}, true
}

// shadows reports whether another route's root hides what p's store has under
// name.
func (p *point) shadows(name string) bool {
	c := p.children[name]
	return c != nil && c.mount
}
