package attrs

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

const recordPrefix = backends.RecordPrefix + "-"

// idTime is how many hexadecimal digits of nanoseconds an id begins with.
const idTime = 16

// IsRecord reports whether a file of this base name is a record.
func IsRecord(name string) bool { return strings.HasPrefix(name, recordPrefix) }

// newRecordName returns the name of a record that is made at a time in
// nanoseconds, and that no other has.
func newRecordName(at int64) string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	return fmt.Sprintf("%s%0*x%s", recordPrefix, idTime, at, hex.EncodeToString(random[:]))
}

// recordTime returns the time in a record's name. A record without one can't be
// told to be earlier than what it is merged into, and is not understood.
func recordTime(name string) (at int64, ok bool) {
	id := strings.TrimPrefix(name, recordPrefix)
	if len(id) < idTime {
		return 0, false
	}
	at, err := strconv.ParseInt(id[:idTime], 16, 64)
	return at, err == nil && at > 0 && at < maxChanged
}

// record is one record that was read or written. Immutable.
type record struct {
	name    string // base name
	version backends.Version
	stored  int64 // bytes in the store
	size    int64 // bytes of text, before compression
	entries []*entry
	// skipped says why the record can't be understood; it has no entries then.
	skipped error
}

// hit is an entry in one of the records that have it.
type hit struct {
	*entry
	in *record
}

// compareEntries orders entries of one name: the greater one counts.
func compareEntries(a, b *entry) int {
	if a == b {
		return 0
	}
	if c := cmp.Compare(a.Changed, b.Changed); c != 0 {
		return c
	}
	return bytes.Compare(a.encode(), b.encode())
}

// beats reports whether a counts and b doesn't. Of the same entry in two records
// the one in the later record counts, so that all agree on which record is not
// needed.
func (a hit) beats(b hit) bool {
	if c := compareEntries(a.entry, b.entry); c != 0 {
		return c > 0
	}
	return a.in.name > b.in.name
}

// hits returns the entries of r, in the order of their names.
func (r *record) hits() []hit {
	hs := make([]hit, len(r.entries))
	for i, e := range r.entries {
		hs[i] = hit{e, r}
	}
	return hs
}

// mergeHits returns, for every name in a or b, the hit that counts. Both are in the
// order of names, and so is the result.
func mergeHits(a, b []hit) []hit {
	out := make([]hit, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch c := strings.Compare(a[0].name, b[0].name); {
		case c < 0:
			out, a = append(out, a[0]), a[1:]
		case c > 0:
			out, b = append(out, b[0]), b[1:]
		case a[0].beats(b[0]):
			out, a, b = append(out, a[0]), a[1:], b[1:]
		default:
			out, a, b = append(out, b[0]), a[1:], b[1:]
		}
	}
	return append(append(out, a...), b...)
}
