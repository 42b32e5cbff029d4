package faulty

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/agentfs/agentfs/backends"
)

// upload is an upload with faults. Its calls have the file's name.
type upload struct {
	backends.Upload
	w    *Faulty
	name string
}

// BeginUpload loses an upload whose answer is lost: it is in Uploads and
// nobody knows its id.
func (w *Faulty) BeginUpload(ctx context.Context, name string, opts backends.PutOptions) (backends.Upload, error) {
	if backends.PartLimitsOf(w.s).MaxParts == 0 {
		return nil, errors.ErrUnsupported
	}
	f, err := w.begin(ctx, "BeginUpload", name)
	if err != nil {
		return nil, err
	}
	u, err := backends.BeginUpload(ctx, w.s, name, opts)
	if err = f.end(err); err != nil {
		return nil, err
	}
	return &upload{u, w, name}, nil
}

// ResumeUpload is never at fault.
func (w *Faulty) ResumeUpload(name, id string, opts backends.PutOptions) backends.Upload {
	u, ok := backends.ResumeUpload(w.s, name, id, opts)
	if !ok {
		return nil // nobody asks who looks at PartLimits
	}
	return &upload{u, w, name}
}

func (w *Faulty) Uploads(ctx context.Context) iter.Seq2[backends.UploadInfo, error] {
	return func(yield func(backends.UploadInfo, error) bool) {
		if backends.PartLimitsOf(w.s).MaxParts == 0 {
			return
		}
		f, err := w.begin(ctx, "Uploads", "")
		if err != nil {
			yield(backends.UploadInfo{}, err)
			return
		}
		var n int64
		for i, err := range backends.Uploads(ctx, w.s) {
			if f.cut >= 0 && n >= f.cut && err == nil {
				yield(backends.UploadInfo{}, f.wrap(io.ErrUnexpectedEOF))
				return
			}
			n++
			if !yield(i, err) {
				return
			}
		}
		if f.lost != nil {
			yield(backends.UploadInfo{}, f.wrap(f.lost))
		}
	}
}

// PartLimits is that of the wrapped store.
func (w *Faulty) PartLimits() backends.PartLimits { return backends.PartLimitsOf(w.s) }

func (u *upload) Put(ctx context.Context, n int, body *io.SectionReader) (backends.Part, error) {
	f, err := u.w.begin(ctx, "UploadPart", u.name)
	if err != nil {
		return backends.Part{}, err
	}
	p, err := u.Upload.Put(ctx, n, f.body(body))
	if err = f.end(err); err != nil {
		return backends.Part{}, err
	}
	return p, nil
}

func (u *upload) Copy(ctx context.Context, n int, from string, src backends.If, r backends.Range) (backends.Part, error) {
	f, err := u.w.begin(ctx, "UploadCopy", u.name)
	if err != nil {
		return backends.Part{}, err
	}
	p, err := u.Upload.Copy(ctx, n, from, src, r)
	if err = f.end(err); err != nil {
		return backends.Part{}, err
	}
	return p, nil
}

func (u *upload) Complete(ctx context.Context, parts []backends.Part) (backends.Entry, error) {
	f, err := u.w.begin(ctx, "Complete", u.name)
	if err != nil {
		return backends.Entry{}, err
	}
	e, err := u.Upload.Complete(ctx, parts)
	if err = f.end(err); err != nil {
		return backends.Entry{}, err
	}
	return e, nil
}

func (u *upload) Abort(ctx context.Context) error {
	f, err := u.w.begin(ctx, "Abort", u.name)
	if err != nil {
		return err
	}
	return f.end(u.Upload.Abort(ctx))
}
