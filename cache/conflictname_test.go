package cache

import (
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// The host's name gives way before the file's: rules are about that.
func TestConflictName(t *testing.T) {
	for _, n := range []int{1, 190, 222, 223, 255} {
		for attempt := range 3 {
			name := strings.Repeat("n", n)
			got := conflictName("d/"+name, time.Unix(0, 0), attempt)
			kept, _, ok := strings.Cut(got, ".conflict-")
			if !ok || len(got) > backends.MaxNameLen || n <= 222 && kept != name || !strings.HasPrefix(name, kept) {
				t.Errorf("a name of %d bytes: %s", n, got)
			}
		}
	}
	if got := conflictName(strings.Repeat("é", 127), time.Unix(0, 0), 0); strings.ToValidUTF8(got, "") != got {
		t.Errorf("%q is cut within a character", got)
	}
}
