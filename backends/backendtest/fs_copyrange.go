package backendtest

import (
	"errors"
	"os"

	"github.com/agentfs/agentfs/backends"
)

// fsCopyRangeUnits are those of [backends.RangeCopier]; where there is none
// they are skipped.
var fsCopyRangeUnits = []unit[*fsEnv]{
	{"CopyRange", func(e *fsEnv) {
		content := patterned(100_000, 1)
		n := e.create(e.root, "from", content)
		m, dst := e.createOpen(e.root, "to")
		defer e.close(dst)
		e.write(dst, "0123456789", 0)
		src := e.openFile(n, os.O_RDONLY)
		defer e.close(src)
		for srcOff, dstOff, left := int64(1000), int64(5), int64(50_000); left > 0; {
			copied := e.copyRange(src, srcOff, dst, dstOff, left)
			if copied < 1 || copied > left {
				e.Fatalf("CopyRange of %d bytes at %d copied %d", left, srcOff, copied)
			}
			srcOff, dstOff, left = srcOff+copied, dstOff+copied, left-copied
		}
		e.wantOpenContent(dst, "01234"+content[1000:51_000])
		if got := e.attr(m).Size; got != 50_005 {
			e.Errorf("the size is %d, want 50005", got)
		}
		e.wantOpenContent(src, content)
		// The two have nothing in common from here on.
		e.write(dst, "CHANGED", 10)
		e.wantOpenContent(src, content)
	}},
	{"CopyRange/Ends", func(e *fsEnv) {
		src := e.openFile(e.create(e.root, "from", "0123456789"), os.O_RDONLY)
		defer e.close(src)
		_, dst := e.createOpen(e.root, "to")
		defer e.close(dst)
		if got := e.copyRange(src, 7, dst, 20, 100); got != 3 {
			e.Errorf("CopyRange across the end copied %d, want 3", got)
		}
		e.wantOpenContent(dst, string(make([]byte, 20))+"789")
		for _, off := range []int64{10, 1000} {
			if got := e.copyRange(src, off, dst, 0, 5); got != 0 {
				e.Errorf("CopyRange from %d, beyond the end, copied %d", off, got)
			}
		}
	}},
	{"CopyRange/SameFile", func(e *fsEnv) {
		n := e.create(e.root, "f", "0123456789")
		f := e.openFile(n, os.O_RDWR)
		defer e.close(f)
		if got := e.copyRange(f, 0, f, 5, 5); got != 5 {
			e.Errorf("CopyRange copied %d, want 5", got)
		}
		e.wantOpenContent(f, "0123401234")
	}},
	{"CopyRange/Others", func(e *fsEnv) {
		_, f := e.createOpen(e.root, "f")
		defer e.close(f)
		other := struct{ backends.File }{f}
		for _, pair := range [][2]backends.File{{other, f}, {f, other}} {
			_, err := backends.CopyRangeAt(e.ctx, e.fs, pair[0], 0, pair[1], 0, 1)
			e.wantErr(err, errUnsupported, "CopyRange with a file of others")
		}
	}},
}

// copyRange calls CopyRange and skips the test where there is none.
func (e *fsEnv) copyRange(src backends.File, srcOff int64, dst backends.File, dstOff, n int64) int64 {
	e.Helper()
	copied, err := backends.CopyRangeAt(e.ctx, e.fs, src, srcOff, dst, dstOff, n)
	if errors.Is(err, errors.ErrUnsupported) {
		e.Skipf("CopyRange: %v", err)
	}
	e.ok(err, "CopyRange")
	return copied
}
