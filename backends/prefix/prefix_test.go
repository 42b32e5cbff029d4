package prefix_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/backends/local"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/backends/prefix"
)

// openLocal returns a store whose directory a/b exists, with neighbours that
// no test may see.
func openLocal(t *testing.T) (*local.Store, string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"outside", "a/outside", "a/b-outside", "a/b/"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if strings.HasSuffix(name, "/") {
			err = os.Mkdir(path, 0o755)
		} else {
			err = os.WriteFile(path, []byte("outside"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := local.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		for _, name := range []string{"outside", "a/outside", "a/b-outside"} {
			if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != "outside" {
				t.Errorf("%s beside the prefix was touched: %q, %v", name, b, err)
			}
		}
	})
	return s, dir
}

func TestStore(t *testing.T) {
	backendtest.Store(t, func(t *testing.T) backends.Store {
		s, _ := openLocal(t)
		p, err := prefix.Store(s, "a/b")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}, backendtest.Exception{Test: "Operation", Reason: "a host file has no place for what made it"})
}

// What can be done with memory can be done below a directory of it.
func TestStoreOfMemory(t *testing.T) {
	backendtest.Store(t, func(t *testing.T) backends.Store {
		s := memorytest.New(t, memory.Config{NoTmpfs: true, MinPart: 100, GoodPart: 200})
		if err := s.Mkdir(t.Context(), "a/b", backends.AttrChange{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.BeginUpload(t.Context(), "a/beside", backends.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		p, err := prefix.Store(s, "a/b")
		if err != nil {
			t.Fatal(err)
		}
		return p
	})
}

// With "." the wrapper changes nothing.
func TestStoreOfRoot(t *testing.T) {
	backendtest.Store(t, func(t *testing.T) backends.Store {
		s := memorytest.New(t, memory.Config{NoTmpfs: true})
		p, err := prefix.Store(s, ".")
		if err != nil {
			t.Fatal(err)
		}
		return p
	})
}

func TestFileSystem(t *testing.T) {
	backendtest.FileSystem(t, func(t *testing.T) backends.FileSystem {
		s, _ := openLocal(t)
		f, err := prefix.FileSystem(t.Context(), s.FileSystem(), "a/b")
		if err != nil {
			t.Fatal(err)
		}
		return f
	})
}

// keysOnly is a store without a file depth, as one that has only keys.
type keysOnly struct{ backends.Store }

// The root exists although nothing was put below the prefix yet.
func TestMissingDirectory(t *testing.T) {
	s, _ := openLocal(t)
	p, err := prefix.Store(keysOnly{s}, "not/there")
	if err != nil {
		t.Fatal(err)
	}
	if e, err := p.Stat(t.Context(), "."); err != nil || !e.IsDir() || e.Name != "." {
		t.Errorf("Stat of the root = %+v, %v", e, err)
	}
	for e, err := range p.List(t.Context(), ".", "") {
		t.Errorf("List of the root has %+v, %v", e, err)
	}
	if err := p.Remove(t.Context(), ".", backends.If{}); !errors.Is(err, backends.ErrBusy) {
		t.Errorf("Remove of the root: %v, want ErrBusy", err)
	}
	body := io.NewSectionReader(strings.NewReader("x"), 0, 1)
	if _, err := p.Put(t.Context(), ".", body, backends.PutOptions{}); !errors.Is(err, backends.ErrIsDir) {
		t.Errorf("Put at the root: %v, want ErrIsDir", err)
	}
	if _, err := p.Put(t.Context(), "f", body, backends.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if e, err := s.Stat(t.Context(), "not/there/f"); err != nil || e.Size != 1 {
		t.Errorf("behind the prefix there is %+v, %v", e, err)
	}
}

func TestErrorsNameInnerNames(t *testing.T) {
	s, _ := openLocal(t)
	p, err := prefix.Store(s, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Stat(t.Context(), "x/y")
	var pe *fs.PathError
	if !errors.As(err, &pe) || pe.Path != "x/y" || strings.Contains(err.Error(), "a/b") {
		t.Errorf("the error is %v, want one about x/y", err)
	}
}

func TestBadDirectory(t *testing.T) {
	s, _ := openLocal(t)
	for dir, want := range map[string]error{
		"/a":      fs.ErrInvalid,
		"../a":    fs.ErrInvalid,
		"":        fs.ErrInvalid,
		"nope":    fs.ErrNotExist,
		"outside": backends.ErrNotDir,
	} {
		if _, err := prefix.Store(s, dir); !errors.Is(err, want) {
			t.Errorf("Store(%q): %v, want %v", dir, err, want)
		}
		if _, err := prefix.FileSystem(context.Background(), s.FileSystem(), dir); !errors.Is(err, want) {
			t.Errorf("FileSystem(%q): %v, want %v", dir, err, want)
		}
	}
}

func TestIdentity(t *testing.T) {
	s, _ := openLocal(t)
	p, err := prefix.Store(s, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := backends.IdentityOf(p, ""), s.Identity()+"/a/b"; got != want {
		t.Errorf("Identity = %q, want %q", got, want)
	}
}
