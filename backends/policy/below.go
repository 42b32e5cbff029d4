package policy

// What can be said of everything below a directory, from the patterns alone.
// Each answer holds for paths that don't exist yet, and errs on the side that
// makes somebody look.

// candidates calls visit with each rule that counts below the directory v in
// space s, in their order, and whether it may match there, until visit returns
// false.
func (p *Policy) candidates(v *verdict, s space, visit func(i int, r *rule, may, all bool) bool) {
	dir := v.path
	if s == folded {
		dir = fold(dir)
	}
	for i := range p.rules {
		r := &p.rules[i]
		name := dir
		may, all := false, false
		switch {
		case r.route < 0 || r.route == v.route:
			if r.route >= 0 {
				if name = v.path[len(p.routes[r.route].path):]; s == folded {
					name = fold(name)
				}
			}
			may, all = mayMatchBelow(r.pattern[s], name), matchesAllBelow(r.pattern[s], name)
			if r.route >= 0 && p.routesBelow(v) {
				all = false
			}
		default:
			may = within(p.routes[r.route].path, v.path)
		}
		if !visit(i, r, may, all) {
			return
		}
	}
}

// routesBelow reports whether other routes begin below the directory v.
func (p *Policy) routesBelow(v *verdict) bool {
	for i := range p.routes {
		if i != v.route && within(p.routes[i].path, v.path) {
			return true
		}
	}
	return false
}

// allWrite reports whether everybody has Write on everything below the
// directory v, which is that of everybody too.
func (p *Policy) allWrite(v *verdict) bool {
	if v.exempt {
		return true
	}
	for s := range spaces {
		for c := range v.by[s] {
			if !p.writeBelow(v, s, c) {
				return false
			}
		}
	}
	return true
}

func (p *Policy) writeBelow(v *verdict, s space, class int) bool {
	j := &v.by[s][class]
	// up is the first rule of this directory or one above that takes
	// something away from what is matched by no rule before it.
	up := noRule
	for a := Hide; a < Write; a++ {
		up = min(up, j.least[a])
	}
	if j.access != Write || p.routesBelow(v) {
		return false
	}
	last := len(p.rules) // the first rule, or the default, that matches all that is left
	ok := true
	p.candidates(v, s, func(i int, r *rule, may, all bool) bool {
		if !r.class[class] {
			return true
		}
		if may && r.Access != Write {
			ok = false
			return false
		}
		if all {
			last = i
			return false
		}
		return true
	})
	if last == len(p.rules) && p.routes[v.route].Default != Write {
		return false
	}
	return ok && up > last
}

// shut reports whether nobody may do anything at or below v.
func (p *Policy) shut(v *verdict) bool {
	if v.exempt {
		return false
	}
	for c := range len(p.class) + 1 {
		if !p.shutIn(v, exact, c) && !p.shutIn(v, folded, c) {
			return false
		}
	}
	return true
}

func (p *Policy) shutIn(v *verdict, s space, class int) bool {
	j := &v.by[s][class]
	if j.access != None || p.routesBelow(v) {
		return false
	}
	shut := true
	p.candidates(v, s, func(i int, r *rule, may, _ bool) bool {
		if i >= j.by {
			return false // what comes after the rule that shuts it
		}
		if may && r.class[class] && r.Access > None {
			shut = false
		}
		return shut
	})
	return shut
}

// mayHideIn reports whether a name in the directory v may be hidden.
func (p *Policy) mayHideIn(v *verdict) bool {
	if v.exempt || !p.hides {
		return false
	}
	if v.instead != nil && (v.by[exact][0].access == Hide || v.by[folded][0].access == Hide) {
		return true // a directory with the name of a temporary file: what is in it has its own rules
	}
	for i := range p.routes {
		if p.routes[i].Default == Hide && (i == v.route || within(p.routes[i].path, v.path)) {
			return true
		}
	}
	for s := range spaces {
		found := false
		p.candidates(v, s, func(_ int, r *rule, may, _ bool) bool {
			found = may && r.Access == Hide
			return !found
		})
		if found {
			return true
		}
	}
	return false
}
