package s3_test

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/s3"
	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// noEnvironment hides this machine's own AWS configuration.
func noEnvironment(t *testing.T) {
	for _, k := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION",
		"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
	} {
		t.Setenv(k, "")
	}
	dir := t.TempDir()
	t.Setenv("AWS_CONFIG_FILE", dir+"/config")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", dir+"/credentials")
}

func options(kv ...string) *backends.Options {
	m := map[string]backends.Option{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = backends.Option{Value: kv[i+1], Source: "agentfs.yaml:7"}
	}
	return backends.NewOptions("route /x", nil, m)
}

// Each wrong option is an error that names it and where it was written.
func TestWrongOptions(t *testing.T) {
	noEnvironment(t)
	for _, c := range []struct {
		name string
		kv   []string
		says []string
	}{
		{"no bucket", nil, []string{"bucket", "required"}},
		{"credentials", []string{"bucket", "b", "secret_key", "hush"}, []string{"secret_key", "AWS_ACCESS_KEY_ID", "agentfs.yaml:7"}},
		{"endpoint", []string{"bucket", "b", "endpoint", "localhost:9000"}, []string{"endpoint", "localhost:9000", "https://"}},
		{"endpoint with a password", []string{"bucket", "b", "endpoint", "http://u:hush@h"}, []string{"endpoint", "credentials"}},
		{"endpoint with a password", []string{"bucket", "b", "endpoint", "u:hush@h:9000"}, []string{"endpoint", "credentials"}},
		{"sse", []string{"bucket", "b", "sse", "rot13"}, []string{"sse", "rot13", "aws:kms"}},
		{"kms key", []string{"bucket", "b", "sse_kms_key_id", "k"}, []string{"sse_kms_key_id", "sse=aws:kms"}},
		{"part size", []string{"bucket", "b", "part_size", "1MiB"}, []string{"part_size", "5MiB"}},
		{"part size", []string{"bucket", "b", "part_size", "big"}, []string{"part_size", "big"}},
		{"no retries", []string{"bucket", "b", "retry_timeout", "0s"}, []string{"retry_timeout", "zero", "max_attempts=1"}},
		{"prefix", []string{"bucket", "b", "prefix", "a/../b"}, []string{"prefix", "a/../b"}},
		{"bool", []string{"bucket", "b", "path_style", "maybe"}, []string{"path_style", "maybe"}},
		{"unknown", []string{"bucket", "b", "buckte", "x"}, []string{"buckte", "unknown", "prefix"}},
		{"directory bucket", []string{"bucket", "b--use1-az4--x-s3"}, []string{"bucket", "directory bucket"}},
		{"bucket with a path", []string{"bucket", "b/p"}, []string{"bucket", "prefix"}},
		{"anonymous profile", []string{"bucket", "b", "anonymous", "true", "profile", "p"}, []string{"anonymous", "profile"}},
	} {
		_, err := s3.Open(t.Context(), options(c.kv...))
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		for _, w := range c.says {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q doesn't say %q", c.name, err, w)
			}
		}
		if strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %q holds a secret", c.name, err)
		}
	}
}

// The environment's endpoint has the same rules, and no password of it is shown.
func TestWrongEndpointOfEnvironment(t *testing.T) {
	noEnvironment(t)
	for endpoint, want := range map[string]string{"http://u:hush@h": "must not hold credentials", "localhost:9000": "https://host:port"} {
		t.Setenv("AWS_ENDPOINT_URL", endpoint)
		_, err := s3.Open(t.Context(), options("bucket", "b", "anonymous", "true"))
		oneLineWith(t, err, "AWS_ENDPOINT_URL", want)
		if strings.Contains(err.Error(), "hush") {
			t.Errorf("%q holds a secret", err)
		}
	}
}

