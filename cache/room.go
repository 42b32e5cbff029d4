package cache

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/cache/journal"
)

// roomFormat is the version of what a room looks like on disk. A newer binary
// reads older rooms, an older one refuses newer ones.
const roomFormat = 3

// reserveSize is the size of the reserve.
const reserveSize = 4 << 20

// A room is the cache's place on disk for one store:
//
//	ROOM/room.json   what the room is for, and its format
//	ROOM/lock        held by the process that uses it; says who that is
//	ROOM/journal*    what the store has still to follow in
//	ROOM/index.db    which of the contents the store has as well
//	ROOM/content/    contents, sparse files, and small ones in a slab; what neither
//	                 the journal nor the index names is removed at start
//	ROOM/content.damaged-TIME  what was there when the journal was found to be lost, or
//	                 what was not named when a part of it was; never deleted
//	ROOM/rescue      says that the latter is still to be done
//	ROOM/kept/       contents that can't be uploaded any more, each with a .json
//	                 that says what it is; never deleted
//	ROOM/reserve     space that is given up when the disk is full, so that the
//	                 journal can take the removals that make room
type room struct {
	dir  string
	lock *os.File

	info   roomInfo
	since  int64 // when this process took the room: ns since 1970
	budget *Budget
	used   int64 // bytes of local extents; guarded by budget.mu
	left   bool  // the cache has ended; guarded by budget.mu
	// evict frees clean contents, oldest first, until need bytes are free or what
	// is left was used after until; it returns what it has freed. oldest says
	// when the next one was used that it would free; ok is false if there is none.
	// Both are called with no lock held.
	evict  func(need, until int64) int64
	oldest func() (used int64, ok bool)
	spares spares
	slab   slab
}

// roomInfo is room.json.
type roomInfo struct {
	Format   int    `json:"format"`
	Identity string `json:"identity"`
	// Origin is [Config].Origin of the last mount.
	Origin json.RawMessage `json:"origin,omitempty"`
}

// Holder says which process uses a room.
type Holder struct {
	PID        int       `json:"pid"`
	MountPoint string    `json:"mount_point"`
	Since      time.Time `json:"since"`
}

// InUseError is the error of New for a store that another mount uses from the
// same cache directory.
type InUseError struct {
	Identity string
	Holder   Holder
}

// Error implements error.
func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is already mounted at %s by process %d; unmount that one, or use another --cache-dir",
		e.Identity, e.Holder.MountPoint, e.Holder.PID)
}

// roomDir returns the directory of a store's room.
func roomDir(cacheDir, identity string) string {
	sum := sha256.Sum256([]byte(identity))
	return filepath.Join(cacheDir, "rooms", hex.EncodeToString(sum[:8]))
}

// openRoom makes or opens the room of a store and locks it.
func openRoom(cacheDir, identity, mountPoint string, budget *Budget) (*room, error) {
	dir := roomDir(cacheDir, identity)
	for _, d := range []string{dir, filepath.Join(dir, "content"), filepath.Join(dir, "kept")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("cache directory: %w; choose another with --cache-dir", err)
		}
	}
	r := &room{dir: dir, budget: budget, since: time.Now().UnixNano()}
	if err := r.take(identity, mountPoint); err != nil {
		return nil, err
	}
	if err := r.check(identity); err != nil {
		r.close()
		return nil, err
	}
	r.reserveAgain()
	r.spares.dir, r.spares.since = r.contentDir(), r.since
	r.slab.dir = r.contentDir()
	return r, nil
}

// take locks the room. The lock is the kernel's, so it ends with the process
// however that ends.
func (r *room) take(identity, mountPoint string) error {
	f, err := os.OpenFile(filepath.Join(r.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cache directory: %w", err)
	}
	// Somebody who only looks (Rooms) holds the lock for a moment.
	for range 10 {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock of %s: %w; choose another file system for --cache-dir", r.dir, err)
		}
		e := &InUseError{Identity: identity}
		_ = json.NewDecoder(f).Decode(&e.Holder)
		return e
	}
	b, err := json.Marshal(Holder{PID: os.Getpid(), MountPoint: mountPoint, Since: time.Now()})
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(append(b, '\n'), 0)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("cache directory: %w", err)
	}
	r.lock = f
	return nil
}

