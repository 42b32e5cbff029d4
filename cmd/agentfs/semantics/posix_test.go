package semantics

import (
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// posixExceptions are tests of posixtest that are not run on an S3 route, with
// the reason.
var posixExceptions = map[string]string{
	"FcntlFlockLocksFile": "wants a second descriptor of the same process to be refused a POSIX lock, but these belong to the process (fcntl(2)); no directory of Linux passes",
	"Link":                "an object has one name",
	"LinkUnlinkRename":    "an object has one name",
}

// On S3, go-fuse's own POSIX tests pass, but for those of hard links; the test
// names each.
func TestPosix(t *testing.T) {
	for name, test := range posixtest.All {
		t.Run(name, func(t *testing.T) {
			if why, ok := posixExceptions[name]; ok {
				t.Skip(why)
			}
			test(t, onS3(t).dir)
		})
	}
}
