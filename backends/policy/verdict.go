package policy

import "math"

// verdict says what the rules make of one path, for every class of users and
// in every space. It is computed from that of the directory above and what
// matches the path itself, never changes, and is never out of date.
type verdict struct {
	path   string
	route  int // index in Policy.routes
	exempt bool
	by     [spaces][]judgement // one for each class
	// original is the verdict on the name whose content this is, if the name
	// is that of a conflict; else nil.
	original *verdict
	// most is the most that the path can have; cut says that this is less than
	// everything because original has a name that was cut.
	most Access
	cut  bool
	// instead is the verdict on the name that a temporary one stands for; it
	// counts in place of this one.
	instead *verdict
}

// judgement is a verdict for one class of users in one space. Rules go by
// their index; that of a default is behind all of them.
type judgement struct {
	// first is the first rule that matches the path itself.
	first int
	// access is what comes of it and the directories above.
	access Access
	// by is the rule that has the last word: first, or one of a directory.
	by int
	// least has, for each access, the first rule with it of those that are
	// first for the path itself or for a directory above it; leastHere leaves
	// out the rules of a single route.
	least, leastUnbound [numAccess]int
	// hidden is the rule that hides the path or a directory above it, or -1.
	hidden int
}

const noRule = math.MaxInt

// accessOf returns the access that the rule with this index gives; v is where
// a default counts.
func (p *Policy) accessOf(i int, v *verdict) Access {
	if i < len(p.rules) {
		return p.rules[i].Access
	}
	return p.routes[v.route].Default
}

// judge computes the verdict on path, which lies in the directory that up is
// the verdict on; up is nil for the root.
func (p *Policy) judge(up *verdict, path string) *verdict {
	v := &verdict{path: path, route: p.routeOf(path), exempt: p.isExempt(path), most: Write}
	if v.exempt {
		return v
	}
	classes := p.classes()
	all := make([]judgement, int(spaces)*classes)
	// Where there is nothing to fold, both spaces are the same.
	differ := spaces
	if p.plain && fold(path) == path {
		differ = folded
	}
	for s, first := range p.firsts(v, differ) {
		v.by[s] = all[s*classes : (s+1)*classes : (s+1)*classes]
		for c := range v.by[s] {
			var above *judgement
			if up != nil {
				above = &up.by[s][c]
			}
			v.by[s][c] = p.judgement(v, up, above, first[c])
		}
	}
	if differ == folded {
		v.by[folded] = v.by[exact]
	}
	if up != nil {
		p.stand(v, up)
	}
	return v
}

// firsts returns, for each space and class, the first rule that matches the
// path itself.
func (p *Policy) firsts(v *verdict, differ space) [][]int {
	first := make([][]int, differ)
	names := [spaces]string{v.path, fold(v.path)}
	rel := names
	if r := &p.routes[v.route]; r.path != "" {
		rel[exact] = v.path[len(r.path):]
		rel[folded] = fold(rel[exact])
	}
	for s := range first {
		first[s] = make([]int, p.classes())
		left := len(first[s])
		for c := range first[s] {
			first[s][c] = len(p.rules)
		}
		for i := 0; i < len(p.rules) && left > 0; i++ {
			r := &p.rules[i]
			name := names[s]
			if r.route >= 0 {
				if r.route != v.route {
					continue
				}
				name = rel[s]
			}
			if !match(r.pattern[s], name) {
				continue
			}
			for c, about := range r.class {
				if about && first[s][c] == len(p.rules) {
					first[s][c] = i
					left--
				}
			}
		}
	}
	return first
}

func (p *Policy) judgement(v, up *verdict, above *judgement, first int) judgement {
	j := judgement{first: first, by: first, access: p.accessOf(first, v), hidden: -1}
	for a := range j.least {
		j.least[a], j.leastUnbound[a] = noRule, noRule
	}
	if above == nil {
		// The root can't be hidden: something is mounted there. A rule for all
		// paths that hides is about what is in it.
		if j.access == Hide {
			j.access = Read
			return j
		}
	} else {
		j.leastUnbound = above.leastUnbound
		if j.least = above.least; up.route != v.route {
			j.least = above.leastUnbound
		}
		for a := range j.access {
			if a > Hide && j.least[a] < first {
				j.access, j.by = a, j.least[a]
				break
			}
		}
		switch {
		case above.hidden >= 0:
			j.access, j.by, j.hidden = Hide, above.hidden, above.hidden
		case p.accessOf(first, v) == Hide:
			j.access, j.by, j.hidden = Hide, first, first
		}
	}
	if first < len(p.rules) {
		a := p.rules[first].Access
		j.least[a] = min(j.least[a], first)
		if p.rules[first].route < 0 {
			j.leastUnbound[a] = min(j.leastUnbound[a], first)
		}
	}
	return j
}

// access returns the access of a class: the stricter one of the spaces.
func (v *verdict) access(class int) Access {
	if v.exempt {
		return Write
	}
	if v.instead != nil {
		// Whoever may make a file there may take its temporary name away.
		if a := v.instead.access(class); a != Append {
			return a
		}
		return Write
	}
	a := min(v.by[exact][class].access, v.by[folded][class].access, v.most)
	if v.original != nil {
		a = min(a, v.original.access(class))
	}
	return a
}

// hidden reports whether the path is as if it weren't there.
func (v *verdict) hidden() bool { return v.access(0) == Hide }

// sameRights reports whether v and w give everybody the same.
func (v *verdict) sameRights(w *verdict, classes int) bool {
	for c := range classes {
		if v.access(c) != w.access(c) {
			return false
		}
	}
	return true
}

// at returns the verdict on path.
func (p *Policy) at(path string) *verdict {
	if path == "" {
		return p.dir(path)
	}
	return p.judge(p.dir(parentOf(path)), path)
}

// dir is at for a directory: what is in it is likely to be asked for, too.
func (p *Policy) dir(path string) *verdict {
	if v := p.dirs.get(path); v != nil {
		return v
	}
	var up *verdict
	if path != "" {
		up = p.dir(parentOf(path))
	}
	v := p.judge(up, path)
	p.dirs.put(path, v)
	return v
}