// check reads room.json, or writes it into a new room.
func (r *room) check(identity string) error {
	info, err := readInfo(r.dir)
	if errors.Is(err, os.ErrNotExist) {
		return r.write(roomInfo{Format: roomFormat, Identity: identity})
	}
	if err != nil {
		return err
	}
	if info.Format > roomFormat {
		return fmt.Errorf("%s was written by a newer agentfs (format %d, this one knows %d); use that one, or another --cache-dir", r.dir, info.Format, roomFormat)
	}
	if info.Identity != identity {
		return fmt.Errorf("%s belongs to %s, not to %s; move it away", r.dir, info.Identity, identity)
	}
	r.info = info
	if info.Format < roomFormat {
		if info.Format < 2 {
			// It had no journal: its contents are of no use.
			if err := emptyDir(r.contentDir()); err != nil {
				return err
			}
		}
		// 2 had no slab: it is a room of format 3 as it is.
		info.Format = roomFormat
		return r.write(info)
	}
	return nil
}

func readInfo(dir string) (info roomInfo, err error) {
	name := filepath.Join(dir, "room.json")
	b, err := os.ReadFile(name)
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(b, &info); err != nil {
		return info, fmt.Errorf("%s is damaged (%w); move %s away to start afresh", name, err, dir)
	}
	return info, nil
}

