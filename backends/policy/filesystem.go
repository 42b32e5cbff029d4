package policy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/agentfs/agentfs/backends"
)

// Names knows the paths of nodes, as names of a store.
type Names interface {
	// Path returns the path of n, of several names one, of a file that has
	// none any more the last one. ok is false for a node that is not known.
	Path(n backends.Node) (name string, ok bool)
	// Paths returns all that are known.
	Paths(n backends.Node) []string
}

// FileSystem returns f with the rules of p. names learns the paths of nodes
// from the calls that f gets. raw is what f stands on: it is asked where names
// are not to learn, and its nodes are those of f.
func FileSystem(f, raw backends.FileSystem, names Names, p *Policy) backends.FileSystem {
	return &files{
		ForwardFiles: backends.ForwardFiles{FileSystem: f},
		raw:          raw,
		names:        names,
		p:            p,
		moving:       make([]sync.RWMutex, len(p.routes)),
	}
}

type files struct {
	backends.ForwardFiles
	raw   backends.FileSystem
	names Names
	p     *Policy

	// moving, one for each route, is held for writing while a directory is
	// renamed whose content the rules are about, and for reading while a name
	// is made. Without it a name could come into being in the directory after
	// it was looked through, and be carried along.
	moving []sync.RWMutex
}

func (f *files) class(ctx context.Context) int { return f.p.classOf(UserOf(ctx)) }

// unknown is the error for a node of which no name is known: that of the
// file system, if it doesn't know the node either.
func (f *files) unknown(ctx context.Context, op string, n backends.Node) error {
	if _, err := f.FileSystem.Attr(ctx, n); err != nil {
		return err
	}
	return fmt.Errorf("%s: no name of the file is known, so no rule says what may be done with it: %w", op, fs.ErrPermission)
}

// dir returns the verdict on a directory.
func (f *files) dir(ctx context.Context, op string, n backends.Node) (*verdict, error) {
	name, ok := f.names.Path(n)
	if !ok {
		return nil, f.unknown(ctx, op, n)
	}
	return f.p.dir(toPath(name)), nil
}

// child returns the verdict on a name in a directory.
func (f *files) child(ctx context.Context, op string, parent backends.Node, name string) (*verdict, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	up, err := f.dir(ctx, op, parent)
	if err != nil {
		return nil, err
	}
	return f.p.judge(up, up.path+"/"+name), nil
}

// node returns the verdict on n that is the strictest for the class, of those
// on all its names.
func (f *files) node(ctx context.Context, op string, n backends.Node, class int) (*verdict, error) {
	paths := f.names.Paths(n)
	if len(paths) <= 1 {
		name, ok := f.names.Path(n)
		if !ok {
			return nil, f.unknown(ctx, op, n)
		}
		return f.p.at(toPath(name)), nil
	}
	all := make([]*verdict, len(paths))
	for i, name := range paths {
		all[i] = f.p.at(toPath(name))
	}
	strict := strictest(all, class)
	for _, v := range all {
		if v.access(class) > strict.access(class) {
			return strictest(f.standing(ctx, all, n), class), nil
		}
	}
	return strict, nil
}

func strictest(all []*verdict, class int) *verdict {
	strict := all[0]
	for _, v := range all[1:] {
		if v.access(class) < strict.access(class) {
			strict = v
		}
	}
	return strict
}

// standing returns the verdicts on those names under which n is to be found
// now, or all if that is none or can't be known: others may have moved a file
// in the store since it was looked up.
func (f *files) standing(ctx context.Context, all []*verdict, n backends.Node) []*verdict {
	var now []*verdict
	for _, v := range all {
		switch at, err := f.find(ctx, v.path); {
		case err == nil && at == n:
			now = append(now, v)
		case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, backends.ErrNotDir):
			return all
		}
	}
	if len(now) == 0 {
		return all
	}
	return now
}

// find looks path up from the root.
func (f *files) find(ctx context.Context, path string) (n backends.Node, err error) {
	n = f.raw.Root()
	for path != "" && err == nil {
		var seg string
		seg, path = cutSegment(path)
		n, _, err = f.raw.Lookup(ctx, n, seg)
	}
	return n, err
}

// need returns an error unless the caller has this access to n.
func (f *files) need(ctx context.Context, op string, n backends.Node, access Access) error {
	class := f.class(ctx)
	v, err := f.node(ctx, op, n, class)
	if err == nil && v.access(class) < access {
		err = f.p.deny(op, v, class)
	}
	return err
}

// dress returns the attributes of what v is about. How many directories are
// hidden in another one is not to be counted by its links; 1 says that they
// are not counted at all.
func (f *files) dress(v *verdict, a backends.Attr) backends.Attr {
	if a.Mode.IsDir() && f.p.mayHideIn(v) {
		a.Nlink = 1
	}
	return a
}

