package cache

import (
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
)

// Config says how a cache is made.
type Config struct {
	// Dir is the cache directory; the store gets a room in it.
	Dir string
	// Identity says what the store is if it doesn't say so itself
	// ([backends.Identifier]).
	Identity string
	// MountPoint is named to others that want the same store.
	MountPoint string
	// TTL is how long an answer of the store is believed: 0 asks every time,
	// below 0 is the default of 5 s.
	TTL time.Duration
	// UID, GID, FileMode and DirMode are those of what the store has no
	// attributes for; modes of 0 are 0644 and 0755.
	UID, GID          uint32
	FileMode, DirMode fs.FileMode
	// Durability says when close returns: "close", when the store has the
	// content. "" is the default, which is "close".
	Durability string
	// Uploads is how many changes may be on their way to the store at once;
	// 0 is the default of 64.
	Uploads int
	// Grace is how long a change waits for the next one before it is sent; 0
	// is the default of 100 ms, below 0 is none.
	Grace time.Duration
	// NoAttributes switches attribute records off.
	NoAttributes bool
	// Origin says how the store can be opened again, without secrets; it is
	// kept in the room for whoever drains it later ([RoomStatus]).
	Origin json.RawMessage
	// Budget limits the contents on disk. Several caches may share one; nil
	// is one of its own of DefaultBudget.
	Budget *Budget
	// Log takes what happens in the background; nil is silence.
	Log *slog.Logger
}

// DefaultTTL is how long an answer of the store is believed by default.
const DefaultTTL = 5 * time.Second

// FS is the file depth over an object store.
type FS struct {
	store backends.Store
	cfg   Config
	log   *slog.Logger
	tree  *tree.Tree
	room  *room
	ids   string // identity

	// names is held for reading by whatever relies on paths, for writing by a
	// rename of a directory.
	names sync.RWMutex

	asking singleflight.Group // lookups and listings on their way

	// moving is held for writing while a directory gets its new place in the
	// tree, for reading while an answer of the store is merged; moves counts
	// the former. See merging.
	moving sync.RWMutex
	moves  uint64

	mu        sync.Mutex
	pending   map[*file]struct{} // changed and not in the store
	conflicts []Conflict
	notify    func(parent backends.Node, name string)
	idle      list.List // of *file, with local bytes and not open, least recently used first

	stop    context.CancelFunc // ends the background
	retries sync.WaitGroup
}

var (
	_ backends.FileSystem     = (*FS)(nil)
	_ backends.Symlinker      = (*FS)(nil)
	_ backends.Xattrer        = (*FS)(nil)
	_ backends.DirSyncer      = (*FS)(nil)
	_ backends.ChangeNotifier = (*FS)(nil)
)

