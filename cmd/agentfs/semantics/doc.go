// Package semantics has no code of its own, only tests: SEMANTICS.md paragraph
// by paragraph, each promise on a real mount of the real program with a real S3
// server behind it, and ordinary tools at work on it.
//
// The doc comment of a test is the paragraph of SEMANTICS.md that it keeps;
// TestSemanticsIsTested compares the two.
package semantics
