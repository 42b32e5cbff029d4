package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// mountEnv names the mount that the file commands work on if no flag does.
const mountEnv = "AGENTFS_MOUNT"

// source says what the file commands work on: a mounted directory, like any
// program, or the stores themselves.
type source struct {
	mount  string
	stores routeFlags
	json   bool
}

func (s *source) register(cmd *cobra.Command) {
	s.registerTree(cmd)
	cmd.Flags().BoolVar(&s.json, "json", false, "print one JSON object per line")
}

// registerTree registers the flags that say which tree it is.
func (s *source) registerTree(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.mount, "mount", "", "work on the tree mounted at this directory (default: $"+mountEnv+")")
	s.stores.register(cmd)
	s.stores.audit.register(cmd)
	must(cmd.MarkFlagDirname("mount"))
}

const sourceHelp = `

It works on a mounted tree (--mount DIR, or AGENTFS_MOUNT) or, without a mount,
on the stores themselves (--config or --route). Paths are those of the tree:
/data/a.txt is a.txt in the route /data.`

// errTwoTrees: both kinds of flags were given.
var errTwoTrees = usagef("there is --mount for a mounted tree, and --route or --config for stores without a mount; give one or the other")

// opened is what a file command works on.
type opened struct {
	*protocol.Tree
	close func()
}

func (p *program) openSource(ctx context.Context, s *source) (*opened, error) {
	if s.mount == "" && !s.stores.given() {
		s.mount = os.Getenv(mountEnv)
	}
	switch {
	case s.mount != "" && s.stores.given():
		return nil, errTwoTrees
	case s.mount != "" && s.stores.audit != auditFlags{}:
		return nil, usagef("--audit-file and --audit-when-full are for stores without a mount; on %s the mount itself records", s.mount)
	case s.mount != "":
		return openMounted(s.mount)
	case !s.stores.given():
		return nil, usagef("which tree? say --mount DIR (or set %s) for a mounted one, or --route PATH=URL or --config FILE for stores without a mount", mountEnv)
	}
	log, err := p.logger()
	if err != nil {
		return nil, err
	}
	return p.openStores(ctx, &s.stores, log)
}

// openMounted takes the mounted tree as the directory of this host that it is.
func openMounted(dir string) (*opened, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	st, err := newMountStore(dir)
	if err != nil {
		var dead deadMountError
		if err = whichMount(dir, err); errors.As(err, &dead) {
			return nil, err
		}
		return nil, fmt.Errorf("--mount %s: %w", dir, pathless(err))
	}
	o := newOpened(st, func() { _ = st.Close() })
	// A directory that is no agentfs will do too; it has no routes.
	if status, err := readStatus(dir); err == nil {
		for _, r := range status.Routes {
			o.fix(r.Path)
		}
	}
	return o, nil
}

func newOpened(s backends.Store, close func()) *opened {
	return &opened{Tree: &protocol.Tree{Store: s}, close: close}
}

// fix makes the root of a route stay where it is.
func (o *opened) fix(route string) {
	if route != "/" {
		o.Fixed = append(o.Fixed, strings.TrimPrefix(route, "/"))
	}
}

// line prints v as a line of JSON.
func (p *program) line(v any) error {
	e := json.NewEncoder(p.out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
