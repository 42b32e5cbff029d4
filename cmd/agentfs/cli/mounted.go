package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/audit"
	"github.com/agentfs/agentfs/backends/policy"
	"github.com/agentfs/agentfs/backends/process"
	"github.com/agentfs/agentfs/backends/readonly"
	"github.com/agentfs/agentfs/backends/router"
	"github.com/agentfs/agentfs/cache"
	"github.com/agentfs/agentfs/cmd/agentfs/auditlog"
	"github.com/agentfs/agentfs/cmd/agentfs/lasterror"
	fusefs "github.com/agentfs/agentfs/fs"
)

// mountOptions say how to mount.
type mountOptions struct {
	config     *config
	point      string // as resolvePoint returns it
	cacheDir   string
	source     string // in the kernel's mount table; "" leaves it to fsName
	readOnly   bool
	allowOther bool
	debugFuse  bool
	noPass     bool
	timeout    time.Duration
	// drainTimeout bounds the wait for the stores at the end; 0 is no bound.
	drainTimeout time.Duration
}

// mountedRoute is a route of a mount.
type mountedRoute struct {
	openRoute
	files backends.FileSystem // the outermost, as the kernel uses it
	inner backends.FileSystem // below the read-only wrapper
	cache *cache.FS           // what gives the file depth; nil where the store has it by nature
}

// mounted is a mount of this process.
type mounted struct {
	mountOptions
	log     *slog.Logger
	routes  []mountedRoute
	files   backends.FileSystem // of the whole tree, as the kernel uses it
	rules   *policy.Policy      // nil if there are none
	server  *fusefs.Server
	started time.Time
	outcome *outcome
	budget  *cache.Budget // of all routes' contents on disk
	audit   *auditlog.Log // nil if nothing is recorded
	failed  lasterror.Failures
}

// mount opens the stores, puts them together and mounts them. The mount is
// ready when it returns. What was opened is closed again if it fails.
func (p *program) mount(ctx context.Context, o mountOptions, log *slog.Logger) (_ *mounted, err error) {
	if err := preparePoint(o.point, log); err != nil {
		return nil, err
	}
	if err := o.config.checkPoint(o.point); err != nil {
		return nil, err
	}
	m := &mounted{mountOptions: o, log: log, started: time.Now(), budget: cache.NewBudget(o.config.cacheSize)}
	if m.rules, err = o.config.policy(controlPath); err != nil {
		return nil, usage(err)
	}
	defer func() {
		if err != nil {
			m.outcome.close()
			err = errors.Join(err, m.release(ctx))
		}
	}()
	// A signal while the stores are looked at ends the start; what serves the
	// mount outlives it.
	starting, ctx := ctx, context.WithoutCancel(ctx)
	open, err := p.openAll(ctx, o.config, o.readOnly, log)
	if err != nil {
		return nil, err
	}
	if err := reach(starting, open); err != nil {
		closeAll(open, log)
		return nil, err
	}
	if m.audit, err = openAudit(o.config, o.point, log); err != nil {
		closeAll(open, log)
		return nil, err
	}
	for i, r := range open {
		mr, err := m.mountRoute(ctx, r)
		if err != nil {
			closeAll(open[i:], log)
			return nil, err
		}
		m.routes = append(m.routes, mr)
	}
	m.warnOfLeftWork()
	if m.files, err = m.compose(); err != nil {
		return nil, err
	}
	if m.outcome, err = listenOutcome(m); err != nil {
		return nil, err
	}
	m.server, err = fusefs.Mount(o.point, m.files, fusefs.Options{
		AllowOther: o.allowOther,
		ReadOnly:   o.readOnly,
		FsName:     m.fsName(),
		Log:        log,
		Timeout:    o.timeout,
		Debug:      o.debugFuse,

		NoPassthrough: o.noPass,
	})
	if err != nil {
		return nil, err
	}
	// A working directory inside the mount would keep it busy, and a server
	// that resolves a relative path through its own mount waits for itself.
	if err := os.Chdir("/"); err != nil {
		log.Warn("changing to / failed", "err", err)
	}
	return m, nil
}

