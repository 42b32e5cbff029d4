package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
)

// gitRows are what a program does that works on source code.
func (d *storeData) gitRows() []storeRow {
	return []storeRow{{
		name:     fmt.Sprintf("git clone --no-hardlinks of %d files, git status", len(d.small)),
		loopback: true,
		sdk: func(ctx context.Context, s *sdk, prefix string) error {
			return s.putAll(ctx, prefix+"clone/", d.clone)
		},
		mount: func(ctx context.Context, w *onMount) error {
			if _, err := tool(ctx, "git", "clone", "-q", "--no-hardlinks", d.repo, w.path("clone")); err != nil {
				return err
			}
			out, err := tool(ctx, "git", "-C", w.path("clone"), "status", "--porcelain")
			if err == nil && out != "" {
				err = fmt.Errorf("git status says that a fresh clone is changed: %s", out)
			}
			return err
		},
		stored:  d.cloneStored,
		targets: []target{returnedWithin(3)},
	}}
}

// cloneStored compares a clone with one on a local disk. They differ in what holds
// times and inode numbers, the index, in what git found out about the file
// system, the configuration, and in their logs.
func (d *storeData) cloneStored(ctx context.Context, direct *sdk, prefix string) error {
	prefix += "clone/"
	sizes, err := direct.list(ctx, prefix)
	if err != nil {
		return err
	}
	for name := range d.clone {
		if _, ok := sizes[name]; !ok {
			return fmt.Errorf("%s is missing", name)
		}
	}
	for name := range sizes {
		if _, ok := d.clone[name]; !ok && strings.HasSuffix(name, ".lock") {
			return fmt.Errorf("there is a left-over %s", name)
		}
	}
	wrong := ""
	err = direct.getAll(ctx, prefix, func(name string, body []byte) {
		want, ok := d.clone[name]
		varies := name == ".git/index" || name == ".git/config" || strings.HasPrefix(name, ".git/logs/")
		if ok && !varies && !bytes.Equal(body, want) {
			wrong = name
		}
	})
	if err == nil && wrong != "" {
		err = fmt.Errorf("%s is not what was cloned", wrong)
	}
	return err
}