// New returns the file depth over store. It takes the store's room in the
// cache directory; an [InUseError] says who has it. The store itself is not
// asked anything. ctx bounds only the call.
func New(_ context.Context, store backends.Store, cfg Config) (*FS, error) {
	switch cfg.Durability {
	case "", "close":
	default:
		return nil, fmt.Errorf("durability=%s is not known; this version has close (close returns when the store has the content)", cfg.Durability)
	}
	if cfg.TTL < 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.FileMode == 0 {
		cfg.FileMode = 0o644
	}
	if cfg.DirMode == 0 {
		cfg.DirMode = 0o755
	}
	if cfg.Budget == nil {
		cfg.Budget = NewBudget(0)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dir == "" {
		return nil, errors.New("no cache directory given; use --cache-dir")
	}
	cacheDir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	identity := backends.IdentityOf(store, cfg.Identity)
	if identity == "" {
		return nil, errors.New("the cache needs to know what the store is: no identity")
	}
	r, err := openRoom(cacheDir, identity, cfg.MountPoint, cfg.Budget)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &FS{
		store: backends.LeanStore(store), cfg: cfg, room: r, ids: identity, stop: stop,
		log:     cfg.Log.With("store", identity),
		pending: map[*file]struct{}{},
	}
	r.evict = c.evict
	cfg.Budget.join(r)
	root := c.rootAttr()
	c.tree = tree.New(root, &dir{})
	c.retries.Go(func() { c.retry(ctx) })
	if kept, _ := filepath.Glob(filepath.Join(r.dir, "kept", "*.json")); len(kept) > 0 {
		c.log.Warn("an earlier mount kept files that it could not upload", "files", len(kept), "directory", filepath.Join(r.dir, "kept"))
	}
	return c, nil
}

func (c *FS) rootAttr() backends.CreateAttr {
	return backends.CreateAttr{Mode: fs.ModeDir | c.cfg.DirMode, UID: c.cfg.UID, GID: c.cfg.GID}
}

// Identity returns what the store is.
func (c *FS) Identity() string { return c.ids }

// Root implements [backends.FileSystem].
func (c *FS) Root() backends.Node { return c.tree.Root() }

// OnChange implements [backends.ChangeNotifier].
func (c *FS) OnChange(f func(backends.Node, string)) {
	c.mu.Lock()
	c.notify = f
	c.mu.Unlock()
}

// changed tells the kernel that what it knows of a name is no longer so. It
// does so later, because it may be called while the kernel waits for us.
func (c *FS) changed(dir *tree.Node, name string) {
	c.mu.Lock()
	notify := c.notify
	c.mu.Unlock()
	if notify != nil {
		go notify(dir, name)
	}
}

// ownDir returns n as a directory of c.
func (c *FS) ownDir(n backends.Node) (*tree.Node, error) {
	t, err := c.tree.Own(n)
	if err == nil && !t.IsDir() {
		err = backends.ErrNotDir
	}
	return t, err
}

// path returns the store's name of dir's child name; ErrNotExist if dir is
// not in the tree any more.
func (c *FS) path(dir *tree.Node, name string) (string, error) {
	p, ok := c.tree.Path(dir)
	switch {
	case !ok:
		return "", fs.ErrNotExist
	case p == ".":
		return name, nil
	}
	return p + "/" + name, nil
}

// checkNew returns an error if the store can't hold dir's child name.
func (c *FS) checkNew(dir *tree.Node, name string) (string, error) {
	if err := tree.CheckName(name); err != nil {
		return "", err
	}
	p, err := c.path(dir, name)
	if err != nil {
		return "", err
	}
	return p, backends.ValidName(c.store, p)
}

// StatFS implements [backends.FileSystem]: what the store knows, and where it
// knows nothing a total of 0.
func (c *FS) StatFS(ctx context.Context, _ backends.Node) (backends.Usage, error) {
	return backends.UsageOf(ctx, c.store)
}

// Forget implements [backends.FileSystem].
func (c *FS) Forget(backends.Node) {}

// evict frees clean contents that are not open, the least recently used
// first, until need bytes are free or nothing is left to free. What can't be
// evicted now (it waits to be uploaded, or is being read) stays in the list.
func (c *FS) evict(need int64) {
	var skipped []*file
	for need > 0 {
		c.mu.Lock()
		e := c.idle.Front()
		if e == nil {
			c.mu.Unlock()
			break
		}
		f := c.idle.Remove(e).(*file)
		f.idle = nil
		c.mu.Unlock()
		freed, again := f.evict()
		need -= freed
		if again {
			skipped = append(skipped, f)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(skipped) - 1; i >= 0; i-- {
		if f := skipped[i]; f.idle == nil && !f.retired {
			f.idle = c.idle.PushFront(f)
		}
	}
}

// rest puts a file that has just been closed at the end of the idle ones.
func (c *FS) rest(f *file) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case f.retired:
	case f.idle != nil:
		c.idle.MoveToBack(f.idle)
	default:
		f.idle = c.idle.PushBack(f)
	}
}

// retire takes a file without a name from the idle ones, for ever.
func (c *FS) retire(f *file) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.retired = true
	if f.idle != nil {
		c.idle.Remove(f.idle)
		f.idle = nil
	}
}

// Close implements [backends.FileSystem]: what is not in the store yet is
// uploaded; what can't be until ctx ends is kept in the room, and the error
// says what and where.
func (c *FS) Close(ctx context.Context) error {
	c.stop()
	c.retries.Wait()
	err := c.drain(ctx)
	var failed []error
	if err != nil {
		for _, f := range c.waiting() {
			failed = append(failed, c.keepFile(f))
		}
	}
	_ = emptyDir(filepath.Join(c.room.dir, "content"))
	c.room.close()
	return errors.Join(failed...)
}

// keepFile moves a file's bytes out of the way of the end and says where.
func (c *FS) keepFile(f *file) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.c == nil || !f.changedLocked() {
		return nil
	}
	name, ok := c.tree.Path(f.node)
	if !ok {
		name = f.astray
	}
	kept, err := c.keepLocked(f, name, f.failed)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: not uploaded (%s); %s", name, kept.Error, kept.where())
}

// describe returns what is to be said of f's content when it is kept. f.mu is
// held.
func (c *FS) describe(f *file, name string, why error) Kept {
	k := Kept{Store: c.ids, Name: name, Size: f.c.size(), Time: time.Now()}
	if f.base != nil {
		k.Base = string(f.base.version)
	}
	if why != nil {
		k.Error = why.Error()
	}
	return k
}

// keepLocked moves what is here of f to the room's kept files. f.mu is held.
func (c *FS) keepLocked(f *file, name string, why error) (Kept, error) {
	k := c.describe(f, name, why)
	c.unnote(f)
	var err error
	if k.Parts, err = f.c.materialize(); err == nil {
		k, err = c.room.keep(f.c.path, k)
	}
	if err != nil {
		return k, fmt.Errorf("%s: not uploaded, and not kept either: %w", name, err)
	}
	return k, nil
}

// where says where the bytes are.
func (k Kept) where() string {
	if len(k.Parts) > 0 {
		return "what was written here is in " + k.File + ", the rest was only in the store"
	}
	return "its bytes are in " + k.File
}

// DefaultDir returns the cache directory that is used when none is given:
// agentfs in the user's cache directory.
func DefaultDir() (string, error) {
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache directory: %w; use --cache-dir", err)
	}
	return filepath.Join(d, "agentfs"), nil
}
