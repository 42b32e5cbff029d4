package audit

import (
	"context"
	"iter"

	"github.com/agentfs/agentfs/backends"
)

// BeginUpload is told when the upload is complete; before that it changes
// nothing.
func (w *store) BeginUpload(ctx context.Context, name string, opts backends.PutOptions) (backends.Upload, error) {
	u, err := backends.BeginUpload(ctx, w.s, name, opts)
	if err != nil {
		return nil, err
	}
	return &upload{Upload: u, w: w, name: name, cond: opts.If}, nil
}

func (w *store) ResumeUpload(name, id string, opts backends.PutOptions) backends.Upload {
	u, ok := backends.ResumeUpload(w.s, name, id, opts)
	if !ok {
		return nil
	}
	return &upload{Upload: u, w: w, name: name, cond: opts.If}
}

func (w *store) Uploads(ctx context.Context) iter.Seq2[backends.UploadInfo, error] {
	return backends.Uploads(ctx, w.s)
}

func (w *store) PartLimits() backends.PartLimits { return backends.PartLimitsOf(w.s) }

// upload is a file that is made of parts.
type upload struct {
	backends.Upload
	w    *store
	name string
	cond backends.If
}

func (u *upload) Complete(ctx context.Context, parts []backends.Part) (e backends.Entry, err error) {
	before := u.w.before(ctx, u.name, u.cond)
	err = u.w.call(ctx, Put, u.name, func(op *Op) { op.Before = before }, func(op *Op) (err error) {
		if e, err = u.Upload.Complete(ctx, parts); err == nil {
			op.After, op.Written = e.Version, e.Size
		}
		return err
	})
	return e, err
}
