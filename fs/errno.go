package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/agentfs/agentfs/backends"
)

// errnos is the table from errors to errnos. The first row that matches
// counts, so what is more specific comes first: errors of package backends
// before those of io/fs, because errors.Is(ENOTEMPTY, fs.ErrExist) holds.
// ErrUnsupported and errnos themselves are rows of errnoOf.
var errnos = []struct {
	err   error
	errno syscall.Errno
}{
	{backends.ErrNotEmpty, syscall.ENOTEMPTY},
	{backends.ErrIsDir, syscall.EISDIR},
	{backends.ErrNotDir, syscall.ENOTDIR},
	{backends.ErrNoSpace, syscall.ENOSPC},
	{backends.ErrTooLarge, syscall.EFBIG},
	{backends.ErrNameTooLong, syscall.ENAMETOOLONG},
	{backends.ErrIllegalName, syscall.EILSEQ},
	{backends.ErrReserved, syscall.EPERM},
	{backends.ErrBusy, syscall.EBUSY},
	{backends.ErrReadOnly, syscall.EROFS},
	{backends.ErrNotPermitted, syscall.EPERM},
	{backends.ErrNoXattr, syscall.ENODATA},
	{backends.ErrTooManyLinks, syscall.EMLINK},
	{backends.ErrNoData, syscall.ENXIO},
	{backends.ErrNotRecorded, syscall.EAGAIN},
	{backends.ErrChanged, syscall.ESTALE},

	// Before the errnos: a timeout is an errno's Is target too.
	{context.DeadlineExceeded, syscall.EIO},
	{context.Canceled, syscall.EINTR},
}

// generalErrnos are tried after an errno in the error's chain.
var generalErrnos = []struct {
	err   error
	errno syscall.Errno
}{
	{iofs.ErrNotExist, syscall.ENOENT},
	{iofs.ErrExist, syscall.EEXIST},
	{iofs.ErrPermission, syscall.EACCES},
	{iofs.ErrInvalid, syscall.EINVAL},
	{iofs.ErrClosed, syscall.EBADF},
}

// opName names an operation in the log, and decides what unsupported means.
type opName string

// unsupported is EXDEV for what joins two names, because every program then
// copies, and EOPNOTSUPP otherwise.
func (op opName) unsupported() syscall.Errno {
	switch op {
	case "rename", "link":
		return syscall.EXDEV
	}
	return syscall.EOPNOTSUPP
}

// errnoOf returns the errno of err, and whether err is one that the table
// knows. It is never ENOSYS: the kernel would remember it for the whole mount
// and turn the operation off for every route.
func errnoOf(op opName, err error) (syscall.Errno, bool) {
	for i := range errnos {
		if errors.Is(err, errnos[i].err) {
			return errnos[i].errno, true
		}
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return op.unsupported(), true
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok && errno != 0 {
		if networkErrno(errno) {
			return syscall.EIO, false
		}
		return errno, true
	}
	for i := range generalErrnos {
		if errors.Is(err, generalErrnos[i].err) {
			return generalErrnos[i].errno, true
		}
	}
	return syscall.EIO, false
}

// Errno returns the errno of err, which the operation of this name (that of its
// system call) ends in; 0 for nil.
func Errno(op string, err error) syscall.Errno {
	if err == nil {
		return 0
	}
	errno, _ := errnoOf(opName(op), err)
	return errno
}

// networkErrno reports whether errno speaks of a connection. It says nothing
// about a file, and no program expects it from one.
func networkErrno(errno syscall.Errno) bool {
	return errno == syscall.EPIPE || errno >= syscall.ENOTSOCK && errno <= syscall.EINPROGRESS
}

// errno returns the errno of err, 0 for nil. What becomes EIO is logged.
func (m *mount) errno(op opName, n *inode, err error) syscall.Errno {
	if err == nil {
		return 0
	}
	errno, known := errnoOf(op, err)
	if known && errno != syscall.EIO {
		return errno
	}
	m.problems.report(op, n.node.ID(), err)
	return errno
}

const (
	// problemPause is how long a cause that was logged is not logged again.
	problemPause = time.Minute
	// maxProblems bounds how many causes are remembered.
	maxProblems = 256
)

// problemLog logs why operations failed with EIO, each cause once per
// problemPause. The zero value with log set is ready for use.
type problemLog struct {
	log *slog.Logger

	mu   sync.Mutex
	seen map[string]*problem
}

type problem struct {
	logged time.Time
	more   int // how often it came since
}

// report logs that op on the node id failed with err. The path is not known
// here; an error of the file system usually has it.
func (p *problemLog) report(op opName, id uint64, err error) {
	what := err.Error()
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		what = "timed out: " + what
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		what = "content ended early: " + what
	}
	now := time.Now()
	key := string(op) + "\x00" + what
	p.mu.Lock()
	defer p.mu.Unlock()
	if last, ok := p.seen[key]; ok && now.Sub(last.logged) < problemPause {
		last.more++
		return
	}
	more := 0
	if last, ok := p.seen[key]; ok {
		more = last.more
	}
	if p.seen == nil || len(p.seen) >= maxProblems {
		p.seen = map[string]*problem{}
	}
	p.seen[key] = &problem{logged: now}
	p.log.Error("input/output error", "op", string(op), "node", id, "error", what, "more_since_last", more)
}

// panicHandler answers EIO for an operation that panicked, and logs where.
func panicHandler(log *slog.Logger) func(any) fuse.Status {
	return func(v any) fuse.Status {
		stack := strings.TrimSpace(string(debug.Stack()))
		log.Error("an operation failed in an unforeseen way; please report it", "panic", fmt.Sprint(v), "stack", stack)
		return fuse.EIO
	}
}