// write replaces room.json.
func (r *room) write(info roomInfo) error {
	b, err := json.Marshal(info)
	if err != nil {
		return err
	}
	name := filepath.Join(r.dir, "room.json")
	if err := os.WriteFile(name+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	r.info = info
	return os.Rename(name+".new", name)
}

// describe keeps how the store can be opened again.
func (r *room) describe(origin json.RawMessage) error {
	if len(origin) == 0 || bytes.Equal(origin, r.info.Origin) {
		return nil
	}
	info := r.info
	info.Origin = origin
	return r.write(info)
}

func (r *room) contentDir() string { return filepath.Join(r.dir, "content") }

func (r *room) reserveName() string { return filepath.Join(r.dir, "reserve") }

// reserveAgain takes the reserve, if there is room for it.
func (r *room) reserveAgain() {
	if st, err := os.Stat(r.reserveName()); err == nil && st.Size() >= reserveSize {
		return
	}
	f, err := os.OpenFile(r.reserveName(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, reserveSize); err != nil {
		_ = os.Remove(r.reserveName())
	}
}

// giveUpReserve makes room on a full disk, once.
func (r *room) giveUpReserve() bool { return os.Remove(r.reserveName()) == nil }

// sync makes everything in the room safe from a power loss.
func (r *room) sync() error {
	d, err := os.Open(r.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

func (r *room) close() {
	r.spares.end()
	r.slab.end()
	r.budget.leave(r)
	r.lock.Close()
}

// contentPath returns where a layer of a node's content lies. Layers left by
// earlier processes have other names, because since differs.
func (r *room) contentPath(id, layer uint64) string {
	return r.layerPath(fmt.Sprintf("%x-%x-%x", id, r.since, layer))
}

func (r *room) layerPath(name string) string { return filepath.Join(r.contentDir(), name) }

// layerNamed returns the layer that the journal calls name.
func (r *room) layerNamed(name string) *layer {
	if l, ok := r.slab.named(name); ok {
		return l
	}
	l := &layer{path: r.layerPath(name), refs: 1}
	var st unix.Stat_t
	l.frozen = unix.Stat(l.path, &st) == nil && st.Nlink > 1 // by an earlier process
	return l
}

// keepLayer keeps a layer's bytes as they are under a second name, which
// removeLayer takes away; "" if that can't be. The content that it belongs to is
// locked.
func (r *room) keepLayer(l *layer) string {
	name := "ghost-" + rand.Text()
	if l.slot == nil {
		if os.Link(l.path, r.layerPath(name)) != nil {
			return ""
		}
		l.frozen = true
		return name
	}
	to := &layer{path: r.layerPath(name), refs: 1}
	defer to.rest()
	if l.copyRange(to, 0, l.slot.length) != nil {
		to.drop()
		return ""
	}
	return name
}

// removeLayer removes a layer that belongs to no content.
func (r *room) removeLayer(name string) {
	if l, ok := r.slab.named(name); ok {
		if l.slot.time != 0 { // else somebody else has the place
			l.drop()
		}
		return
	}
	_ = os.Remove(r.layerPath(filepath.Base(name)))
}

// eachContent calls f with the name of each file of a layer that is there now;
// slots have none.
func (r *room) eachContent(f func(name string)) error {
	d, err := os.Open(r.contentDir())
	if err != nil {
		return err
	}
	defer d.Close()
	// All names first: f may remove files.
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slabFile(name) {
			f(name)
		}
	}
	return nil
}

// reserve counts n more local bytes, after asking for room if the budget is
// used up. It reports whether they fit.
func (r *room) reserve(n int64) bool { return r.budget.reserve(r, n) }

// release counts n local bytes less.
func (r *room) release(n int64) { r.budget.take(r, -n) }

// force counts n local bytes that are there whether they fit or not.
func (r *room) force(n int64) {
	r.budget.mu.Lock()
	r.budget.used += n
	r.used += n
	r.budget.mu.Unlock()
}

// usage returns the local bytes here and the budget of all.
func (r *room) usage() (used, budget int64) {
	r.budget.mu.Lock()
	defer r.budget.mu.Unlock()
	return r.used, r.budget.limit
}

// Kept is a content that could not be uploaded before its mount ended.
type Kept struct {
	// File holds the bytes.
	File string `json:"file"`
	// Store and Name say where they belong.
	Store string `json:"store"`
	Name  string `json:"name"`
	// Base is the version that they derive from, "" for a new file.
	Base string `json:"base"`
	// Parts says which bytes File really has, as [from, to) pairs, if they
	// are not all: the rest was only in version Base, and is zeros here.
	Parts [][2]int64 `json:"parts,omitempty"`
	Size  int64      `json:"size"`
	Time  time.Time  `json:"time"`
	Error string     `json:"error"`
}

// keep gives a content a name in kept/, with a note of what it is. Its layer keeps
// its own: somebody may have it open, and the journal may name it. The content is
// locked.
func (r *room) keep(l *layer, k Kept) (Kept, error) {
	stamp := time.Now().UTC().Format("20060102T150405.000000000")
	base := k.Name[strings.LastIndexByte(k.Name, '/')+1:]
	if len(base) > 180 {
		base = base[:180]
	}
	k.File = filepath.Join(r.dir, "kept", stamp+"-"+base)
	b, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return k, err
	}
	// The note first: without it nobody would know what the file is.
	note := k.File + ".json"
	if err = os.WriteFile(note, append(b, '\n'), 0o600); err == nil {
		l.frozen = true
		if err = os.Link(l.path, k.File); err != nil {
			// A file system without second names.
			err = os.Rename(l.path, k.File)
		}
	}
	if err != nil {
		_ = os.Remove(note)
	}
	return k, err
}

// Rooms returns, for every room under cacheDir, what it is for, who holds it
// (nil: nobody) and what is kept in it.
func Rooms(cacheDir string) ([]RoomStatus, error) {
	dirs, err := filepath.Glob(filepath.Join(cacheDir, "rooms", "*", "room.json"))
	if err != nil {
		return nil, err
	}
	var all []RoomStatus
	for _, d := range dirs {
		s := RoomStatus{Dir: filepath.Dir(d)}
		if info, err := readInfo(s.Dir); err == nil {
			s.Identity, s.Origin = info.Identity, info.Origin
		}
		s.Holder = holderOf(s.Dir)
		s.Pending = pendingIn(s.Dir)
		notes, err := filepath.Glob(filepath.Join(s.Dir, "kept", "*.json"))
		if err != nil {
			return nil, err
		}
		for _, note := range notes {
			var k Kept
			if b, err := os.ReadFile(note); err == nil && json.Unmarshal(b, &k) == nil {
				s.Kept = append(s.Kept, k)
			}
		}
		all = append(all, s)
	}
	return all, nil
}

// RoomStatus is one room as seen from outside.
type RoomStatus struct {
	Dir      string  `json:"dir"`
	Identity string  `json:"identity"`
	Holder   *Holder `json:"holder,omitempty"`
	Kept     []Kept  `json:"kept,omitempty"`
	// Origin is [Config].Origin of the last mount; nil if it gave none.
	Origin json.RawMessage `json:"origin,omitempty"`
	// Pending is how many changes the journal holds for the store, -1 if it
	// can't be read.
	Pending int64 `json:"pending"`
}

// pendingIn counts what the journal of a room holds for the store, -1 if it
// can't be read.
func pendingIn(dir string) (n int64) {
	// A record that is only on the way to others has neither text; within
	// a name quotes are escaped.
	for prefix, anyOf := range map[string][]string{"n/": {`"pending":true`, `"attrs":true`}, "g/": nil} {
		m, err := journal.Count(dir, prefix, anyOf...)
		if err != nil {
			return -1
		}
		n += m
	}
	return n
}

// holderOf returns who holds a room's lock, nil if nobody does.
func holderOf(dir string) *Holder {
	f, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return nil
	}
	defer f.Close()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil {
		return nil
	}
	var h Holder
	if err := json.NewDecoder(f).Decode(&h); err != nil {
		return &Holder{}
	}
	return &h
}

// setAside gives the contents another directory, because the journal that knew which
// of them the store does not have is lost: what nobody names is else removed.
func (r *room) setAside() error {
	all, err := os.ReadDir(r.contentDir())
	if err != nil || len(all) == 0 {
		return err
	}
	if err := os.Rename(r.contentDir(), r.asideDir()); err != nil {
		return err
	}
	return os.Mkdir(r.contentDir(), 0o700)
}

func emptyDir(dir string) error {
	all, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
