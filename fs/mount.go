package fs

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
)

const (
	// TypeName is the mount's type after "fuse.", in /proc/mounts and df -T.
	TypeName = "agentfs"

	defaultTimeout = time.Minute
	// syncFactor is how much longer a close or an fsync may take than other
	// operations, because it may have to upload a whole file, and the listing of a
	// directory, which may have a million names.
	syncFactor = 10

	// maxRequest is the largest read or write request; the kernel's limit
	// unless root raised fs.fuse.max_pages_limit.
	maxRequest = 1 << 20
	// maxBackground is how many requests nobody waits for (read-ahead, page
	// write-back) may be under way; the kernel's default is 12.
	maxBackground = 64
	// negativeTimeout is how long a name may be remembered as absent where
	// nobody else changes the file system (see longValid).
	negativeTimeout = time.Minute
)

// Options modify a Mount. The zero value is a mount for its owner alone.
type Options struct {
	// AllowOther lets other users than the one who mounts use the mount; the
	// kernel checks permissions in any case.
	AllowOther bool
	// ReadOnly makes the kernel refuse changes with EROFS.
	ReadOnly bool
	// FsName is shown as the mount's source by mount(8) and df(1).
	FsName string
	// Log takes what the mount has to say; nil discards it.
	Log *slog.Logger
	// Timeout ends an operation that the file system doesn't answer: EIO.
	// 0 is one minute. Close and fsync, which may upload a whole file, and the
	// listing of a directory get ten times as long.
	Timeout time.Duration
	// Debug logs every request.
	Debug bool
	// NoPassthrough keeps the kernel from reading and writing host files
	// directly ([backends.Descriptor]).
	NoPassthrough bool
}

// Server is a mounted file system.
type Server struct {
	mountPoint string
	opts       Options
	direct     bool // mounted by mount(2), not by fusermount3
	m          *mount
	done       chan struct{} // closed when the kernel's connection has ended
}

// mount is what all nodes of one mount share.
type mount struct {
	fsys        backends.FileSystem
	log         *slog.Logger
	timeout     time.Duration // of an operation
	syncTimeout time.Duration // of Flush, Sync, Close and ReadDir
	srv         *fuse.Server
	passthrough bool
	problems    problemLog
	files       openFiles
	nameSeed    maphash.Seed // of the offsets in hashed listings
	// dirs maps the ids of directories that the kernel has looked into to
	// their *inode, for notifications.
	dirs    sync.Map
	flights flights
}

// Mount mounts fsys on an existing, empty directory and serves it until it is
// unmounted. It returns when the mount answers. The process's umask is set to
// 0, because the kernel has applied the caller's. An error names the mount
// point and what to do; a mount point whose server died matches [ErrStale].
//
// Mount doesn't close fsys: that is for after [Server.Wait].
func Mount(mountPoint string, fsys backends.FileSystem, o Options) (*Server, error) {
	abs, err := filepath.Abs(mountPoint)
	if err != nil {
		return nil, fmt.Errorf("mount point %s: %w", mountPoint, err)
	}
	if err := checkMountPoint(abs); err != nil {
		return nil, err
	}
	if err := checkFuse(o.AllowOther); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Timeout = cmp.Or(o.Timeout, defaultTimeout)
	syscall.Umask(0)

	m := &mount{fsys: fsys, log: o.Log, timeout: o.Timeout, syncTimeout: syncFactor * o.Timeout, nameSeed: maphash.MakeSeed()}
	m.problems.log = o.Log
	s := &Server{mountPoint: abs, opts: o, m: m, done: make(chan struct{})}
	changes := m.watchChanges()
	if r, ok := fsys.(backends.NodeReclaimer); ok {
		r.OnHold(holder{&m.flights, m})
	}

	root := &inode{m: m, node: fsys.Root()}
	ctx, cancel := context.WithTimeout(context.Background(), o.Timeout)
	attr, err := fsys.Attr(ctx, root.node)
	cancel()
	if err != nil {
		return nil, fmt.Errorf("mount on %s: the root can't be read: %w", abs, err)
	}
	root.learn(&attr)
	negative := negativeTimeout
	raw := rawFS{flights: &m.flights, RawFileSystem: gofs.NewNodeFS(root, &gofs.Options{
		NegativeTimeout: &negative,
		NullPermissions: true,
		RootStableAttr:  &gofs.StableAttr{Ino: fsys.Root().ID()},
		Logger:          slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
	})}
	if m.srv, s.direct, err = newServer(abs, raw, o); err != nil {
		return nil, err
	}
	m.passthrough = !o.NoPassthrough && m.tryPassthrough()

	go func() {
		m.srv.Serve()
		m.files.closeAll()
		if changes != nil {
			changes.stop()
		}
		close(s.done)
	}()
	if err := m.srv.WaitMount(); err != nil {
		s.detach()
		return nil, fmt.Errorf("mount on %s: it doesn't answer: %w", abs, err)
	}
	if changes != nil {
		go changes.run()
	}
	raiseReadAhead(abs)
	return s, nil
}

