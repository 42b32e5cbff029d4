package cli

import (
	"context"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/audit"
	"github.com/agentfs/agentfs/backends/process"
	"github.com/agentfs/agentfs/backends/router"
	"github.com/agentfs/agentfs/cache/carry"
)

// routeFlags are the flags that say which stores there are.
type routeFlags struct {
	config string
	routes []string
	audit  auditFlags
}

func (f *routeFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.config, "config", "", "YAML file with cache, audit, routes and policy")
	// Not a StringSlice: a URL may contain commas.
	cmd.Flags().StringArrayVar(&f.routes, "route", nil, "serve PATH from a store, as `PATH=URL`; may be repeated")
	must(cmd.MarkFlagFilename("config", "yaml", "yml"))
	must(cmd.RegisterFlagCompletionFunc("route", cobra.FixedCompletions([]string{
		"/=memory:\tfiles in memory, gone at the end",
		"/data=s3://\tan S3 bucket: /data=s3://BUCKET/PREFIX",
		"/src=local:/\ta directory of this host: /src=local:/DIR",
		"/db=sqlite:/\tfiles in an SQLite database: /db=sqlite:/FILE",
		"/db=postgres://\tfiles in a PostgreSQL database: /db=postgres://HOST/DATABASE",
		"/own=exec:/\ta program that serves files: /own=exec:/PROGRAM",
	}, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace)))
}

func (f *routeFlags) given() bool { return f.config != "" || len(f.routes) > 0 }

func (f *routeFlags) read() (*config, error) {
	c, err := readConfig(f.config, f.routes)
	if err == nil {
		err = f.audit.apply(&c.audit)
	}
	if err == nil {
		_, err = c.policy() // so that what is wrong with it is said at once
	}
	return c, usage(err)
}

// must is for calls that fail only on a mistake in this package.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// openStores opens the stores of all routes as one tree, at the object depth.
func (p *program) openStores(ctx context.Context, f *routeFlags, log *slog.Logger) (*opened, error) {
	c, err := f.read()
	if err != nil {
		return nil, err
	}
	c, _ = c.withRoot()
	open, err := p.openAll(ctx, c, false, log)
	if err != nil {
		return nil, err
	}
	rules, err := c.policy()
	if err != nil {
		closeAll(open, log)
		return nil, err
	}
	record, err := openAudit(c, "", log)
	if err != nil {
		closeAll(open, log)
		return nil, err
	}
	release := func() {
		closeAll(open, log)
		closeAudit(record, log)
	}
	var routes []router.Route
	for _, r := range open {
		st := r.store
		if backends.FilesOf(st) == nil && !r.noAttributes {
			st = carry.Store(st)
		}
		routes = append(routes, router.Route{Path: r.path, Store: st, Source: r.source})
	}
	told := audit.Config{
		Self:      backends.Caller{PID: uint32(os.Getpid()), UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())},
		Processes: new(process.Table),
	}
	if record != nil {
		told.Log = record
	}
	all, err := compose(routes, rules, told)
	if err != nil {
		release()
		return nil, err
	}
	o := newOpened(all.store, release)
	for _, r := range open {
		o.fix(r.path)
	}
	return o, nil
}
