package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// ackFile is what the journal knows of itself beside the database: numbers in
// a file of a fixed size, each with its complement, so that one that was torn
// is not believed. Writing one is one pwrite of 16 bytes, which a kill of the
// process can't undo. It is never synced: after a power loss an older number
// is there, which claims less.
//
// The file is locked as long as the journal is open. SQLite itself would let
// two processes in, but each would count for itself.
type ackFile struct {
	f *os.File

	// acked is the number of the last acknowledged commit.
	acked uint64
	// folded is the number of the last commit of which the table may have parts. If
	// the table and the log together are older than this, the log has lost some of
	// what was already being moved, and changes of different age may be mixed.
	folded uint64
	// turns is raised before and after each move from the log to the table, and from
	// SQLite's own log to the database, for those who read them without a lock.
	turns uint64
	// table is the number of the last transaction that may have been moved from
	// SQLite's log into the database. If they together are older than this, pages
	// of different age may be mixed.
	table uint64
}

const (
	ackMagic    = "agentfs journal\n" // 16 bytes
	ackedPlace  = 16
	foldedPlace = 32
	turnsPlace  = 48
	tablePlace  = 64
	ackSize     = 80
	ackSize2    = 64 // until format 2
)

// openAck opens or makes the file and locks it. A file that says nothing of
// use is begun anew.
func openAck(name string) (*ackFile, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	a := &ackFile{f: f}
	if err := a.lock(); err != nil {
		f.Close()
		return nil, err
	}
	if err := a.read(); err != nil {
		a.close() // numbers that are there, and would be begun anew
		return nil, err
	}
	// Written even when nothing was amiss: there is room for it now, and a
	// number that was torn is whole again.
	b := make([]byte, ackSize)
	copy(b, ackMagic)
	putNumber(b[ackedPlace:], a.acked)
	putNumber(b[foldedPlace:], a.folded)
	putNumber(b[turnsPlace:], a.turns)
	putNumber(b[tablePlace:], a.table)
	if _, err := f.WriteAt(b, 0); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// read reads the numbers; those that are not there, or torn, are 0.
func (a *ackFile) read() error {
	a.acked, a.folded, a.turns, a.table = 0, 0, 0, 0
	b := make([]byte, ackSize)
	n, err := a.f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return err
	}
	if n >= ackSize2 && string(b[:len(ackMagic)]) == ackMagic {
		a.acked, a.folded, a.turns = number(b[ackedPlace:]), number(b[foldedPlace:]), number(b[turnsPlace:])
		a.table = number(b[tablePlace:]) // of nothing is 0
	}
	return nil
}

// lock takes the file for this process. The lock is the kernel's and ends
// with the process, however that ends.
func (a *ackFile) lock() error {
	var err error
	// A child that was just forked holds the lock of a file that was closed
	// meanwhile until it executes its program.
	for range 10 {
		err = syscall.Flock(int(a.f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("lock of %s, which another process may be using: %w", a.f.Name(), err)
	}
	return nil
}

func (a *ackFile) setAcked(n uint64) error {
	a.acked = n
	return a.write(ackedPlace, n)
}

func (a *ackFile) setFolded(n uint64) error {
	a.folded = n
	return a.write(foldedPlace, n)
}

func (a *ackFile) setTable(n uint64) error {
	a.table = n
	return a.write(tablePlace, n)
}

// turnOver raises turns. A failure costs only those who count from outside.
func (a *ackFile) turnOver() {
	a.turns++
	_ = a.write(turnsPlace, a.turns)
}

func (a *ackFile) write(place int64, n uint64) error {
	var b [16]byte
	putNumber(b[:], n)
	_, err := a.f.WriteAt(b[:], place)
	return err
}

func (a *ackFile) close() error { return a.f.Close() }

func putNumber(b []byte, n uint64) {
	binary.LittleEndian.PutUint64(b, n)
	binary.LittleEndian.PutUint64(b[8:], ^n)
}

// number returns 0 for one that is torn.
func number(b []byte) uint64 {
	n := binary.LittleEndian.Uint64(b)
	if ^n != binary.LittleEndian.Uint64(b[8:]) {
		return 0
	}
	return n
}
