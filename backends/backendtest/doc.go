// Package backendtest is the contract of package backends in executable form:
// [Store] is the conformance suite of the object depth, [FileSystem] that of
// the file depth. Every backend and every wrapper of agentfs passes them, and
// the author of a backend elsewhere needs one test:
//
//	func TestConformance(t *testing.T) {
//		backendtest.Store(t, func(t *testing.T) backends.Store {
//			s := mine.New(t.TempDir())
//			t.Cleanup(func() { s.Close() })
//			return s
//		})
//	}
//
// Each promise is one named subtest on a store of its own, so that
// "go test -run 'TestConformance/Put/IfMatch'" shows just that one.
//
// # Exceptions
//
// What a backend cannot do, because the server behind it doesn't, is declared
// where the suite is called, with the reason:
//
//	backendtest.Store(t, open,
//		backendtest.Exception{Test: "Remove/IfMatch", Reason: "the server ignores If-Match of DELETE"})
//
// The subtest is then skipped and says why. An exception that names no test is
// an error, so that the list can't outlive what it excuses.
//
// # Read-only backends
//
// [ReadOnlyStore] and [ReadOnlyFileSystem] run the same suites over a backend
// that takes no changes, by way of a second view that does.
//
// # Random tests
//
// Some tests draw their operations at random. One that fails says its seed;
// with that in the environment variable BACKENDTEST_SEED it draws the same
// again.
package backendtest
