package logstore_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/examples/go-backend/logstore"
)

func open(t *testing.T, path string) *logstore.Store {
	t.Helper()
	s, err := logstore.New(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestConformance is all that a backend needs to test of what the contract
// says.
func TestConformance(t *testing.T) {
	backendtest.Store(t, func(t *testing.T) backends.Store {
		return open(t, filepath.Join(t.TempDir(), "log"))
	})
}

// What is the store's own: a log that is opened again has all that was
// acknowledged, also if a crash has torn off what came after.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := open(t, path)
	want := map[string]string{"a/f": "first", "a/b/g": strings.Repeat("second", 1000), "h": ""}
	for name, content := range want {
		if _, err := s.Put(t.Context(), name, io.NewSectionReader(strings.NewReader(content), 0, int64(len(content))), backends.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Mkdir(t.Context(), "gone", backends.AttrChange{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), "gone", backends.If{}); err != nil {
		t.Fatal(err)
	}
	if _, err := logstore.New(path); err == nil || !strings.Contains(err.Error(), "is in use") {
		t.Errorf("a second process: %v", err)
	}
	s.Close()
	for _, torn := range []string{"", "{", `{"op":"put","name":"aA==","size":9}` + "\n12345", "nonsense\n"} {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(torn)
		f.Close()
		s := open(t, path)
		for name, content := range want {
			r, _, err := s.Open(t.Context(), name, backends.Range{}, backends.If{})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || string(got) != content {
				t.Errorf("torn %q: %s holds %d bytes, %v", torn, name, len(got), err)
			}
		}
		if _, err := s.Stat(t.Context(), "gone"); err == nil {
			t.Error("what was removed is back")
		}
		if _, err := s.Put(t.Context(), "i", io.NewSectionReader(strings.NewReader("x"), 0, 1), backends.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		want["i"] = "x"
		s.Close()
	}
	if err := os.WriteFile(path, []byte("text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := logstore.New(path); err == nil || !strings.Contains(err.Error(), "this is no log") {
		t.Errorf("a text file: %v", err)
	}
}
