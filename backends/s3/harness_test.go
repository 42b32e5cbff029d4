package s3_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/s3"
	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// onBoth runs a test over each server.
func onBoth(t *testing.T, f func(t *testing.T, srv s3test.Server)) {
	t.Run("versitygw", func(t *testing.T) { f(t, s3test.Versitygw(t)) })
	t.Run("fake", func(t *testing.T) { f(t, s3test.Fake(t)) })
}

// quick makes failures quick: few attempts, small parts.
func quick(c *s3.Config) {
	c.MaxAttempts = 6
	c.PartSize = 5 << 20
}

func small(n int) func(*s3.Config) { return func(c *s3.Config) { c.PageSize = n } }

func section(s string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(s), 0, int64(len(s)))
}

func bytesOf(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

// noise returns n bytes, the same for the same seed.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	r.Read(b)
	return b
}

func keys(t *testing.T, seq iter.Seq2[backends.Entry, error]) []string {
	t.Helper()
	var ks []string
	for e, err := range seq {
		if err != nil {
			t.Fatalf("listing: %v", err)
		}
		ks = append(ks, e.Key())
	}
	return ks
}

func want[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

func wantIs(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("%s: %v, want %v", what, err, target)
	}
}

func put(t *testing.T, s backends.Store, name, content string, cond backends.If) backends.Entry {
	t.Helper()
	e, err := s.Put(t.Context(), name, section(content), backends.PutOptions{If: cond})
	if err != nil {
		t.Fatalf("Put(%q): %v", name, err)
	}
	return e
}

func read(ctx context.Context, s backends.Store, name string, r backends.Range, cond backends.If) ([]byte, backends.Entry, error) {
	f, e, err := s.Open(ctx, name, r, cond)
	if err != nil {
		return nil, e, err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	return b, e, err
}

// logTo returns a logger and what it has logged.
func logTo() (*slog.Logger, func() string) {
	var mu sync.Mutex
	var b bytes.Buffer
	w := writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return b.Write(p)
	})
	return slog.New(slog.NewTextHandler(w, nil)), func() string {
		mu.Lock()
		defer mu.Unlock()
		return b.String()
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
