package backends

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"
)

// Symlinker is implemented by file systems with symbolic links.
type Symlinker interface {
	Symlink(ctx context.Context, parent Node, name, target string, a CreateAttr) (Node, Attr, error)
	// Readlink returns the target; [fs.ErrInvalid] if n is no link.
	Readlink(ctx context.Context, n Node) (string, error)
}

// Linker is implemented by file systems with hard links.
type Linker interface {
	// Link gives n a further name. A directory is [ErrNotPermitted].
	Link(ctx context.Context, n, newParent Node, newName string) (Attr, error)
}

// Mknoder is implemented by file systems that can hold FIFOs, sockets and
// device nodes.
type Mknoder interface {
	// Mknod makes an inode of the type in a.Mode; a regular file too.
	Mknod(ctx context.Context, parent Node, name string, a CreateAttr) (Node, Attr, error)
}

// XattrFlags are the flags of setxattr(2).
type XattrFlags uint32

// Flags of SetXattr.
const (
	// XattrCreate makes an existing attribute [fs.ErrExist].
	XattrCreate XattrFlags = 1
	// XattrReplace makes a missing attribute [ErrNoXattr].
	XattrReplace XattrFlags = 2
)

// VersionXattr is the extended attribute that has the version of a regular
// file's content, the one that the store calls it by, for as long as that is the
// content: a file that the store does not have yet has no such attribute. It is
// there to be read, and not listed, so that no tool copies it along.
const VersionXattr = reservedXattrs + "version"

// reservedXattrs begins the names of extended attributes that agentfs keeps for
// itself.
const reservedXattrs = "user.agentfs."

// CheckXattr returns [ErrNotPermitted] for an attribute that is not the users'
// to set or to remove.
func CheckXattr(name string) error {
	if strings.HasPrefix(name, reservedXattrs) {
		return ErrNotPermitted
	}
	return nil
}

// VersionXattrOf returns what [VersionXattr] is for a content of version v, ""
// being no content that has one.
func VersionXattrOf(v Version) ([]byte, error) {
	if v == "" {
		return nil, ErrNoXattr
	}
	return []byte(v), nil
}

// Xattrer is implemented by file systems with extended attributes. All of them
// have [VersionXattr] and refuse what [CheckXattr] does.
type Xattrer interface {
	GetXattr(ctx context.Context, n Node, name string) ([]byte, error)
	SetXattr(ctx context.Context, n Node, name string, value []byte, flags XattrFlags) error
	ListXattr(ctx context.Context, n Node) ([]string, error)
	RemoveXattr(ctx context.Context, n Node, name string) error
}

// DirSyncer is implemented by file systems where fsync(2) of a directory has
// something to do.
type DirSyncer interface {
	// SyncDir returns when everything below dir is in the store.
	SyncDir(ctx context.Context, dir Node) error
}

// DirOpener is implemented by file systems that don't let everybody list every
// directory.
type DirOpener interface {
	// OpenDir is opendir(3): it is asked each time that somebody opens dir to
	// list it, because what follows may be answered from a listing that
	// somebody else has read.
	OpenDir(ctx context.Context, dir Node) error
}

// Lister is implemented by file systems that know how long a listing stands.
type Lister interface {
	// Listing says of the names in dir, as ReadDir returns them, for how long
	// they may be told again without asking, 0 if they may not. Another stamp
	// means that they may be others, or were confirmed anew; 0 that nothing can be
	// said of dir. ReadDir returns them in the order of their bytes.
	Listing(dir Node) (stamp uint64, valid time.Duration)
}

// ChangeNotifier is implemented by file systems that learn of changes made
// from outside.
type ChangeNotifier interface {
	// OnChange sets the function to call when what Lookup answered for name in
	// parent no longer holds. It is called with no lock held and never from
	// inside a call of the FileSystem's caller. It is set before the first
	// other call.
	OnChange(func(parent Node, name string))
}

// NodeReclaimer is implemented by file systems that forget nodes which they can
// find again.
type NodeReclaimer interface {
	// OnHold sets who is asked which nodes are in use. Nothing is forgotten
	// before that. It is set before the first other call but Root.
	OnHold(h NodeHolder)
}

// NodeHolder knows which nodes somebody may still use, because they were handed to
// the kernel. Its methods may be called at any time, Quiet and Holds with locks of
// the file system held.
type NodeHolder interface {
	// Quiet returns a function that reports whether all calls of the file system
	// that were under way when Quiet was called have ended, so that Holds knows of
	// what they have handed out.
	Quiet() (over func() bool)
	// Holds returns a function that reports whether the child of dir with that
	// name may be in use. Of a call that Quiet did not wait for it may not know.
	Holds(dir Node) (held func(name string) bool)
	// Release asks to let go of what is known of dir's children with these names and
	// nobody uses, and of what is kept of dir's listing.
	Release(dir Node, names []string)
}

// SymlinkAt calls fsys's Symlink.
func SymlinkAt(ctx context.Context, fsys FileSystem, parent Node, name, target string, a CreateAttr) (Node, Attr, error) {
	if s, ok := fsys.(Symlinker); ok {
		return s.Symlink(ctx, parent, name, target, a)
	}
	return nil, Attr{}, errors.ErrUnsupported
}

