// Package crash has the proofs of the cache as a whole, all of them tests: a
// reference model of a file system, and what is compared with it. A process
// that is killed at any moment keeps what it acknowledged (crash_test.go), any
// sequence of operations ends in the model's tree and the store follows it
// (fuzz_test.go), a file is an array of bytes (fsx_test.go), and of two
// machines neither loses what it wrote (twomounts_test.go).
//
// The package has no code of its own: it is a folder for tests that know
// several backends, which package cache must not.
package crash
