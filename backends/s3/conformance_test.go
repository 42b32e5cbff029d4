package s3_test

import (
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/backends/s3"
	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// What servers can't do, with the reason for each.
var (
	noControl = backendtest.Exception{Test: "Names/Control",
		Reason: "the server ignores encoding-type=url, and XML can't hold control characters: such keys are left out of listings"}
	versitygwCant = []backendtest.Exception{
		noControl,
		{Test: "Remove/IfMatchRace", Reason: "a conditional DELETE of a key that is gone meanwhile is answered 204, as on AWS: two removals of one version may both succeed"},
	}
	fakeCant = []backendtest.Exception{
		noControl,
		{Test: "Remove/IfMatchRace", Reason: "the server ignores If-Match of DELETE: the object is looked at just before"},
		{Test: "Rename/IfMatchRace", Reason: "the same: of a copy and a removal, the removal is not bound to a version"},
	}
	// s3Cant is what S3 itself doesn't have.
	s3Cant = []backendtest.Exception{
		{Test: "SetAttr", Reason: "an object's metadata can't be changed without writing the object"},
		{Test: "Symlink", Reason: "S3 has no links"},
		{Test: "Rename/Dir", Reason: "S3 has no rename; a tree that moves piece by piece is the caller's decision"},
		{Test: "Rename/DirErrors", Reason: "S3 has no rename"},
	}
)

// TestVersitygw runs the contract over a real server.
func TestVersitygw(t *testing.T) {
	s3test.Versitygw(t) // keeps one server for all subtests
	backendtest.Store(t, func(t *testing.T) backends.Store {
		return s3test.Versitygw(t).Store(t)
	}, append(versitygwCant, s3Cant...)...)
}

// TestFake runs the contract over gofakes3, below a prefix that needs escaping.
func TestFake(t *testing.T) {
	backendtest.Store(t, func(t *testing.T) backends.Store {
		return s3test.Fake(t).Store(t, func(c *s3.Config) { c.Prefix = "a/deep+%41 prefix" })
	}, append(fakeCant, s3Cant...)...)
}
