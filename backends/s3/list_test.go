package s3_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/s3"
	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// recorder keeps the body of the last answer.
type recorder struct {
	awss3.HTTPClient
	body []byte
}

func (r *recorder) Do(req *http.Request) (*http.Response, error) {
	resp, err := r.HTTPClient.Do(req)
	if err == nil {
		r.body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(r.body))
	}
	return resp, err
}

// The listings of a real server are read the short way: with directories, in pages, and
// with names of all kinds.
func TestListingsAreReadWithoutTheSDK(t *testing.T) {
	srv := s3test.Versitygw(t)
	st := srv.Store(t)
	for _, name := range []string{"a", "b & <c> \"d\" 'e'", "ä/ö", "d/e", "d/f", "1+2=3%", "new\nline"} {
		put(t, st, name, name, backends.If{})
	}
	client := srv.Client()
	rec := &recorder{HTTPClient: client.Options().HTTPClient}
	for _, in := range []awss3.ListObjectsV2Input{
		{},
		{Delimiter: aws.String("/")},
		{MaxKeys: aws.Int32(2), StartAfter: aws.String("a")},
		{Prefix: aws.String("nothing")},
	} {
		in.Bucket, in.EncodingType = &srv.Bucket, types.EncodingTypeUrl
		if _, err := client.ListObjectsV2(t.Context(), &in, func(o *awss3.Options) { o.HTTPClient = rec }); err != nil {
			t.Fatal(err)
		}
		if !s3.ReadsListing(rec.body) {
			t.Errorf("left to the SDK: %s", rec.body)
		}
	}
}