// newServer mounts: as root by mount(2), else (or where root may not mount,
// as in many containers) with the set-uid helper fusermount3.
func newServer(mountPoint string, raw fuse.RawFileSystem, o Options) (*fuse.Server, bool, error) {
	mo := fuse.MountOptions{
		AllowOther:    o.AllowOther,
		FsName:        cmp.Or(o.FsName, TypeName),
		Name:          TypeName,
		Options:       []string{"default_permissions"},
		MaxBackground: maxBackground,
		MaxWrite:      maxRequest,
		MaxReadAhead:  maxRequest,
		// 2 and not 1: host files on an overlay file system, which is what a
		// container's root is, can be passed through as well.
		MaxStackDepth: 2,
		// A content that didn't come through the mount comes with a new node
		// (see backends), so pages never have to be dropped on suspicion.
		ExplicitDataCacheControl: true,
		// A link's target never changes while the node lives.
		EnableSymlinkCaching: true,
		ExtraCapabilities:    fuse.CAP_HANDLE_KILLPRIV_V2,
		// What is read comes as bytes. go-fuse would get a pipe ready for each
		// answer to find that out, and log that one is too large for a pipe.
		DisableSplice: true,
		Debug:         o.Debug,
		Logger:        slog.NewLogLogger(o.Log.Handler(), logLevel(o.Debug)),
		PanicHandler:  panicHandler(o.Log),
	}
	var direct error
	if os.Geteuid() == 0 {
		dm := mo
		dm.DirectMountStrict = true
		dm.DirectMountFlags = unix.MS_NOSUID | unix.MS_NODEV
		if o.ReadOnly {
			dm.DirectMountFlags |= unix.MS_RDONLY
		}
		srv, err := fuse.NewServer(raw, mountPoint, &dm)
		if err == nil {
			return srv, true, nil
		}
		direct = err
	}
	if o.ReadOnly {
		mo.Options = append(mo.Options, "ro")
	}
	if err := checkHelper(mountPoint, direct); err != nil {
		return nil, false, err
	}
	srv, err := fuse.NewServer(raw, mountPoint, &mo)
	if err != nil {
		return nil, false, mountFailed(mountPoint, cmp.Or(direct, err))
	}
	return srv, false, nil
}

// logLevel returns the level of what go-fuse says: who asks for every request is to
// see them without asking for a level, too.
func logLevel(debug bool) slog.Level {
	if debug {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// Options returns the options that the mount was made with.
func (s *Server) Options() Options { return s.opts }

// MountPoint returns the absolute path of the mount point.
func (s *Server) MountPoint() string { return s.mountPoint }

// Passthrough reports whether the kernel reads and writes the host files of
// [backends.Descriptor] files directly.
func (s *Server) Passthrough() bool { return s.m.passthrough }

// Wait returns when the file system has been unmounted, by [Server.Unmount] or
// by anybody else, the last operation has ended, and every file is closed.
func (s *Server) Wait() { <-s.done }
