package main

import (
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// proxy stands in front of an S3 server, makes it as slow as delays say, breaks
// what faults say and counts what passes.
type proxy struct {
	url    string
	server *http.Server
	next   http.RoundTripper
	delays delays

	mu      sync.Mutex
	random  *rand.Rand
	faults  faults
	held    chan struct{} // while it is there, what changes the store gets no answer
	fake    *fakeList
	traffic traffic
	pulse   pulse
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
		url: "http://" + l.Addr().String(), delays: d, traffic: newTraffic(),
		next: &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true, ReadBufferSize: 128 << 10, WriteBufferSize: 128 << 10},
		// The same numbers in every run.
		random: rand.New(rand.NewPCG(1, 2)),
	}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // it is part of what the client signed
		},
		Transport:     p,
		FlushInterval: -1,
		BufferPool:    &bufferPool{},
		ErrorHandler:  answerFailure,
		ErrorLog:      log.New(io.Discard, "", 0), // a client that hangs up is no news
	}
	p.server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			changes := changesStore(r.Method)
			p.begin()
			// Deferred: an answer that is cut short ends in a panic.
			defer p.end(changes)
			forward.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go func() { _ = p.server.Serve(l) }() // returns when close ends it
	return p, nil
}

func (p *proxy) close() error {
	p.release()
	return p.server.Close()
}

// changesStore reports whether requests of this method can change the store.
func changesStore(method string) bool {
	return method != http.MethodGet && method != http.MethodHead
}

// RoundTrip passes a request on and holds the answer back until it is due: the
// time to the first byte begins when the server has the whole request.
func (p *proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	op := operation(r)
	delay, fault, held := p.admit(r.Method, op)
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	began := time.Now()
	p.mu.Lock()
	fake := p.fake
	p.mu.Unlock()
	if fake.covers(r) {
		// At once unless it is asked for: it is there for its size, and nobody waits
		// for a thousand pages with pleasure.
		if fake.slow {
			if err := sleepUntil(ctx, began.Add(delay)); err != nil {
				return nil, err
			}
		}
		return fake.answer(r), nil
	}
	whole := func() time.Time { return began }
	if r.Body != nil && r.Body != http.NoBody {
		body := newStream(ctx, r.Body, p.delays, p.countSent)
		r.Body, whole = body, body.ended
	}
	resp, err := p.answer(r, fault)
	if err != nil {
		return nil, err
	}
	if err := sleepUntil(ctx, whole().Add(delay)); err != nil {
		resp.Body.Close()
		return nil, err
	}
	resp.Body = newStream(ctx, resp.Body, p.delays, p.countReceived)
	return resp, nil
}

// admit counts a request and draws what becomes of it.
func (p *proxy) admit(method, op string) (delay time.Duration, f fault, held <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.traffic.requests[op]++
	if changesStore(method) {
		held = p.held
	}
	return p.delays.draw(p.random, method, op), p.faults.draw(p.random), held
}

// answer is the server's answer, unless there is a fault.
func (p *proxy) answer(r *http.Request, f fault) (*http.Response, error) {
	if f.instead() {
		return f.answer(r)
	}
	resp, err := p.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	return f.spoil(resp)
}

// setFake makes the proxy answer listings of one directory itself; nil ends it.
func (p *proxy) setFake(f *fakeList) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fake = f
}

func (p *proxy) setFaults(f faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = f
}

// hold leaves everything that would change the store without an answer, until
// release.
func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		p.held = make(chan struct{})
	}
}

func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
}

type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return *buf
	}
	return make([]byte, 128<<10)
}

func (b *bufferPool) Put(buf []byte) { b.pool.Put(&buf) }
