package backends_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The packages that rules speak of. A path that begins with "./" is one of
// this module; "/..." stands for the package and everything below it.
var (
	modulePath = "github.com/agentfs/agentfs"

	goFuse   = "github.com/hanwen/go-fuse/v2/..."
	gofakes3 = "github.com/johannesboyne/gofakes3/..."
	awsSDK   = "github.com/aws/..."
	sqlite   = "modernc.org/sqlite/..."
	pgx      = "github.com/jackc/pgx/..."
)

// layer is one rule of DESIGN.md, "Rooms": no package that matches of, save
// those that match except, may depend on a package that matches never, save
// those that match but, be it through others or directly. Tests may: only what
// a program links counts.
type layer struct {
	of     []string
	except []string
	never  []string
	but    []string
	direct bool // what others of ours depend on doesn't count
	why    string
}

var layers = []layer{
	{
		of:    []string{"./backends"},
		never: []string{"./...", goFuse, gofakes3, awsSDK},
		but:   []string{"./backends"},
		why:   "the contract is what everything else points to; an author of a backend must need nothing but it",
	},
	{
		of:    []string{"./fs/..."},
		never: []string{"./cache/...", "./cmd/...", "./bench/...", "./backends/..."},
		but:   []string{"./backends", "./backends/process", "./backends/unixmode"},
		why:   "the mount serves any backends.FileSystem alike; what it knew of one, another could not do",
	},
	{
		of:     []string{"./cache/..."},
		except: []string{"./cache/cachetest"},
		never:  []string{"./fs/...", "./cmd/...", "./bench/...", "./backends/...", goFuse},
		but:    []string{"./backends", "./backends/tree", "./backends/unixmode", "./cache/..."},
		why:    "the cache gives file depth to any store and to any front end; of ours it needs the contract and the tree",
	},
	{
		of:    []string{"./cache/index/..."},
		never: []string{"./...", goFuse, gofakes3, awsSDK},
		but:   []string{"./cache/index/..."},
		why:   "what is in the room is to be found without knowing what it is for",
	},
	{
		of:    []string{"./cache/journal/..."},
		never: []string{"./...", goFuse, gofakes3, awsSDK},
		but:   []string{"./cache/journal/..."},
		why:   "a table that survives a crash is to be understood and tested without knowing what it is for",
	},
	{
		of:     []string{"./..."},
		except: []string{"./cache", "./cache/journal/...", "./cache/index/..."},
		never:  []string{"./cache/journal/...", "./cache/index/..."},
		direct: true,
		why:    "what is in a room, the cache alone knows",
	},
	{
		of:     []string{"./..."},
		except: []string{"./cache/journal/...", "./cache/index/...", "./backends/sql/..."},
		never:  []string{sqlite, pgx},
		direct: true,
		why:    "databases are known to the journal, the index and the backend over them",
	},
	{
		of:    []string{"./cache/attrs/..."},
		never: []string{"./..."},
		but:   []string{"./backends", "./cache/attrs/..."},
		why:   "records are files in a store; that somebody caches it is nothing to them",
	},
	{
		of:     []string{"./backends/..."},
		except: []string{"./backends"},
		never:  []string{"./fs/...", "./cache/...", "./cmd/...", "./bench/..."},
		why:    "a backend is used by the mount, the cache and the commands, not the other way round",
	},
	{
		of:     []string{"./..."},
		except: []string{"./fs/...", "./cmd/...", "./bench/...", "./examples/go-backend"},
		never:  []string{goFuse},
		why:    "the kernel's protocol is known to one package, so that the rest serves the commands without a mount too",
	},
	{
		of:     []string{"./..."},
		except: []string{"./backends/s3/...", "./cmd/...", "./bench/...", "./examples/go-backend"},
		never:  []string{awsSDK},
		why:    "S3 is known to one package",
	},
	{
		of:     []string{"./..."},
		except: []string{"./cmd/...", "./bench/...", "./backends/s3/s3test/...", "./examples/go-backend"},
		never:  []string{gofakes3},
		why:    "a server in the process is for the demo and for tests; a backend never brings one along",
	},
	{
		of:    []string{"./cmd/..."},
		never: []string{"./backends/backendtest/...", "./backends/memory/memorytest/...", "./backends/s3/s3test/...", "./backends/sql/sqltest/...", "./backends/prefix/prefixtest/...", "./cache/cachetest/...", "./backends/faulty/...", "./bench/..."},
		why:   "what exists for tests stays out of the program",
	},
	{
		of:     []string{"./..."},
		except: []string{"./cmd/...", "./examples/go-backend"},
		never:  []string{"./cmd/agentfs/cli/..."},
		why:    "cli is the only place that knows every concrete type; what imports it is a program",
	},
	{
		of:    []string{"./examples/go-backend/logstore"},
		never: []string{"./..."},
		but:   []string{"./backends"},
		why:   "a backend of somebody else needs nothing of ours but the contract",
	},
}

