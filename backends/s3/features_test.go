package s3_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// A lost answer while it is found out what the endpoint honours is none about
// the file: nobody changed it.
func TestLostAnswersOfTrials(t *testing.T) {
	onBoth(t, func(t *testing.T, srv s3test.Server) {
		for _, op := range []string{"PutObject", "CompleteMultipartUpload", "DeleteObject"} {
			for n := 1; n <= 4; n++ {
				p := s3test.NewProxy(t, srv)
				s := srv.Through(p).Store(t, quick)
				e := put(t, s, "f", "one", backends.If{})
				p.Reset()
				var sent atomic.Int32
				p.Inject(func(r s3test.Request) s3test.Fault {
					return s3test.Fault{Lost: r.Op == op && int(sent.Add(1)) == n}
				})
				var err error
				switch op {
				case "PutObject":
					_, err = s.Put(t.Context(), "f", section("two"), backends.PutOptions{If: backends.If{Match: e.Version}})
				case "CompleteMultipartUpload":
					_, err = s.Put(t.Context(), "f", bytesOf(noise(11<<20, 1)), backends.PutOptions{If: backends.If{Match: e.Version}})
				case "DeleteObject":
					err = s.Remove(t.Context(), "f", backends.If{Match: e.Version})
				}
				if err != nil {
					t.Errorf("the answer to %s %d lost: %v", op, n, err)
				}
			}
		}
	})
}

// While an endpoint that answers nothing is asked what it honours, everybody
// who waits for that can still give up.
func TestWaitForTrial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	srv := s3test.Fake(t)
	srv.Endpoint = "http://" + l.Addr().String()
	s := srv.Store(t, quick)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	start := time.Now()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			_, err := s.Put(ctx, "f", section("x"), backends.PutOptions{If: backends.If{Absent: true}})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v, want the deadline", err)
			}
		})
	}
	wg.Wait()
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("a wait of one second took %v", d)
	}
}
