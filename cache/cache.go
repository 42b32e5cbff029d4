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
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/tree"
	"github.com/agentfs/agentfs/cache/journal"
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
	// Durability says when close returns: "writeback", when the change is in
	// the journal; "close", when the store has the content. "" is the default,
	// which is "writeback".
	Durability string
	// Uploads is how many changes may be on their way to the store at once;
	// 0 is the default of 64.
	Uploads int
	// ReadAhead is how far ahead of one that reads a file in sequence is read,
	// in bytes; 0 is [DefaultReadAhead], below 0 is not at all.
	ReadAhead int64
	// Fetches is how many requests for contents may be under way at once, each
	// with 256 KiB in memory; 0 is [DefaultFetches].
	Fetches int
	// Entries is how many names the cache knows before it forgets some that
	// were not used lately, and are with the store as they are here; 0 is
	// [DefaultEntries]. It does so only for a [backends.NodeHolder].
	Entries int64
	// OpenFiles is how many files of contents the cache keeps open for those who
	// have them open; 0 is [DefaultOpenFiles]. Few more may be open for a moment.
	OpenFiles int
	// Grace is how long a change waits for the next one before it is sent; 0
	// is the default of 100 ms, below 0 is none.
	Grace time.Duration
	// Straggling is how long an upload of which nobody knows what became of it may still
	// be carried out by the store; 0 is the default of 10 s.
	Straggling time.Duration
	// ReadOnly says that the store takes no changes: what an earlier mount left in
	// the journal is shown and stays there, and nothing waits for it.
	ReadOnly bool
	// NoAttributes switches attribute records off.
	NoAttributes bool
	// Origin says how the store can be opened again, without secrets; it is
	// kept in the room for whoever drains it later ([RoomStatus]).
	Origin json.RawMessage
	// Stored is told each content that the store has from now on: its key, the
	// version that it replaced, "" if there was none, and its own. It is called
	// by whoever sends, and must not block. Nil isn't told.
	Stored func(key string, before, after backends.Version)
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

	close   bool // durability=close
	journal *journal.Journal
	q       *queue
	layers  atomic.Uint64 // the number of the last layer
	shelf   *shelf
	stats   counters

	asking singleflight.Group // lookups and listings on their way

	// ns is held by whatever changes names, or what is known of the store's.
	// The store is never asked under it.
	ns         sync.Mutex
	moves      uint64 // of directories, and forgettings of changes; see merging
	ghostsMade uint64
	// forgotten is when changes of this machine were last forgotten.
	forgotten  time.Time
	ghosts     map[string]*ghost // by key
	stragglers stragglers
	limbo      map[*tree.Node]struct{} // directories; see place
	making     map[string]int          // keys whose directory is being made
	active     map[string]*sending     // attempts under way, by key
	late       batch                   // see commitLate
	scratch    []byte                  // to encode records in
	// lateTimer calls flushLate.
	lateTimer *time.Timer

	mu         sync.Mutex
	conflicts  []Conflict
	complained map[string]time.Time // by kind of failure
	news       news
	idle       list.List // of *file, with local bytes and not open, least recently used first

	flushed sync.WaitGroup

	reads     context.Context // of all fetches; ends with the cache
	stopReads context.CancelFunc
	fetches   sync.WaitGroup
	places    places
	blocks    blocks

	descriptors descriptors
	forgetting  forgetting

	begun    []uploadRecord          // uploads that an earlier process began
	walks    walks                   // what programs go through
	surveys  surveys                 // of what lies before them
	noPages  atomic.Bool             // the store has no flat listings page by page
	cut      atomic.Pointer[cutPage] // the last page that was cut off
	noParts  atomic.Bool             // the store can't make files of parts, or not with our conditions
	noCopies atomic.Bool             // it can't copy parts

	streams    streamSizes   // of the parts that are sent of growing files; 0 is none
	streaming  chan struct{} // has a place for each such part under way
	streamIdle time.Duration
}

// counters are what [Stats] shows.
type counters struct {
	uploads, uploadBytes, copies, removals, failures, conflicts, fetchBytes, fetchUsed, cancelled atomic.Int64
	aheadBytes, aheadUsed, aheadWasted                                                            atomic.Int64
	hits, misses, adopted, damaged                                                                atomic.Int64
}

