package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// smallSize is the size of a small file in bytes.
const smallSize = 4 << 10

// client does the operations that a worker is asked for, in one directory. What
// it finds wrong is an error: a fast answer must also be the right one.
type client struct {
	dir string

	// Which small files are there: names(prefix, 0..n-1). No prefix, no files.
	prefix string
	n      int
	size   int64

	held []*os.File

	steps []time.Duration // of the last operation that has some
}

func (c *client) do(q call) error {
	switch q.Op {
	case "populate": // until there are just so many small files
		if c.prefix != "" && c.n == q.Files && c.size == q.Size {
			return nil
		}
		if err := c.unlink(); err != nil {
			return err
		}
		return c.create(q.Files, q.Size)
	case "clear":
		return c.unlink()
	case "create":
		return c.create(q.Files, q.Size)
	case "stat":
		return c.each(func(name string) error {
			fi, err := os.Lstat(name)
			if err == nil && fi.Size() != c.size {
				err = fmt.Errorf("%s has %d bytes instead of %d", name, fi.Size(), c.size)
			}
			return err
		})
	case "stat missing":
		return c.missing(q.Files)
	case "read":
		return c.readAll()
	case "readdir":
		return c.list(func(fs.DirEntry) error { return nil })
	case "ls -l":
		return c.list(func(e fs.DirEntry) error {
			_, err := e.Info()
			return err
		})
	case "rename":
		return c.rename()
	case "unlink":
		return c.unlink()
	case "hold":
		return c.hold(q.Files)
	case "release":
		return c.release()
	case "echo", "append", "append and sync":
		return c.stepwise(q)
	case "fill", "remove data", "read data", "write data", "read data randomly", "write data randomly":
		return c.data(q)
	}
	return errors.New("no such operation")
}

func (c *client) small() string { return filepath.Join(c.dir, "small") }

func (c *client) name(prefix string, i int) string {
	return fmt.Sprintf("%s/%s%06d", c.small(), prefix, i)
}

// each calls f with the name of every small file.
func (c *client) each(f func(name string) error) error {
	if c.prefix == "" {
		return errors.New("there are no files")
	}
	for i := range c.n {
		if err := f(c.name(c.prefix, i)); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) create(n int, size int64) error {
	if c.prefix != "" {
		return errors.New("there are files already")
	}
	if err := os.MkdirAll(c.small(), 0o755); err != nil {
		return err
	}
	content := make([]byte, size)
	for i := range n {
		if err := writeNew(c.name("a", i), content); err != nil {
			return err
		}
	}
	c.prefix, c.n, c.size = "a", n, size
	return nil
}

func writeNew(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if len(content) > 0 {
		_, err = f.Write(content)
	}
	return errors.Join(err, f.Close())
}

func (c *client) missing(n int) error {
	for i := range n {
		if _, err := os.Lstat(c.name("missing", i)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("a missing file gives %v", err)
		}
	}
	return nil
}

func (c *client) readAll() error {
	buf := make([]byte, c.size+1)
	return c.each(func(name string) error {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if n, err := io.ReadFull(f, buf); int64(n) != c.size {
			return fmt.Errorf("%s: read %d bytes of %d: %w", name, n, c.size, err)
		}
		return nil
	})
}

func (c *client) list(f func(fs.DirEntry) error) error {
	es, err := os.ReadDir(c.small())
	if err != nil {
		return err
	}
	if len(es) != c.n {
		return fmt.Errorf("%d entries instead of %d", len(es), c.n)
	}
	for _, e := range es {
		if err := f(e); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) rename() error {
	to := "b"
	if c.prefix == "b" {
		to = "a"
	}
	i := 0
	err := c.each(func(name string) error {
		i++
		return os.Rename(name, c.name(to, i-1))
	})
	if err == nil {
		c.prefix = to
	}
	return err
}

func (c *client) unlink() error {
	if c.prefix == "" {
		return nil
	}
	err := c.each(os.Remove)
	if err == nil {
		c.prefix = ""
	}
	return err
}

// hold opens the first n small files and keeps them open.
func (c *client) hold(n int) error {
	if c.prefix == "" || n > c.n {
		return fmt.Errorf("there are no %d files", n)
	}
	for i := range n {
		f, err := os.OpenFile(c.name(c.prefix, i), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		c.held = append(c.held, f)
	}
	return nil
}

func (c *client) release() error {
	var errs []error
	for _, f := range c.held {
		errs = append(errs, f.Close())
	}
	c.held = nil
	return errors.Join(errs...)
}
