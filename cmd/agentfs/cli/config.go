package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/policy"
)

// config is what the user asked for: the file and the --route flags merged.
type config struct {
	cacheDir  string // absolute; empty if not said
	cacheSize int64  // bytes; 0 if not said
	audit     auditConfig
	routes    []routeConfig // sorted by path
	rules     []policy.Rule
}

// routeConfig is one route as the user wrote it.
type routeConfig struct {
	path    string // absolute and clean
	backend string
	source  string // where it was written: "agentfs.yaml:12", "--route /data"
	values  map[string]backends.Option
}

// readConfig returns what the file (if file is not empty) and the routes
// given as PATH=URL say together. That a route is in both is an error, because
// neither is more right than the other.
func readConfig(file string, routes []string) (*config, error) {
	c := &config{}
	if file != "" {
		var err error
		if c, err = readConfigFile(file); err != nil {
			return nil, err
		}
	}
	for _, arg := range routes {
		r, err := parseRouteFlag(arg)
		if err != nil {
			return nil, err
		}
		if err := c.add(r); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(c.routes, func(a, b routeConfig) int { return strings.Compare(a.path, b.path) })
	return c, nil
}

func (c *config) add(r routeConfig) error {
	for _, other := range c.routes {
		if other.path == r.path {
			return fmt.Errorf("%s: the route %s is already there (%s); a path has one route", r.source, r.path, other.source)
		}
	}
	c.routes = append(c.routes, r)
	return nil
}

// withRoot returns c with memory at "/" if nothing else is there, and whether
// that was so. A tree needs a root, and memory is the one that needs nothing.
func (c *config) withRoot() (*config, bool) {
	for _, r := range c.routes {
		if r.path == "/" {
			return c, false
		}
	}
	d := *c
	d.routes = append([]routeConfig{{path: "/", backend: "memory", source: "the default route /"}}, c.routes...)
	return &d, true
}

// cleanRoutePath checks a route's path and returns it without a trailing
// slash.
func cleanRoutePath(p string) (string, error) {
	if p == "/" {
		return p, nil
	}
	p = strings.TrimSuffix(p, "/")
	switch {
	case !strings.HasPrefix(p, "/"):
		return "", fmt.Errorf("%q: a route's path begins with a slash, as in /data", p)
	case !utf8.ValidString(p):
		return "", fmt.Errorf("%q: a route's path is UTF-8", p)
	case strings.ContainsFunc(p, unicode.IsControl):
		return "", fmt.Errorf("%q: a route's path has no control characters", p)
	}
	for seg := range strings.SplitSeq(p[1:], "/") {
		switch {
		case seg == "":
			return "", fmt.Errorf("%q: a route's path has no empty part (//)", p)
		case seg == "." || seg == "..":
			return "", fmt.Errorf("%q: a route's path has no part %q", p, seg)
		case len(seg) > backends.MaxNameLen:
			return "", fmt.Errorf("%.20q...: a part of a route's path has at most %d bytes", p, backends.MaxNameLen)
		case strings.HasPrefix(seg, ".agentfs"):
			return "", fmt.Errorf("%q: names that begin with .agentfs are reserved", p)
		}
	}
	return p, nil
}

// isPathKey reports whether the value of a route's key is a path of this
// machine, where "~" stands for the home directory.
func isPathKey(backend, key string) bool {
	return (backend == "local" || backend == "sql") && key == "path" || strings.HasSuffix(key, "_file") || strings.HasSuffix(key, "_dir")
}

// absoluteOption returns the value of a route's key with the paths of this
// machine in it made absolute, relative ones from dir.
func absoluteOption(backend, key string, o backends.Option, dir string) (backends.Option, error) {
	var err error
	switch {
	case isPathKey(backend, key) && o.List == nil:
		o.Value, err = absolute(o.Value, dir)
	case backend == "exec" && key == "command":
		// A program is a path if it has a slash; else PATH says where it is.
		if o.List == nil {
			o.Value, err = absoluteProgram(o.Value, dir)
		} else if len(o.List) > 0 {
			o.List[0], err = absoluteProgram(o.List[0], dir)
		}
	}
	return o, err
}

func absoluteProgram(p, dir string) (string, error) {
	if !strings.Contains(p, "/") {
		return p, nil
	}
	return absolute(p, dir)
}

// expandHome replaces a leading "~" by the home directory.
func expandHome(p string) (string, error) {
	if p != "~" && !strings.HasPrefix(p, "~/") {
		return p, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("%s: there is no home directory for ~ (set HOME, or write the path in full)", p)
	}
	return filepath.Join(home, p[1:]), nil
}

// absolute returns p with "~" replaced and, if it is relative, below dir.
func absolute(p, dir string) (string, error) {
	p, err := expandHome(p)
	if err != nil || filepath.IsAbs(p) {
		return p, err
	}
	return filepath.Abs(filepath.Join(dir, p))
}

// parseSize reads a size such as 10GiB.
func parseSize(s string) (int64, error) {
	n, err := humanize.ParseBytes(s)
	if err != nil || n > 1<<62 {
		return 0, fmt.Errorf("%q is not a size (write it as 10GiB, 500MB or a number of bytes)", s)
	}
	return int64(n), nil
}
