package s3test

import (
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is what happens to a request.
type Fault struct {
	// Status, if not 0, is answered in the server's place, with an S3 error of
	// that kind (500 InternalError, 503 SlowDown).
	Status int
	// Reset closes the connection before the server sees anything.
	Reset bool
	// Lost lets the server do the request, and closes the connection in place
	// of its answer.
	Lost bool
	// Cut, if > 0, closes the connection after that many bytes of the
	// answer's body.
	Cut int64
	// Stall, if > 0, stands still after that many bytes of the answer's body,
	// until the client hangs up.
	Stall int64
	// Delay is waited before anything else.
	Delay time.Duration
}

// Request is what a [Proxy] knows of a request.
type Request struct {
	// Op is the S3 operation: "GetObject", "ListObjectsV2", ...
	Op string
	// Key is the object's; "" for a request about the bucket.
	Key    string
	Query  url.Values
	Header http.Header
	// N counts the requests of this Op from 1.
	N int
}

// Proxy stands before a server, counts requests and injects faults.
type Proxy struct {
	URL string

	mu     sync.Mutex
	counts map[string]int
	inject func(Request) Fault
	server *httptest.Server
}

// NewProxy returns a proxy before s, which the test's end closes.
func NewProxy(t testing.TB, s Server) *Proxy {
	t.Helper()
	target, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{counts: map[string]int{}}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 256
	transport.DisableCompression = true
	rp := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // the signature covers it
		},
		FlushInterval: -1,
		BufferPool:    &buffers{},
		Transport:     transport,
		// A cut or reset answer ends the handler; there is nobody to tell.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     discardLog(),
	}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(rp, w, r) }))
	p.server.Config.ErrorLog = discardLog()
	p.server.Start()
	p.URL = p.server.URL
	t.Cleanup(func() {
		p.server.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// Inject makes f decide what happens to each request from now on; nil lets all
// through. f is called by many goroutines at once.
func (p *Proxy) Inject(f func(Request) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inject = f
}

// Counts returns how many requests of each operation came since the start or
// the last Reset.
func (p *Proxy) Counts() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.counts)
}

// Total returns the sum of Counts.
func (p *Proxy) Total() int {
	n := 0
	for _, c := range p.Counts() {
		n += c
	}
	return n
}

// Reset begins to count anew.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.counts)
}

// CloseConnections breaks every connection that is open.
func (p *Proxy) CloseConnections() { p.server.CloseClientConnections() }

func (p *Proxy) serve(rp http.Handler, w http.ResponseWriter, r *http.Request) {
	req := Request{Op: Operation(r), Key: objectKey(r), Query: r.URL.Query(), Header: r.Header}
	p.mu.Lock()
	p.counts[req.Op]++
	req.N = p.counts[req.Op]
	inject := p.inject
	p.mu.Unlock()
	var f Fault
	if inject != nil {
		f = inject(req)
	}
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case f.Reset:
		reset(w)
	case f.Status != 0:
		refuse(w, r, f.Status)
	case f.Lost:
		rp.ServeHTTP(&swallow{header: http.Header{}}, r)
		reset(w)
	case f.Cut > 0:
		rp.ServeHTTP(&cut{ResponseWriter: w, left: f.Cut}, r)
	case f.Stall > 0:
		rp.ServeHTTP(&stall{ResponseWriter: w, left: f.Stall, done: r.Context().Done()}, r)
	default:
		rp.ServeHTTP(w, r)
	}
}

// reset closes the connection with a TCP reset.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

func refuse(w http.ResponseWriter, r *http.Request, status int) {
	code := map[int]string{500: "InternalError", 503: "SlowDown", 403: "AccessDenied", 404: "NoSuchKey", 409: "ConditionalRequestConflict", 412: "PreconditionFailed"}[status]
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		io.WriteString(w, "<Error><Code>"+code+"</Code><Message>injected</Message></Error>")
	}
}

// swallow takes an answer that nobody is to see.
type swallow struct{ header http.Header }

func (s *swallow) Header() http.Header         { return s.header }
func (s *swallow) Write(p []byte) (int, error) { return len(p), nil }
func (s *swallow) WriteHeader(int)             {}

// cut lets so many bytes of a body through and breaks the connection.
type cut struct {
	http.ResponseWriter
	left int64
}

func (c *cut) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *cut) Write(p []byte) (int, error) {
	if int64(len(p)) < c.left {
		n, err := c.ResponseWriter.Write(p)
		c.left -= int64(n)
		return n, err
	}
	c.ResponseWriter.Write(p[:c.left])
	http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// stall lets so many bytes of a body through and waits.
type stall struct {
	http.ResponseWriter
	left int64
	done <-chan struct{}
}

func (s *stall) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *stall) Write(p []byte) (int, error) {
	if int64(len(p)) < s.left {
		n, err := s.ResponseWriter.Write(p)
		s.left -= int64(n)
		return n, err
	}
	s.ResponseWriter.Write(p[:s.left])
	http.NewResponseController(s.ResponseWriter).Flush()
	<-s.done
	panic(http.ErrAbortHandler)
}

// Operation returns the name of the S3 operation that r is, for requests in
// path style.
func Operation(r *http.Request) string {
	q := r.URL.Query()
	object := objectKey(r) != ""
	switch {
	case q.Has("uploads"):
		return "CreateMultipartUpload"
	case q.Has("delete"):
		return "DeleteObjects"
	case q.Has("tagging"):
		return r.Method + "ObjectTagging"
	case q.Has("uploadId"):
		switch r.Method {
		case http.MethodPut:
			if r.Header.Get("X-Amz-Copy-Source") != "" {
				return "UploadPartCopy"
			}
			return "UploadPart"
		case http.MethodPost:
			return "CompleteMultipartUpload"
		case http.MethodDelete:
			return "AbortMultipartUpload"
		}
	case !object:
		if r.Method == http.MethodGet {
			return "ListObjectsV2"
		}
		return r.Method + "Bucket"
	case r.Method == http.MethodGet:
		return "GetObject"
	case r.Method == http.MethodHead:
		return "HeadObject"
	case r.Method == http.MethodDelete:
		return "DeleteObject"
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		return "CopyObject"
	case r.Method == http.MethodPut:
		return "PutObject"
	}
	return r.Method
}

func objectKey(r *http.Request) string {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return key
}

// Latency returns an Inject function that waits before each request as a
// store on the network does: lognormal with sigma 0.5 around a median of
// 25 ms for GET and HEAD, 40 ms for what changes something, 35 ms for LIST,
// each times factor.
func Latency(factor float64) func(Request) Fault {
	return func(r Request) Fault {
		median := 40.0
		switch r.Op {
		case "GetObject", "HeadObject":
			median = 25
		case "ListObjectsV2":
			median = 35
		}
		ms := median * factor * math.Exp(0.5*rand.NormFloat64())
		return Fault{Delay: time.Duration(ms * float64(time.Millisecond))}
	}
}

// RangeStart returns where the range that r asks for begins, 0 without one.
func (r Request) RangeStart() int64 {
	spec, _ := strings.CutPrefix(r.Header.Get("Range"), "bytes=")
	first, _, _ := strings.Cut(spec, "-")
	n, _ := strconv.ParseInt(first, 10, 64)
	return n
}
