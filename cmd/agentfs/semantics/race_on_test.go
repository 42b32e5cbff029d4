//go:build race

package semantics

const raceDetector = true
