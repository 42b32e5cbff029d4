package main

import (
	"context"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// delays say how slow a store is: when the first byte of an answer comes, and
// how fast the bytes follow.
type delays struct {
	get, put, list time.Duration // medians of a lognormal distribution
	sigma          float64
	bytesPerSecond float64 // of one answer; 0 is as fast as it goes
}

// likeS3 are of the order of S3's published figures.
var likeS3 = delays{
	get: 25 * time.Millisecond, put: 40 * time.Millisecond, list: 35 * time.Millisecond,
	sigma: 0.5, bytesPerSecond: 90e6,
}

// proxy stands in front of an S3 server, makes it as slow as delays say and
// counts the requests by operation.
type proxy struct {
	url    string
	server *http.Server

	delays delays
	next   http.RoundTripper

	mu     sync.Mutex
	random *rand.Rand
	counts counts
}

// startProxy serves a proxy in front of the server at target.
func startProxy(target string, d delays) (*proxy, error) {
	to, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{
		url: "http://" + l.Addr().String(), delays: d, counts: counts{},
		next: &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true, ReadBufferSize: 128 << 10, WriteBufferSize: 128 << 10},
		// The same numbers in every run.
		random: rand.New(rand.NewPCG(1, 2)),
	}
	p.server = &http.Server{
		Handler: &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(to)
				r.Out.Host = r.In.Host // it is part of what the client signed
			},
			Transport:     p,
			FlushInterval: -1,
			BufferPool:    &bufferPool{},
			ErrorLog:      log.New(io.Discard, "", 0), // a client that hangs up is no news
		},
		ReadHeaderTimeout: time.Minute,
	}
	go func() { _ = p.server.Serve(l) }() // returns when close ends it
	return p, nil
}

func (p *proxy) close() error { return p.server.Close() }

// takeCounts returns the requests since it was last called.
func (p *proxy) takeCounts() counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.counts
	p.counts = counts{}
	return c
}

// RoundTrip passes a request on and holds the answer back until it is due.
func (p *proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	op := operation(r)
	p.mu.Lock()
	p.counts[op]++
	due := time.Now().Add(p.delay(r.Method, op))
	p.mu.Unlock()

	resp, err := p.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if err := sleepUntil(r.Context(), due); err != nil {
		resp.Body.Close()
		return nil, err
	}
	if p.delays.bytesPerSecond > 0 {
		resp.Body = &slowBody{ReadCloser: resp.Body, ctx: r.Context(), began: time.Now(), perSecond: p.delays.bytesPerSecond}
	}
	return resp, nil
}

// delay draws the time to the first byte. p.mu is held.
func (p *proxy) delay(method, op string) time.Duration {
	median := p.delays.put
	switch {
	case op == "List":
		median = p.delays.list
	case method == http.MethodGet || method == http.MethodHead:
		median = p.delays.get
	}
	return time.Duration(float64(median) * math.Exp(p.delays.sigma*p.random.NormFloat64()))
}

func sleepUntil(ctx context.Context, t time.Time) error {
	wait := time.Until(t)
	if wait <= 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
}

// slowBody is a body that comes no faster than perSecond bytes a second.
type slowBody struct {
	io.ReadCloser
	ctx       context.Context
	began     time.Time
	perSecond float64
	n         int64
}

func (b *slowBody) Read(buf []byte) (int, error) {
	n, err := b.ReadCloser.Read(buf)
	b.n += int64(n)
	due := b.began.Add(time.Duration(float64(b.n) / b.perSecond * float64(time.Second)))
	if serr := sleepUntil(b.ctx, due); serr != nil {
		return n, serr
	}
	return n, err
}

type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return *buf
	}
	return make([]byte, 128<<10)
}

func (b *bufferPool) Put(buf []byte) { b.pool.Put(&buf) }

// operation names the S3 operation that a path-style request asks for.
func operation(r *http.Request) string {
	q := r.URL.Query()
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	copied := r.Header.Get("X-Amz-Copy-Source") != ""
	switch r.Method {
	case http.MethodGet:
		switch {
		case key == "" && (q.Has("list-type") || len(q) == 0 || q.Has("prefix") || q.Has("delimiter")):
			return "List"
		case key == "":
			return "bucket " + firstKey(q)
		}
		return "Get"
	case http.MethodHead:
		if key == "" {
			return "HeadBucket"
		}
		return "Head"
	case http.MethodPut:
		switch {
		case key == "":
			return "bucket " + firstKey(q)
		case q.Has("partNumber") && copied:
			return "UploadPartCopy"
		case q.Has("partNumber"):
			return "UploadPart"
		case copied:
			return "Copy"
		}
		return "Put"
	case http.MethodPost:
		switch {
		case q.Has("delete"):
			return "DeleteObjects"
		case q.Has("uploads"):
			return "CreateMultipartUpload"
		case q.Has("uploadId"):
			return "CompleteMultipartUpload"
		}
	case http.MethodDelete:
		if q.Has("uploadId") {
			return "AbortMultipartUpload"
		}
		return "Delete"
	}
	return r.Method
}

// firstKey returns a name for a request that is known by its query alone.
func firstKey(q url.Values) string {
	first := ""
	for k := range q {
		if first == "" || k < first {
			first = k
		}
	}
	return first
}
