package policy

import (
	"context"
	"errors"
	"io/fs"

	"github.com/agentfs/agentfs/backends"
)

// move is a rename that is being judged.
type move struct {
	f                  *files
	class              int
	oldParent          backends.Node
	oldName            string
	newParent          backends.Node
	newName            string
	flags              backends.RenameFlags
	from, to           *verdict
	source, target     backends.Node // what is there; target nil if nothing is
	sourceAt, targetAt backends.Attr
	keep               bool // what comes into being at the target is not to be replaced
}

// Rename asks for Write under the old name and for Append under the new one,
// for Write if something is replaced or exchanged there, and the same for
// everything below a directory. At its end no file is where rules would not
// have let the caller put it.
func (f *files) Rename(ctx context.Context, oldParent backends.Node, oldName string, newParent backends.Node, newName string, flags backends.RenameFlags) error {
	m := &move{f: f, class: f.class(ctx), oldParent: oldParent, oldName: oldName, newParent: newParent, newName: newName, flags: flags}
	v, err := f.child(ctx, "rename", oldParent, oldName)
	if err != nil {
		return err
	}
	moving := &f.moving[v.route]
	moving.RLock()
	look, err := m.judge(ctx)
	if err == nil && !look {
		err = m.do(ctx)
	}
	moving.RUnlock()
	if err != nil || !look {
		return err
	}
	moving.Lock()
	defer moving.Unlock()
	if _, err = m.judge(ctx); err != nil {
		return err
	}
	if err = m.below(ctx); err != nil {
		return err
	}
	return m.do(ctx)
}

func (m *move) do(ctx context.Context) error {
	flags := m.flags
	if m.keep {
		flags |= backends.RenameNoReplace
	}
	err := m.f.FileSystem.Rename(ctx, m.oldParent, m.oldName, m.newParent, m.newName, flags)
	if m.keep && m.flags == 0 && errors.Is(err, fs.ErrExist) && !errors.Is(err, backends.ErrNotEmpty) {
		return m.f.p.deny("rename", m.to, m.class)
	}
	return err
}

func (m *move) exchange() bool { return m.flags&backends.RenameExchange != 0 }

// judge judges the two names themselves. look says that what is below them has
// to be looked at, too.
func (m *move) judge(ctx context.Context) (look bool, err error) {
	p := m.f.p
	if m.from, err = m.f.child(ctx, "rename", m.oldParent, m.oldName); err != nil {
		return false, err
	}
	if m.to, err = m.f.child(ctx, "rename", m.newParent, m.newName); err != nil {
		return false, err
	}
	if m.from.hidden() || m.exchange() && m.to.hidden() {
		return false, absent("rename", m.from.path)
	}
	if err := m.allowed(m.from, m.to); err != nil {
		return false, err
	}
	if m.exchange() {
		if err := m.allowed(m.to, m.from); err != nil {
			return false, err
		}
	}
	if m.from.route != m.to.route {
		return false, nil // nothing moves between routes, as the router says
	}
	if err := m.find(ctx); err != nil {
		return false, err
	}
	m.keep = m.to.access(m.class) < Write
	if m.keep && m.flags == 0 && m.target != nil && m.source != m.target {
		return false, p.deny("rename", m.to, m.class)
	}
	if err := m.keepsRights(m.sourceAt, m.from, m.to); err != nil {
		return false, err
	}
	if m.exchange() {
		if err := m.keepsRights(m.targetAt, m.to, m.from); err != nil {
			return false, err
		}
	}
	dirs := m.sourceAt.Mode.IsDir() || m.exchange() && m.targetAt.Mode.IsDir()
	return dirs && (!p.allWrite(m.from) || !p.allWrite(m.to)), nil
}

// allowed returns an error unless something may go from one name to the other.
func (m *move) allowed(from, to *verdict) error {
	if from.access(m.class) < Write {
		return m.f.p.deny("rename", from, m.class)
	}
	if to.access(m.class) < Append {
		return m.f.p.deny("rename", to, m.class)
	}
	return nil
}

// find looks at what is under the two names.
func (m *move) find(ctx context.Context) (err error) {
	if m.source, m.sourceAt, err = m.f.raw.Lookup(ctx, m.oldParent, m.oldName); err != nil {
		return err
	}
	m.target, m.targetAt, err = m.f.raw.Lookup(ctx, m.newParent, m.newName)
	if errors.Is(err, fs.ErrNotExist) {
		m.target, err = nil, nil
	}
	return err
}

// keepsRights returns an error if a file with several names would get one with
// other rights.
func (m *move) keepsRights(a backends.Attr, from, to *verdict) error {
	if a.Mode.IsDir() || a.Nlink <= 1 || from.sameRights(to, m.f.p.classes()) {
		return nil
	}
	return m.f.p.denyMove("rename", to, m.class)
}

// below judges everything below the directories that are moved.
func (m *move) below(ctx context.Context) error {
	if err := m.tree(ctx, m.source, m.sourceAt, m.from, m.to); err != nil {
		return err
	}
	if m.exchange() {
		return m.tree(ctx, m.target, m.targetAt, m.to, m.from)
	}
	return nil
}

func (m *move) tree(ctx context.Context, dir backends.Node, a backends.Attr, from, to *verdict) error {
	if !a.Mode.IsDir() {
		return nil
	}
	p := m.f.p
	entries, err := m.f.raw.ReadDir(ctx, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		f, t := p.judge(from, from.path+"/"+e.Name), p.judge(to, to.path+"/"+e.Name)
		if f.access(m.class) < Write {
			return p.denyMove("rename", f, m.class)
		}
		if t.access(m.class) < Append {
			return p.denyMove("rename", t, m.class)
		}
		if !e.Mode.IsDir() && f.sameRights(t, p.classes()) || e.Mode.IsDir() && p.allWrite(f) && p.allWrite(t) {
			continue
		}
		n, a, err := m.f.raw.Lookup(ctx, dir, e.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since it was listed
		}
		if err != nil {
			return err
		}
		if err := m.keepsRights(a, f, t); err != nil {
			return err
		}
		if err := m.tree(ctx, n, a, f, t); err != nil {
			return err
		}
	}
	return nil
}
