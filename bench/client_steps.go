package main

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// stepwise does an operation that consists of many steps, each beginning with
// an open and ending with a close, and remembers how long each took.
func (c *client) stepwise(q call) error {
	c.steps = nil
	for i := range q.Files {
		began := time.Now()
		var err error
		switch q.Op {
		case "echo":
			err = os.WriteFile(filepath.Join(c.dir, echoName(i)), echoText(i), 0o644)
		case "append", "append and sync":
			err = appendTo(filepath.Join(c.dir, logName), appendText(i), q.Op != "append")
		}
		if err != nil {
			return err
		}
		c.steps = append(c.steps, time.Since(began))
	}
	return nil
}

func appendTo(name string, text []byte, sync bool) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return errors.Join(err, f.Close())
	}
	if sync {
		if err := f.Sync(); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}
