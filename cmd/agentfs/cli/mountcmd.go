package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// mountFlags are the flags of mount.
type mountFlags struct {
	routes       routeFlags
	source       string // what mount(8) calls the mount; "" from the command line
	cacheDir     string
	readOnly     bool
	allowOther   bool
	background   bool
	debugFuse    bool
	noPass       bool
	timeout      time.Duration
	drainTimeout time.Duration
}

const (
	defaultTimeout      = 2 * time.Minute
	defaultDrainTimeout = 10 * time.Minute
)

func (f *mountFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	f.routes.register(cmd)
	f.routes.audit.register(cmd)
	fl.StringVar(&f.cacheDir, "cache-dir", "", "keep staged and cached content in this directory (default: "+cacheDirHelp+")")
	fl.BoolVar(&f.readOnly, "read-only", false, "take no changes, on any route")
	fl.BoolVar(&f.allowOther, "allow-other", false, "let other users see the mount; permissions apply to them as usual")
	fl.BoolVar(&f.background, "background", false, "return when the mount is ready, and serve it in the background")
	fl.DurationVar(&f.timeout, "timeout", defaultTimeout, "give up on one operation after this time: the program gets an error")
	fl.DurationVar(&f.drainTimeout, "drain-timeout", defaultDrainTimeout, "at the end, wait at most so long for the stores; 0 waits for ever")
	fl.BoolVar(&f.debugFuse, "debug-fuse", false, "log every operation of the kernel (a lot)")
	fl.BoolVar(&f.noPass, "no-passthrough", false, "don't let the kernel read and write the files of memory and host routes, and read those in the cache of read-only routes, by itself")
	must(cmd.MarkFlagDirname("cache-dir"))
}

const cacheDirHelp = "~/.cache/agentfs"

func (p *program) mountCommand() *cobra.Command {
	var f mountFlags
	cmd := &cobra.Command{
		Use:   "mount [--config FILE] [--route PATH=URL]... MOUNTPOINT",
		Short: "Mount stores as one directory",
		Long: `Mount serves the routes at MOUNTPOINT, an empty directory, until it is
interrupted (Ctrl-C, SIGTERM) or unmounted. It says when the mount is ready and
what is mounted. At the end it waits, for --drain-timeout at most, until the
stores have everything. A second signal doesn't wait and says what is pending.
What is not stored then is in the journal in the cache directory: the next mount
of the same store sends it, and so does agentfs recover.

Without a route for / there is memory at /.

Every route takes these options, in its URL or in the file, beside those of its
backend:
  read_only=true         take no changes
  access=write           what may be done where no rule of the policy matches:
                         write, append, read, none or hide
  uid, gid, file_mode, dir_mode
                         of what the store has no attributes for
and those over an object store such as S3 these, too:
  durability=writeback   close(2) returns when the change is in the journal on
                         this machine's disk; the store follows (the default)
  durability=close       close(2) returns when the store has the file
  ttl=5s                 how long an answer of the store is believed
  uploads=64             changes that may be on their way at once, 1 to 1024
  grace=100ms            how long a change waits for the next one to the same
                         file before it is sent, and 2s more at most beside
                         many others on a machine with 3 processors or fewer;
                         nobody who waits waits for it
  readahead=64MiB        how far ahead of a sequential reader a file is read, at
                         most; 0 is not at all
  fetches=64             requests for contents that may be on their way at once,
                         1 to 1024, each with 256 KiB of memory
  entries=1000000        names that are remembered, 100 or more; beyond that those
                         are forgotten that nobody has used lately
  open_files=1024        files of the cache that are open at once, 8 or more,
                         however many files programs have open
  attributes=on          keep modes, owners, times, symbolic links and extended
                         attributes in records beside the files, or off: not
fsync(2), agentfs sync and agentfs unmount wait for the store in either case.

S3 itself takes these:
  bucket, prefix, region, endpoint, path_style, profile, anonymous
                         where it is, and how to speak to it
  sse, sse_kms_key_id, storage_class, request_payer=true
                         what requests say of encryption, class and costs
  part_size=8MiB         what is larger is transferred in parts of this size
  concurrency=8          parts that may be on their way at once
  max_attempts=12, request_timeout=30s, retry_timeout=1m
                         how often a request is sent, how long it may stand
                         still, and how long it is tried again
a program (backend: exec, in a URL exec:PROGRAM?arg=...&arg=...):
  command                the program and its arguments, as a list
  timeout=30s            how long one answer may take
  identity               what it serves, if the command may change
files in a database (backend: sql, in a URL sqlite:/FILE or postgres://HOST/DB):
  path                   the file of an SQLite database
  dsn, schema, sslmode, connections
                         a PostgreSQL database; its password is PGPASSWORD, in
                         ~/.pgpass, or a $VAR of the configuration file`,
		Example: `  agentfs mount --route /data=s3://my-bucket/some/prefix ~/mnt
  agentfs mount --route '/data=s3://my-bucket?endpoint=http://127.0.0.1:9000' --background ~/mnt
  agentfs mount --config agentfs.yaml --read-only ~/mnt

In /etc/fstab, with a route for / or a configuration file as the source:
  s3://my-bucket        /mnt/bucket  fuse.agentfs  _netdev,nofail,allow_other  0 0
  /etc/agentfs.yaml     /mnt/all     fuse.agentfs  _netdev,nofail              0 0`,
		Args:              args(1, 1),
		ValidArgsFunction: completeDir,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.runMount(cmd.Context(), &f, args[0])
		},
	}
	f.register(cmd)
	return cmd
}

