package policy

import "testing"

// CheckBelow fails if what p says of everything below dir is wrong for path,
// which is below it.
func CheckBelow(t *testing.T, p *Policy, dir, path string) {
	t.Helper()
	if path == dir || !within(path, dir) {
		return
	}
	v, b := p.dir(dir), p.at(path)
	for c := range p.classes() {
		if v.access(c) == Write && p.allWrite(v) && b.access(c) != Write {
			t.Fatalf("everything below %q is said to be writable, and %q has %v", dir, path, b.access(c))
		}
		if p.shut(v) && b.access(c) > None {
			t.Fatalf("%q is said to be shut, and %q has %v", dir, path, b.access(c))
		}
	}
	if parentOf(path) == dir && b.hidden() && !v.hidden() && !p.mayHideIn(v) {
		t.Fatalf("nothing is said to be hidden in %q, and %q is", dir, path)
	}
	for c := range p.classes() {
		if b.access(c) == Append && !p.routes[b.route].append {
			t.Fatalf("no file of the route of %q is said to be for appending", path)
		}
	}
}

// NameOf returns the name of a path that begins with a slash.
func NameOf(path string) string { return nameOf(path) }
