package cache

import (
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
)

// roomFormat is the version of what a room looks like on disk. A newer binary
// reads older rooms, an older one refuses newer ones.
const roomFormat = 1

// A room is the cache's place on disk for one store:
//
//	ROOM/room.json   what the room is for, and its format
//	ROOM/lock        held by the process that uses it; says who that is
//	ROOM/content/    contents by node id, sparse files; emptied at start, but for
//	                 those with a .json beside them: their upload failed, and
//	                 they go to kept/
//	ROOM/kept/       contents that could not be uploaded when a mount ended,
//	                 each with a .json that says what it is; never deleted
type room struct {
	dir  string
	lock *os.File

	budget *Budget
	used   int64            // bytes of local extents; guarded by budget.mu
	left   bool             // the cache has ended; guarded by budget.mu
	evict  func(need int64) // asks for room; called with no lock held
}

// roomInfo is room.json.
type roomInfo struct {
	Format   int    `json:"format"`
	Identity string `json:"identity"`
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
	r := &room{dir: dir, budget: budget}
	if err := r.take(identity, mountPoint); err != nil {
		return nil, err
	}
	if err := r.check(identity); err != nil {
		r.close()
		return nil, err
	}
	if err := r.salvage(); err != nil {
		r.close()
		return nil, err
	}
	// This storey trusts no other content of an earlier process.
	if err := emptyDir(filepath.Join(dir, "content")); err != nil {
		r.close()
		return nil, err
	}
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
	name := filepath.Join(r.dir, "room.json")
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		b, err := json.Marshal(roomInfo{Format: roomFormat, Identity: identity})
		if err != nil {
			return err
		}
		tmp := name + ".new"
		if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
			return err
		}
		return os.Rename(tmp, name)
	}
	if err != nil {
		return err
	}
	var info roomInfo
	if err := json.Unmarshal(b, &info); err != nil {
		return fmt.Errorf("%s is damaged (%w); move %s away to start afresh", name, err, r.dir)
	}
	if info.Format > roomFormat {
		return fmt.Errorf("%s was written by a newer agentfs (format %d, this one knows %d); use that one, or another --cache-dir", r.dir, info.Format, roomFormat)
	}
	if info.Identity != identity {
		return fmt.Errorf("%s belongs to %s, not to %s; move it away", r.dir, info.Identity, identity)
	}
	return nil
}

func (r *room) close() {
	r.budget.leave(r)
	r.lock.Close()
}

func (r *room) contentPath(id uint64) string {
	return filepath.Join(r.dir, "content", fmt.Sprintf("%x", id))
}

// reserve counts n more local bytes, after asking for room if the budget is
// used up. It reports whether they fit.
func (r *room) reserve(n int64) bool { return r.budget.reserve(r, n) }

// release counts n local bytes less.
func (r *room) release(n int64) { r.budget.take(r, -n) }

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

// keep moves a content to kept/ with a note of what it is.
func (r *room) keep(from string, k Kept) (Kept, error) {
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
	if err := os.Rename(from, k.File); err != nil {
		return k, err
	}
	return k, os.WriteFile(k.File+".json", append(b, '\n'), 0o600)
}

// notePath is where a content's note is while its upload has failed.
func notePath(content string) string { return content + ".json" }

// note writes down what a content is that could not be uploaded, so that it is
// found if the process ends without a word.
func (r *room) note(content string, k Kept) error {
	k.File = content
	b, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(notePath(content), append(b, '\n'), 0o600)
}

// salvage moves the contents with a note, which a process left that ended
// without a word, to kept/.
func (r *room) salvage() error {
	notes, err := filepath.Glob(filepath.Join(r.dir, "content", "*.json"))
	if err != nil {
		return err
	}
	for _, name := range notes {
		var k Kept
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, &k); err != nil {
			// Cut short by a full disk or a crash: the content is what counts.
			k = Kept{Name: "unknown", Error: "its note is damaged"}
		}
		if _, err := r.keep(strings.TrimSuffix(name, ".json"), k); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("content left by an earlier mount: %w", err)
		}
	}
	return nil
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
		var info roomInfo
		if b, err := os.ReadFile(d); err == nil && json.Unmarshal(b, &info) == nil {
			s.Identity = info.Identity
		}
		s.Holder = holderOf(s.Dir)
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
