package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// checkTimeout bounds what check waits for one store: longer than any slow
// one needs, shorter than the retries of one that is not there.
const checkTimeout = 20 * time.Second

// checkEntries is how many entries of a store check lists: enough to know that
// it may, and little of a store with millions.
const checkEntries = 1000

func (p *program) checkCommand() *cobra.Command {
	var f routeFlags
	var dir string
	var allowOther bool
	cmd := &cobra.Command{
		Use:   "check [--config FILE] [--route PATH=URL]...",
		Short: "Look whether a mount would work, and say what to do if not",
		Long: `Check looks at what a mount needs: /dev/fuse, fusermount3, the cache directory,
and for every route the credentials, the bucket and what its server honours.
To find that out it writes small scratch objects and removes them, except on
routes with read_only. It also says what ended mounts have left in the cache
directory, and which uploads in parts were begun in the bucket and never ended:
they are paid for, and no listing shows them.

Every line begins with OK, WARN or FAIL; the exit status is 1 if there is a
FAIL.`,
		Example: `  agentfs check
  agentfs check --route '/data=s3://my-bucket?region=eu-central-1'
  agentfs check --config agentfs.yaml`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.runCheck(cmd.Context(), &f, dir, allowOther)
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&dir, "cache-dir", "", "the cache directory of the mount (default: "+cacheDirHelp+")")
	cmd.Flags().BoolVar(&allowOther, "allow-other", false, "look whether other users could see the mount, too")
	must(cmd.MarkFlagDirname("cache-dir"))
	return cmd
}

