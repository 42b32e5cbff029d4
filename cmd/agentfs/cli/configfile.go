package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/agentfs/agentfs/backends"
)

// configFile reads one configuration file. It walks the syntax tree instead
// of decoding into a struct, because every value keeps its line for errors,
// also those that an opener finds later, and keeps its spelling: 0644 is the
// mode and not the number 420.
type configFile struct {
	name string
	dir  string // where relative paths begin
}

func readConfigFile(name string) (*config, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: no such configuration file", name)
		}
		return nil, fmt.Errorf("%s: the configuration file can't be read: %w", name, pathless(err))
	}
	if !utf8.Valid(b) {
		// The parser would replace what it can't read.
		line := 1
		for text := range bytes.Lines(b) {
			if !utf8.Valid(text) {
				return nil, fmt.Errorf("%s:%d: not UTF-8", name, line)
			}
			line++
		}
	}
	f := configFile{name: name, dir: filepath.Dir(name)}
	return f.parse(b)
}

// fail returns an error at the line of n.
func (f configFile) fail(n ast.Node, format string, args ...any) error {
	return fmt.Errorf("%s: %s", f.at(n), fmt.Sprintf(format, args...))
}

func (f configFile) at(n ast.Node) string {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return fmt.Sprintf("%s:%d", f.name, t.Position.Line)
	}
	return f.name
}

func (f configFile) parse(b []byte) (*config, error) {
	// Duplicate keys are found below, where the message can say what to do.
	file, err := parser.ParseBytes(b, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) && syntax.GetToken() != nil {
			return nil, fmt.Errorf("%s:%d: not YAML: %s", f.name, syntax.GetToken().Position.Line, syntax.GetMessage())
		}
		return nil, fmt.Errorf("%s: not YAML: %s", f.name, firstLine(err.Error()))
	}
	c := &config{}
	seen := false
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if seen {
			return nil, f.fail(doc.Body, "a second YAML document; there is one")
		}
		seen = true
		if err := f.parseTop(c, doc.Body); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (f configFile) parseTop(c *config, n ast.Node) error {
	return f.each(n, "the file", func(key string, at, value ast.Node) error {
		switch key {
		case "cache":
			return f.each(value, "cache", func(key string, at, value ast.Node) error {
				return f.parseCache(c, key, at, value)
			})
		case "audit":
			if err := f.each(value, "audit", func(key string, at, value ast.Node) error {
				return f.parseAudit(&c.audit, key, at, value)
			}); err != nil {
				return err
			}
			if c.audit.file == "" {
				return f.fail(at, "audit has no file, as in {file: /var/log/agentfs/audit.jsonl}")
			}
			return nil
		case "routes":
			return f.each(value, "routes", func(key string, at, value ast.Node) error {
				r, err := f.parseRoute(key, at, value)
				if err != nil {
					return err
				}
				return c.add(r)
			})
		case "policy":
			var err error
			c.rules, err = f.parsePolicy(value)
			return err
		}
		return f.fail(at, "unknown key %q; there are cache, audit, routes and policy", key)
	})
}

func (f configFile) parseCache(c *config, key string, at, value ast.Node) error {
	v, _, err := f.scalar(key, value)
	if err != nil {
		return err
	}
	switch key {
	case "dir":
		if v == "" {
			return f.fail(value, "dir: is empty")
		}
		if c.cacheDir, err = absolute(v, f.dir); err != nil {
			return f.fail(value, "dir: %v", err)
		}
	case "size":
		if c.cacheSize, err = parseSize(v); err != nil {
			return f.fail(value, "size: %v", err)
		}
	default:
		return f.fail(at, "unknown key %q; cache has dir and size", key)
	}
	return nil
}

func (f configFile) parseRoute(path string, at, value ast.Node) (routeConfig, error) {
	clean, err := cleanRoutePath(path)
	if err != nil {
		return routeConfig{}, f.fail(at, "%v", err)
	}
	r := routeConfig{path: clean, source: f.at(at), values: map[string]backends.Option{}}
	err = f.each(value, "the route "+clean, func(key string, at, value ast.Node) error {
		o, err := f.option(key, value)
		if err != nil {
			return err
		}
		switch {
		case key != "backend":
			r.values[key] = o
		case o.List != nil:
			return f.fail(value, "backend is one value, not a sequence")
		default:
			r.backend = o.Value
		}
		return nil
	})
	if err != nil {
		return routeConfig{}, err
	}
	if r.backend == "" {
		return routeConfig{}, f.fail(at, "the route %s has no backend, as in {backend: memory}", clean)
	}
	for key, v := range r.values {
		if r.values[key], err = absoluteOption(r.backend, key, v, f.dir); err != nil {
			return routeConfig{}, fmt.Errorf("%s: %s: %w", v.Source, key, err)
		}
	}
	return r, r.checkSecrets()
}

// option returns the value of a route's key: one, or a sequence of them.
func (f configFile) option(key string, n ast.Node) (backends.Option, error) {
	o := backends.Option{Source: f.at(n)}
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		var err error
		o.Value, o.Expanded, err = f.scalar(key, n)
		return o, err
	}
	o.List = []string{}
	for _, item := range seq.Values {
		v, expanded, err := f.scalar(key, item)
		if err != nil {
			return o, err
		}
		o.List = append(o.List, v)
		o.Expanded = o.Expanded || expanded
	}
	return o, nil
}

// each calls visit for the keys of the mapping n; a key that comes twice is an
// error. A missing value is an empty mapping.
func (f configFile) each(n ast.Node, what string, visit func(key string, at, value ast.Node) error) error {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	case *ast.NullNode:
	default:
		return f.fail(n, "%s is a mapping of keys to values, not a %s", what, strings.ToLower(n.Type().YAMLName()))
	}
	lines := map[string]string{}
	for _, p := range pairs {
		key, err := f.key(p.Key)
		if err != nil {
			return err
		}
		if first, ok := lines[key]; ok {
			return f.fail(p.Key, "%s comes twice in %s, first at %s", key, what, first)
		}
		lines[key] = f.at(p.Key)
		if err := visit(key, p.Key, p.Value); err != nil {
			return err
		}
	}
	return nil
}

func (f configFile) key(n ast.MapKeyNode) (string, error) {
	if s, ok := n.(*ast.StringNode); ok {
		return s.Value, nil
	}
	if n.IsMergeKey() {
		return "", f.fail(n, "merge keys (<<) are not supported")
	}
	return n.GetToken().Value, nil
}

// scalar returns the value as it was written, with variables expanded, and
// whether there were any.
func (f configFile) scalar(key string, n ast.Node) (v string, expanded bool, err error) {
	switch n := n.(type) {
	case *ast.StringNode:
		v = n.Value
	case *ast.LiteralNode:
		v = strings.TrimSuffix(n.Value.Value, "\n")
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		v = n.GetToken().Value
	case *ast.NullNode:
		return "", false, f.fail(n, "%s has no value", key)
	case *ast.AliasNode, *ast.AnchorNode:
		return "", false, f.fail(n, "%s: anchors and aliases are not supported", key)
	default:
		return "", false, f.fail(n, "%s is one value, not a %s", key, strings.ToLower(n.Type().YAMLName()))
	}
	v, err = expandEnv(v, func(name string) (string, bool) {
		expanded = true
		return os.LookupEnv(name)
	})
	if err != nil {
		return "", false, f.fail(n, "%s: %v", key, err)
	}
	return v, expanded, nil
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
