package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/readonly"
	"github.com/agentfs/agentfs/backends/unixmode"
)

// defaultTTL is how long the kernel and the cache believe what a store said,
// if a route says nothing else.
const defaultTTL = 5 * time.Second

// generic are the options that every route has, whatever its backend. Those of
// the cache mean nothing to a route that has its file depth by nature.
type generic struct {
	readOnly bool
	// durability as the route says it; "" leaves it to the cache.
	durability        string
	ttl               time.Duration
	uploads           int           // 0 leaves it to the cache
	grace             time.Duration // as cache.Config has it: 0 is its default, below 0 is none
	readAhead         int64         // the same: 0 is the cache's default, below 0 is none
	fetches           int           // 0 leaves it to the cache
	openFiles         int           // the same
	entries           int64         // the same
	noAttributes      bool
	uid, gid          uint32
	fileMode, dirMode fs.FileMode
}

// What a route may say about when close(2) returns.
const (
	durabilityWriteback = "writeback" // when this machine's disk has the change
	durabilityClose     = "close"     // when the store has it
)

func takeGeneric(o *backends.Options) generic {
	g := generic{
		readOnly:   o.Bool("read_only", false),
		durability: o.String("durability", ""),
		ttl:        o.Duration("ttl", defaultTTL),
		uploads:    int(o.Int("uploads", 0, 1, 1024)),
		grace:      o.Duration("grace", 0),
		readAhead:  o.Bytes("readahead", 0),
		fetches:    int(o.Int("fetches", 0, 1, 1024)),
		entries:    o.Int("entries", 0, 100, 1<<40),
		openFiles:  int(o.Int("open_files", 0, 8, 1<<20)),
		uid:        uint32(o.Int("uid", int64(os.Geteuid()), 0, 1<<32-2)),
		gid:        uint32(o.Int("gid", int64(os.Getegid()), 0, 1<<32-2)),
		fileMode:   unixmode.From(o.Mode("file_mode", 0o644)),
		dirMode:    unixmode.From(o.Mode("dir_mode", 0o755)),
	}
	o.String(accessKey, "") // the policy's; see config.policy
	switch {
	case !slices.Contains(o.Keys(), "durability"):
	case g.durability != durabilityWriteback && g.durability != durabilityClose:
		o.Fail("durability", "%q is not a durability; there are writeback and close", g.durability)
	}
	if slices.Contains(o.Keys(), "grace") && g.grace == 0 {
		g.grace = -1
	}
	if slices.Contains(o.Keys(), "readahead") && g.readAhead == 0 {
		g.readAhead = -1
	}
	switch v := strings.ToLower(o.String("attributes", "on")); v {
	case "on", "true", "":
	case "off", "false":
		g.noAttributes = true
	default:
		o.Fail("attributes", "%q is neither on nor off", v)
	}
	for _, m := range []struct {
		key  string
		mode fs.FileMode
	}{{"file_mode", g.fileMode}, {"dir_mode", g.dirMode}} {
		if m.mode > 0o777 {
			o.Fail(m.key, "%04o has more than permission bits", unixmode.Perm(m.mode))
		}
	}
	return g
}

// openRoute is a route whose store is open.
type openRoute struct {
	routeConfig
	generic
	store    backends.Store // as the opener returned it, or read-only
	identity string
}

// openAll opens the stores of all routes, or none. readOnly makes every route
// read-only, whatever it says itself.
func (p *program) openAll(ctx context.Context, c *config, readOnly bool, log *slog.Logger) ([]openRoute, error) {
	var open []openRoute
	var errs []error
	seen := map[string]openRoute{}
	for _, rc := range c.routes {
		r, err := p.openRoute(ctx, rc, readOnly, log)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		open = append(open, r)
		if err := r.distinctFrom(seen); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		closeAll(open, log)
		return nil, errors.Join(errs...)
	}
	return open, nil
}

