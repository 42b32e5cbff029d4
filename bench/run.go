package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"
)

// bench is one run of the program.
type bench struct {
	options
	self string // this program, to be started in another role
	tmp  string // scratch directory of the run
	log  *log.Logger

	matched  bool     // a workload has a name that --rows matches
	failures int      // of what has to work: all but other people's mounts
	notes    []string // for the end of the report
}

// run measures what o asks for and writes the report to out.
func run(ctx context.Context, o options, out, progress io.Writer) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if o.wants("agentfs") || o.wants("agentfs-nopt") {
		if _, err := os.Stat(o.agentfs); err != nil {
			return fmt.Errorf("%w: build it (make build), or leave it out with --only", err)
		}
	}
	tmp, err := os.MkdirTemp("", "agentfs-bench-")
	if err != nil {
		return err
	}
	b := &bench{options: o, self: self, tmp: tmp, log: log.New(progress, "", log.Ltime)}
	// A file system that could not be unmounted keeps its directory: removing it
	// would remove what is mounted.
	defer func() { err = errors.Join(err, removeUnmounted(tmp)) }()

	header(out, b)
	for _, part := range []struct {
		name string
		run  func(context.Context, io.Writer) error
	}{{"local", b.local}, {"store", b.store}, {"growth", b.growth}, {"names", b.names}, {"serve", b.serve}} {
		if !slices.Contains(b.parts, part.name) {
			continue
		}
		if err := part.run(ctx, out); err != nil {
			return fmt.Errorf("part %s: %w", part.name, err)
		}
	}
	for _, n := range b.notes {
		fmt.Fprintf(out, "* %s\n", n)
	}
	if b.rows.String() != "(?i)" && !b.matched {
		return fmt.Errorf("--rows: no workload of part %s has a name that matches %s", strings.Join(b.parts, " or "), b.rows)
	}
	if b.failures > 0 {
		return fmt.Errorf("%d workloads failed; the report says which and why", b.failures)
	}
	return nil
}

// wantsRow reports whether the workload of this name was asked for.
func (b *bench) wantsRow(name string) bool {
	wanted := b.rows.MatchString(name)
	b.matched = b.matched || wanted
	return wanted
}

// fail records that a candidate did not do what a workload asks.
func (b *bench) fail(candidate, row string, err error) {
	b.log.Printf("%s: %s: %v", candidate, row, err)
	first, _, _ := strings.Cut(err.Error(), "\n")
	b.note("failed: %s: %s: %s", candidate, row, first)
	b.failures++
}

// failPeer is fail for a mount that is not ours to repair.
func (b *bench) failPeer(name, row string, err error) {
	b.fail(name, row, err)
	b.failures--
}

// note adds a line below the tables, once.
func (b *bench) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(b.notes, n) {
		b.notes = append(b.notes, n)
	}
}
