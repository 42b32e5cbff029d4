package cli

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// uploading is a store with unfinished uploads.
type uploading struct {
	backends.Store
	all []backends.UploadInfo
	err error
}

func (u *uploading) BeginUpload(context.Context, string, backends.PutOptions) (backends.Upload, error) {
	panic("not called")
}
func (u *uploading) ResumeUpload(string, string, backends.PutOptions) backends.Upload {
	panic("not called")
}
func (u *uploading) PartLimits() backends.PartLimits { return backends.PartLimits{} }

func (u *uploading) Uploads(context.Context) iter.Seq2[backends.UploadInfo, error] {
	return func(yield func(backends.UploadInfo, error) bool) {
		for _, i := range u.all {
			if !yield(i, nil) {
				return
			}
		}
		if u.err != nil {
			yield(backends.UploadInfo{}, u.err)
		}
	}
}

// Check tells uploads that are forgotten from those that may be under way.
func TestUploadFindings(t *testing.T) {
	now := time.Now()
	young := backends.UploadInfo{Name: "young", Started: now.Add(-time.Hour)}
	old := backends.UploadInfo{Name: "a/old", Started: now.Add(-72 * time.Hour)}
	many := make([]backends.UploadInfo, checkUploads+1)
	for i := range many {
		many[i] = young
	}
	for _, c := range []struct {
		store uploading
		want  string
	}{
		{uploading{}, ""},
		{uploading{all: []backends.UploadInfo{young}}, "OK /1000: 1 unfinished upload, the oldest of young begun 1 hour ago"},
		{uploading{all: []backends.UploadInfo{young, old}}, "WARN /1000: 2 unfinished uploads, the oldest of a/old begun 3 days ago no mount ends uploads that it did not begin"},
		{uploading{all: many}, "OK /1000: 1000 or more unfinished uploads, the oldest"},
		{uploading{err: fs.ErrPermission}, "WARN /1000: unfinished uploads can't be listed: permission denied nothing needs it"},
	} {
		got := ""
		for _, f := range uploadFindings(t.Context(), openRoute{routeConfig: routeConfig{path: "/1000"}, store: &c.store}) {
			got += fmt.Sprint(f.level, " ", f.text, " ", f.remedy)
		}
		if contains(t, got, c.want); c.want == "" && got != "" {
			t.Errorf("of nothing: %s", got)
		}
	}
}
