package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentfs/agentfs/backends/policy"
	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

func (p *program) explainCommand() *cobra.Command {
	var e explain
	cmd := &cobra.Command{
		Use:   "explain PATH",
		Short: "Say which rule decides what may be done under a path",
		Long: `Explain says what may be done under PATH, a path of the tree, which rule of the
policy decides that and why. The rules are those of a mount (--mount DIR, or
AGENTFS_MOUNT), or of a configuration (--config, --route), which need not be
mounted; no store is asked, and symbolic links are not followed.

Root and who mounted see all rules of a mount. Others see those that are about
them, and none that hide names.

The exit status is 0 if PATH has the access that --need names (read, if nothing
else is said) or more, and 4 if it has less.`,
		Example: `  agentfs explain --config agentfs.yaml /data/secret/key --user agent
  agentfs explain --mount ~/mnt /logs/today.log --need append && echo may append`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return p.runExplain(cmd.Context(), &e, args[0]) },
	}
	cmd.Flags().StringVar(&e.mount, "mount", "", "the rules of the tree mounted at this directory (default: $"+mountEnv+")")
	e.stores.register(cmd)
	cmd.Flags().StringVar(&e.user, "user", "", "what this `user` may do, by name or number (default: you)")
	cmd.Flags().StringVar(&e.need, "need", policy.Read.String(), "the `access` that is asked for: write, append, read or none")
	cmd.Flags().BoolVar(&e.json, "json", false, "print one JSON object")
	must(cmd.MarkFlagDirname("mount"))
	return cmd
}

type explain struct {
	mount  string
	stores routeFlags
	user   string
	need   string
	json   bool
}

// explanation is what --json prints.
type explanation struct {
	Path   string        `json:"path"`
	User   uint32        `json:"user"`
	Access policy.Access `json:"access"`
	Need   policy.Access `json:"need"`
	Enough bool          `json:"enough"`
	// Rule is what decides, and Number its place in the list, from 1; without
	// one it is the default of Route.
	Rule   *policyRule `json:"rule,omitempty"`
	Number int         `json:"number,omitempty"`
	Rules  int         `json:"rules"`
	Route  policyRoute `json:"route"`
	// Directory is the directory above whose rule it is.
	Directory string `json:"directory,omitempty"`
	// Original is the name that the path is a conflict's name of.
	Original string `json:"original,omitempty"`
	// Cut says that the end of Original may be missing: nobody has more.
	Cut bool `json:"cut,omitempty"`
	// Temporary is the name that the path is a temporary one for.
	Temporary string `json:"temporary,omitempty"`
	// IgnoringCase says that the rule matches if case is ignored.
	IgnoringCase bool `json:"ignoring_case,omitempty"`
	// Control says that the path is in the control directory.
	Control bool `json:"control,omitempty"`
	// Complete is false where rules may have been kept back.
	Complete bool `json:"complete"`
}

func (p *program) runExplain(_ context.Context, e *explain, arg string) error {
	name, err := protocol.Name(arg)
	if err != nil {
		return usage(err)
	}
	need, err := policy.ParseAccess(e.need)
	if err != nil || need == policy.Hide {
		return usagef("--need: %q is not one of write, append, read and none", e.need)
	}
	uid := uint32(os.Geteuid())
	if e.user != "" {
		if uid, err = parseUser(e.user); err != nil {
			return usagef("--user: %w", err)
		}
	}
	view, err := p.policyOf(e)
	if err != nil {
		return err
	}
	if !view.Complete && uid != uint32(os.Geteuid()) {
		return fmt.Errorf("--user %s: only root and who mounted may see the rules about others", e.user)
	}
	rules, err := policy.New(view.config())
	if err != nil {
		return usage(err)
	}
	x := explainWith(rules, view, name, uid, need)
	if e.json {
		err = p.line(x)
	} else {
		_, err = fmt.Fprint(p.out, x)
	}
	if err == nil && !x.Enough {
		return silentError{exitCondition}
	}
	return err
}

// policyOf returns the rules that e asks about.
func (p *program) policyOf(e *explain) (policyView, error) {
	if e.mount == "" && !e.stores.given() {
		e.mount = os.Getenv(mountEnv)
	}
	switch {
	case e.mount != "" && e.stores.given():
		return policyView{}, errTwoTrees
	case e.mount != "":
		return readPolicy(e.mount)
	case !e.stores.given():
		return policyView{}, usagef("whose rules? say --mount DIR (or set %s) for those of a mount, or --config FILE", mountEnv)
	}
	c, err := e.stores.read()
	if err != nil {
		return policyView{}, err
	}
	cfg, err := c.policyConfig()
	if err != nil {
		return policyView{}, usage(err)
	}
	return viewOf(cfg, 0, true, nil), nil
}