func (p *program) runCheck(ctx context.Context, f *routeFlags, dir string, allowOther bool) error {
	log, err := p.logger()
	if err != nil {
		return err
	}
	c, err := f.read()
	if err != nil {
		return err
	}
	failed := false
	show := func(all ...finding) {
		for _, x := range all {
			failed = failed || x.level == levelFail
			fmt.Fprintf(p.out, "%-4s  %s\n", x.level, x.text)
			if x.remedy != "" {
				fmt.Fprintf(p.out, "      -> %s\n", x.remedy)
			}
		}
	}
	show(fuseFindings(allowOther)...)
	show(cacheFindings(dir, c)...)
	if len(c.routes) == 0 {
		show(finding{levelWarn, "no routes were given, so no store was looked at", "name them with --config or --route"})
	}
	seen := map[string]openRoute{}
	for _, rc := range c.routes {
		rctx, cancel := context.WithTimeout(ctx, checkTimeout)
		show(p.routeFindings(rctx, rc, seen, log)...)
		cancel()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if failed {
		return silentError{exitFailed}
	}
	return nil
}

// cacheFindings looks at the cache directory.
func cacheFindings(flag string, c *config) []finding {
	dir, err := cacheDir(flag, c)
	if err != nil {
		return []finding{{levelFail, err.Error(), "choose a directory that you may write to with --cache-dir"}}
	}
	probe, err := os.CreateTemp(dir, "check-*")
	if err != nil {
		return []finding{{levelFail, "cache directory: " + err.Error(), "choose a directory that you may write to with --cache-dir"}}
	}
	probe.Close()
	os.Remove(probe.Name())
	all := []finding{}
	var st unix.Statfs_t
	switch err := unix.Statfs(dir, &st); {
	case err != nil:
		all = append(all, finding{levelFail, "cache directory " + dir + ": " + err.Error(), "choose another with --cache-dir"})
	default:
		free := st.Bavail * uint64(st.Bsize)
		f := finding{text: fmt.Sprintf("cache directory %s has %s free", dir, humanize.IBytes(free))}
		if free < 1<<30 {
			f.level, f.remedy = levelWarn, "files that are written need room there until they are stored; choose a larger disk with --cache-dir"
		}
		all = append(all, f)
	}
	rooms, err := cache.Rooms(dir)
	if err != nil {
		return append(all, finding{levelFail, "cache directory " + dir + ": " + err.Error(), "look at what is in it, or choose another with --cache-dir"})
	}
	for _, r := range rooms {
		if r.Pending != 0 && r.Holder == nil {
			all = append(all, finding{levelWarn, fmt.Sprintf("a mount of %s has ended, and %s", r.Identity, pendingIn(r)),
				"mount it again, or: agentfs recover --cache-dir " + shellQuote(dir)})
		}
		if len(r.Kept) > 0 {
			all = append(all, finding{levelWarn, fmt.Sprintf("%s of %s could not be stored when a mount ended", count(int64(len(r.Kept)), "file", "files"), r.Identity),
				"agentfs recover --list --cache-dir " + shellQuote(dir) + " shows them"})
		}
	}
	return all
}

// routeFindings looks at one route's store: can it be opened, is it there, may
// it be listed, and what does its server honour. seen has the routes that were
// looked at before.
func (p *program) routeFindings(ctx context.Context, rc routeConfig, seen map[string]openRoute, log *slog.Logger) []finding {
	name := rc.path + " (" + rc.String() + ")"
	r, err := p.openRoute(ctx, rc, false, log)
	if err != nil {
		return []finding{{levelFail, name + ": " + err.Error(), "correct the route"}}
	}
	defer closeAll([]openRoute{r}, log)
	if err := r.distinctFrom(seen); err != nil {
		return []finding{{levelFail, name + ": " + err.Error(), "remove one of the routes"}}
	}
	n := 0
	for _, err := range r.store.List(ctx, ".", "") {
		if err != nil {
			return []finding{{levelFail, name + ": " + protocol.Describe(pathless(err)), storeRemedy(r.backend, err)}}
		}
		if n++; n >= checkEntries {
			break
		}
	}
	entries := count(int64(n), "entry", "entries")
	if n >= checkEntries {
		entries = "more than 1000 entries"
	}
	all := []finding{{text: name + ": can be listed, " + entries + " at its root"}}
	if u, err := backends.UsageOf(ctx, r.store); err == nil && u.TotalBytes > 0 {
		all = append(all, finding{text: fmt.Sprintf("%s: %s of %s free", rc.path, humanize.IBytes(u.FreeBytes), humanize.IBytes(u.TotalBytes))})
	}
	all = append(all, uploadFindings(ctx, r)...)
	if r.readOnly {
		return append(all, finding{text: rc.path + ": read-only, so nothing was written to see what the server honours"})
	}
	features, err := backends.FeaturesOf(ctx, r.store)
	if err != nil {
		return append(all, finding{levelFail, rc.path + ": what the server honours can't be found out: " + protocol.Describe(pathless(err)), storeRemedy(r.backend, err)})
	}
	for _, ft := range features {
		f := finding{text: rc.path + ": " + ft.Name}
		switch {
		case !ft.Honored:
			f.level, f.text, f.remedy = levelWarn, f.text+": not honoured by the server", ft.Note
		case ft.Note != "":
			f.text += ": " + ft.Note
		}
		all = append(all, f)
	}
	return all
}

// checkUploads is how many unfinished uploads check looks at, and oldUpload from
// which age on one is taken for forgotten.
const (
	checkUploads = 1000
	oldUpload    = 24 * time.Hour
)

// uploadFindings looks for uploads in parts that were begun below the route's
// prefix and have not ended. Their parts take room that is paid for, and no
// listing shows them.
func uploadFindings(ctx context.Context, r openRoute) []finding {
	var n, old int64
	var oldest backends.UploadInfo
	for u, err := range backends.Uploads(ctx, r.store) {
		switch {
		case errors.Is(err, fs.ErrPermission):
			return []finding{{levelWarn, r.path + ": unfinished uploads can't be listed: " + protocol.Describe(pathless(err)),
				"nothing needs it but this check: allow s3:ListBucketMultipartUploads to see them"}}
		case err != nil:
			return []finding{{levelWarn, r.path + ": unfinished uploads can't be listed: " + protocol.Describe(pathless(err)), storeRemedy(r.backend, err)}}
		}
		if n++; oldest.Started.IsZero() || u.Started.Before(oldest.Started) {
			oldest = u
		}
		if time.Since(u.Started) > oldUpload {
			old++
		}
		if n == checkUploads {
			break
		}
	}
	if n == 0 {
		return nil
	}
	found := count(n, "unfinished upload", "unfinished uploads")
	if n == checkUploads {
		found = fmt.Sprintf("%d or more unfinished uploads", n)
	}
	f := finding{text: fmt.Sprintf("%s: %s, the oldest of %s begun %s", r.path, found, printable(oldest.Name), humanize.Time(oldest.Started))}
	if old > 0 {
		f.level = levelWarn
		f.remedy = "no mount ends uploads that it did not begin: let a lifecycle rule of the bucket do it (AbortIncompleteMultipartUpload), or aws s3api abort-multipart-upload"
	}
	return []finding{f}
}

// storeRemedy says what to do about a store that can't be used.
func storeRemedy(backend string, err error) string {
	denied := errors.Is(err, fs.ErrPermission)
	switch {
	case denied && backend == "sql":
		return "correct the user and the password (PGPASSWORD, ~/.pgpass), or what that user may do in the database"
	case denied && backend == "s3":
		return "give credentials that may list, read and write: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws; and look at the bucket's policy"
	case errors.Is(err, fs.ErrNotExist):
		return "correct the name, or make it"
	case errors.Is(err, context.DeadlineExceeded):
		return "is the endpoint right and up, and the network there?"
	}
	if backend == "exec" {
		return "look at what the program has written to its standard error, which is in the log above"
	}
	return "correct the route's options or the server; --log-level debug shows more"
}