// read counts a read that had to wait for the store, or not.
func (s *counters) read(fetched bool) {
	if fetched {
		s.misses.Add(1)
	} else {
		s.hits.Add(1)
	}
}

var (
	_ backends.FileSystem     = (*FS)(nil)
	_ backends.Symlinker      = (*FS)(nil)
	_ backends.Xattrer        = (*FS)(nil)
	_ backends.DirSyncer      = (*FS)(nil)
	_ backends.Lister         = (*FS)(nil)
	_ backends.ChangeNotifier = (*FS)(nil)
	_ backends.NodeReclaimer  = (*FS)(nil)
)

// New returns the file depth over store. It takes the store's room in the
// cache directory; an [InUseError] says who has it. The store itself is not
// asked anything. ctx bounds only the call.
func New(_ context.Context, store backends.Store, cfg Config) (*FS, error) {
	switch cfg.Durability {
	case "":
		cfg.Durability = "writeback"
	case "writeback", "close":
	default:
		return nil, fmt.Errorf("durability=%s is not known; there are writeback (close returns when the change is in the journal) and close (close returns when the store has the content)", cfg.Durability)
	}
	switch {
	case cfg.Grace == 0:
		cfg.Grace = defaultGrace
	case cfg.Grace < 0:
		cfg.Grace = 0
	}
	if cfg.Straggling <= 0 {
		cfg.Straggling = stragglerTime
	}
	if cfg.Uploads <= 0 {
		cfg.Uploads = defaultUploads
	}
	if cfg.Fetches <= 0 {
		cfg.Fetches = DefaultFetches
	}
	if cfg.Entries <= 0 {
		cfg.Entries = DefaultEntries
	}
	if cfg.OpenFiles <= 0 {
		cfg.OpenFiles = DefaultOpenFiles
	}
	switch {
	case cfg.ReadAhead == 0:
		cfg.ReadAhead = DefaultReadAhead
	case cfg.ReadAhead < 0:
		cfg.ReadAhead = 0
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
	if err := r.describe(cfg.Origin); err != nil {
		r.close()
		return nil, err
	}
	j, err := journal.Open(r.dir)
	if err != nil {
		r.close()
		return nil, err
	}
	c := &FS{
		store: backends.LeanStore(store), cfg: cfg, room: r, ids: identity, close: cfg.Durability == "close", journal: j,
		log:    cfg.Log.With("store", identity),
		ghosts: map[string]*ghost{}, limbo: map[*tree.Node]struct{}{}, making: map[string]int{}, active: map[string]*sending{}, complained: map[string]time.Time{},
	}
	c.reads, c.stopReads = context.WithCancel(context.Background())
	c.places = newPlaces(cfg.Fetches)
	c.descriptors.most = cfg.OpenFiles
	c.forgetting.most, c.forgetting.wake = cfg.Entries, make(chan struct{}, 1)
	c.q = newQueue(c, cfg.Grace, cfg.Uploads)
	if !cfg.ReadOnly {
		c.streams = newStreamSizes(backends.PartLimitsOf(c.store))
	}
	c.streaming, c.streamIdle = make(chan struct{}, streamAtOnce), streamIdle
	c.walks.fetches = make(chan struct{}, walkFetches)
	c.lateTimer = time.AfterFunc(time.Hour, c.flushLate)
	c.stragglers = stragglers{map[string]*straggler{}, cfg.Straggling, time.AfterFunc(time.Hour, c.q.kick), time.Time{}}
	c.tree = tree.New(c.rootAttr(), &dir{})
	r.evict, r.oldest = c.evict, c.oldest
	wanted, err := c.replay()
	if err == nil {
		err = c.openShelf(wanted)
	}
	if err != nil {
		r.close()
		return nil, errors.Join(err, j.Close())
	}
	cfg.Budget.join(r)
	cfg.Budget.fit() // it may be smaller than it was
	if !cfg.ReadOnly {
		c.q.start(c.runJob)
		c.flushed.Go(c.flush)
		c.abortLeft()
	}
	if kept, _ := filepath.Glob(filepath.Join(r.dir, "kept", "*.json")); len(kept) > 0 {
		c.log.Warn("an earlier mount kept files that it could not upload", "files", len(kept), "directory", filepath.Join(r.dir, "kept"))
	}
	return c, nil
}

// runJob makes one attempt.
func (c *FS) runJob(ctx context.Context, j *job) outcome {
	switch j.kind {
	case jobFile:
		return c.runFile(ctx, j)
	case jobDir:
		o := c.runDir(ctx, j)
		if o.err != nil {
			c.stats.failures.Add(1)
			c.complain(c.nameOf(j), "making a directory", o.err)
		}
		return o
	case jobAttrs:
		o := c.runAttrs(ctx, j)
		if o.err != nil {
			c.stats.failures.Add(1)
			c.complain(c.nameOf(j), "saving attributes", o.err)
		}
		return o
	}
	return c.runSweep(ctx, j)
}

// flushEvery is how often what waits for the store is made safe from a power
// loss.
const flushEvery = 5 * time.Second

// kernelTick is how far the times of files may be behind, with much to spare.
const kernelTick = 100 * time.Millisecond

// flush does so, as long as something waits.
func (c *FS) flush() {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.q.ctx.Done():
			return
		case <-tick.C:
		}
		if c.q.len() == 0 {
			continue
		}
		// A file's time is that of the kernel's last tick, which may be before what was
		// written after the sync has begun.
		now := time.Now().Add(-kernelTick)
		if err := c.room.sync(); err != nil {
			c.log.Warn("what waits for the store could not be made safe from a power loss", "err", err)
			continue
		}
		var b batch
		b.Put("synced", mustJSON(now.UnixNano()))
		c.ns.Lock()
		c.commitLate(&b)
		c.ns.Unlock()
		c.flushLate()
		if err := c.journal.Sync(); err != nil {
			c.log.Warn("the journal could not be made safe from a power loss", "err", err)
		}
	}
}

