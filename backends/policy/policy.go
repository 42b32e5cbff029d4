package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// Rule gives an access to paths.
type Rule struct {
	// Pattern is in the language of doublestar: * ? [a-z] {a,b}, and ** for
	// any number of directories. "/a/b" counts from the root, "*.pem" is a
	// name at any depth, "**/x/y" is x/y at any depth.
	Pattern string
	// Route, if not empty, is the path of a route: the rule is about what that
	// route serves, and its pattern counts from the route's root.
	Route  string
	Access Access
	// Users are the user ids that the rule is about; none is everybody. A rule
	// that hides is for everybody.
	Users []uint32
	// Source says where the rule was written, for errors and explanations:
	// "agentfs.yaml:12".
	Source string
}

// Route is a route, as far as rules go.
type Route struct {
	Path string // absolute and clean, as "/" or "/data"
	// Default is the access of what no rule matches.
	Default Access
	Source  string
}

// Config is what a policy is made of.
type Config struct {
	Rules []Rule
	// Routes are all routes; of "/" with Write if it is not among them.
	Routes []Route
	// Exempt are paths which, with what is below, are no matter of rules.
	Exempt []string
}

// Policy decides. It never changes, and its methods may be called by many
// goroutines at once.
type Policy struct {
	rules  []rule
	routes []route // the longest path first
	exempt []string
	// class numbers the users that rules name, from 1; all others are 0.
	class map[uint32]int
	hides bool  // some rule or default hides
	plain bool  // no pattern has anything to fold
	dirs  cache // verdicts of directories
}

// rule is a Rule that can be matched.
type rule struct {
	*Rule
	pattern [spaces]string
	route   int // index in Policy.routes; -1 if it counts from the root
	class   []bool
}

type route struct {
	*Route
	path string
	// append is whether a file in the route may have Append for anybody.
	append bool
}

// New makes a policy, or returns everything that is wrong with cfg, each line
// beginning with the Source of what is.
func New(cfg Config) (*Policy, error) {
	p := &Policy{class: map[uint32]int{}, plain: true}
	var errs []error
	cfg.Rules, cfg.Routes = slices.Clone(cfg.Rules), slices.Clone(cfg.Routes)
	if !slices.ContainsFunc(cfg.Routes, func(r Route) bool { return r.Path == "/" }) {
		cfg.Routes = append(cfg.Routes, Route{Path: "/", Default: Write})
	}
	for i := range cfg.Routes {
		r := &cfg.Routes[i]
		path, err := absolute(r.Path)
		if err != nil {
			errs = append(errs, fail(r.Source, "the route %q: %v", r.Path, err))
		}
		p.routes = append(p.routes, route{Route: r, path: path, append: r.Default == Append})
		p.hides = p.hides || r.Default == Hide
	}
	slices.SortStableFunc(p.routes, func(a, b route) int { return cmp.Compare(len(b.path), len(a.path)) })
	for _, e := range cfg.Exempt {
		path, err := absolute(e)
		if err != nil || path == "" {
			errs = append(errs, fmt.Errorf("the exempt path %q is not absolute and clean", e))
		}
		p.exempt = append(p.exempt, path)
	}
	for i := range cfg.Rules {
		for _, uid := range cfg.Rules[i].Users {
			if _, ok := p.class[uid]; !ok {
				p.class[uid] = len(p.class) + 1
			}
		}
	}
	for i := range cfg.Rules {
		r, err := p.rule(&cfg.Rules[i])
		if err != nil {
			errs = append(errs, fail(cfg.Rules[i].Source, "%v", err))
		}
		p.rules = append(p.rules, r)
		p.hides = p.hides || r.Access == Hide
		p.plain = p.plain && r.pattern[exact] == r.pattern[folded]
		for j := range p.routes {
			if x := &p.routes[j]; r.Access == Append && (r.route == j || r.route < 0 && r.mayConcern(x.path)) {
				x.append = true
			}
		}
	}
	p.conflictsBeside()
	return p, errors.Join(errs...)
}

// conflictsBeside takes into account that a route's own name has conflicts'
// names beside it, in the route above, with the rights of the route's root.
func (p *Policy) conflictsBeside() {
	// Those above first, so that it goes up by one route and no further.
	for i := range slices.Backward(p.routes) {
		if r := p.routes[i]; r.append && r.path != "" {
			p.routes[p.routeOf(parentOf(r.path))].append = true
		}
	}
}

func fail(source, format string, args ...any) error {
	msg := fmt.Sprintf(format, args...)
	if source == "" {
		return errors.New(msg)
	}
	return fmt.Errorf("%s: %s", source, msg)
}

// absolute returns the path that a user wrote, as this package has it.
func absolute(p string) (string, error) {
	if p == "/" {
		return "", nil
	}
	if !strings.HasPrefix(p, "/") || p != "" && backends.CheckName("", p[1:]) != nil {
		return "", errors.New("it is not absolute, or has parts that are empty or dots")
	}
	return p, nil
}

func (p *Policy) rule(in *Rule) (rule, error) {
	r := rule{Rule: in, route: -1}
	if in.Route != "" {
		r.route = slices.IndexFunc(p.routes, func(x route) bool { return x.Path == in.Route })
		if r.route < 0 {
			return r, fmt.Errorf("there is no route %s", in.Route)
		}
	}
	pattern, err := parsePattern(in.Pattern)
	if err != nil {
		return r, err
	}
	r.pattern = [spaces]string{pattern, fold(pattern)}
	if int(in.Access) >= numAccess {
		return r, fmt.Errorf("%v is not an access", in.Access)
	}
	if in.Access == Hide && len(in.Users) > 0 {
		return r, errors.New("hide is for everybody: the kernel shares names among users, so one that isn't there for some would be dropped for all; take none for these users, or leave them out")
	}
	r.class = make([]bool, len(p.class)+1)
	for i := range r.class {
		r.class[i] = len(in.Users) == 0
	}
	for _, uid := range in.Users {
		r.class[p.class[uid]] = true
	}
	return r, nil
}

// mayConcern reports whether r, which counts from the root, may have a say
// about a path below dir. It is never wrong when it says no.
func (r *rule) mayConcern(dir string) bool {
	for s, d := range [spaces]string{dir, fold(dir)} {
		if mayMatchBelow(r.pattern[s], d) {
			return true
		}
		for up := d; ; up = parentOf(up) {
			if match(r.pattern[s], up) {
				return true
			}
			if up == "" {
				break
			}
		}
	}
	return false
}

// classOf returns the number of what uid has in common with others.
func (p *Policy) classOf(uid uint32) int { return p.class[uid] }

// routeOf returns the index of the route that serves path.
func (p *Policy) routeOf(path string) int {
	for i := range p.routes {
		if within(path, p.routes[i].path) {
			return i
		}
	}
	return len(p.routes) - 1 // the last is "/"
}

// within reports whether path is dir or lies below it.
func within(path, dir string) bool {
	return strings.HasPrefix(path, dir) && (len(path) == len(dir) || path[len(dir)] == '/')
}

// isExempt reports whether path is no matter of rules.
func (p *Policy) isExempt(path string) bool {
	return slices.ContainsFunc(p.exempt, func(e string) bool { return within(path, e) })
}

// toPath returns the path of a name of a store, which is valid.
func toPath(name string) string {
	if name == "." {
		return ""
	}
	return "/" + name
}

// parentOf returns the directory of a path that is not the root.
func parentOf(path string) string { return path[:strings.LastIndexByte(path, '/')] }

// classes returns how many classes of users there are.
func (p *Policy) classes() int { return len(p.class) + 1 }
