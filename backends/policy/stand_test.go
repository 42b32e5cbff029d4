package policy_test

import (
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/policy"
)

// A temporary name has the rights of the name that it is for, and may be renamed
// to it where that may only be made; it gives none of another route's.
func TestTemporary(t *testing.T) {
	p := newPolicy(t, rulesOf("write /r/plan.md\nwrite /r/agentfs.yaml\nwrite /r/_agentfs\nappend /logs/**\nhide /r/gone\nroute none /data\nread /**"))
	for _, c := range []struct {
		dir, base string
		want      policy.Access
	}{
		{"r/", "plan.md", policy.Write}, {"r/", "agentfs.yaml", policy.Write}, {"r/", "_agentfs", policy.Write},
		{"r/", "_agentfs.yaml", policy.Read}, {"r/", "agentfs", policy.Read}, {"r/", "_x", policy.Read}, {"r/", "other", policy.Read}, {"r/", "gone", policy.Hide}, {"logs/", "today", policy.Write},
		{"", "data", policy.Read}, {"", "", policy.Read}, {"r/", "plan.md" + strings.Repeat("x", 240), policy.Read},
	} {
		name := policy.Temporary(c.base)
		if strings.HasPrefix(name, ".agentfs") {
			t.Errorf("%s is a name that stores reserve", name)
		}
		if len(name) > backends.MaxNameLen {
			t.Errorf("%s is too long a name", name)
		}
		if got := p.Decide(c.dir+name, 1); got.Access != c.want {
			t.Errorf("%s%s: %v, want %v", c.dir, name, got.Access, c.want)
		}
	}
}

// Where the end of the original's name is missing, nobody has more than every
// name in that directory has.
func TestLongConflict(t *testing.T) {
	p := newPolicy(t, rulesOf("none /a/*.pem\nhide /h/*.pem"))
	suffix := ".conflict--20260101T000000.000"
	long := strings.Repeat("n", backends.MaxNameLen-len(suffix))
	for name, want := range map[string]policy.Access{
		"a/" + long + suffix: policy.None, "h/" + long + suffix: policy.Hide, "free/" + long + suffix: policy.Write,
		"a/" + long[4:] + suffix: policy.Write, "a/" + long[8:] + ".pem" + suffix: policy.None,
	} {
		if got := p.Decide(name, 1); got.Access != want {
			t.Errorf("%s: %v, want %v", name, got.Access, want)
		}
	}
}
