package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// What neither the journal nor the index names is removed at the start. A journal that
// has lost a part of what was acknowledged may have named some of that, so then it is set
// aside: without names, but with its bytes.

// rescue does so if it is owed. wanted are the contents that the journal names, rows
// those of the index, and slots the slots of both.
func (c *FS) rescue(wanted map[string]bool, rows map[string]int64, slots map[string]bool) error {
	if !c.room.owesRescue() {
		return nil
	}
	n, dir, err := c.room.rescue(func(file string) bool { _, shelved := rows[file]; return shelved || wanted[file] }, slots)
	if err != nil {
		return fmt.Errorf("the journal was damaged, and the contents that it may have named can't be set aside: %w", err)
	}
	if n > 0 {
		c.log.Error("contents that the journal does not name may belong to what it has lost; they are set aside", "contents", n, "directory", dir)
	}
	return os.Remove(c.room.oweName())
}

// oweRescue remembers that a rescue is to come, until one has gone well: the journal tells
// of its damage once, and this one may fail, for the disk may be full.
func (r *room) oweRescue() error { return os.WriteFile(r.oweName(), nil, 0o600) }

func (r *room) owesRescue() bool {
	_, err := os.Lstat(r.oweName())
	return err == nil
}

func (r *room) oweName() string { return filepath.Join(r.dir, "rescue") }

// asideDir is where contents go whose names are lost.
func (r *room) asideDir() string {
	return r.contentDir() + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000000")
}

// rescue sets aside the files in the content directory that are not named, and what is in
// slots that have none of the names, and returns how many and where. Of a slot that was
// free already that is what was there last.
func (r *room) rescue(named func(file string) bool, slots map[string]bool) (n int, dir string, err error) {
	dir = r.asideDir()
	into := func(name string) (string, error) {
		n++
		err := os.Mkdir(dir, 0o700)
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
		return filepath.Join(dir, name), err
	}
	ferr := r.eachContent(func(name string) {
		st, serr := os.Lstat(r.layerPath(name))
		if err == nil && !named(name) && (serr != nil || st.Size() > 0) { // a spare one is empty
			var to string
			if to, err = into(name); err == nil {
				err = os.Rename(r.layerPath(name), to)
			}
		}
	})
	if err = errors.Join(err, ferr); err == nil {
		err = r.slab.lastOf(slots, func(name string, p []byte) error {
			to, err := into(name)
			if err != nil {
				return err
			}
			if err = os.WriteFile(to, p, 0o600); err != nil {
				_ = os.Remove(to) // the next try has it
			}
			return err
		})
	}
	return n, dir, err
}

// lastOf calls f with what is in the slots whose names are not among those that are used.
// Nobody uses s yet.
func (s *slab) lastOf(used map[string]bool, f func(name string, p []byte) error) error {
	bytes, err := os.Open(filepath.Join(s.dir, slabName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer bytes.Close()
	heads, err := os.ReadFile(filepath.Join(s.dir, headsName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for n := range uint64(len(heads) / headSize) {
		b := heads[n*headSize:][:headSize]
		length := binary.LittleEndian.Uint64(b[8:])
		name := (&slot{n: n, turn: binary.LittleEndian.Uint64(b)}).name()
		if used[name] || binary.LittleEndian.Uint64(b[24:]) != headSum(b) || length > slotSize {
			continue
		}
		p := make([]byte, length)
		if _, err := bytes.ReadAt(p, int64(n)*slotSize); err != nil && err != io.EOF {
			return err
		}
		if allZero(p) {
			continue // its place was given back to the disk
		}
		if err := f(name, p); err != nil {
			return err
		}
	}
	return nil
}

func allZero(p []byte) bool {
	for _, c := range p {
		if c != 0 {
			return false
		}
	}
	return true
}
