package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agentfs/agentfs/backends/policy"
	"github.com/agentfs/agentfs/cache"
)

// policyView is the content of .agentfs/policy: the rules of a mount as far as
// they are the reader's business.
type policyView struct {
	// Complete says that all rules are here. Only root and who mounted see
	// what is hidden, and what is said of others.
	Complete bool          `json:"complete"`
	Rules    []policyRule  `json:"rules"`
	Routes   []policyRoute `json:"routes"`
}

type policyRule struct {
	Path   string        `json:"path"`
	Route  string        `json:"route,omitempty"`
	Access policy.Access `json:"access"`
	Users  []uint32      `json:"users,omitempty"`
	Source string        `json:"source"`
}

type policyRoute struct {
	Path   string        `json:"path"`
	Access policy.Access `json:"access"`
	Source string        `json:"source"`
}

// viewOf returns cfg as uid may see it.
func viewOf(cfg policy.Config, uid uint32, complete bool, seen func(path string) bool) policyView {
	v := policyView{Complete: complete, Rules: []policyRule{}, Routes: []policyRoute{}}
	for _, r := range cfg.Rules {
		// (A rule of a route that isn't there is none.)
		theirs := len(r.Users) == 0 || slices.Contains(r.Users, uid)
		if complete || theirs && r.Access != policy.Hide && (r.Route == "" || seen(r.Route)) {
			pr := policyRule{Path: r.Pattern, Route: r.Route, Access: r.Access, Users: r.Users, Source: r.Source}
			if !complete && len(r.Users) > 0 {
				pr.Users = []uint32{uid}
			}
			v.Rules = append(v.Rules, pr)
		}
	}
	for _, r := range cfg.Routes {
		if complete || seen(r.Path) {
			v.Routes = append(v.Routes, policyRoute{r.Path, r.Default, r.Source})
		}
	}
	return v
}

// config undoes viewOf.
func (v policyView) config() policy.Config {
	cfg := policy.Config{Exempt: []string{controlPath}}
	for _, r := range v.Rules {
		cfg.Rules = append(cfg.Rules, policy.Rule{Pattern: r.Path, Route: r.Route, Access: r.Access, Users: r.Users, Source: r.Source})
	}
	for _, r := range v.Routes {
		cfg.Routes = append(cfg.Routes, policy.Route{Path: r.Path, Default: r.Access, Source: r.Source})
	}
	return cfg
}

// policyView returns the rules as who asks may see them.
func (m *mounted) policyView(ctx context.Context) policyView {
	uid := policy.UserOf(ctx)
	cfg, _ := m.config.policyConfig() // was looked at when the mount began
	return viewOf(cfg, uid, uid == 0 || uid == uint32(os.Geteuid()), m.sees(ctx))
}

func (m *mounted) policyPage(ctx context.Context) ([]byte, error) {
	b, err := json.MarshalIndent(m.policyView(ctx), "", "  ")
	return append(b, '\n'), err
}

// sees returns whether a path of the tree is there for who asks.
func (m *mounted) sees(ctx context.Context) func(path string) bool {
	uid := policy.UserOf(ctx)
	return func(path string) bool {
		return m.rules == nil || m.rules.Decide(treeName(path), uid).Access != policy.Hide
	}
}

// treeName returns the name of a path of the tree that begins with a slash.
func treeName(p string) string {
	if p = strings.Trim(path.Clean(p), "/"); p == "" {
		return "."
	}
	return p
}

// censor takes out of a status what who asks may not see. Numbers stay.
func (m *mounted) censor(ctx context.Context, st *mountStatus) {
	if m.rules == nil {
		return
	}
	uid, seen := policy.UserOf(ctx), m.sees(ctx)
	st.Routes = slices.DeleteFunc(st.Routes, func(r routeStatus) bool { return !seen(r.Path) })
	for i := range st.Routes {
		r := &st.Routes[i]
		if r.Cache == nil {
			continue
		}
		secret := func(name string) bool {
			return !filepath.IsAbs(name) && !m.rules.Visible(treeName(r.on("/", name)), uid)
		}
		r.Cache.Pending = slices.DeleteFunc(slices.Clone(r.Cache.Pending), func(x cache.Pending) bool { return secret(x.Name) })
		r.Cache.Errors = slices.DeleteFunc(slices.Clone(r.Cache.Errors), func(x cache.Problem) bool { return secret(x.Name) })
		r.Cache.Conflicts = slices.DeleteFunc(slices.Clone(r.Cache.Conflicts), func(x cache.Conflict) bool { return secret(x.Name) || secret(x.Ours) })
	}
}

// lines returns the rules for people, one on a line.
func (v policyView) lines() (lines []string) {
	for _, r := range v.Rules {
		where := "`" + r.Path + "`"
		if r.Route != "" {
			where += " in " + r.Route
		}
		whom := ""
		if len(r.Users) > 0 {
			whom = ", for user " + strings.Trim(strings.ReplaceAll(fmt.Sprint(r.Users), " ", ", "), "[]")
		}
		lines = append(lines, fmt.Sprintf("%s: %s%s", where, r.Access, whom))
	}
	for _, r := range v.Routes {
		if r.Access != policy.Write {
			lines = append(lines, fmt.Sprintf("`%s`, where nothing above says otherwise: %s", r.Path, r.Access))
		}
	}
	return lines
}
