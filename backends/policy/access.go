package policy

import "fmt"

// Access is what may be done under a path. The stricter of two is the smaller.
type Access uint8

// The accesses, the strictest first. The package documentation says what each
// allows.
const (
	Hide Access = iota
	None
	Read
	Append
	Write

	numAccess = int(Write) + 1
)

var accessNames = [numAccess]string{"hide", "none", "read", "append", "write"}

// String returns the name that [ParseAccess] reads.
func (a Access) String() string {
	if int(a) < numAccess {
		return accessNames[a]
	}
	return fmt.Sprintf("Access(%d)", uint8(a))
}

// MarshalText implements [encoding.TextMarshaler].
func (a Access) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (a *Access) UnmarshalText(b []byte) (err error) {
	*a, err = ParseAccess(string(b))
	return err
}

// ParseAccess returns the access with this name.
func ParseAccess(s string) (Access, error) {
	for i, name := range accessNames {
		if s == name {
			return Access(i), nil
		}
	}
	return Hide, fmt.Errorf("%q is not an access; there are write, append, read, none and hide", s)
}
