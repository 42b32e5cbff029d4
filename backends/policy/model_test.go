package policy_test

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/policy"
)

// naive is the documentation of the package word for word: every rule is
// compared with the path and with every directory above it, each time.
type naive struct{ policy.Config }

func foldName(s string) string {
	return norm.NFC.String(cases.Fold().String(norm.NFD.String(strings.ToValidUTF8(s, "\uFFFD"))))
}

// slashed is a pattern that counts from a root.
func slashed(p string) string {
	switch {
	case p == "/":
		return ""
	case p == "**":
		return "/**"
	case !strings.Contains(p, "/"):
		return "/**/" + p
	case strings.HasPrefix(p, "**/"):
		return "/" + p
	}
	return p
}

func below(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// route returns the path of the route that serves path, without a slash for
// the root.
func (m naive) route(path string) (string, policy.Access) {
	best, access := "", policy.Write
	for _, r := range m.Routes {
		if p := strings.TrimSuffix(r.Path, "/"); below(path, p) && len(p) >= len(best) {
			best, access = p, r.Default
		}
	}
	return best, access
}

// first returns the first rule that matches path itself, or len(m.Rules).
func (m naive) first(path string, uid uint32, fold bool) int {
	for i, r := range m.Rules {
		if len(r.Users) > 0 && !slices.Contains(r.Users, uid) {
			continue
		}
		name := path
		if r.Route != "" {
			if in, _ := m.route(path); in != strings.TrimSuffix(r.Route, "/") {
				continue
			}
			name = strings.TrimPrefix(path, strings.TrimSuffix(r.Route, "/"))
		}
		pattern := slashed(r.Pattern)
		if fold {
			name, pattern = foldName(name), foldName(pattern)
		}
		if ok, _ := doublestar.Match(pattern, name); ok {
			return i
		}
	}
	return len(m.Rules)
}

func (m naive) in(path string, uid uint32, fold bool) policy.Access {
	own := func(p string) (int, policy.Access) {
		i := m.first(p, uid, fold)
		if i < len(m.Rules) {
			return i, m.Rules[i].Access
		}
		_, a := m.route(p)
		return i, a
	}
	i, access := own(path)
	if path == "" {
		if access == policy.Hide {
			return policy.Read
		}
		return access
	}
	if access == policy.Hide {
		return access
	}
	here, _ := m.route(path)
	strict := access
	for up := path; up != ""; {
		up = up[:strings.LastIndexByte(up, '/')]
		j, a := own(up)
		if a == policy.Hide {
			if up != "" {
				return policy.Hide
			}
			continue
		}
		if j >= i {
			continue
		}
		if there, _ := m.route(up); m.Rules[j].Route != "" && there != here {
			continue
		}
		strict = min(strict, a)
	}
	return strict
}

var tempName = regexp.MustCompile(`(?s)^\.(.+)\.[A-Z2-7]{26}\.tmp$`)

func (m naive) access(path string, uid uint32) policy.Access {
	dir, name := path[:strings.LastIndexByte("/"+path, '/')], path[strings.LastIndexByte(path, '/')+1:]
	if t := tempName.FindStringSubmatch(name); t != nil {
		here, _ := m.route(path)
		if there, _ := m.route(dir + t[1]); there == here {
			if a := m.access(dir+t[1], uid); a != policy.Append {
				return a
			}
			return policy.Write
		}
	}
	a := min(m.in(path, uid, false), m.in(path, uid, true))
	if i := strings.LastIndex(name, ".conflict-"); i > 0 {
		a = min(a, m.access(dir+name[:i], uid))
	}
	return a
}

// rulesOf reads rules and routes from lines: "ACCESS [@ROUTE] [uUID,UID] PATTERN",
// "route ACCESS PATH".
func rulesOf(text string) policy.Config {
	cfg := policy.Config{Routes: []policy.Route{{Path: "/", Default: policy.Write}}}
	lines := strings.Split(text, "\n")
	for _, line := range lines[:min(len(lines), 12)] {
		word, rest, _ := strings.Cut(line, " ")
		if word == "route" {
			word, rest, _ = strings.Cut(rest, " ")
			a, err := policy.ParseAccess(word)
			if err == nil && !slices.ContainsFunc(cfg.Routes, func(r policy.Route) bool { return r.Path == rest }) {
				cfg.Routes = append(cfg.Routes, policy.Route{Path: rest, Default: a})
			}
			continue
		}
		a, err := policy.ParseAccess(word)
		if err != nil {
			continue
		}
		r := policy.Rule{Access: a}
		if strings.HasPrefix(rest, "@") {
			r.Route, rest, _ = strings.Cut(rest[1:], " ")
		}
		if strings.HasPrefix(rest, "u") {
			var users string
			users, rest, _ = strings.Cut(rest[1:], " ")
			for _, c := range []byte(users) {
				r.Users = append(r.Users, uint32(c&3))
			}
		}
		r.Pattern = rest
		cfg.Rules = append(cfg.Rules, r)
	}
	return cfg
}

// seeds are rules, a path, and a second one, which is to be one below it.
var seeds = [][3]string{
	{"none /secret/**", "/secret/key", "/deep/er"},
	{"read /secret/pub/**\nnone /secret", "/secret/pub/x", "/y"},
	{"write /README.md\nnone /readme.md", "/ReadMe.md", "/x"},
	{"write /data/*\nnone /data/sub/secret", "/data/sub/secret", "/x"},
	{"write /a/b\nread /a", "/a/b", "/c"},
	{"append *.log\nread **", "/x/y.log", "/z"},
	{"hide **/.git\nwrite **", "/p/.git/config", "/x"},
	{"none u1 **\nread u2 /x\nwrite /x/*", "/x", "/y"},
	{"hide u1 /x", "/x", "/y"},
	{"write /pub/**\nhide /**", "/pub", "/x"},
	{"route read /data\nroute none /data/in\nappend @/data /logs/**\nwrite @/data/in {a,b}*", "/data/logs", "/x"},
	{"route hide /data", "/data", "/x"},
	{"none /stra\u00dfe/**\nread /\u00e9*", "/STRASSE", "/E\u0301"},
	{"none /{a,b/c}/**\nwrite /a/[a-z]?\nread /\\*", "/b/c", "/d"},
	{"none /a**/b\nread /**/x/**", "/aa/b", "/x"},
	{"none /a/key\nread *.log", "/a/key.conflict-host-1", "/b.log.conflict-h-1"},
	{"none /a/key\nappend *.log\nnone .*", "/a/.key.ABCDEFGHIJKLMNOPQRSTUVWXYZ.tmp", "/.b.log.22222222222222222222222222.tmp"},
	{"none ../x\nnone a/b\nnone [", "/x", "/y"},
	{"none /\xff", "/\xff", "/\xff"},
}

// FuzzDecide compares decisions with the naive evaluator, and what is said of
// everything below a directory with a path below it. No input makes New or a
// decision fail in another way than with an error.
func FuzzDecide(f *testing.F) {
	for i, s := range seeds {
		f.Add(s[0], s[1], s[2], uint8(i&3))
	}
	f.Fuzz(func(t *testing.T, rules, dir, rel string, uid uint8) {
		if len(rules)+len(dir)+len(rel) > 300 {
			return // patterns with many stars take their time
		}
		cfg := rulesOf(rules)
		p, err := policy.New(cfg)
		if err != nil {
			if len(cfg.Rules)+len(cfg.Routes) == 1 {
				t.Fatalf("nothing to refuse: %v", err)
			}
			return
		}
		for _, r := range cfg.Rules {
			if r.Access == policy.Hide && len(r.Users) > 0 {
				t.Fatal("a rule that hides from some was taken")
			}
		}
		m := naive{cfg}
		for _, path := range []string{dir, dir + rel} {
			name := strings.TrimPrefix(path, "/")
			if path == "" {
				name = "."
			}
			if path != "" && path[0] != '/' || name == "." && path != "" || backends.CheckName("", name) != nil {
				return
			}
			for u := range uint32(4) {
				got := p.Decide(name, u)
				if want := m.access(path, u); got.Access != want {
					t.Fatalf("%q for %d: %v, want %v; rules %q", path, u, got.Access, want, rules)
				}
				explains(t, p, m, name, got)
			}
		}
		policy.CheckBelow(t, p, dir, dir+rel)
	})
}

// explains checks that what a decision names as its reason gives that access.
func explains(t *testing.T, p *policy.Policy, m naive, name string, d policy.Decision) {
	t.Helper()
	access := d.Route.Default
	if d.Rule != nil {
		access = d.Rule.Access
	}
	if d.Temporary != "" && access == policy.Append {
		access = policy.Write
	}
	if access != d.Access && !(name == "." && access == policy.Hide) {
		t.Fatalf("%q has %v, and the reason %+v gives %v", name, d.Access, d, access)
	}
	if d.Directory != "" && d.Directory != "." && !below("/"+name, "/"+d.Directory) {
		t.Fatalf("%q has its access from %q", name, d.Directory)
	}
}

// Random rules and paths of few segments, so that most have to do with each
// other.
func TestDecideRandom(t *testing.T) {
	segs := []string{"a", "b", "A", "x.log", ".env", "aa", "\u00e9", "E\u0301", "b.conflict-h-1", ".b.ABCDEFGHIJKLMNOPQRSTUVWXYZ.tmp"}
	parts := append([]string{"*", "**", "?", "*.log", "{a,b}", "[a-b]", "a*", "{a/b,**/b}", "[^a]"}, segs...)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 3))
	draw := func(from []string, n int) string {
		var b strings.Builder
		for range r.IntN(n) {
			b.WriteString("/" + from[r.IntN(len(from))])
		}
		return b.String()
	}
	for range 1000 {
		cfg := policy.Config{Routes: []policy.Route{{Path: "/", Default: policy.Access(1 + r.IntN(4))}}}
		for _, path := range []string{"/a", "/a/b"} {
			if r.IntN(2) == 0 {
				cfg.Routes = append(cfg.Routes, policy.Route{Path: path, Default: policy.Access(r.IntN(5))})
			}
		}
		for range r.IntN(5) {
			rule := policy.Rule{Access: policy.Access(r.IntN(5)), Pattern: draw(parts, 4)}
			switch r.IntN(3) {
			case 0:
				rule.Pattern = "**" + rule.Pattern
			case 1:
				rule.Pattern = parts[r.IntN(len(parts))]
			}
			if rule.Pattern == "" {
				rule.Pattern = "/"
			}
			if r.IntN(4) == 0 {
				rule.Route = cfg.Routes[r.IntN(len(cfg.Routes))].Path
			}
			if rule.Access != policy.Hide && r.IntN(3) == 0 {
				rule.Users = []uint32{uint32(r.IntN(3))}
			}
			cfg.Rules = append(cfg.Rules, rule)
		}
		p, err := policy.New(cfg)
		if err != nil {
			continue // "{a/b,**/b}" alone does not begin with a slash
		}
		m := naive{cfg}
		for range 10 {
			dir := draw(segs, 4)
			path := dir + draw(segs, 4)
			for u := range uint32(3) {
				for _, x := range []string{dir, path} {
					if got, want := p.Decide(policy.NameOf(x), u), m.access(x, u); got.Access != want {
						t.Fatalf("%q for %d: %v, want %v; %+v", x, u, got.Access, want, cfg)
					}
				}
			}
			policy.CheckBelow(t, p, dir, path)
		}
	}
}

// A decision about a name in a directory that was asked for before.
func BenchmarkDecide(b *testing.B) {
	p := newPolicy(b, rulesOf("none /secret/**\nhide /a/hidden/**\nnone *.pem\nnone u1 .env\nread /ref/**\nread u1 **/node_modules/**\nnone *.key\nwrite /x/y/**\nread /p/q/**\nread /p/r/**"))
	for b.Loop() {
		p.Decide("work/src/main/file.go", 1)
	}
}
