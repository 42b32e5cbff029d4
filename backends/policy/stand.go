package policy

import (
	"crypto/rand"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/agentfs/agentfs/backends"
)

// Some names stand for another one in the same directory, and the rules are
// asked about that.

// conflictMark begins what a name gets behind it under which one of two
// contents is kept that both claim the name. It is the mount that makes such
// names, so they have at most the rights of the original.
const conflictMark = ".conflict-"

const (
	tempEnd  = ".tmp"
	tempRand = 26 // what rand.Text returns
)

// Temporary returns a name under which a new content of the file name can be
// written, in the same directory, to be renamed to it. Rules take it for name,
// so that who may make or replace a file can do so in one step wherever it is.
// Of a name that is too long for that it is an ordinary name.
func Temporary(name string) string {
	name = unreserved(name)
	if len(name)+len(tempEnd)+tempRand+2 > backends.MaxNameLen {
		name = fmt.Sprintf("%.20s", name)
	}
	return "." + name + "." + rand.Text() + tempEnd
}

// reservedStem is what stores reserve names for that begin with a dot and this.
const reservedStem = "agentfs"

// unreserved returns name as it can stand behind a dot in any store: with an
// underscore more if that would be a reserved name, or one that this has made.
func unreserved(name string) string {
	if strings.HasPrefix(strings.TrimLeft(name, "_"), reservedStem) {
		return "_" + name
	}
	return name
}

// temporaryOf returns the name that a [Temporary] one was made for.
func temporaryOf(temp string) (name string, ok bool) {
	rest, ok := strings.CutSuffix(temp, tempEnd)
	if at := len(rest) - tempRand - 1; ok && at > 1 && rest[0] == '.' && rest[at] == '.' {
		if strings.Trim(rest[at+1:], "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == "" {
			name = rest[1:at]
			if of := strings.TrimPrefix(name, "_"); unreserved(of) == name {
				name = of
			}
			return name, true
		}
	}
	return "", false
}

// stand completes the verdict on a name in the directory up if it stands for
// another one.
func (p *Policy) stand(v, up *verdict) {
	dir, name := v.path[:len(up.path)+1], v.path[len(up.path)+1:]
	if of, ok := temporaryOf(name); ok {
		// What lies in another route, or in none, gives no rights here.
		if in := p.judge(up, dir+of); in.route == v.route && !in.exempt {
			v.instead = in
		}
		return
	}
	i := strings.LastIndex(name, conflictMark)
	if i <= 0 {
		return
	}
	v.original = p.judge(up, dir+name[:i])
	if len(name) > backends.MaxNameLen-utf8.UTFMax && !p.allWrite(up) {
		// The end of the original's name may be missing, so it is not known
		// which rules it has.
		v.cut = true
		if v.most = None; p.mayHideIn(up) {
			v.most = Hide
		}
	}
}
