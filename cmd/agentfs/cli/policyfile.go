package cli

import (
	"fmt"
	"os/user"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/agentfs/agentfs/backends/policy"
)

// accessKey is the option of a route that says what may be done where no rule
// matches.
const accessKey = "access"

// policy returns the rules of c, nil if there are none and everything is
// allowed. Paths that are exempt are no matter of rules.
func (c *config) policy(exempt ...string) (*policy.Policy, error) {
	cfg, err := c.policyConfig()
	if err != nil {
		return nil, err
	}
	some := len(cfg.Rules) > 0
	for _, r := range cfg.Routes {
		some = some || r.Default != policy.Write
	}
	cfg.Exempt = exempt
	p, err := policy.New(cfg)
	if err != nil || !some {
		return nil, err
	}
	return p, nil
}

// policyConfig returns what c says of rules.
func (c *config) policyConfig() (policy.Config, error) {
	cfg := policy.Config{Rules: c.rules}
	for _, r := range c.routes {
		pr := policy.Route{Path: r.path, Default: policy.Write, Source: r.source}
		if v, ok := r.values[accessKey]; ok {
			var err error
			if pr.Default, err = policy.ParseAccess(v.Value); err != nil {
				return cfg, fmt.Errorf("%s: %s: %w", v.Source, accessKey, err)
			}
			pr.Source = v.Source
		}
		cfg.Routes = append(cfg.Routes, pr)
	}
	return cfg, nil
}

// parsePolicy reads the list of rules.
func (f configFile) parsePolicy(n ast.Node) ([]policy.Rule, error) {
	if _, ok := n.(*ast.NullNode); ok {
		return nil, nil
	}
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		return nil, f.fail(n, `policy is a list of rules, as in - {path: "/secret/**", access: none}`)
	}
	var rules []policy.Rule
	for _, item := range seq.Values {
		r, err := f.parseRule(item)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func (f configFile) parseRule(n ast.Node) (policy.Rule, error) {
	r := policy.Rule{Source: f.at(n)}
	access := false
	err := f.each(n, "a rule", func(key string, at, value ast.Node) (err error) {
		if key == "users" {
			r.Users, err = f.parseUsers(value)
			return err
		}
		if _, alias := value.(*ast.AliasNode); alias && key == "path" {
			return f.fail(value, `path: a pattern that begins with * stands in quotes, as in "*.pem"`)
		}
		v, _, err := f.scalar(key, value)
		if err != nil {
			return err
		}
		switch key {
		case "path":
			r.Pattern = v
		case "route":
			if r.Route, err = cleanRoutePath(v); err != nil {
				return f.fail(value, "route: %v", err)
			}
		case "access":
			access = true
			if r.Access, err = policy.ParseAccess(v); err != nil {
				return f.fail(value, "access: %v", err)
			}
		default:
			return f.fail(at, "unknown key %q; a rule has path, access, route and users", key)
		}
		return nil
	})
	switch {
	case err != nil:
		return r, err
	case !access:
		return r, f.fail(n, "the rule says no access: write, append, read, none or hide")
	case r.Pattern == "" && r.Route == "":
		return r, f.fail(n, `the rule says no path, as in {path: "/secret/**", access: none}`)
	case r.Pattern == "":
		r.Pattern = "**" // of the route
	}
	return r, nil
}

// parseUsers reads one user or a list of them, each a name or a number.
func (f configFile) parseUsers(n ast.Node) ([]uint32, error) {
	items := []ast.Node{n}
	if seq, ok := n.(*ast.SequenceNode); ok {
		items = seq.Values
	}
	if len(items) == 0 {
		return nil, f.fail(n, "users is empty; a rule without it is about everybody")
	}
	var uids []uint32
	for _, item := range items {
		v, _, err := f.scalar("users", item)
		if err != nil {
			return nil, err
		}
		uid, err := parseUser(v)
		if err != nil {
			return nil, f.fail(item, "users: %v", err)
		}
		uids = append(uids, uid)
	}
	return uids, nil
}

// parseUser returns the id of a user, given as a number or a name.
func parseUser(s string) (uint32, error) {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil && n < 1<<32-1 {
		return uint32(n), nil
	}
	if strings.Trim(s, "0123456789") == "" {
		return 0, fmt.Errorf("%q is not a user id", s)
	}
	u, err := user.Lookup(s)
	if err != nil {
		return 0, fmt.Errorf("there is no user %q on this machine; a number will do, too", s)
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("the user %q has the id %q, which is no number", s, u.Uid)
	}
	return uint32(n), nil
}
