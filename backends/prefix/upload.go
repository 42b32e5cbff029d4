package prefix

import (
	"context"
	"io"
	"iter"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// upload is an upload of the wrapped store, with this store's names.
type upload struct {
	p *store
	u backends.Upload
}

func (p *store) BeginUpload(ctx context.Context, name string, opts backends.PutOptions) (backends.Upload, error) {
	outer, err := p.outer("upload", name)
	if err == nil {
		err = isRoot("upload", name, backends.ErrIsDir)
	}
	if err != nil {
		return nil, err
	}
	u, err := backends.BeginUpload(ctx, p.s, outer, opts)
	if err != nil {
		return nil, p.fail(err)
	}
	return &upload{p, u}, nil
}

// ResumeUpload returns nil where the wrapped store has no uploads, as its
// PartLimits say.
func (p *store) ResumeUpload(name, id string, opts backends.PutOptions) backends.Upload {
	outer, err := p.outer("upload", name)
	if err != nil {
		return nil
	}
	u, ok := backends.ResumeUpload(p.s, outer, id, opts)
	if !ok {
		return nil
	}
	return &upload{p, u}
}

func (p *store) PartLimits() backends.PartLimits { return backends.PartLimitsOf(p.s) }

// Uploads leaves out what is not below the directory.
func (p *store) Uploads(ctx context.Context) iter.Seq2[backends.UploadInfo, error] {
	return func(yield func(backends.UploadInfo, error) bool) {
		for info, err := range backends.Uploads(ctx, p.s) {
			if err == nil {
				if p.dir != "." && !strings.HasPrefix(info.Name, p.dir+"/") {
					continue
				}
				info.Name = p.inner(info.Name)
			}
			if !yield(info, p.fail(err)) {
				return
			}
		}
	}
}

func (u *upload) ID() string { return u.u.ID() }

func (u *upload) Put(ctx context.Context, n int, body *io.SectionReader) (backends.Part, error) {
	part, err := u.u.Put(ctx, n, body)
	return part, u.p.fail(err)
}

func (u *upload) Copy(ctx context.Context, n int, from string, src backends.If, r backends.Range) (backends.Part, error) {
	outer, err := u.p.outer("upload", from)
	if err != nil {
		return backends.Part{}, err
	}
	part, err := u.u.Copy(ctx, n, outer, src, r)
	return part, u.p.fail(err)
}

func (u *upload) Complete(ctx context.Context, parts []backends.Part) (backends.Entry, error) {
	e, err := u.u.Complete(ctx, parts)
	return u.p.entry(e), u.p.fail(err)
}

func (u *upload) Abort(ctx context.Context) error { return u.p.fail(u.u.Abort(ctx)) }
