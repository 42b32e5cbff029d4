package s3

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// LikeAWS makes a Store behave towards its server as towards AWS: with the
// SDK's default checksums, and conditions taken for granted.
func (s *Store) LikeAWS() {
	s.aws = true
	s.api = s3.New(s.api.Options(), func(o *s3.Options) {
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenSupported
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenSupported
	})
	s.short = newShortcut(context.Background(), s.api.Options(), s.cfg.Bucket, s.cfg.Anonymous)
}

// ReadsListing reports whether an answer to ListObjectsV2 is read without the SDK.
func ReadsListing(body []byte) bool {
	_, ok := parseListing(body)
	return ok
}