// readPolicy reads the rules of the mount at dir.
func readPolicy(dir string) (v policyView, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return v, err
	}
	b, err := os.ReadFile(filepath.Join(dir, controlDir, "policy"))
	if errors.Is(err, fs.ErrNotExist) {
		return v, fmt.Errorf("--mount %s: not an agentfs (findmnt shows what is mounted where)", dir)
	}
	if err != nil {
		return v, whichMount(dir, err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("the policy of %s can't be read: %w", dir, err)
	}
	return v, nil
}

func explainWith(rules *policy.Policy, view policyView, name string, uid uint32, need policy.Access) explanation {
	d := rules.Decide(name, uid)
	x := explanation{
		Path: protocol.Path(name, false), User: uid, Access: d.Access, Need: need, Enough: d.Access >= need && d.Access > policy.Hide,
		Rules: len(view.Rules), Route: policyRoute{d.Route.Path, d.Route.Default, d.Route.Source},
		Cut: d.Cut, IgnoringCase: d.Folded, Control: d.Exempt, Complete: view.Complete,
	}
	if d.Directory != "" {
		x.Directory = protocol.Path(d.Directory, true)
	}
	if d.Original != "" {
		x.Original = protocol.Path(d.Original, false)
	}
	if d.Temporary != "" {
		x.Temporary = protocol.Path(d.Temporary, false)
	}
	if d.Rule != nil {
		x.Number = d.Number
		x.Rule = &view.Rules[d.Number-1]
	}
	return x
}

// allows says what each access allows.
var allows = map[policy.Access]string{
	policy.Write:  "everything that modes and owners allow",
	policy.Append: "to read, to create what is not there, and to write behind the end",
	policy.Read:   "to read and to list, and no change",
	policy.None:   "nothing but to see that it is there",
	policy.Hide:   "nothing; it is as if it weren't there",
}

// String returns the explanation for people.
func (x explanation) String() string {
	var b strings.Builder
	if x.Control {
		return fmt.Sprintf("%s: no rule is about the control directory, which shows to each reader what the rules let that reader see\n", printable(x.Path))
	}
	fmt.Fprintf(&b, "%s: %s for user %d: %s\n", printable(x.Path), x.Access, x.User, allows[x.Access])
	switch {
	case x.Cut:
		fmt.Fprintf(&b, "  because it is a name for one of two contents of a file whose own name, which begins with %s,\n"+
			"  is too long to tell which of the rules in this directory it has\n", printable(x.Original))
	case x.Rule == nil:
		fmt.Fprintf(&b, "  decided by the default of the route %s%s\n", x.Route.Path, written(x.Route.Source))
		fmt.Fprintf(&b, "  because %s\n", x.because("no rule matches", "no rule matches"))
	default:
		fmt.Fprintf(&b, "  decided by rule %d of %d%s: {path: %q", x.Number, x.Rules, written(x.Rule.Source), x.Rule.Path)
		if x.Rule.Route != "" {
			fmt.Fprintf(&b, ", route: %s", x.Rule.Route)
		}
		fmt.Fprintf(&b, ", access: %s", x.Rule.Access)
		if len(x.Rule.Users) > 0 {
			fmt.Fprintf(&b, ", users: %s", strings.ReplaceAll(fmt.Sprint(x.Rule.Users), " ", ", "))
		}
		fmt.Fprintf(&b, "}\n  because %s\n", x.because("it is the first that matches", "it matches"))
	}
	if !x.Complete {
		fmt.Fprintf(&b, "  (rules that hide names, and those about others, are shown to root and to who mounted)\n")
	}
	return b.String()
}

// because says why; own is what is said of the path itself, above of a
// directory above it.
func (x explanation) because(own, above string) string {
	s := own
	if x.Directory != "" {
		s = fmt.Sprintf("%s the directory %s, and what lies below can't have more by a rule further down", above, printable(x.Directory))
		if x.Access == policy.Hide {
			s = fmt.Sprintf("%s the directory %s, and nothing leads to what lies below it", above, printable(x.Directory))
		}
	}
	if x.IgnoringCase {
		s += "; it does so when upper and lower case are taken for the same, and the stricter answer counts"
	}
	if x.Original != "" {
		s += fmt.Sprintf("; it is asked about %s, because this is a name for one of two contents of that", printable(x.Original))
	}
	if x.Temporary != "" {
		s += fmt.Sprintf("; it is asked about %s, because this is a name for a new content of that before it is renamed to it", printable(x.Temporary))
	}
	return s
}

// written says where something was written, if that is known.
func written(source string) string {
	if source == "" {
		return ""
	}
	return " (" + source + ")"
}
