package policy

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"

	"github.com/agentfs/agentfs/backends"
)

// Store returns s with the rules of p. It has no file depth: that of s is
// wrapped with [FileSystem], which needs to know names.
func Store(s backends.Store, p *Policy) backends.Store { return &store{s: s, p: p} }

type store struct {
	s backends.Store
	p *Policy
}

var (
	_ backends.Walker          = (*store)(nil)
	_ backends.Copier          = (*store)(nil)
	_ backends.Renamer         = (*store)(nil)
	_ backends.ManyRemover     = (*store)(nil)
	_ backends.AttrSetter      = (*store)(nil)
	_ backends.StoreSymlinker  = (*store)(nil)
	_ backends.Uploader        = (*store)(nil)
	_ backends.UsageReporter   = (*store)(nil)
	_ backends.FeatureReporter = (*store)(nil)
	_ backends.Identifier      = (*store)(nil)
	_ backends.Closer          = (*store)(nil)
	_ backends.NameChecker     = (*store)(nil)
	_ backends.Leaner          = (*store)(nil)
)

// view is what the rules make of a name for whoever asks.
type view struct {
	p     *Policy
	op    string
	v     *verdict
	class int
}

// view returns what the rules make of name. A name that is not valid has no
// path, and could be another one's.
func (s *store) view(ctx context.Context, op, name string) (view, error) {
	if err := backends.CheckName(op, name); err != nil {
		return view{}, err
	}
	return view{s.p, op, s.p.at(toPath(name)), s.p.classOf(UserOf(ctx))}, nil
}

func (w view) access() Access { return w.v.access(w.class) }

func (w view) deny() error { return w.p.deny(w.op, w.v, w.class) }

// need returns an error unless what is under the name may be used with this
// access.
func (w view) need(access Access) error {
	switch {
	case w.v.hidden():
		return absent(w.op, w.v.path)
	case w.access() < access:
		return w.deny()
	}
	return nil
}

// using is view for what needs an access to what is there.
func (s *store) using(ctx context.Context, op, name string, access Access) (view, error) {
	w, err := s.view(ctx, op, name)
	if err == nil {
		err = w.need(access)
	}
	return w, err
}

// making is something that may come into being under a name.
type making struct {
	view
	// keep is whether nothing that is there may be replaced.
	keep bool
	cond backends.If // as the caller has it
}

// making returns an error unless something may come into being under name, and
// with it the directories above that aren't there.
func (s *store) making(ctx context.Context, op, name string, cond backends.If) (making, error) {
	w, err := s.view(ctx, op, name)
	if err != nil {
		return making{}, err
	}
	m := making{w, w.access() < Write, cond}
	if w.access() < Append || m.keep && cond.Match != "" {
		return m, w.deny()
	}
	for dir := name; dir != "."; {
		dir = path.Dir(dir)
		up := view{s.p, op, s.p.dir(toPath(dir)), w.class}
		if up.access() >= Append {
			continue
		}
		if _, err := s.s.Stat(ctx, dir); errors.Is(err, fs.ErrNotExist) {
			return m, up.deny()
		} else if err != nil {
			return m, err
		}
		break // and so are those above
	}
	return m, nil
}

// when returns the condition of the call.
func (m making) when() backends.If {
	if m.keep {
		return backends.If{Absent: true}
	}
	return m.cond
}

// fail makes the error of the call that of the rules, if it is about a
// condition that the caller has not set.
func (m making) fail(err error) error {
	if m.keep && !m.cond.Absent && errors.Is(err, fs.ErrExist) {
		return m.deny()
	}
	return err
}

// Stat implements [backends.Store].
func (s *store) Stat(ctx context.Context, name string) (backends.Entry, error) {
	w, err := s.view(ctx, "stat", name)
	switch {
	case err != nil:
		return backends.Entry{}, err
	case w.v.hidden():
		return backends.Entry{}, absent("stat", w.v.path)
	case s.p.outOfSight(w.v, w.class):
		return backends.Entry{}, w.deny()
	}
	return s.s.Stat(ctx, name)
}

