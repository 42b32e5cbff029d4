package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
)

// fault is what goes wrong with one request.
type fault string

const (
	noFault    fault = ""
	slowDown   fault = "503"   // the server has no time
	internal   fault = "500"   // the server has a fault of its own
	resetFirst fault = "reset" // the connection breaks before the server has seen the request
	lostAnswer fault = "lost"  // the server did it, and the connection breaks before it says so
	cutBody    fault = "cut"   // half of the answer comes
)

// allFaults are those that --store-faults draws from.
var allFaults = []fault{slowDown, internal, resetFirst, lostAnswer, cutBody}

// faults say how often something goes wrong, and what.
type faults struct {
	share float64 // of the requests, 0 to 1
	kinds []fault
}

func (fs faults) draw(random *rand.Rand) fault {
	// Without faults nothing is drawn: the delays stay those of every run.
	if fs.share == 0 || random.Float64() >= fs.share {
		return noFault
	}
	return fs.kinds[random.IntN(len(fs.kinds))]
}

// errBroken is a connection that is to break.
var errBroken = errors.New("the connection breaks here")

// instead reports whether the server never sees the request.
func (f fault) instead() bool { return f == slowDown || f == internal || f == resetFirst }

// answer is what comes instead of the server's answer.
func (f fault) answer(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, err
		}
	}
	switch f {
	case slowDown:
		return errorAnswer(r, http.StatusServiceUnavailable, "SlowDown"), nil
	case internal:
		return errorAnswer(r, http.StatusInternalServerError, "InternalError"), nil
	}
	return nil, errBroken
}

// spoil does to the server's answer what the fault says.
func (f fault) spoil(resp *http.Response) (*http.Response, error) {
	switch f {
	case lostAnswer:
		resp.Body.Close()
		return nil, errBroken
	case cutBody:
		resp.Body = &cut{ReadCloser: resp.Body, left: resp.ContentLength / 2}
	}
	return resp, nil
}

// cut is a body that breaks off.
type cut struct {
	io.ReadCloser
	left int64
}

func (c *cut) Read(buf []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.ReadCloser.Read(buf[:min(int64(len(buf)), c.left)])
	c.left -= int64(n)
	return n, err
}

// errorAnswer is an answer as S3 gives it when something is wrong.
func errorAnswer(r *http.Request, status int, code string) *http.Response {
	return xmlAnswer(r, status, fmt.Sprintf("<Error><Code>%s</Code><Message>injected</Message></Error>", code))
}

func xmlAnswer(r *http.Request, status int, text string) *http.Response {
	text = `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + text
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/xml"}},
		ContentLength: int64(len(text)), Body: io.NopCloser(strings.NewReader(text)), Request: r,
	}
}

// answerFailure is what a client sees of a request that could not be passed on.
func answerFailure(w http.ResponseWriter, _ *http.Request, err error) {
	if !errors.Is(err, errBroken) {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // ends the connection, if not by a reset
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // closing then sends a reset
	}
	_ = conn.Close()
}
