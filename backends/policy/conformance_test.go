package policy_test

import (
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/backends/local"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/backends/names"
	"github.com/agentfs/agentfs/backends/policy"
)

// allowing is a policy whose rules allow everything that the suites do, after
// they were asked.
var allowing = policy.Config{Rules: []policy.Rule{
	{Pattern: "/not-there/**", Access: policy.Hide},
	{Pattern: "**/*.log.of.others", Access: policy.Append},
	{Pattern: "*", Access: policy.None, Users: []uint32{4711}},
	{Pattern: "/**", Access: policy.Write, Users: []uint32{0}},
}}

func newPolicy(t testing.TB, cfg policy.Config) *policy.Policy {
	t.Helper()
	p, err := policy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// guarded returns raw with the rules of p.
func guarded(raw backends.FileSystem, p *policy.Policy) backends.FileSystem {
	f, tracker := names.FileSystem(raw)
	return policy.FileSystem(f, raw, tracker, p)
}

func TestFileSystemConformance(t *testing.T) {
	backendtest.FileSystem(t, func(t *testing.T) backends.FileSystem {
		return guarded(memorytest.New(t, memory.Config{NoTmpfs: true}).FileSystem(), newPolicy(t, allowing))
	}, backendtest.Exception{Test: "Mkdir/Nlink", Reason: "a directory in which names may be hidden doesn't count its directories"})
}

// A host directory forgets nodes, and gives a file found again another one.
func TestFileSystemConformanceLocal(t *testing.T) {
	backendtest.FileSystem(t, func(t *testing.T) backends.FileSystem {
		s, err := local.New(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return guarded(s.FileSystem(), newPolicy(t, policy.Config{}))
	})
}

func TestStoreConformance(t *testing.T) {
	backendtest.Store(t, func(t *testing.T) backends.Store {
		s := memorytest.New(t, memory.Config{NoTmpfs: true, MinPart: 100, GoodPart: 200})
		return policy.Store(s, newPolicy(t, allowing))
	})
}
