package s3

import (
	"context"
	"errors"
	"iter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/agentfs/agentfs/backends"
)

// Uploads implements [backends.Uploader]: it lists the uploads below the
// prefix, page after page. Those of keys that are no file's name are left out.
func (s *Store) Uploads(ctx context.Context) iter.Seq2[backends.UploadInfo, error] {
	return func(yield func(backends.UploadInfo, error) bool) {
		in := &s3.ListMultipartUploadsInput{
			Bucket: s.bucket(), Prefix: &s.keys.prefix, EncodingType: types.EncodingTypeUrl,
			MaxUploads: aws.Int32(int32(s.cfg.PageSize)), RequestPayer: s.payer(),
		}
		for {
			out, err := s.api.ListMultipartUploads(ctx, in, s.call(ctx).use)
			if in.UploadIdMarker != nil && code(err) == "InvalidArgument" {
				// versitygw refuses the id that it has itself given: it looks for
				// it among the uploads of the next key. Those of later keys are
				// better than none.
				in.UploadIdMarker = nil
				continue
			}
			if err == nil {
				for i := range out.Uploads {
					info, ok, derr := s.uploadInfo(&out.Uploads[i], out.EncodingType)
					if derr != nil {
						err = derr
						break
					}
					if ok && !yield(info, nil) {
						return
					}
				}
			}
			if err == nil && !aws.ToBool(out.IsTruncated) {
				return
			}
			if err == nil {
				err = nextUploads(in, out)
			}
			if err != nil {
				yield(backends.UploadInfo{}, s.fail(ctx, "uploads", ".", err))
				return
			}
		}
	}
}

// uploadInfo returns what u is, and whether it has a name.
func (s *Store) uploadInfo(u *types.MultipartUpload, enc types.EncodingType) (backends.UploadInfo, bool, error) {
	key, err := decodeKey(u.Key, enc)
	if err != nil {
		return backends.UploadInfo{}, false, err
	}
	name, dir, ok, _ := s.keys.name(key)
	return backends.UploadInfo{Name: name, ID: aws.ToString(u.UploadId), Started: aws.ToTime(u.Initiated)}, ok && !dir, nil
}

// nextUploads makes in ask for the page after out.
func nextUploads(in *s3.ListMultipartUploadsInput, out *s3.ListMultipartUploadsOutput) error {
	key, err := decodeKey(out.NextKeyMarker, out.EncodingType)
	if err != nil {
		return err
	}
	id := aws.ToString(out.NextUploadIdMarker)
	if key == "" || key == aws.ToString(in.KeyMarker) && id == aws.ToString(in.UploadIdMarker) {
		return errors.New("a part of the uploads was listed without saying how to go on")
	}
	in.KeyMarker, in.UploadIdMarker = &key, nil
	if id != "" {
		in.UploadIdMarker = &id
	}
	return nil
}