// ReadlinkAt calls fsys's Readlink.
func ReadlinkAt(ctx context.Context, fsys FileSystem, n Node) (string, error) {
	if s, ok := fsys.(Symlinker); ok {
		return s.Readlink(ctx, n)
	}
	return "", errors.ErrUnsupported
}

// LinkAt calls fsys's Link.
func LinkAt(ctx context.Context, fsys FileSystem, n, newParent Node, newName string) (Attr, error) {
	if l, ok := fsys.(Linker); ok {
		return l.Link(ctx, n, newParent, newName)
	}
	return Attr{}, errors.ErrUnsupported
}

// MknodAt calls fsys's Mknod. Where there is none, a regular file is made with
// Create; if that can't be closed, its name goes again, as far as nobody has made
// another file of it meanwhile.
func MknodAt(ctx context.Context, fsys FileSystem, parent Node, name string, a CreateAttr) (Node, Attr, error) {
	if m, ok := fsys.(Mknoder); ok {
		n, attr, err := m.Mknod(ctx, parent, name, a)
		if !errors.Is(err, errors.ErrUnsupported) {
			return n, attr, err
		}
	}
	if !a.Mode.IsRegular() {
		return nil, Attr{}, errors.ErrUnsupported
	}
	n, attr, f, err := fsys.Create(ctx, parent, name, createExclusive, a)
	if err != nil {
		return nil, Attr{}, err
	}
	err = f.Flush(ctx)
	if cerr := f.Close(ctx); err == nil {
		err = cerr
	}
	if err != nil {
		ctx := context.WithoutCancel(ctx)
		if now, _, lerr := fsys.Lookup(ctx, parent, name); lerr == nil && now.ID() == n.ID() {
			_ = fsys.Unlink(ctx, parent, name)
		}
		fsys.Forget(n)
		return nil, Attr{}, err
	}
	return n, attr, nil
}

// GetXattrAt calls fsys's GetXattr.
func GetXattrAt(ctx context.Context, fsys FileSystem, n Node, name string) ([]byte, error) {
	if x, ok := fsys.(Xattrer); ok {
		return x.GetXattr(ctx, n, name)
	}
	return nil, errors.ErrUnsupported
}

// SetXattrAt calls fsys's SetXattr.
func SetXattrAt(ctx context.Context, fsys FileSystem, n Node, name string, value []byte, flags XattrFlags) error {
	if x, ok := fsys.(Xattrer); ok {
		return x.SetXattr(ctx, n, name, value, flags)
	}
	return errors.ErrUnsupported
}

// ListXattrAt calls fsys's ListXattr.
func ListXattrAt(ctx context.Context, fsys FileSystem, n Node) ([]string, error) {
	if x, ok := fsys.(Xattrer); ok {
		return x.ListXattr(ctx, n)
	}
	return nil, errors.ErrUnsupported
}

// RemoveXattrAt calls fsys's RemoveXattr.
func RemoveXattrAt(ctx context.Context, fsys FileSystem, n Node, name string) error {
	if x, ok := fsys.(Xattrer); ok {
		return x.RemoveXattr(ctx, n, name)
	}
	return errors.ErrUnsupported
}

// SyncDirAt calls fsys's SyncDir. Where there is none, nothing is ever waiting
// and there is nothing to do.
func SyncDirAt(ctx context.Context, fsys FileSystem, dir Node) error {
	if s, ok := fsys.(DirSyncer); ok {
		if err := s.SyncDir(ctx, dir); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return nil
}

// OpenDirAt calls fsys's OpenDir. Where there is none, everybody may.
func OpenDirAt(ctx context.Context, fsys FileSystem, dir Node) error {
	if o, ok := fsys.(DirOpener); ok {
		return o.OpenDir(ctx, dir)
	}
	return nil
}

// ListingOf calls fsys's Listing. Where there is none, each reader asks.
func ListingOf(fsys FileSystem, dir Node) (stamp uint64, valid time.Duration) {
	if l, ok := fsys.(Lister); ok {
		return l.Listing(dir)
	}
	return 0, 0
}

// createExclusive are the flags of a Create that stands for mknod(2).
const createExclusive = os.O_WRONLY | os.O_CREATE | os.O_EXCL

// RangeCopier is implemented by file systems that can copy a range of one open
// file to another without moving the bytes through the caller.
type RangeCopier interface {
	// CopyRange is copy_file_range(2): it copies up to n bytes and returns how
	// many, 0 if src ends before srcOff. src is open for reading and dst for
	// writing. Files that this file system has not opened are
	// [errors.ErrUnsupported], upon which the kernel copies by itself; it
	// drops the pages that it holds of the range afterwards.
	//
	// Of a file whose [Descriptor] was given out the kernel reads and writes
	// the host file and nothing else: what it wrote there has to be in the
	// copy, and what is copied to it has to be there.
	CopyRange(ctx context.Context, src File, srcOff int64, dst File, dstOff, n int64) (int64, error)
}

// CopyRangeAt calls fsys's CopyRange.
func CopyRangeAt(ctx context.Context, fsys FileSystem, src File, srcOff int64, dst File, dstOff, n int64) (int64, error) {
	if c, ok := fsys.(RangeCopier); ok {
		return c.CopyRange(ctx, src, srcOff, dst, dstOff, n)
	}
	return 0, errors.ErrUnsupported
}
