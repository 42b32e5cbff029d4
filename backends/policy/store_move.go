package policy

import (
	"context"
	"iter"

	"github.com/agentfs/agentfs/backends"
)

// Copy implements [backends.Copier].
func (s *store) Copy(ctx context.Context, from string, src backends.If, to string, opts backends.PutOptions) (backends.Entry, error) {
	if _, err := s.using(ctx, "copy", from, Read); err != nil {
		return backends.Entry{}, err
	}
	m, err := s.making(ctx, "copy", to, opts.If)
	if err != nil {
		return backends.Entry{}, err
	}
	opts.If = m.when()
	e, err := backends.Copy(ctx, s.s, from, src, to, opts)
	return e, m.fail(err)
}

// Rename implements [backends.Renamer], with the rules of that of the file
// depth.
func (s *store) Rename(ctx context.Context, from string, src backends.If, to string, cond backends.If) error {
	w, err := s.using(ctx, "rename", from, Write)
	if err != nil {
		return err
	}
	m, err := s.making(ctx, "rename", to, cond)
	if err != nil {
		return err
	}
	if w.v.route == m.v.route && (!s.p.allWrite(w.v) || !s.p.allWrite(m.v)) {
		if err := s.below(ctx, from, w, m.v); err != nil {
			return err
		}
	}
	return m.fail(backends.Rename(ctx, s.s, from, src, to, m.when()))
}

// below judges everything below the directory from, which is to be renamed to
// where t is the verdict on.
func (s *store) below(ctx context.Context, from string, w view, t *verdict) error {
	e, err := s.s.Stat(ctx, from)
	if err != nil || !e.IsDir() {
		return err
	}
	for e, err := range backends.Walk(ctx, s.s, from, "") {
		if err != nil {
			return err
		}
		f := s.p.at(toPath(e.Name))
		g := s.p.at(t.path + f.path[len(w.v.path):])
		if f.access(w.class) < Write {
			return s.p.denyMove("rename", f, w.class)
		}
		if g.access(w.class) < Append {
			return s.p.denyMove("rename", g, w.class)
		}
	}
	return nil
}

// upload is an upload that somebody who may make the file has begun.
type upload struct {
	backends.Upload
	s    *store
	name string
	opts backends.PutOptions
}

// BeginUpload implements [backends.Uploader].
func (s *store) BeginUpload(ctx context.Context, name string, opts backends.PutOptions) (backends.Upload, error) {
	m, err := s.making(ctx, "upload", name, opts.If)
	if err != nil {
		return nil, err
	}
	asked := opts
	opts.If = m.when()
	u, err := backends.BeginUpload(ctx, s.s, name, opts)
	if err != nil {
		return nil, err
	}
	return &upload{u, s, name, asked}, nil
}

// ResumeUpload implements [backends.Uploader]. Who may make the file is asked
// at Complete; where anybody may not replace it, nobody does.
func (s *store) ResumeUpload(name, id string, opts backends.PutOptions) backends.Upload {
	if backends.CheckName("upload", name) != nil {
		return nil
	}
	asked := opts
	v := s.p.at(toPath(name))
	for c := range s.p.classes() {
		if v.access(c) < Write {
			opts.If = backends.If{Absent: true}
		}
	}
	u, ok := backends.ResumeUpload(s.s, name, id, opts)
	if !ok {
		return nil
	}
	return &upload{u, s, name, asked}
}

// PartLimits implements [backends.Uploader].
func (s *store) PartLimits() backends.PartLimits { return backends.PartLimitsOf(s.s) }

// Uploads implements [backends.Uploader]: those of which the caller may know.
func (s *store) Uploads(ctx context.Context) iter.Seq2[backends.UploadInfo, error] {
	return func(yield func(backends.UploadInfo, error) bool) {
		uid := UserOf(ctx)
		for u, err := range backends.Uploads(ctx, s.s) {
			if err == nil && !s.p.Visible(u.Name, uid) {
				continue
			}
			if !yield(u, err) {
				return
			}
		}
	}
}

// Copy implements [backends.Upload].
func (u *upload) Copy(ctx context.Context, n int, from string, src backends.If, r backends.Range) (backends.Part, error) {
	if _, err := u.s.using(ctx, "upload", from, Read); err != nil {
		return backends.Part{}, err
	}
	return u.Upload.Copy(ctx, n, from, src, r)
}

// Complete implements [backends.Upload].
func (u *upload) Complete(ctx context.Context, parts []backends.Part) (backends.Entry, error) {
	m, err := u.s.making(ctx, "upload", u.name, u.opts.If)
	if err != nil {
		return backends.Entry{}, err
	}
	e, err := u.Upload.Complete(ctx, parts)
	return e, m.fail(err)
}
