package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cache"
)

// recoverFlags are the flags of recover.
type recoverFlags struct {
	dir          string
	routes       routeFlags
	list, json   bool
	drainTimeout time.Duration
}

func (p *program) recoverCommand() *cobra.Command {
	var f recoverFlags
	cmd := &cobra.Command{
		Use:   "recover [--cache-dir DIR] [--config FILE | --route PATH=URL...]",
		Short: "Store what ended mounts could not store",
		Long: `Recover brings into their stores the changes that mounts have left in the
journals of a cache directory: mounts that were killed, or that ended while a
store could not be reached. It does what the next mount of the same store would
do, conflicts included, and mounts nothing. Journals that a mount has in use are
left to it. What can't be stored stays in its journal, and the exit status is 3.

A journal knows how its store was opened, but no secrets: credentials come from
where the AWS SDK looks for them, as for a mount, so run it as the same user and
with the same environment. With --config or --route a store is opened as they
say, if it is the same one.

Files that belong to no change that could be sent are shown, and never deleted:
where the bytes are, where they belong and why they didn't get there. Look at
such a file, then put it back with agentfs write, which can ask for the version
that it derives from, and remove it here. With --list everything is only shown.`,
		Example: `  agentfs recover --list
  agentfs recover
  agentfs recover --cache-dir /var/cache/agentfs --config agentfs.yaml
  agentfs write --route /=s3://my-bucket/prefix --if-version VERSION /NAME < FILE`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.runRecover(cmd.Context(), &f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.dir, "cache-dir", "", "the cache directory of the mount (default: "+cacheDirHelp+")")
	f.routes.register(cmd)
	fl.BoolVar(&f.list, "list", false, "store nothing, only show what there is")
	fl.BoolVar(&f.list, "dry-run", false, "the same as --list")
	fl.BoolVar(&f.json, "json", false, "print what there is, and after storing what remains, as JSON")
	fl.DurationVar(&f.drainTimeout, "drain-timeout", defaultDrainTimeout, "wait at most so long for the stores; 0 waits for ever")
	must(cmd.MarkFlagDirname("cache-dir"))
	return cmd
}

func (p *program) runRecover(ctx context.Context, f *recoverFlags) error {
	if f.drainTimeout < 0 {
		return usagef("--drain-timeout is a length of time such as 30s")
	}
	log, err := p.logger()
	if err != nil {
		return err
	}
	c, err := f.routes.read()
	if err != nil {
		return err
	}
	dir := f.dir
	if dir == "" {
		if dir = c.cacheDir; dir == "" {
			dir = defaultCacheDir()
		}
	}
	rooms, err := p.rooms(dir)
	if err != nil {
		return err
	}
	var drainErr error
	if !f.list {
		given, err := p.openGiven(ctx, c, log)
		if err != nil {
			return err
		}
		drainErr = p.drainRooms(ctx, f, given, dir, rooms, log)
		closeAll(given, log)
		if rooms, err = p.rooms(dir); err != nil {
			return errors.Join(drainErr, err)
		}
	}
	if f.json {
		return errors.Join(drainErr, p.printJSON(rooms))
	}
	p.listRooms(dir, rooms, f.list)
	return drainErr
}

// listRooms shows what the rooms hold that is not stored.
func (p *program) listRooms(dir string, rooms []cache.RoomStatus, list bool) {
	n := 0
	for _, r := range rooms {
		if r.Pending != 0 {
			n++
		}
		if r.Pending != 0 && list {
			state := ""
			if r.Holder != nil {
				state = "; " + inUse(*r.Holder)
			}
			fmt.Fprintf(p.out, "%s\n  %s%s\n  in %s\n", r.Identity, pendingIn(r), state, r.Dir)
			if rc, err := readOrigin(r.Origin, r.Dir); err != nil && r.Holder == nil {
				fmt.Fprintf(p.out, "  %v\n", err)
			} else if err == nil {
				fmt.Fprintf(p.out, "  was mounted as %s from %s\n", rc.path, rc.String())
			}
		}
		for _, k := range r.Kept {
			n++
			p.showKept(k)
		}
	}
	if n == 0 {
		fmt.Fprintf(p.out, "%s keeps nothing that is not stored.\n", dir)
	}
}

func (p *program) showKept(k cache.Kept) {
	fmt.Fprintf(p.out, "%s\n  belongs to %s in %s\n  %s, since %s: %s\n", k.File, printable(k.Name), k.Store,
		humanize.IBytes(uint64(max(0, k.Size))), k.Time.Format(time.DateTime), k.Error)
	if k.Base != "" {
		fmt.Fprintf(p.out, "  derives from version %s\n", k.Base)
	}
	if len(k.Parts) > 0 {
		fmt.Fprintf(p.out, "  has only the bytes %s; the rest is zeros here and was only in that version\n", ranges(k.Parts))
	}
}

func inUse(h cache.Holder) string {
	return fmt.Sprintf("in use by process %d at %s, which stores the rest", h.PID, h.MountPoint)
}

// drainRooms stores what is pending in rooms, one after another, and says of
// each how it went. The error says what remains.
func (p *program) drainRooms(ctx context.Context, f *recoverFlags, given []openRoute, dir string, rooms []cache.RoomStatus, log *slog.Logger) error {
	if f.drainTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.drainTimeout)
		defer cancel()
	}
	var failed []error
	for _, r := range rooms {
		switch {
		case r.Pending == 0:
		case r.Holder != nil:
			fmt.Fprintf(p.err, "%s: %s; %s\n", r.Identity, pendingIn(r), inUse(*r.Holder))
		default:
			if err := p.drainRoom(ctx, r, given, dir, log); err != nil {
				failed = append(failed, fmt.Errorf("%s: %w; its bytes are in %s", r.Identity, err, r.Dir))
				continue
			}
			fmt.Fprintf(p.err, "%s: everything is stored (%s).\n", r.Identity, count(r.Pending, "change", "changes"))
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return notStoredError{errors.Join(failed...)}
}

// openGiven opens the stores that the user named, but for those that have no
// room.
func (p *program) openGiven(ctx context.Context, c *config, log *slog.Logger) ([]openRoute, error) {
	var open []openRoute
	for _, rc := range c.routes {
		if rc.backend == "memory" || rc.backend == "local" {
			continue
		}
		r, err := p.openRoute(ctx, rc.writable(), false, log)
		if err != nil {
			closeAll(open, log)
			return nil, err
		}
		open = append(open, r)
	}
	return open, nil
}

// writable returns r without read_only: it is a mount's choice to change
// nothing, and recover is asked to.
func (r routeConfig) writable() routeConfig {
	values := map[string]backends.Option{}
	for k, v := range r.values {
		if k != "read_only" {
			values[k] = v
		}
	}
	r.values = values
	return r
}

// drainRoom opens the room's store and stores what is pending.
func (p *program) drainRoom(ctx context.Context, room cache.RoomStatus, given []openRoute, dir string, log *slog.Logger) error {
	r, opened, err := p.storeOf(ctx, room, given, log)
	if err != nil {
		return err
	}
	if opened {
		defer closeAll([]openRoute{r}, log)
	}
	cfg := r.cacheConfig(dir, "agentfs recover", log)
	cfg.Grace = -1 // nothing more happens to anything
	fsys, err := cache.New(ctx, r.store, cfg)
	if err != nil {
		return err
	}
	d := newDisplay(p.err, "")
	stop := watch(func() (work, bool) { return workOf([]cache.Status{fsys.State()}), true }, d.show)
	syncErr := backends.SyncDirAt(ctx, fsys, fsys.Root())
	if pointless([]cache.Status{fsys.State()}) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, lastTry)
		defer cancel()
	}
	err = fsys.Close(ctx)
	stop()
	d.clear()
	for _, x := range fsys.State().Conflicts {
		fmt.Fprintf(p.err, "%s: %s was changed elsewhere, too; the content of here is %s\n", room.Identity, printable(x.Name), printable(x.Ours))
	}
	left, lerr := pendingOf(dir, room.Dir)
	switch {
	case lerr != nil:
		return lerr
	case left == 0 && err == nil:
		return nil
	case err == nil, errors.Is(err, context.DeadlineExceeded) && syncErr != nil:
		err = syncErr // what is the matter with the store, rather than that time was up
	}
	msg := pendingIn(cache.RoomStatus{Pending: left})
	if err != nil {
		msg += ": " + briefly(err)
	}
	return errors.New(msg)
}