// TestLayering checks the arrows between packages.
func TestLayering(t *testing.T) {
	g := loadImports(t)
	for _, l := range layers {
		subjects := g.matching(l.of, l.except)
		if len(subjects) == 0 {
			t.Errorf("the rule about %s speaks of no package; was it renamed?", strings.Join(l.of, " "))
		}
		for _, p := range subjects {
			g.checkRule(t, p, l)
		}
	}
}

// TestLayeringSiblings checks that backends and wrappers don't know each other:
// each is put together with any other by the configuration, through the contract
// alone. What lies below a package belongs to it. The tree, unixmode, names and
// process are for everybody: they are the one place where POSIX's rules for names
// are written, where modes are translated, where paths of nodes are known and
// where a caller's process is found out.
func TestLayeringSiblings(t *testing.T) {
	g := loadImports(t)
	const root = "./backends/"
	for _, p := range g.matching([]string{root + "..."}, []string{"./backends"}) {
		name, _, _ := strings.Cut(strings.TrimPrefix(short(p), root), "/")
		g.checkRule(t, p, layer{
			never: []string{root + "..."},
			but:   []string{"./backends", "./backends/tree/...", "./backends/unixmode", "./backends/names", "./backends/process", root + name + "/..."},
			why:   "a backend knows the contract and the tree; which others are mounted beside or below it, the configuration says",
		})
	}
}

// importGraph has the direct imports of every package of the module and of all
// that they depend on.
type importGraph map[string][]string

func loadImports(t *testing.T) importGraph {
	t.Helper()
	// -e: a package that does not compile is for the compiler to report.
	cmd := exec.Command("go", "list", "-e", "-deps", "-json=ImportPath,Imports", modulePath+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	g := importGraph{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return g
		case err != nil:
			t.Fatalf("go list: %v", err)
		}
		g[p.ImportPath] = p.Imports
	}
}

// matching returns the module's packages that match of and don't match except.
func (g importGraph) matching(of, except []string) []string {
	var ps []string
	for p := range g {
		if matchAny(of, p) && !matchAny(except, p) {
			ps = append(ps, p)
		}
	}
	slices.Sort(ps)
	return ps
}

// checkRule reports the shortest chain of imports by which p breaks l.
func (g importGraph) checkRule(t *testing.T, p string, l layer) {
	t.Helper()
	bad := func(q string) bool {
		return q != p && matchAny(l.never, q) && !matchAny(l.but, q)
	}
	if l.direct {
		g = importGraph{p: g[p]}
	}
	chain := g.chain(p, bad)
	if chain == nil {
		return
	}
	for i := range chain {
		chain[i] = short(chain[i])
	}
	t.Errorf("%s must not depend on %s: %s\n\t%s", short(p), chain[len(chain)-1], l.why, strings.Join(chain, "\n\t  imports "))
}

// chain returns the shortest chain of imports from p to a package for which bad
// holds, or nil.
func (g importGraph) chain(p string, bad func(string) bool) []string {
	from := map[string]string{p: ""}
	for queue := []string{p}; len(queue) > 0; queue = queue[1:] {
		q := queue[0]
		if bad(q) {
			var c []string
			for ; q != ""; q = from[q] {
				c = append(c, q)
			}
			slices.Reverse(c)
			return c
		}
		for _, r := range g[q] {
			if _, seen := from[r]; !seen {
				from[r] = q
				queue = append(queue, r)
			}
		}
	}
	return nil
}

func matchAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if rest, ours := strings.CutPrefix(pattern, "."); ours {
			pattern = modulePath + rest
		}
		tree, below := strings.CutSuffix(pattern, "/...")
		return pkg == tree || below && strings.HasPrefix(pkg, tree+"/")
	})
}

// short writes a package of this module as "./fs".
func short(pkg string) string {
	if rest, ours := strings.CutPrefix(pkg, modulePath); ours {
		return "." + rest
	}
	return pkg
}

// TestLayeringRulesCanFail makes sure that a broken rule is found and its
// chain shown, on a graph that breaks one.
func TestLayeringRulesCanFail(t *testing.T) {
	m := func(p string) string { return modulePath + p }
	g := importGraph{
		m("/fs"):          {"fmt", m("/backends")},
		m("/backends"):    {m("/cache")},
		m("/cache"):       {m("/backends/s3")},
		m("/backends/s3"): {"github.com/aws/aws-sdk-go-v2/service/s3"},
	}
	got := g.chain(m("/fs"), func(q string) bool { return matchAny([]string{awsSDK}, q) })
	want := []string{m("/fs"), m("/backends"), m("/cache"), m("/backends/s3"), "github.com/aws/aws-sdk-go-v2/service/s3"}
	if !slices.Equal(got, want) {
		t.Errorf("chain:\n%s\nwant\n%s", fmt.Sprint(got), fmt.Sprint(want))
	}
	if got := g.matching([]string{"./backends/..."}, []string{"./backends"}); !slices.Equal(got, []string{m("/backends/s3")}) {
		t.Errorf("matching = %v", got)
	}
}
