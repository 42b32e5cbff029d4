package cli

import (
	"errors"
	"fmt"
	"testing"

	"github.com/agentfs/agentfs/cache"
)

// The end of a mount says what is not stored, where it is and what to do, on
// one line.
func TestNotStoredText(t *testing.T) {
	var many []error
	for i := range maxBrief + 2 {
		many = append(many, fmt.Errorf("f%d: denied", i))
	}
	left := []cache.RoomStatus{{Identity: "s3 b", Dir: "/c/rooms/1", Pending: 7}}
	for _, c := range []struct {
		err   error
		bound string
		left  []cache.RoomStatus
		want  string
	}{
		{nil, "--drain-timeout was 1s", left, "not everything is stored (--drain-timeout was 1s); 7 changes of s3 b in the journal in /c/rooms/1; " +
			"the next mount of the same store, or agentfs recover --cache-dir '/c d', stores the rest"},
		{errors.Join(many...), "", left, "not everything is stored: f0: denied; f1: denied; f2: denied; f3: denied; f4: denied; and 2 more; 7 changes of s3 b in the journal in /c/rooms/1; " +
			"the next mount of the same store, or agentfs recover --cache-dir '/c d', stores the rest"},
		{errors.New("a: kept in /c/k"), "", nil, "not everything is stored: a: kept in /c/k; nothing uploads it by itself any more: agentfs recover --list --cache-dir '/c d' shows what is kept"},
	} {
		if got := notStored(c.err, c.bound, c.left, "/c d"); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}
