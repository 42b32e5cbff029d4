package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// dataName is the name of the large file, in the worker's directory.
const dataName = "data"

// data does the operations on the large file that a worker is asked for. They
// are what fio does with the psync engine: one thread, one call after another,
// each block once.
func (c *client) data(q call) error {
	name := filepath.Join(c.dir, dataName)
	switch q.Op {
	case "remove data":
		if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	case "fill":
		if fi, err := os.Stat(name); err == nil && fi.Size() == q.Size {
			return nil
		}
		return transfer(name, true, false, q.Size, 1<<20)
	case "read data":
		return transfer(name, false, false, q.Size, q.Block)
	case "write data":
		return transfer(name, true, false, q.Size, q.Block)
	case "read data randomly":
		return transfer(name, false, true, q.Size, q.Block)
	default:
		return transfer(name, true, true, q.Size, q.Block)
	}
}

// transfer reads or writes the first size bytes of a file in blocks, in their
// order or in a random one that is the same every time.
func transfer(name string, write, random bool, size int64, block int) error {
	flags := os.O_RDONLY
	if write {
		flags = os.O_RDWR | os.O_CREATE
	}
	f, err := os.OpenFile(name, flags, 0o644)
	if err != nil {
		return err
	}
	if !write {
		// As fio does: what the page cache holds is let go, so that a read
		// reaches the file system. (tmpfs has nothing but the page cache.)
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return errors.Join(fmt.Errorf("fadvise: %w", err), f.Close())
		}
	}
	buf := make([]byte, block)
	for i := range buf {
		buf[i] = byte(i)
	}
	n := int(size / int64(block))
	order := func(i int) int { return i }
	if random {
		perm := rand.New(rand.NewPCG(1, 2)).Perm(n)
		order = func(i int) int { return perm[i] }
	}
	at := f.ReadAt
	if write {
		at = f.WriteAt
	}
	for i := range n {
		if _, err := at(buf, int64(order(i))*int64(block)); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

// fioTransfer has fio do what transfer does and returns how long the
// transfer took by its account.
func fioTransfer(dir string, write, random bool, size int64, block int) (time.Duration, error) {
	rw := map[[2]bool]string{{false, false}: "read", {true, false}: "write", {false, true}: "randread", {true, true}: "randwrite"}[[2]bool{write, random}]
	cmd := exec.Command("fio", "--name=bench", "--filename="+filepath.Join(dir, dataName), "--ioengine=psync",
		"--rw="+rw, fmt.Sprintf("--bs=%d", block), fmt.Sprintf("--size=%d", size), "--fallocate=none", "--output-format=json")
	// fio leaves its notes in the working directory.
	cmd.Dir = os.TempDir()
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return 0, fmt.Errorf("fio %s: %w", rw, err)
	}
	type side struct {
		Bytes int64   `json:"io_bytes"`
		Rate  float64 `json:"bw_bytes"`
	}
	var r struct {
		Jobs []struct{ Read, Write side }
	}
	if err := json.Unmarshal(out, &r); err != nil || len(r.Jobs) != 1 {
		return 0, fmt.Errorf("fio %s: its output is not as expected: %w", rw, err)
	}
	s := r.Jobs[0].Read
	if write {
		s = r.Jobs[0].Write
	}
	if s.Bytes != size || s.Rate <= 0 {
		return 0, fmt.Errorf("fio %s: transferred %d bytes of %d", rw, s.Bytes, size)
	}
	return time.Duration(float64(s.Bytes) / s.Rate * float64(time.Second)), nil
}
