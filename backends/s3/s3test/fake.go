package s3test

import (
	"net/http/httptest"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// Fake returns a gofakes3 server inside this process, which the test's end
// closes. It is quick and needs nothing, but enforces conditions on PUT only.
func Fake(t testing.TB) Server {
	t.Helper()
	ts := httptest.NewServer(gofakes3.New(s3mem.New(), gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(ts.Close)
	s := Server{Endpoint: ts.URL, Region: "us-east-1", AccessKey: "fake", SecretKey: "fake-secret"}
	s.newBucket(t)
	return s
}