// Without credentials Open says so at once, and what to do.
func TestNoCredentials(t *testing.T) {
	noEnvironment(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	began := time.Now()
	_, err := s3.Open(t.Context(), options("bucket", "b", "endpoint", "http://127.0.0.1:1"))
	oneLineWith(t, err, "no AWS credentials found", "AWS_PROFILE", "anonymous=true")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	_, err = s3.Open(t.Context(), options("bucket", "b"))
	oneLineWith(t, err, "no AWS credentials found")
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := s3.Open(t.Context(), options("bucket", "b", "endpoint", "http://127.0.0.1:1", "anonymous", "")); err != nil {
		t.Errorf("anonymous: %v", err)
	}
}

func oneLineWith(t *testing.T, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %q", err)
	}
	for _, w := range says {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q doesn't say %q", err, w)
		}
	}
}

// What is wrong with a bucket, its region or the credentials is one line that
// names it, and no missing file.
func TestWrongBucket(t *testing.T) {
	srv := s3test.Versitygw(t)
	each := func(what string, change func(*s3.Config), kind error, says ...string) {
		t.Helper()
		s := srv.Store(t, quick, change)
		_, statErr := s.Stat(t.Context(), "f")
		var listErr error
		for _, err := range s.List(t.Context(), ".", "") {
			listErr = err
		}
		for _, err := range []error{statErr, listErr, s.Check(t.Context())} {
			oneLineWith(t, err, says...)
			if errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s looks like a missing file: %v", what, err)
			}
			if kind != nil {
				wantIs(t, what, err, kind)
			}
			if strings.Contains(err.Error(), srv.SecretKey) {
				t.Errorf("%q holds the secret key", err)
			}
		}
	}
	each("no bucket", func(c *s3.Config) { c.Bucket = "there-is-none" }, nil, `no bucket "there-is-none"`, srv.Endpoint)
	each("wrong key", func(c *s3.Config) {
		c.Credentials = credentials.NewStaticCredentialsProvider(srv.AccessKey, "wrong", "")
	}, fs.ErrPermission, srv.Bucket, "credentials")
	each("unknown key", func(c *s3.Config) {
		c.Credentials = credentials.NewStaticCredentialsProvider("nobody", "wrong", "")
	}, fs.ErrPermission, srv.Bucket, "credentials")
	each("anonymous", func(c *s3.Config) { c.Credentials, c.Anonymous = nil, true }, fs.ErrPermission, srv.Bucket, "denied")
	each("wrong region", func(c *s3.Config) { c.Region = "eu-west-9" }, nil, "region", "us-east-1")
	each("nobody there", func(c *s3.Config) { c.Endpoint = "http://127.0.0.1:1" }, nil, "no answer from http://127.0.0.1:1", "refused")
}

// AWS names the right region in a header.
func TestRedirect(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amz-Bucket-Region", "eu-central-1")
		w.WriteHeader(http.StatusMovedPermanently)
	}))
	defer ts.Close()
	s := s3test.Server{Endpoint: ts.URL, Bucket: "b", Region: "us-east-1", AccessKey: "a", SecretKey: "s"}.Store(t)
	_, err := s.Stat(t.Context(), "f")
	oneLineWith(t, err, `bucket "b"`, "eu-central-1", "region=eu-central-1")
}

// A web server that is no S3 server is recognised.
func TestNotS3(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("<html><p>hello"))
	}))
	defer ts.Close()
	s := s3test.Server{Endpoint: ts.URL, Bucket: "b", Region: "us-east-1", AccessKey: "a", SecretKey: "s"}.Store(t, func(c *s3.Config) { c.MaxAttempts = 2 })
	oneLineWith(t, s.Check(t.Context()), ts.URL)
}

// An outage ends by itself, a refusal does not.
func TestUnavailable(t *testing.T) {
	noEnvironment(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "k")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	for status, want := range map[int]bool{500: true, 503: true, 429: true, 501: false, 507: false, 403: false, 404: false, 0: true} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		if status == 0 {
			srv.Close()
		}
		st, err := s3.Open(t.Context(), options("bucket", "b", "region", "us-east-1", "endpoint", srv.URL, "max_attempts", "1"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = st.Stat(t.Context(), "x")
		var u interface{ Unavailable() bool }
		if !errors.As(err, &u) || u.Unavailable() != want {
			t.Errorf("status %d: %v: unavailable, want %v", status, err, want)
		}
		if status == 507 && !errors.Is(err, backends.ErrNoSpace) {
			t.Errorf("status %d: %v", status, err)
		}
		srv.Close()
	}
}
