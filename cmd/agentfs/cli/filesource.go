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
	cmd.Flags().StringVar(&s.mount, "mount", "", "work on the tree mounted at this directory (default: $"+mountEnv+")")
	s.stores.register(cmd)
	cmd.Flags().BoolVar(&s.json, "json", false, "print one JSON object per line")
	must(cmd.MarkFlagDirname("mount"))
	cmd.MarkFlagsMutuallyExclusive("mount", "config")
	cmd.MarkFlagsMutuallyExclusive("mount", "route")
}

const sourceHelp = `

It works on a mounted tree (--mount DIR, or AGENTFS_MOUNT) or, without a mount,
on the stores themselves (--config or --route). Paths are those of the tree:
/data/a.txt is a.txt in the route /data.`

// opened is what a file command works on.
type opened struct {
	// store is not embedded: an interface in between hides what more the store
	// can do, such as to walk a tree in few requests.
	store backends.Store
	close func()
	// mounted is store if that is a mounted tree.
	mounted *mountStore
	// routes are the paths below which other routes may begin, as names.
	routes []string
}

func (p *program) openSource(ctx context.Context, s *source) (*opened, error) {
	if s.mount == "" && !s.stores.given() {
		s.mount = os.Getenv(mountEnv)
	}
	switch {
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
	o := &opened{store: st, mounted: st, close: func() { _ = st.Close() }}
	// A directory that is no agentfs will do too; it has no routes.
	if status, err := readStatus(dir); err == nil {
		for _, r := range status.Routes {
			o.routes = append(o.routes, strings.TrimPrefix(r.Path, "/"))
		}
	}
	return o, nil
}

// waitForStore makes changes wait until the stores have them, also on a mount,
// where closing a file may be enough for others. Stores without a mount know no
// other way.
func (o *opened) waitForStore() {
	if o.mounted != nil {
		o.mounted.sync = true
	}
}

// guard refuses to remove a directory in which a route begins, before
// anything in it is gone.
func (o *opened) guard(path string) error {
	name, err := protocol.Name(path)
	if err != nil {
		return err
	}
	for _, r := range o.routes {
		if r != "" && (r == name || strings.HasPrefix(r, name+"/")) {
			return fmt.Errorf("%s: the route /%s begins there: %w", protocol.Path(name, true), r, backends.ErrBusy)
		}
	}
	return nil
}

// line prints v as a line of JSON.
func (p *program) line(v any) error {
	e := json.NewEncoder(p.out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
