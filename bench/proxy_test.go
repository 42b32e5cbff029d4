package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// newProxy returns a proxy in front of a server that counts what reaches it and
// answers with size bytes.
func newProxy(t *testing.T, d delays, size int) (*proxy, *atomic.Int64) {
	t.Helper()
	var reached atomic.Int64
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		reached.Add(1)
		_, _ = w.Write(make([]byte, size))
	}))
	t.Cleanup(behind.Close)
	p, err := startProxy(behind.URL, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.close() })
	return p, &reached
}

func ask(t *testing.T, method, url string, body []byte) (status int, answer []byte, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	// A connection of its own: the client does not try again then.
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// TestDelaysAreLognormal looks at what is drawn: the median, and the quantile one
// sigma above it, which is exp(sigma) times as large.
func TestDelaysAreLognormal(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, test := range []struct {
		method, op string
		median     time.Duration
	}{
		{"GET", "Get", 25 * time.Millisecond}, {"HEAD", "Head", 25 * time.Millisecond}, {"GET", "List", 35 * time.Millisecond},
		{"PUT", "Put", 40 * time.Millisecond}, {"POST", "DeleteObjects", 40 * time.Millisecond}, {"DELETE", "Delete", 40 * time.Millisecond},
	} {
		drawn := make([]time.Duration, 20_000)
		for i := range drawn {
			drawn[i] = likeS3.draw(random, test.method, test.op)
		}
		slices.Sort(drawn)
		for quantile, want := range map[float64]float64{0.5: 1, 0.8413: 1.6487, 0.1587: 1 / 1.6487} {
			got := float64(drawn[int(quantile*float64(len(drawn)))]) / float64(test.median)
			if got < 0.97*want || got > 1.03*want {
				t.Errorf("%s: the quantile %.2f is %.3f medians, want %.3f", test.op, quantile, got, want)
			}
		}
	}
}

// TestBodiesTakeTheirTime sends and receives more than the bandwidth lets through
// at once. Only the lower bound is certain on a busy machine.
func TestBodiesTakeTheirTime(t *testing.T) {
	p, _ := newProxy(t, delays{bytesPerSecond: 10e6}, 1e6)
	for method, body := range map[string][]byte{"GET": nil, "PUT": make([]byte, 1e6)} {
		bodies := 1 + len(body)/1e6
		began := time.Now()
		if status, answer, err := ask(t, method, p.url+"/b/k", body); err != nil || status != 200 || len(answer) != 1e6 {
			t.Fatal(method, status, len(answer), err)
		}
		if took := time.Since(began); took < time.Duration(bodies)*100*time.Millisecond {
			t.Errorf("%s with %d bodies of 1 MB at 10 MB/s took %v", method, bodies, took)
		}
	}
	if got := p.takeTraffic(); got.sent != 1e6 || got.received != 2e6 || got.requests["Put"] != 1 || got.requests["Get"] != 1 {
		t.Errorf("counted: %+v", got)
	}
	if got := p.takeTraffic(); got.requests.total() != 0 || got.sent != 0 {
		t.Errorf("counted twice: %+v", got)
	}
}

// TestAnswerFollowsTheBody: the time to the first byte does not pass while the
// request's body is still on its way.
func TestAnswerFollowsTheBody(t *testing.T) {
	p, _ := newProxy(t, delays{put: 100 * time.Millisecond, bytesPerSecond: 10e6}, 0)
	began := time.Now()
	if _, _, err := ask(t, "PUT", p.url+"/b/k", make([]byte, 1e6)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("100 ms of body and 100 ms of latency took %v", took)
	}
}

func TestFaults(t *testing.T) {
	for _, test := range []struct {
		kind    fault
		reached int64
		right   func(status int, answer []byte, err error) bool
	}{
		{slowDown, 0, func(s int, a []byte, err error) bool { return s == 503 && bytes.Contains(a, []byte("SlowDown")) }},
		{internal, 0, func(s int, a []byte, err error) bool { return s == 500 && bytes.Contains(a, []byte("InternalError")) }},
		{resetFirst, 0, func(_ int, _ []byte, err error) bool { return errors.Is(err, syscall.ECONNRESET) }},
		{lostAnswer, 1, func(_ int, _ []byte, err error) bool { return errors.Is(err, syscall.ECONNRESET) }},
		{cutBody, 1, func(_ int, a []byte, err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) && len(a) == 500 }},
	} {
		t.Run(string(test.kind), func(t *testing.T) {
			p, reached := newProxy(t, delays{}, 1000)
			p.setFaults(faults{1, []fault{test.kind}})
			status, answer, err := ask(t, "PUT", p.url+"/b/k", []byte("text"))
			if !test.right(status, answer, err) || reached.Load() != test.reached {
				t.Errorf("status %d, %d bytes, %v; the server saw %d requests", status, len(answer), err, reached.Load())
			}
			p.setFaults(faults{})
			if status, _, err := ask(t, "PUT", p.url+"/b/k", nil); status != 200 || err != nil {
				t.Errorf("afterwards: %d, %v", status, err)
			}
		})
	}
}