func closeAll(routes []openRoute, log *slog.Logger) {
	for _, r := range routes {
		if err := backends.CloseStore(r.store); err != nil {
			log.Warn("closing the store failed", "route", r.path, "err", err)
		}
	}
}

func (p *program) openRoute(ctx context.Context, rc routeConfig, readOnly bool, log *slog.Logger) (openRoute, error) {
	open, ok := p.backends[rc.backend]
	if !ok {
		known := strings.Join(slices.Sorted(maps.Keys(p.backends)), ", ")
		return openRoute{}, usagef("%s: unknown backend %q; there are %s", rc.source, rc.backend, known)
	}
	o := backends.NewOptions(rc.source, log.With("route", rc.path), rc.values)
	r := openRoute{routeConfig: rc, generic: takeGeneric(o)}
	if rc.backend == "memory" && o.Bytes("size", 1) == 0 {
		o.Fail("size", "0 leaves no room for anything; write a size such as 2GiB, or leave it out for half of the machine's memory")
	}
	s, err := open(ctx, o)
	if err == nil {
		// An opener that forgot to close its options takes wrong ones silently.
		if err = o.Close(); err != nil {
			closeAll([]openRoute{{routeConfig: rc, store: s}}, log)
		}
	}
	if err != nil {
		err = distinct(err)
		if msg := err.Error(); !strings.HasPrefix(msg, rc.source) && !strings.Contains(msg, fileOf(rc.source)+":") {
			err = fmt.Errorf("%s: %w", rc.source, err)
		}
		return openRoute{}, usage(err)
	}
	r.readOnly = r.readOnly || readOnly
	r.identity = backends.IdentityOf(s, rc.String())
	r.store = s
	if r.readOnly {
		r.store = readonly.Store(s)
	}
	return r, nil
}

// distinct returns a joined error with every text once: an option that the
// route and its backend both take is refused by both.
func distinct(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var all []error
	seen := map[string]bool{}
	for _, e := range joined.Unwrap() {
		if !seen[e.Error()] {
			all = append(all, e)
		}
		seen[e.Error()] = true
	}
	return errors.Join(all...)
}

// distinctFrom refuses a second route to a store, because each would keep a
// view and changes of its own of the same data, and adds r to seen, which goes
// by identity. A store without one, such as memory, is like no other.
func (r openRoute) distinctFrom(seen map[string]openRoute) error {
	id := backends.IdentityOf(r.store, "")
	if id == "" {
		return nil
	}
	if other, ok := seen[id]; ok {
		return usagef("%s: routes %s (%s) and %s name the same store, %s; keep one of them", r.source, other.path, other.source, r.path, r.String())
	}
	seen[id] = r
	return nil
}

// reachTimeout bounds how long a mount waits at its start for a store that
// doesn't answer. Retries against one that refuses connections end sooner.
const reachTimeout = 30 * time.Second

// reach asks every store that is not of this machine whether it is there, so
// that a wrong bucket or endpoint is an error of the mount and not of the
// first program that looks into it.
func reach(ctx context.Context, routes []openRoute) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	errs := make([]error, len(routes))
	var wg sync.WaitGroup
	for i, r := range routes {
		if backends.FilesOf(r.store) != nil {
			continue
		}
		wg.Go(func() {
			for _, err := range r.store.List(ctx, ".", "") {
				switch {
				case errors.Is(err, context.DeadlineExceeded):
					errs[i] = fmt.Errorf("%s: no answer from %s within %s; is the endpoint right and up, and the network there?", r.source, r.String(), reachTimeout)
				case err != nil:
					errs[i] = fmt.Errorf("%s: %w", r.source, pathless(err))
				}
				return
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// fileOf returns the file of a source such as "agentfs.yaml:12".
func fileOf(source string) string {
	if i := strings.LastIndexByte(source, ':'); i >= 0 {
		return source[:i]
	}
	return source
}
