package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// needle is what grep looks for: every tenth file has it.
const needle = "the needle in the haystack"

// storeData is what store workloads write and read.
type storeData struct {
	small  map[string][]byte // 4 KiB each, in 40 directories
	medium []byte            // what is appended to and copied
	large  []byte            // what is written and read in one go
	tar    string            // a file with small in it
	repo   string            // a bare repository with small in it
	clone  map[string][]byte // what a clone of it leaves
}

// newStoreData makes the data, the same in every run.
func (b *bench) newStoreData(ctx context.Context) (*storeData, error) {
	d := &storeData{small: smallFiles(b.storeFiles), medium: make([]byte, b.storeMedium), large: make([]byte, b.storeSize)}
	rnd := rand.NewChaCha8([32]byte{1})
	for _, data := range [][]byte{d.medium, d.large} {
		if _, err := rnd.Read(data); err != nil {
			return nil, err
		}
	}
	return d, errors.Join(d.makeTar(filepath.Join(b.tmp, "small.tar")), d.makeRepo(ctx, filepath.Join(b.tmp, "repo")))
}

// smallFiles returns n small files, the same in every run.
func smallFiles(n int) map[string][]byte {
	files := map[string][]byte{}
	rnd := rand.NewChaCha8([32]byte{2})
	for i := range n {
		text := make([]byte, smallSize)
		for j := range text {
			text[j] = 'a' + byte(rnd.Uint64()%26)
			if j%64 == 63 {
				text[j] = '\n'
			}
		}
		if i%10 == 0 {
			copy(text[1024:], needle)
		}
		files[fmt.Sprintf("dir%02d/file%05d.txt", i%40, i)] = text
	}
	return files
}

// names returns the small files' names in order.
func (d *storeData) names() []string { return slices.Sorted(maps.Keys(d.small)) }

func (d *storeData) makeTar(name string) error {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range d.names() {
		h := &tar.Header{Name: name, Mode: 0o644, Size: smallSize}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(d.small[name]); err != nil {
			return err
		}
	}
	d.tar = name
	return errors.Join(w.Close(), os.WriteFile(name, buf.Bytes(), 0o644))
}

// makeRepo makes the repository, packed as one that was pushed to is after a
// while, and looks what a clone of it leaves.
func (d *storeData) makeRepo(ctx context.Context, dir string) error {
	work, clone := dir+".work", dir+".clone"
	for name, body := range d.small {
		file := filepath.Join(work, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, body, 0o644); err != nil {
			return err
		}
	}
	for _, argv := range [][]string{
		{"git", "-C", work, "init", "-q", "-b", "main"},
		{"git", "-C", work, "add", "."},
		{"git", "-C", work, "commit", "-q", "-m", "small files"},
		{"git", "clone", "-q", "--bare", "--no-local", work, dir},
		{"git", "clone", "-q", "--no-hardlinks", dir, clone},
	} {
		if _, err := tool(ctx, argv...); err != nil {
			return err
		}
	}
	d.repo, d.clone = dir, map[string][]byte{}
	return filepath.WalkDir(clone, func(file string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		body, err := os.ReadFile(file)
		d.clone[filepath.ToSlash(strings.TrimPrefix(file, clone+"/"))] = body
		return err
	})
}

// The prefixes of what is in the bucket for workloads that change nothing.
const (
	seedSmall = "seed-small"
	seedLarge = "seed-large"
)

// seed puts what workloads read into the bucket.
func (d *storeData) seed(ctx context.Context, s *sdk) error {
	return errors.Join(s.putAll(ctx, seedSmall+"/", d.small), s.putLarge(ctx, seedLarge+"/"+largeName, d.large))
}

// wantObjects compares what the server has below prefix with what it should have.
func wantObjects(ctx context.Context, direct *sdk, prefix string, want map[string][]byte) error {
	// The listing first: while something is missing, looking must be cheap.
	sizes, err := direct.list(ctx, prefix)
	if err != nil {
		return err
	}
	for name := range sizes {
		if _, ok := want[name]; !ok {
			return fmt.Errorf("there is a %s%s in the bucket, which should not be there", prefix, name)
		}
	}
	if err := wantCount("objects in the bucket", len(sizes), len(want)); err != nil {
		return err
	}
	wrong := ""
	err = direct.getAll(ctx, prefix, func(name string, body []byte) {
		if !bytes.Equal(body, want[name]) {
			wrong = name
		}
	})
	if err == nil && wrong != "" {
		err = fmt.Errorf("%s is not what was written", wrong)
	}
	return err
}

// wantNothing makes sure that the server has nothing below prefix, no directory
// either.
func wantNothing(ctx context.Context, direct *sdk, prefix string) error {
	keys, err := direct.keys(ctx, prefix)
	if err == nil && len(keys) > 0 {
		err = fmt.Errorf("%d objects are still in the bucket, %s for one", len(keys), keys[0])
	}
	return err
}
