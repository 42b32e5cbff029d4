package policy

import (
	"context"
	"fmt"
	"io/fs"
	"os"

	"github.com/agentfs/agentfs/backends"
)

// Decision is what may be done under a path, and why.
type Decision struct {
	Access Access
	// Rule is the rule that decides; nil if it is the default of Route, or if
	// the path is exempt.
	Rule *Rule
	// Number is the place of Rule in the list, from 1.
	Number int
	Route  Route // that serves the path
	// Directory is the path whose rule, or default, it is, if that is a
	// directory above; as a name.
	Directory string
	// Original is the name of whose conflict this is the name, if that is why.
	Original string
	// Cut says that the end of Original may be missing, and that this is why.
	Cut bool
	// Temporary is the name that this one stands for, to be renamed to it. With
	// Append there it has Write.
	Temporary string
	// Folded says that the rule matches with case and Unicode form folded only.
	Folded bool
	Exempt bool
}

// Decide returns what the user may do under name, which is valid.
func (p *Policy) Decide(name string, uid uint32) Decision {
	return p.decision(p.at(toPath(name)), p.classOf(uid))
}

func (p *Policy) decision(v *verdict, class int) Decision {
	d := Decision{Access: v.access(class), Route: *p.routes[v.route].Route, Exempt: v.exempt}
	if v.exempt {
		return d
	}
	if v.instead != nil {
		d = p.decision(v.instead, class)
		d.Access, d.Temporary = v.access(class), nameOf(v.instead.path)
		return d
	}
	if v.cut && v.access(class) == v.most {
		d.Original, d.Cut = nameOf(v.original.path), true
		return d
	}
	if v.original != nil && v.original.access(class) < min(v.by[exact][class].access, v.by[folded][class].access) {
		d = p.decision(v.original, class)
		if d.Original == "" {
			d.Original = nameOf(v.original.path)
		}
		return d
	}
	s := exact
	if v.by[folded][class].access < v.by[exact][class].access {
		s, d.Folded = folded, true
	}
	j := v.by[s][class]
	if j.by < len(p.rules) {
		d.Rule, d.Number = p.rules[j.by].Rule, j.by+1
	}
	if j.by == j.first && (j.hidden < 0 || p.accessOf(j.first, v) == Hide) {
		return d
	}
	for up := v.path; up != ""; {
		up = parentOf(up)
		if above := p.dir(up); above.by[s][class].first == j.by {
			d.Directory = nameOf(up)
			d.Route = *p.routes[above.route].Route
			break
		}
	}
	return d
}

// nameOf undoes toPath.
func nameOf(path string) string {
	if path == "" {
		return "."
	}
	return path[1:]
}

// Visible reports whether the user may know of what is going on under name:
// whether they may read it, and list every directory above it. It is for
// reports that name files.
func (p *Policy) Visible(name string, uid uint32) bool {
	class := p.classOf(uid)
	path := toPath(name)
	if p.at(path).access(class) < Read {
		return false
	}
	for path != "" {
		if path = parentOf(path); p.dir(path).access(class) < Read {
			return false
		}
	}
	return true
}

// UserOf returns who asks: the caller in ctx, or the user of this process.
func UserOf(ctx context.Context) uint32 {
	if c, ok := backends.CallerFrom(ctx); ok {
		return c.UID
	}
	return uint32(os.Geteuid())
}

// Denied is the refusal of a rule. It is an [fs.ErrPermission].
type Denied struct {
	Decision
	// Moves says that it is about what lies below a directory that was to be
	// renamed, or about another name of a file.
	Moves bool
}

// Error implements error.
func (d *Denied) Error() string {
	by := "the default of the route " + d.Route.Path
	source := d.Route.Source
	if d.Rule != nil {
		by, source = fmt.Sprintf("the rule for %s", d.Rule.Pattern), d.Rule.Source
	}
	if source != "" {
		by += " (" + source + ")"
	}
	if d.Cut {
		return "permission denied: this is a name for a content of a file whose own name is too long to tell by which rules here it has"
	}
	if d.Moves {
		return fmt.Sprintf("permission denied: names with other rights are concerned, here by %s, which gives %s", by, d.Access)
	}
	return fmt.Sprintf("permission denied: %s gives %s", by, d.Access)
}

// Unwrap returns [fs.ErrPermission].
func (d *Denied) Unwrap() error { return fs.ErrPermission }

var _ backends.Remedier = (*Denied)(nil)

// Remedy implements [backends.Remedier].
func (d *Denied) Remedy() string {
	switch d.Access {
	case Append:
		return "add to the end (open with O_APPEND), or create a new name; agentfs explain PATH says which rule it is"
	case Read:
		return "write somewhere else; agentfs explain PATH says which rule it is"
	}
	return "agentfs explain PATH says which rule it is; whoever mounts can change it"
}

// deny returns the error for an operation on v. What is hidden is refused
// without a reason.
func (p *Policy) deny(op string, v *verdict, class int) error {
	if v.hidden() {
		return &fs.PathError{Op: op, Path: nameOf(v.path), Err: fs.ErrPermission}
	}
	return &fs.PathError{Op: op, Path: nameOf(v.path), Err: &Denied{Decision: p.decision(v, class)}}
}

// denyMove is deny for a rename or link that would take a file to other rights.
func (p *Policy) denyMove(op string, v *verdict, class int) error {
	if v.hidden() {
		return p.deny(op, v, class)
	}
	return &fs.PathError{Op: op, Path: nameOf(v.path), Err: &Denied{Decision: p.decision(v, class), Moves: true}}
}

func absent(op, path string) error {
	return &fs.PathError{Op: op, Path: nameOf(path), Err: fs.ErrNotExist}
}
