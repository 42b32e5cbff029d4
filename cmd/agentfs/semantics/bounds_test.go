package semantics

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// A mount of S3 remembers as many names as the route's option entries says
// (1,000,000), and a little more while it works. Beyond that it forgets those that
// were not used lately, and asks again for what somebody wants to see. It forgets
// nothing that is open, a working directory or not in the bucket yet. The kernel
// is asked to let go of what nobody uses, which it does since Linux 6.18; before
// that, when it needs the memory. A file that was forgotten can have another
// inode number.
func TestNamesAreBounded(t *testing.T) {
	t.Parallel()
	const dirs, files, most = 50, 20, 300
	server := s3test.Versitygw(t)
	for i := range dirs {
		for j := range files {
			putObject(t, server, fmt.Sprintf("%sd%02d/f%02d", keyPrefix, i, j), fmt.Sprint(i, " ", j))
		}
	}
	m := startS3(t, server, t.TempDir(), nil, "ttl", "1h", "entries", strconv.Itoa(most))
	kept := open(t, m.path("d03/f03"), os.O_RDONLY)
	shell := exec.Command("sh", "-c", "read line; pwd -P; cat f05; cat ../d08/f08; ls | wc -l")
	shell.Dir = m.path("d07")
	in, err := shell.StdinPipe()
	ok(t, "stdin", err)
	var said strings.Builder
	shell.Stdout, shell.Stderr = &said, &said
	ok(t, "start", shell.Start())
	write(t, m.path("d09/mine"), "what was written here")
	walk := func() {
		t.Helper()
		found := run(t, m.dir, "find", ".", "-type", "f")
		if n := strings.Count(found, "\n"); n != dirs*files+1 {
			t.Errorf("find finds %d files, there are %d", n, dirs*files+1)
		}
	}
	nodes := func() (sum int) {
		t.Helper()
		for line := range strings.Lines(read(t, m.path(".agentfs/stats"))) {
			if strings.HasPrefix(line, "agentfs_nodes{") {
				fields := strings.Fields(line)
				n, err := strconv.Atoi(fields[len(fields)-1])
				ok(t, line, err)
				sum += n
			}
		}
		return sum
	}
	for range 3 {
		walk()
		if atLeast(t, 6, 18) {
			within(t, 10*time.Second, "within the bound", func() bool { return nodes() <= most })
		}
	}
	buf := make([]byte, 10)
	if n, err := kept.ReadAt(buf, 0); string(buf[:n]) != "3 3" {
		t.Errorf("the open file: %q, %v", buf[:n], err)
	}
	holds(t, m.path("d09/mine"), "what was written here")
	_, err = in.Write([]byte("\n"))
	ok(t, "write", err)
	ok(t, "shell", shell.Wait())
	if want := fmt.Sprintf("%s\n7 58 8%d\n", m.path("d07"), files); said.String() != want {
		t.Errorf("the shell said %q, want %q", said.String(), want)
	}
	for i := range dirs {
		holds(t, m.path(fmt.Sprintf("d%02d/f%02d", i, i%files)), fmt.Sprint(i, " ", i%files))
	}
	ok(t, "rename", os.Rename(m.path("d01"), m.path("moved")))
	ok(t, "remove", os.RemoveAll(m.path("d02")))
	run(t, "/", program(t), "sync", m.dir)
	if n := strings.Count(run(t, m.dir, "find", ".", "-type", "f"), "\n"); n != (dirs-1)*files+1 {
		t.Errorf("after a rename and a removal find finds %d files", n)
	}
	holds(t, m.path("moved/f11"), "1 11")
}

// atLeast reports whether the kernel is Linux major.minor or later.
func atLeast(t *testing.T, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	ok(t, "uname", unix.Uname(&u))
	var a, b int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b); err != nil {
		t.Fatal(err)
	}
	return a > major || a == major && b >= minor
}
