//go:build race

package attrs

// The race detector makes all of this twenty times slower, and what it looks for
// doesn't depend on the number of files.
func init() { scale = 10 }