// options turns the flags into options.
func (f *mountFlags) options(log *slog.Logger, mountPoint string) (mountOptions, error) {
	o := mountOptions{
		readOnly: f.readOnly, allowOther: f.allowOther, debugFuse: f.debugFuse, noPass: f.noPass,
		timeout: f.timeout, drainTimeout: f.drainTimeout, source: f.source,
	}
	if f.timeout <= 0 || f.drainTimeout < 0 {
		return o, usagef("--timeout and --drain-timeout are lengths of time such as 30s, and --timeout is more than 0")
	}
	c, err := f.routes.read()
	if err != nil {
		return o, err
	}
	var added bool
	if o.config, added = c.withRoot(); added {
		log.Debug("no route for /, so there is memory", "route", "/")
	}
	if o.point, err = resolvePoint(mountPoint); err != nil {
		return o, err
	}
	o.cacheDir, err = cacheDir(f.cacheDir, o.config)
	return o, err
}

func (p *program) runMount(ctx context.Context, f *mountFlags, mountPoint string) error {
	if f.background && !p.inBackground() {
		return p.runInBackground(ctx, f, mountPoint)
	}
	if p.inBackground() {
		unix.CloseOnExec(readyFD)
	}
	log, err := p.logger()
	if err != nil {
		return err
	}
	o, err := f.options(log, mountPoint)
	if err != nil {
		return err
	}
	// From here on signals are counted.
	sig := watchSignals()
	defer sig.stop()
	m, err := p.mount(ctx, o, log)
	if err != nil {
		return err
	}
	if p.inBackground() {
		err = p.reportReady(m.writeReady)
		p.err = io.Discard // has become the log file
	} else {
		m.writeReady(p.out)
		fmt.Fprintln(p.out, "Ctrl-C unmounts.")
	}
	if err != nil {
		log.Warn("saying that the mount is ready failed", "err", err)
	}
	err = m.serve(sig, p.err)
	if err != nil && (p.inBackground() || p.log.file != "") {
		// Nobody sees standard error; the log is where people look.
		log.Error("the mount has ended", "mountpoint", m.point, "err", err)
	}
	return err
}

// writeReady says that the mount is ready and what is mounted.
func (m *mounted) writeReady(w io.Writer) {
	fmt.Fprintf(w, "agentfs is ready at %s\n\n", m.point)
	writeRoutes(w, m.status(context.Background()))
	fmt.Fprintln(w)
}