func (c *FS) rootAttr() backends.CreateAttr {
	return backends.CreateAttr{Mode: fs.ModeDir | c.cfg.DirMode, UID: c.cfg.UID, GID: c.cfg.GID}
}

// Identity returns what the store is.
func (c *FS) Identity() string { return c.ids }

// Root implements [backends.FileSystem].
func (c *FS) Root() backends.Node { return c.tree.Root() }

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

// StatFS implements [backends.FileSystem]: what the store knows, and where it
// knows nothing a total of 0.
func (c *FS) StatFS(ctx context.Context, _ backends.Node) (backends.Usage, error) {
	return backends.UsageOf(ctx, c.store)
}

// Forget implements [backends.FileSystem].
func (c *FS) Forget(backends.Node) {}

// evict implements room.evict. What is on the shelf and nobody has asked for in
// this mount was used before all the rest. What can't be evicted now (it waits to
// be uploaded, or is being read) stays in the list.
func (c *FS) evict(need, until int64) (freed int64) {
	freed = c.shelf.evict(need, until)
	var skipped []*file
	for freed < need {
		c.mu.Lock()
		e := c.idle.Front()
		if e == nil || e.Value.(*file).used > until {
			c.mu.Unlock()
			break
		}
		f := c.idle.Remove(e).(*file)
		f.idle = nil
		c.mu.Unlock()
		n, again := f.evict()
		freed += n
		if again {
			skipped = append(skipped, f)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range slices.Backward(skipped) {
		if f.idle == nil && !f.retired {
			f.idle = c.idle.PushFront(f)
		}
	}
	return freed
}

// oldest implements room.oldest.
func (c *FS) oldest() (used int64, ok bool) {
	if used, ok := c.shelf.oldest(); ok {
		return used, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.idle.Front(); e != nil {
		return e.Value.(*file).used, true
	}
	return 0, false
}

// rest puts a file that has just been closed at the end of the idle ones.
func (c *FS) rest(f *file) {
	c.mu.Lock()
	f.used = time.Now().UnixNano()
	switch {
	case f.retired:
	case f.idle != nil:
		c.idle.MoveToBack(f.idle)
	default:
		f.idle = c.idle.PushBack(f)
	}
	c.mu.Unlock()
	c.shelf.note(f)
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

// DefaultDir returns the cache directory that is used when none is given:
// agentfs in the user's cache directory.
func DefaultDir() (string, error) {
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache directory: %w; use --cache-dir", err)
	}
	return filepath.Join(d, "agentfs"), nil
}
