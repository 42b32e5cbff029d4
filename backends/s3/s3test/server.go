// Package s3test starts S3 servers for tests: versitygw, a real server in a
// process of its own ([Versitygw]), gofakes3 inside the test ([Fake]), and
// before either a [Proxy] that counts requests and injects what networks and
// servers do at their worst.
package s3test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/agentfs/agentfs/backends/s3"
)

// Server is an S3 server with a bucket of the test's own.
type Server struct {
	Endpoint  string
	Bucket    string
	Region    string
	AccessKey string
	SecretKey string
}

// Config returns what [s3.New] needs for the server's bucket.
func (s Server) Config() s3.Config {
	return s3.Config{
		Bucket: s.Bucket, Endpoint: s.Endpoint, Region: s.Region,
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
	}
}

// Store returns a Store over the server's bucket, which the test's end closes.
func (s Server) Store(t testing.TB, opts ...func(*s3.Config)) *s3.Store {
	t.Helper()
	c := s.Config()
	for _, o := range opts {
		o(&c)
	}
	st, err := s3.New(c)
	if err != nil {
		t.Fatalf("opening the store: %v", err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// Through returns the same server with p's address.
func (s Server) Through(p *Proxy) Server {
	s.Endpoint = p.URL
	return s
}

// Env sets the environment's credentials to the server's, for code that takes
// them from the default chain.
func (s Server) Env(t testing.TB) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", s.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s.SecretKey)
}

// Client returns an SDK client that knows nothing of agentfs, for independent
// checks.
func (s Server) Client() *awss3.Client {
	return awss3.New(awss3.Options{
		Region: s.Region, BaseEndpoint: &s.Endpoint, UsePathStyle: true,
		Credentials:                credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})
}

// Put puts an object behind the Store's back.
func (s Server) Put(t testing.TB, key, content string, opts ...func(*awss3.PutObjectInput)) {
	t.Helper()
	in := &awss3.PutObjectInput{Bucket: &s.Bucket, Key: &key, Body: strings.NewReader(content)}
	for _, o := range opts {
		o(in)
	}
	if _, err := s.Client().PutObject(context.Background(), in); err != nil {
		t.Fatalf("putting %q: %v", key, err)
	}
}

// Get returns an object's content, and whether there is one.
func (s Server) Get(t testing.TB, key string) (string, bool) {
	t.Helper()
	out, err := s.Client().GetObject(context.Background(), &awss3.GetObjectInput{Bucket: &s.Bucket, Key: &key})
	var none *types.NoSuchKey
	if errors.As(err, &none) {
		return "", false
	}
	if err != nil {
		t.Fatalf("getting %q: %v", key, err)
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatalf("reading %q: %v", key, err)
	}
	return string(b), true
}

// Head returns what an object carries beside its bytes.
func (s Server) Head(t testing.TB, key string) *awss3.HeadObjectOutput {
	t.Helper()
	out, err := s.Client().HeadObject(context.Background(), &awss3.HeadObjectInput{Bucket: &s.Bucket, Key: &key})
	if err != nil {
		t.Fatalf("looking at %q: %v", key, err)
	}
	return out
}

// Keys returns all keys of the bucket, sorted.
func (s Server) Keys(t testing.TB) []string {
	t.Helper()
	var keys []string
	pages := awss3.NewListObjectsV2Paginator(s.Client(), &awss3.ListObjectsV2Input{Bucket: &s.Bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			t.Fatalf("listing: %v", err)
		}
		for _, o := range page.Contents {
			keys = append(keys, *o.Key)
		}
	}
	return keys
}

// newBucket makes a bucket with a name that no other test has.
func (s *Server) newBucket(t testing.TB) {
	t.Helper()
	s.Bucket = "test-" + strings.ToLower(rand.Text()[:12])
	if _, err := s.Client().CreateBucket(context.Background(), &awss3.CreateBucketInput{Bucket: &s.Bucket}); err != nil {
		t.Fatalf("making a bucket: %v", err)
	}
}

// healthy reports whether url answers 200.
func healthy(url string) bool {
	res, err := http.Get(url)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}
