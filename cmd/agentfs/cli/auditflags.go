package cli

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/audit"
	"github.com/agentfs/agentfs/cmd/agentfs/auditlog"
	fusefs "github.com/agentfs/agentfs/fs"
)

// auditConfig is what the user said about the audit. What is zero was not said.
type auditConfig struct {
	file     string // absolute; "" is no audit
	maxSize  int64
	keep     int
	queue    int
	whenFull auditlog.WhenFull
	source   string // where it was written
}

// auditFlags are the flags that say what is recorded where; they count more
// than the file.
type auditFlags struct {
	file, whenFull string
}

func (f *auditFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "audit-file", "", "record what is done in this file, one JSON object a line (see agentfs audit)")
	cmd.Flags().StringVar(&f.whenFull, "audit-when-full", "", "when there is no room for a record, `drop or refuse`: do without and count, or fail the operation (default drop)")
	must(cmd.MarkFlagFilename("audit-file"))
	must(cmd.RegisterFlagCompletionFunc("audit-when-full", cobra.FixedCompletions([]string{
		string(auditlog.Drop), string(auditlog.Refuse),
	}, cobra.ShellCompDirectiveNoFileComp)))
}

// apply puts the flags over what the file says.
func (f *auditFlags) apply(c *auditConfig) error {
	if f.file != "" {
		var err error
		if c.file, err = absolute(f.file, "."); err != nil {
			return fmt.Errorf("--audit-file: %w", err)
		}
		c.source = "--audit-file"
	}
	if f.whenFull != "" {
		var err error
		if c.whenFull, err = parseWhenFull(f.whenFull); err != nil {
			return fmt.Errorf("--audit-when-full: %w", err)
		}
		if c.file == "" {
			return fmt.Errorf("--audit-when-full: there is no audit; name its file with --audit-file")
		}
	}
	return nil
}

func parseWhenFull(v string) (auditlog.WhenFull, error) {
	switch w := auditlog.WhenFull(v); w {
	case auditlog.Drop, auditlog.Refuse:
		return w, nil
	}
	return "", fmt.Errorf("%q is neither drop nor refuse", v)
}

// parseAudit reads one key of the audit's part of the configuration file.
func (f configFile) parseAudit(c *auditConfig, key string, at, value ast.Node) error {
	v, _, err := f.scalar(key, value)
	if err != nil {
		return err
	}
	number := func(lo, hi int) (int, error) {
		n, err := strconv.Atoi(v)
		if err != nil || n < lo || n > hi {
			return 0, fmt.Errorf("%q is not a whole number from %d to %d", v, lo, hi)
		}
		return n, nil
	}
	switch key {
	case "file":
		c.source = f.at(value)
		if v == "" {
			return f.fail(value, "file: is empty")
		}
		c.file, err = absolute(v, f.dir)
	case "max_size":
		if c.maxSize, err = parseSize(v); err == nil && c.maxSize < 4096 {
			err = fmt.Errorf("%q is less than 4096 bytes", v)
		}
	case "keep":
		c.keep, err = number(1, 1000)
	case "queue":
		c.queue, err = number(auditlog.MinQueue, 1<<20)
	case "when_full":
		c.whenFull, err = parseWhenFull(v)
	default:
		return f.fail(at, "unknown key %q; audit has file, max_size, keep, queue and when_full", key)
	}
	if err != nil {
		return f.fail(value, "%s: %v", key, err)
	}
	return nil
}

// openAudit starts the audit log; nil if there is to be none. Its file must not
// be where the routes or the mount are: whoever is recorded could change it, and
// the mount would wait for itself.
func openAudit(c *config, point string, log *slog.Logger) (*auditlog.Log, error) {
	a := c.audit
	if a.file == "" {
		return nil, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(a.file))
	if err != nil {
		return nil, fmt.Errorf("%s: the audit's directory: %w", a.source, err)
	}
	file := filepath.Join(dir, filepath.Base(a.file))
	if point != "" && isBelow(file, point) {
		return nil, usagef("%s: the audit's file %s is inside the mount point; choose one outside it", a.source, file)
	}
	for _, r := range c.routes {
		if r.backend != "local" {
			continue
		}
		if served, err := filepath.EvalSymlinks(r.values["path"].Value); err == nil && isBelow(file, served) {
			return nil, usagef("%s: the audit's file %s is inside the route %s, where it could be changed; choose one outside it", a.source, file, r.path)
		}
	}
	l, err := auditlog.Open(auditlog.Config{
		File:     file,
		MaxSize:  cmp.Or(a.maxSize, auditlog.DefaultMaxSize),
		Keep:     cmp.Or(a.keep, auditlog.DefaultKeep),
		Queue:    cmp.Or(a.queue, auditlog.DefaultQueue),
		WhenFull: cmp.Or(a.whenFull, auditlog.Drop),
		Log:      log,
	}, &auditlog.Describer{
		Route: c.routeOf,
		Errno: errnoName,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: the audit's file: %w", a.source, err)
	}
	return l, nil
}

// routeOf returns the path of the route that serves the path p.
func (c *config) routeOf(p string) string {
	best := ""
	for _, r := range c.routes {
		if isBelow(p, r.path) && len(r.path) > len(best) {
			best = r.path
		}
	}
	return best
}

// errnoName returns the name of what a program gets for err.
func errnoName(k audit.Kind, err error) string {
	return unix.ErrnoName(fusefs.Errno(string(k), err))
}

// auditEnd is how long the end of a mount or a command waits until the last
// records are written.
const auditEnd = 5 * time.Second

// closeAudit ends the audit log, if there is one.
func closeAudit(l *auditlog.Log, log *slog.Logger) {
	if l == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), auditEnd)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		log.Error("the audit is not complete", "err", err)
	}
}

// isControl reports whether the name is that of the control directory or of
// something in it.
func isControl(name string) bool {
	return name == controlDir || strings.HasPrefix(name, controlDir+"/")
}