// outOfSight reports whether v, or a directory on the way to it, is one that
// Lookup of the file depth refuses.
func (p *Policy) outOfSight(v *verdict, class int) bool {
	for ; v.path != ""; v = p.dir(parentOf(v.path)) {
		if v.access(class) == None && p.closed(v, class) {
			return true
		}
	}
	return false
}

// Open implements [backends.Store].
func (s *store) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	if _, err := s.using(ctx, "open", name, Read); err != nil {
		return nil, backends.Entry{}, err
	}
	return s.s.Open(ctx, name, r, cond)
}

// Put implements [backends.Store].
func (s *store) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	m, err := s.making(ctx, "put", name, opts.If)
	if err != nil {
		return backends.Entry{}, err
	}
	opts.If = m.when()
	e, err := s.s.Put(ctx, name, body, opts)
	return e, m.fail(err)
}

// Mkdir implements [backends.Store].
func (s *store) Mkdir(ctx context.Context, name string, attr backends.AttrChange) error {
	if _, err := s.making(ctx, "mkdir", name, backends.If{}); err != nil {
		return err
	}
	return s.s.Mkdir(ctx, name, attr)
}

// Remove implements [backends.Store].
func (s *store) Remove(ctx context.Context, name string, cond backends.If) error {
	if _, err := s.using(ctx, "remove", name, Write); err != nil {
		return err
	}
	return s.s.Remove(ctx, name, cond)
}

// RemoveMany implements [backends.ManyRemover].
func (s *store) RemoveMany(ctx context.Context, rs []backends.Removal) []error {
	errs := make([]error, len(rs))
	allowed := make([]backends.Removal, 0, len(rs))
	at := make([]int, 0, len(rs)) // of each that is allowed among rs
	for i, r := range rs {
		if _, errs[i] = s.using(ctx, "remove", r.Name, Write); errs[i] == nil {
			allowed, at = append(allowed, r), append(at, i)
		}
	}
	for i, err := range backends.RemoveMany(ctx, s.s, allowed) {
		errs[at[i]] = err
	}
	return errs
}

// SetAttr implements [backends.AttrSetter].
func (s *store) SetAttr(ctx context.Context, name string, c backends.AttrChange) error {
	access := Write
	if touches(c) {
		access = Append
	}
	if _, err := s.using(ctx, "setattr", name, access); err != nil {
		return err
	}
	return backends.SetAttr(ctx, s.s, name, c)
}

// Symlink implements [backends.StoreSymlinker].
func (s *store) Symlink(ctx context.Context, target, name string) error {
	if _, err := s.making(ctx, "symlink", name, backends.If{}); err != nil {
		return err
	}
	return backends.Symlink(ctx, s.s, target, name)
}

// Readlink implements [backends.StoreSymlinker].
func (s *store) Readlink(ctx context.Context, name string) (string, error) {
	if _, err := s.using(ctx, "readlink", name, Read); err != nil {
		return "", err
	}
	return backends.Readlink(ctx, s.s, name)
}

// Usage implements [backends.UsageReporter].
func (s *store) Usage(ctx context.Context) (backends.Usage, error) {
	return backends.UsageOf(ctx, s.s)
}

// Features implements [backends.FeatureReporter].
func (s *store) Features(ctx context.Context) ([]backends.Feature, error) {
	return backends.FeaturesOf(ctx, s.s)
}

// Identity implements [backends.Identifier].
func (s *store) Identity() string { return backends.IdentityOf(s.s, "") }

// Close implements [backends.Closer].
func (s *store) Close() error { return backends.CloseStore(s.s) }

// CheckName implements [backends.NameChecker]. Who may use the name depends on
// who asks, so it is not said here.
func (s *store) CheckName(name string) error { return backends.ValidName(s.s, name) }

// Lean implements [backends.Leaner].
func (s *store) Lean() backends.Store { return &store{s: backends.LeanStore(s.s), p: s.p} }
