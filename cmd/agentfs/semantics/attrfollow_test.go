package semantics

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// Attributes follow their file into the bucket, three graces (0.3 s) after the last
// change of any in the directory, and 2 s after the first one at the latest. Those of
// new names wait for up to 10 s where such changes of a directory follow each
// other, so that a few objects have them all, however the directories take turns,
// but only as long as the mount goes on changing things, and no barrier waits: fsync(2),
// agentfs sync or agentfs unmount. Until then other machines see such a file
// with the options' owner and mode. What they would see wrongly does not wait: links,
// modes that keep others out, and what was recorded of a name before.
func TestAttributesFollow(t *testing.T) {
	t.Parallel()
	const dirs, rounds = 30, 25
	server := s3test.Versitygw(t)
	proxy := s3test.NewProxy(t, server)
	var puts, removals, lists atomic.Int64
	proxy.Inject(func(r s3test.Request) s3test.Fault {
		switch record := strings.Contains(r.Key, ".agentfs-attrs"); {
		case r.Op == "PutObject" && record:
			puts.Add(1)
		case r.Op == "DeleteObject" && record:
			removals.Add(1)
		case r.Op == "ListObjectsV2" && strings.Contains(r.Query.Get("start-after"), ".agentfs-attrs"):
			lists.Add(1)
		}
		return s3test.Fault{}
	})
	m := startS3(t, server.Through(proxy), t.TempDir(), nil)
	name := func(dir, round int) string { return fmt.Sprintf("d%d/f%d", dir, round) }
	when := func(dir, round int) time.Time { return time.Unix(1_000_000_000+int64(dir), int64(round)) }
	for d := range dirs {
		mkdir(t, m.path(fmt.Sprint("d", d)))
	}
	for r := range rounds { // a round takes longer than three graces
		for d := range dirs {
			write(t, m.path(name(d, r)), "x")
			ok(t, "chtimes", os.Chtimes(m.path(name(d, r)), when(d, r), when(d, r)))
			time.Sleep(12 * time.Millisecond)
		}
	}
	time.Sleep(3 * time.Second) // nobody changes anything, nor waits
	there := startS3(t, server, t.TempDir(), nil, "ttl", "1s")
	for d := range dirs {
		within(t, 30*time.Second, fmt.Sprintf("seen elsewhere: all times in d%d", d), func() bool {
			names(t, there.path(fmt.Sprint("d", d))) // one listing for all
			for r := range rounds {
				if fi, err := os.Stat(there.path(name(d, r))); err != nil || !fi.ModTime().Equal(when(d, r)) {
					return false
				}
			}
			return true
		})
	}
	t.Logf("%d files: %d puts and %d removals of records, %d listings of them", dirs*rounds, puts.Load(), removals.Load(), lists.Load())
	// One of each per file would be what it costs without waiting. A machine that stops
	// for three graces looks like one where nobody changes anything.
	if puts.Load()+removals.Load() > dirs*rounds*4/3 || lists.Load() > dirs {
		t.Error("that is too many")
	}
}