// TestFaultShare: about as many requests fail as are to fail, and without any the
// delays are those of every run.
func TestFaultShare(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	n := 0
	for range 10_000 {
		if (faults{0.05, allFaults}).draw(random) != noFault {
			n++
		}
	}
	if n < 400 || n > 600 {
		t.Errorf("%d of 10000 requests failed, want about 500", n)
	}
	a, b := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(1, 2))
	faults{}.draw(a)
	if a.Uint64() != b.Uint64() {
		t.Error("random numbers were drawn for no faults")
	}
}

// TestHold: changes wait, questions don't.
func TestHold(t *testing.T) {
	p, reached := newProxy(t, delays{}, 0)
	p.hold()
	done := make(chan error, 1)
	go func() {
		_, _, err := ask(t, "PUT", p.url+"/b/k", nil)
		done <- err
	}()
	if _, _, err := ask(t, "GET", p.url+"/b/k", nil); err != nil || reached.Load() != 1 {
		t.Errorf("GET: %v, %d", err, reached.Load())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.waitQuiet(ctx, time.Millisecond); err == nil && reached.Load() > 1 {
		t.Error("a change passed")
	}
	p.release()
	if err := <-done; err != nil || reached.Load() != 2 {
		t.Errorf("PUT: %v, %d", err, reached.Load())
	}
	if err := p.waitQuiet(t.Context(), 20*time.Millisecond); err != nil || p.lastChange().IsZero() {
		t.Errorf("afterwards: %v, %v", err, p.lastChange())
	}
}

// TestFakeList reads the invented listing as clients do, page by page.
func TestFakeList(t *testing.T) {
	p, reached := newProxy(t, delays{}, 0)
	p.setFake(&fakeList{prefix: "many/", n: 2500})
	for _, with := range []string{"", "&delimiter=%2F&encoding-type=url", "&max-keys=7&start-after=many%2Ff00002480"} {
		var keys []string
		token := ""
		for {
			_, body, err := ask(t, "GET", p.url+"/b?list-type=2&prefix=many%2F"+with+token, nil)
			if err != nil {
				t.Fatal(err)
			}
			var page struct {
				Contents              []struct{ Key string }
				IsTruncated           bool
				NextContinuationToken string
			}
			if err := xml.Unmarshal(body, &page); err != nil {
				t.Fatal(err)
			}
			for _, c := range page.Contents {
				key, err := url.QueryUnescape(c.Key)
				if err != nil {
					t.Fatal(err)
				}
				keys = append(keys, key)
			}
			if !page.IsTruncated {
				break
			}
			token = "&continuation-token=" + url.QueryEscape(page.NextContinuationToken)
		}
		want := 2500
		if strings.Contains(with, "start-after") {
			want = 19
		}
		if len(keys) != want || !slices.IsSorted(keys) || keys[len(keys)-1] != "many/f00002499" || len(slices.Compact(keys)) != want {
			t.Errorf("%s: %d keys", with, len(keys))
		}
	}
	for key, status := range map[string]int{"f00000000": 200, "f00002499": 200, "f00002500": 404, "f1": 404, "": 404} {
		got, _, err := ask(t, "HEAD", p.url+"/b/many/"+key, nil)
		if err != nil || got != status {
			t.Errorf("HEAD of %q: %v, %v", key, got, err)
		}
	}
	if reached.Load() > 0 {
		t.Error("the server was asked")
	}
	if _, _, err := ask(t, "GET", fmt.Sprint(p.url, "/b?list-type=2&prefix=other%2F"), nil); err != nil || reached.Load() != 1 {
		t.Errorf("another listing: %v", err)
	}
}