// pendingOf returns how many changes the room roomDir of dir holds.
func pendingOf(dir, roomDir string) (int64, error) {
	rooms, err := cache.Rooms(dir)
	if err != nil {
		return 0, err
	}
	for _, r := range rooms {
		if r.Dir == roomDir {
			return r.Pending, nil
		}
	}
	return 0, nil
}

// storeOf returns the store of a room as an open route: one of those that the
// user gave if it is the same store, else as the room says, newly opened.
func (p *program) storeOf(ctx context.Context, room cache.RoomStatus, given []openRoute, log *slog.Logger) (r openRoute, opened bool, err error) {
	for _, g := range given {
		if g.identity == room.Identity {
			return g, false, nil
		}
	}
	rc, err := readOrigin(room.Origin, room.Dir)
	if err != nil {
		return r, false, err
	}
	if r, err = p.openRoute(ctx, rc, false, log); err != nil {
		return r, false, err
	}
	if r.identity != room.Identity {
		closeAll([]openRoute{r}, log)
		return r, false, fmt.Errorf("the environment names another store than the mount's did (%s); name the store with --route or --config", r.identity)
	}
	return r, true, nil
}

// maxRanges is how many ranges of bytes recover shows of one file; --json has
// all of them.
const maxRanges = 8

// ranges returns [from, to) pairs as people write them: "0-4095, 8192-8192".
func ranges(parts [][2]int64) string {
	all := make([]string, 0, maxRanges)
	for i, r := range parts {
		if i == maxRanges {
			return fmt.Sprintf("%s and %d more ranges (--json shows them)", strings.Join(all, ", "), len(parts)-i)
		}
		all = append(all, fmt.Sprintf("%d-%d", r[0], r[1]-1))
	}
	return strings.Join(all, ", ")
}
