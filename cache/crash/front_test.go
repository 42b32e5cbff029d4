package crash_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// front stands before an S3 server, which does not say when it is through with
// what somebody had asked who was killed: on a busy machine a put of his may take
// effect later than what the next process has put since, if the server compares
// the condition and writes in two steps. What has come here whole is carried out,
// the rest never, and the end of it can be waited for.
type front struct {
	server *httptest.Server
	conns  atomic.Int64
}

// noted remembers the status of an answer.
type noted struct {
	http.ResponseWriter
	status int
}

func (n *noted) WriteHeader(status int) {
	n.status = status
	n.ResponseWriter.WriteHeader(status)
}

func newFront(t *testing.T, s s3test.Server, all *transcript) (before s3test.Server, idle func()) {
	t.Helper()
	target, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost, transport.DisableCompression = 256, true
	pass := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // the signature covers it
		},
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	f := &front{}
	f.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // killed while he asked
		}
		r = r.WithContext(context.WithoutCancel(r.Context()))
		r.Body = io.NopCloser(bytes.NewReader(body))
		what := fmt.Sprintf("store: %s %s if-match %q if-none-match %q %d bytes op %q", r.Method, r.URL.RequestURI(), r.Header.Get("If-Match"),
			r.Header.Get("If-None-Match"), len(body), r.Header.Get("X-Amz-Meta-Agentfs-Op"))
		all.add(what)
		answer := &noted{ResponseWriter: w}
		pass.ServeHTTP(answer, r) // which can't tell that nobody listens
		all.add(fmt.Sprintf("%s: %d etag %q op %q", what, answer.status, w.Header().Get("ETag"), w.Header().Get("X-Amz-Meta-Agentfs-Op")))
	}))
	f.server.Config.ErrorLog = pass.ErrorLog
	f.server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			f.conns.Add(1)
		case http.StateClosed, http.StateHijacked:
			f.conns.Add(-1)
		}
	}
	f.server.Start()
	t.Cleanup(func() {
		f.server.Close()
		transport.CloseIdleConnections()
	})
	s.Endpoint = f.server.URL
	return s, func() {
		f.server.CloseClientConnections()
		for end := time.Now().Add(30 * time.Second); f.conns.Load() > 0 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
}
