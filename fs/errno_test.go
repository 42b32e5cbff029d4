package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	iofs "io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/agentfs/agentfs/backends"
)

// errnoRows has every exported error of package backends.
var errnoRows = map[string]struct {
	err  error
	want syscall.Errno
}{
	"ErrChanged":      {backends.ErrChanged, syscall.ESTALE},
	"ErrIsDir":        {backends.ErrIsDir, syscall.EISDIR},
	"ErrNotDir":       {backends.ErrNotDir, syscall.ENOTDIR},
	"ErrNotEmpty":     {backends.ErrNotEmpty, syscall.ENOTEMPTY},
	"ErrNoSpace":      {backends.ErrNoSpace, syscall.ENOSPC},
	"ErrTooLarge":     {backends.ErrTooLarge, syscall.EFBIG},
	"ErrNameTooLong":  {backends.ErrNameTooLong, syscall.ENAMETOOLONG},
	"ErrIllegalName":  {backends.ErrIllegalName, syscall.EILSEQ},
	"ErrReserved":     {backends.ErrReserved, syscall.EPERM},
	"ErrBusy":         {backends.ErrBusy, syscall.EBUSY},
	"ErrReadOnly":     {backends.ErrReadOnly, syscall.EROFS},
	"ErrNotPermitted": {backends.ErrNotPermitted, syscall.EPERM},
	"ErrNoXattr":      {backends.ErrNoXattr, syscall.ENODATA},
	"ErrTooManyLinks": {backends.ErrTooManyLinks, syscall.EMLINK},
	"ErrNoData":       {backends.ErrNoData, syscall.ENXIO},
	"ErrNotRecorded":  {backends.ErrNotRecorded, syscall.EAGAIN},
}

func TestErrnoOfBackendErrors(t *testing.T) {
	for _, name := range exportedErrors(t) {
		row, ok := errnoRows[name]
		if !ok {
			t.Errorf("backends.%s has no row in this test: add it here and to the table in errno.go", name)
			continue
		}
		err := backends.WrapPath("open", "a/b", fmt.Errorf("store: %w", row.err))
		if got, known := errnoOf("open", err); got != row.want || !known {
			t.Errorf("backends.%s: got %v (known %v), want %v", name, got, known, row.want)
		}
	}
}

// exportedErrors reads the source of package backends, so that a new error
// can't be forgotten.
func exportedErrors(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../backends/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no source of package backends: %v", err)
	}
	var names []string
	for _, f := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				for _, id := range spec.(*ast.ValueSpec).Names {
					if id.IsExported() && strings.HasPrefix(id.Name, "Err") {
						names = append(names, id.Name)
					}
				}
			}
		}
	}
	if len(names) == 0 {
		t.Fatal("package backends has no errors: is the search wrong?")
	}
	return names
}

func TestErrnoOfOtherErrors(t *testing.T) {
	for _, c := range []struct {
		op    opName
		err   error
		want  syscall.Errno
		known bool
	}{
		{"lookup", iofs.ErrNotExist, syscall.ENOENT, true},
		{"mkdir", iofs.ErrExist, syscall.EEXIST, true},
		{"open", iofs.ErrPermission, syscall.EACCES, true},
		{"open", iofs.ErrInvalid, syscall.EINVAL, true},
		{"read", iofs.ErrClosed, syscall.EBADF, true},
		{"rename", errors.ErrUnsupported, syscall.EXDEV, true},
		{"link", errors.ErrUnsupported, syscall.EXDEV, true},
		{"copy_file_range", errors.ErrUnsupported, syscall.EOPNOTSUPP, true},
		{"setxattr", errors.ErrUnsupported, syscall.EOPNOTSUPP, true},
		{"fallocate", syscall.ENOSYS, syscall.EOPNOTSUPP, true},
		{"fsync", &os.SyscallError{Syscall: "fsync", Err: syscall.ENOSYS}, syscall.EOPNOTSUPP, true},
		{"rmdir", &iofs.PathError{Op: "rmdir", Path: "x", Err: syscall.ENOTEMPTY}, syscall.ENOTEMPTY, true},
		{"write", syscall.EDQUOT, syscall.EDQUOT, true},
		{"read", context.Canceled, syscall.EINTR, true},
		{"read", context.DeadlineExceeded, syscall.EIO, true},
		{"read", os.ErrDeadlineExceeded, syscall.EIO, false},
		{"read", syscall.ECONNREFUSED, syscall.EIO, false},
		{"read", syscall.ETIMEDOUT, syscall.EIO, false},
		{"read", io.ErrUnexpectedEOF, syscall.EIO, false},
		{"read", errors.New("whatever"), syscall.EIO, false},
		// A wrapped error keeps its own meaning beside a general one.
		{"rmdir", errors.Join(iofs.ErrExist, backends.ErrNotEmpty), syscall.ENOTEMPTY, true},
	} {
		err := fmt.Errorf("wrapped: %w", c.err)
		if got, known := errnoOf(c.op, err); got != c.want || known != c.known {
			t.Errorf("%s: %v: got %v (known %v), want %v (%v)", c.op, c.err, got, known, c.want, c.known)
		}
	}
}

func TestUnknownErrorsAreLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	m := &mount{}
	m.problems.log = slog.New(slog.NewTextHandler(&log, nil))
	n := &inode{m: m, node: testNode(7)}
	for range 5 {
		if got := m.errno("read", n, errors.New("the disk is on fire")); got != syscall.EIO {
			t.Fatalf("got %v, want EIO", got)
		}
	}
	m.errno("read", n, context.DeadlineExceeded)
	m.errno("lookup", n, iofs.ErrNotExist)
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("got %d lines, want one for the fire and one for the timeout:\n%s", len(lines), log.String())
	}
	for i, want := range []string{"the disk is on fire", "timed out"} {
		if !strings.Contains(lines[i], want) || !strings.Contains(lines[i], "node=7") || !strings.Contains(lines[i], "op=read") {
			t.Errorf("line %d lacks the cause %q, the node or the operation: %s", i, want, lines[i])
		}
	}
}

type testNode uint64

func (n testNode) ID() uint64 { return uint64(n) }