func (f *files) Lookup(ctx context.Context, parent backends.Node, name string) (backends.Node, backends.Attr, error) {
	v, err := f.child(ctx, "lookup", parent, name)
	if err != nil {
		return nil, backends.Attr{}, err
	}
	switch class := f.class(ctx); {
	case v.hidden():
		return nil, backends.Attr{}, absent("lookup", v.path)
	case v.access(class) == None && f.p.closed(v, class):
		return nil, backends.Attr{}, f.p.deny("lookup", v, class)
	}
	n, a, err := f.FileSystem.Lookup(ctx, parent, name)
	return n, f.dress(v, a), err
}

// closed reports whether v lies in a directory that nobody can look into for
// it.
func (p *Policy) closed(v *verdict, class int) bool {
	return v.path != "" && p.dir(parentOf(v.path)).access(class) == None && p.shut(v)
}

func (f *files) Attr(ctx context.Context, n backends.Node) (backends.Attr, error) {
	a, err := f.FileSystem.Attr(ctx, n)
	if err != nil || !f.p.hides || !a.Mode.IsDir() {
		return a, err
	}
	v, err := f.dir(ctx, "getattr", n)
	if err != nil {
		return backends.Attr{}, err
	}
	return f.dress(v, a), nil
}

// SetAttr asks for Write; times of now may be set with Append.
func (f *files) SetAttr(ctx context.Context, n backends.Node, c backends.AttrChange) (backends.Attr, error) {
	access := Write
	if touches(c) {
		access = Append
	}
	if err := f.need(ctx, "setattr", n, access); err != nil {
		return backends.Attr{}, err
	}
	a, err := f.FileSystem.SetAttr(ctx, n, c)
	if err != nil || !f.p.hides || !a.Mode.IsDir() {
		return a, err
	}
	v, err := f.dir(ctx, "setattr", n)
	if err != nil {
		return backends.Attr{}, err
	}
	return f.dress(v, a), nil
}

// touches reports whether c does no more than any write does.
func touches(c backends.AttrChange) bool {
	return c.Set&^(backends.SetAtime|backends.SetMtime) == 0 && c.Set&^c.Now == 0
}

func (f *files) OpenDir(ctx context.Context, dir backends.Node) error {
	if err := f.need(ctx, "opendir", dir, Read); err != nil {
		return err
	}
	return f.ForwardFiles.OpenDir(ctx, dir)
}

func (f *files) ReadDir(ctx context.Context, dir backends.Node) ([]backends.DirEntry, error) {
	class := f.class(ctx)
	v, err := f.dir(ctx, "readdir", dir)
	if err != nil {
		return nil, err
	}
	if v.access(class) < Read {
		return nil, f.p.deny("readdir", v, class)
	}
	all, err := f.FileSystem.ReadDir(ctx, dir)
	if err != nil || !f.p.mayHideIn(v) {
		return all, err
	}
	seen := make([]backends.DirEntry, 0, len(all))
	for _, e := range all {
		if !f.p.judge(v, v.path+"/"+e.Name).hidden() {
			seen = append(seen, e)
		}
	}
	return seen, nil
}

func (f *files) Open(ctx context.Context, n backends.Node, flags int) (backends.File, error) {
	class := f.class(ctx)
	v, err := f.node(ctx, "open", n, class)
	if err != nil {
		return nil, err
	}
	need := Read
	switch {
	case flags&os.O_TRUNC != 0:
		need = Write
	case writes(flags):
		need = Append
	}
	if v.access(class) < need {
		return nil, f.p.deny("open", v, class)
	}
	in, err := f.FileSystem.Open(ctx, n, flags)
	if err != nil {
		return nil, err
	}
	return f.opened(ctx, n, v, class, in, flags)
}

func writes(flags int) bool { return flags&(os.O_WRONLY|os.O_RDWR) != 0 }

func (f *files) Readlink(ctx context.Context, n backends.Node) (string, error) {
	if err := f.need(ctx, "readlink", n, Read); err != nil {
		return "", err
	}
	return f.ForwardFiles.Readlink(ctx, n)
}

func (f *files) GetXattr(ctx context.Context, n backends.Node, name string) ([]byte, error) {
	if err := f.need(ctx, "getxattr", n, Read); err != nil {
		return nil, err
	}
	return f.ForwardFiles.GetXattr(ctx, n, name)
}

func (f *files) SetXattr(ctx context.Context, n backends.Node, name string, value []byte, flags backends.XattrFlags) error {
	if err := f.need(ctx, "setxattr", n, Write); err != nil {
		return err
	}
	return f.ForwardFiles.SetXattr(ctx, n, name, value, flags)
}

// ListXattr is empty where nothing may be read: "ls -l" asks for every file,
// and it is no error that there is nothing to see.
func (f *files) ListXattr(ctx context.Context, n backends.Node) ([]string, error) {
	err := f.need(ctx, "listxattr", n, Read)
	if errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return f.ForwardFiles.ListXattr(ctx, n)
}

func (f *files) RemoveXattr(ctx context.Context, n backends.Node, name string) error {
	if err := f.need(ctx, "removexattr", n, Write); err != nil {
		return err
	}
	return f.ForwardFiles.RemoveXattr(ctx, n, name)
}
