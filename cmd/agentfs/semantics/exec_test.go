package semantics

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A program that is started while a file is open closes its own copy of the
// descriptor. Whatever that close runs into, the program starts, and fsync(2) by
// the one that has the file open still says what has become of it.
func TestErrorDuringExec(t *testing.T) {
	t.Parallel()
	p := onS3(t)
	write(t, p.path("f"), "the common ancestor")
	p.sync()
	f := open(t, p.path("f"), os.O_WRONLY|os.O_TRUNC)
	_, err := f.WriteString("ours")
	ok(t, "write", err)
	p.put("f", "theirs")
	deadline := time.Now().Add(30 * time.Second)
	for conflicts := 0; conflicts < 3; {
		ok(t, "exec", exec.Command("true").Run())
		for _, n := range names(t, p.dir) {
			if strings.HasPrefix(n, "f.conflict-") {
				conflicts++
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("no conflict")
		}
	}
	isErr(t, "fsync", f.Sync(), syscall.ESTALE)
	ok(t, "close", f.Close())
}
