package readonly

import (
	"context"
	"iter"

	"github.com/agentfs/agentfs/backends"
)

func (r *store) BeginUpload(_ context.Context, name string, _ backends.PutOptions) (backends.Upload, error) {
	return nil, refuse("upload", name)
}

// ResumeUpload has none: PartLimits says so to those who ask first.
func (r *store) ResumeUpload(string, string, backends.PutOptions) backends.Upload { return nil }

// PartLimits says that no file can be made of parts.
func (r *store) PartLimits() backends.PartLimits { return backends.PartLimits{} }

func (r *store) Uploads(ctx context.Context) iter.Seq2[backends.UploadInfo, error] {
	return backends.Uploads(ctx, r.s)
}
