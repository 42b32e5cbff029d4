package backends

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"time"
)

// Uploader is implemented by stores in which a file can be made of parts, sent
// side by side and in any order, some of them copied inside the store.
type Uploader interface {
	// BeginUpload starts making a file. Nobody sees anything of it before
	// Complete; opts.If counts then. Missing parents come into being with it.
	// Where only a Put keeps opts.If, it is [errors.ErrUnsupported].
	BeginUpload(ctx context.Context, name string, opts PutOptions) (Upload, error)

	// ResumeUpload returns the upload id of name that an earlier process
	// began, so that it can be completed or aborted. opts are those that it was
	// begun with; without opts.Operation the outcome of an earlier Complete
	// can't be settled. It asks nobody.
	ResumeUpload(name, id string, opts PutOptions) Upload

	// Uploads yields the uploads that were begun and neither completed nor
	// aborted, everybody's.
	Uploads(ctx context.Context) iter.Seq2[UploadInfo, error]

	// PartLimits says what parts there may be.
	PartLimits() PartLimits
}

// Upload is a file being made. Put and Copy may be called by many goroutines
// at once; a part that is made again replaces the earlier one. The methods of
// one that was aborted, or that the store has given up, fail with
// [fs.ErrNotExist]: it has to be begun again.
type Upload interface {
	// ID names the upload in the store.
	ID() string
	// Put makes part n, from 1, of body.
	Put(ctx context.Context, n int, body *io.SectionReader) (Part, error)
	// Copy makes part n of section r of the file from, which must hold src,
	// without moving bytes through this machine. r lies within the file and is
	// not empty. Where the store can't, it is [errors.ErrUnsupported], and the
	// part has to be Put.
	Copy(ctx context.Context, n int, from string, src If, r Range) (Part, error)
	// Complete makes the parts, in the order of their numbers, which need not
	// be without gaps, the content of the file, under the condition that the
	// upload was begun with. If the answer is lost, calling it again with the
	// same parts settles the outcome. After a failed condition the upload is
	// still there, until it is aborted.
	Complete(ctx context.Context, parts []Part) (Entry, error)
	// Abort gives the upload up; the store forgets its parts. One that is gone
	// already is no error.
	Abort(ctx context.Context) error
}

// Part is one finished part of an [Upload], as it can be kept on disk for
// another process.
type Part struct {
	N    int    `json:"n"`
	Size int64  `json:"size"`
	Tag  string `json:"tag"`           // the store's name for it
	Sum  string `json:"sum,omitempty"` // a checksum that the store wants to hear again
}

// PartLimits are what an [Uploader] demands of parts, in bytes.
type PartLimits struct {
	// MinSize is the smallest size of every part but the last.
	MinSize int64
	MaxSize int64
	// Good is the size at which parts are worth while.
	Good int64
	// MaxParts is how many there may be.
	MaxParts int
}

// UploadInfo is an upload that has not ended.
type UploadInfo struct {
	Name    string
	ID      string
	Started time.Time
}

// BeginUpload starts making a file of parts, or is [errors.ErrUnsupported].
func BeginUpload(ctx context.Context, s Store, name string, opts PutOptions) (Upload, error) {
	if u, ok := s.(Uploader); ok {
		return u.BeginUpload(ctx, name, opts)
	}
	return nil, &fs.PathError{Op: "upload", Path: name, Err: errors.ErrUnsupported}
}

// ResumeUpload returns an upload that was begun earlier; ok is false where
// the store has none.
func ResumeUpload(s Store, name, id string, opts PutOptions) (u Upload, ok bool) {
	up, ok := s.(Uploader)
	if !ok || up.PartLimits().MaxParts == 0 {
		return nil, false
	}
	return up.ResumeUpload(name, id, opts), true
}

// Uploads yields what was begun and not ended; nothing where there are no
// uploads.
func Uploads(ctx context.Context, s Store) iter.Seq2[UploadInfo, error] {
	return func(yield func(UploadInfo, error) bool) {
		u, ok := s.(Uploader)
		if !ok {
			return
		}
		for i, err := range u.Uploads(ctx) {
			if errors.Is(err, errors.ErrUnsupported) || !yield(i, err) {
				return
			}
		}
	}
}

// PartLimitsOf returns what s demands of parts; all zero where it can't make a
// file of parts.
func PartLimitsOf(s Store) PartLimits {
	if u, ok := s.(Uploader); ok {
		return u.PartLimits()
	}
	return PartLimits{}
}

// RecordPrefix begins the names of the files in which the cache keeps what an
// object store has no place for. A store that reserves names shows and takes
// these in its lean form ([Leaner]), and in no other.
const RecordPrefix = ".agentfs-attrs"