// mountRoute gives r its file depth.
func (m *mounted) mountRoute(ctx context.Context, r openRoute) (mountedRoute, error) {
	mr := mountedRoute{openRoute: r, files: backends.FilesOf(r.store)}
	if mr.files == nil {
		c := r.cacheConfig(m.cacheDir, m.point, m.log)
		c.Budget = m.budget
		if m.audit != nil {
			c.Stored = func(key string, before, after backends.Version) { m.stored(r.path, key, before, after) }
		}
		fsys, err := cache.New(ctx, r.store, c)
		if err != nil {
			return mr, fmt.Errorf("%s: %w", r.source, err)
		}
		mr.files, mr.cache = fsys, fsys
	}
	mr.inner = mr.files
	if r.readOnly {
		mr.files = readonly.FileSystem(mr.files)
	}
	return mr, nil
}

// stored puts on record that the store of a route has a content. Who changed it
// closed the file before its version was known.
func (m *mounted) stored(route, key string, before, after backends.Version) {
	op := &audit.Op{
		Time: time.Now(), Kind: audit.Stored, Path: path.Join(route, key)[1:], Before: before, After: after,
		Caller: backends.Caller{PID: uint32(os.Getpid()), UID: uint32(os.Geteuid())},
	}
	op.Process.PID = op.Caller.PID
	op.Exe, _ = os.Executable()
	m.audit.Note(op)
}

// cacheConfig returns how r's store is cached below dir; user is who the room
// is said to be used by.
func (r openRoute) cacheConfig(dir, user string, log *slog.Logger) cache.Config {
	return cache.Config{
		Dir:          dir,
		Identity:     r.identity,
		MountPoint:   user,
		TTL:          r.ttl,
		UID:          r.uid,
		GID:          r.gid,
		FileMode:     r.fileMode,
		DirMode:      r.dirMode,
		Durability:   r.durability,
		Uploads:      r.uploads,
		Grace:        r.grace,
		ReadAhead:    r.readAhead,
		Fetches:      r.fetches,
		OpenFiles:    r.openFiles,
		Entries:      r.entries,
		ReadOnly:     r.readOnly,
		NoAttributes: r.noAttributes,
		Origin:       r.origin(),
		Log:          log.With("route", r.path),
	}
}

// compose makes one tree of the routes and the control directory.
func (m *mounted) compose() (backends.FileSystem, error) {
	ctl, err := m.controlStore()
	if err != nil {
		return nil, err
	}
	routes := []router.Route{{Path: controlPath, Store: ctl, Files: backends.FilesOf(ctl), Source: "the control directory", Hidden: true}}
	for _, r := range m.routes {
		routes = append(routes, router.Route{Path: r.path, Store: r.store, Files: r.files, Source: r.source})
	}
	told := audit.Config{Failed: m.failed.Add, Made: m.failed.Made, Skip: isControl, Processes: new(process.Table)}
	if m.audit != nil {
		told.Log = m.audit
	}
	all, err := compose(routes, m.rules, told)
	if err != nil {
		return nil, err
	}
	return all.files, nil
}

// fsName is the source that the kernel's mount table shows: that of fstab if it
// is mounted from there, by which mount -a knows what is mounted already.
func (m *mounted) fsName() string {
	if m.source != "" {
		return m.source
	}
	for _, r := range m.routes {
		if len(m.routes) == 1 {
			return r.String()
		}
	}
	return "agentfs"
}

// release closes the file systems and the stores. Everything that was
// acknowledged is in its store if it returns nil.
func (m *mounted) release(ctx context.Context) error {
	var errs []error
	if m.files != nil {
		if err := m.files.Close(ctx); err != nil {
			errs = append(errs, err)
		}
	} else {
		for _, r := range m.routes {
			if err := r.inner.Close(ctx); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", r.path, err))
			}
		}
	}
	for _, r := range m.routes {
		if err := backends.CloseStore(r.store); err != nil {
			m.log.Warn("closing the store failed", "route", r.path, "err", err)
		}
	}
	closeAudit(m.audit, m.log)
	return errors.Join(errs...)
}
