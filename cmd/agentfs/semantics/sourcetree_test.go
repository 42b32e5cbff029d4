package semantics

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// sourceTree returns a directory with a few thousand files of Go's standard
// library (a few hundred with -short), and their names.
var sourceTree = shared(func(t testing.TB) sources {
	most := 2400
	switch {
	case testing.Short():
		most = 300
	case raceDetector: // which slows everybody down
		most = 1600
	}
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatalf("go env GOROOT: %v", err)
	}
	from := filepath.Join(strings.TrimSpace(string(out)), "src")
	if _, err := os.Stat(filepath.Join(from, "net")); err != nil {
		missing(t, "no sources of Go's standard library: "+err.Error())
	}
	s := sources{dir: filepath.Join(t.TempDir(), "src")}
	for _, top := range []string{"encoding", "net", "go", "crypto", "internal"} {
		err := filepath.WalkDir(filepath.Join(from, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || len(s.files) == most {
				return err
			}
			name, err := filepath.Rel(from, path)
			if err != nil {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			s.files = append(s.files, name)
			to := filepath.Join(s.dir, name)
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
			return os.WriteFile(to, b, 0o644)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	s.tar = s.dir + ".tar"
	if out, err := exec.Command("tar", "-C", s.dir, "-cf", s.tar, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	return s
})

type sources struct {
	dir, tar string
	files    []string
}

// A source tree of a few thousand files that is unpacked into memory and into
// S3 is there as it was: diff -r finds no difference, on S3 also not after an
// unmount and a new mount with an empty cache. The bucket then has one object
// for each file, with exactly its bytes under its path, and the records of
// attributes beside them.
func TestSourceTree(t *testing.T) {
	need(t, "tar", "tar")
	need(t, "diff", "diffutils")
	src := sourceTree(t)
	server := s3test.Versitygw(t)
	routes := []string{"/=memory:", "/s3-data=" + s3URL(server)}
	m := start(t, setup{server: server, routes: routes})
	onS3 := filepath.Join(m.dir, "s3-data", "src")
	for _, dir := range []string{filepath.Join(m.dir, "src"), onS3} {
		mkdir(t, dir)
		run(t, dir, "tar", "-xf", src.tar)
		run(t, "/", "diff", "-r", src.dir, dir)
	}
	m.unmount(t)
	again := start(t, setup{server: server, routes: routes})
	run(t, "/", "diff", "-r", src.dir, filepath.Join(again.dir, "s3-data", "src"))

	var files []string
	for _, k := range server.Keys(t) {
		if !strings.HasSuffix(k, "/") && !strings.HasPrefix(filepath.Base(k), ".agentfs-attrs-") {
			files = append(files, strings.TrimPrefix(k, keyPrefix+"src/"))
		}
	}
	if want := slices.Sorted(slices.Values(src.files)); !slices.Equal(slices.Sorted(slices.Values(files)), want) {
		t.Errorf("the bucket has %d objects, want %d: those of the files", len(files), len(want))
	}
	eachParallel(8, src.files, func(name string) {
		want, err := os.ReadFile(filepath.Join(src.dir, name))
		if err != nil {
			t.Errorf("%v", err)
			return
		}
		if got, _ := getObject(t, server, keyPrefix+"src/"+name); got != string(want) {
			t.Errorf("the object of %s differs from the file", name)
		}
	})
}

// What searches and walks a tree finds on the mount what it finds on a local
// disk: find, grep -r, rg, ls -R, wc and tar -c print the same.
func TestSearching(t *testing.T) {
	need(t, "rg", "ripgrep")
	src := sourceTree(t)
	local := filepath.Join(t.TempDir(), "net")
	run(t, "/", "cp", "-r", filepath.Join(src.dir, "encoding"), local)
	onBoth(t, func(t *testing.T, p place) {
		run(t, "/", "cp", "-r", local, p.dir)
		for _, script := range []string{
			"find . -type f | sort", "find . -type d -name 'test*' | sort", "find . -newermt 2000-01-01 -size +20k | sort",
			"grep -rn 'func New' . | sort", "grep -rlw unsafe . | sort", "rg -n --no-ignore 'func New' . | sort", "rg -c --no-ignore import | sort",
			"ls -R", "find . -name '*.go' -print0 | xargs -0 cat | wc", "tar -cf - --sort=name --mtime=@0 --owner=0 --group=0 --mode=644 . | sha256sum",
		} {
			want := run(t, local, "sh", "-c", script)
			if got := run(t, p.path("net"), "sh", "-c", script); got != want || want == "" {
				t.Errorf("%s: the output differs from that on a local disk", script)
			}
		}
	})
}

// "sed -i", and whatever else writes a temporary file and renames it, changes
// just the files that it is told to, and leaves no temporary file.
func TestSedInPlace(t *testing.T) {
	src := sourceTree(t)
	onBoth(t, func(t *testing.T, p place) {
		run(t, "/", "cp", "-r", filepath.Join(src.dir, "encoding/json"), p.dir)
		local := filepath.Join(t.TempDir(), "json")
		run(t, "/", "cp", "-r", filepath.Join(src.dir, "encoding/json"), local)
		for _, dir := range []string{p.path("json"), local} {
			run(t, dir, "sh", "-c", "sed -i 's/func/FUNC/; s/return/RETURN/g' *.go")
			run(t, dir, "sh", "-c", "sed -i.bak 1d *_test.go || true")
		}
		run(t, "/", "diff", "-r", local, p.path("json"))
		if p.s3 {
			for _, e := range names(t, p.path("json")) {
				if strings.HasSuffix(e, ".go") {
					p.holdsObject("json/"+e, read(t, filepath.Join(local, e)))
				}
			}
		}
	})
}

// rsync -a copies a tree onto the mount, and a second run finds nothing to do.
// --inplace and --delete work too.
func TestRsync(t *testing.T) {
	need(t, "rsync", "rsync")
	src := sourceTree(t)
	from := filepath.Join(t.TempDir(), "from")
	run(t, "/", "cp", "-r", filepath.Join(src.dir, "encoding"), from)
	onBoth(t, func(t *testing.T, p place) {
		run(t, "/", "rsync", "-a", from+"/", p.path("to"))
		run(t, "/", "diff", "-r", from, p.path("to"))
		if out := run(t, "/", "rsync", "-ai", from+"/", p.path("to")); strings.TrimSpace(out) != "" {
			t.Errorf("the second run did: %s", out)
		}
		changed := filepath.Join(t.TempDir(), "changed")
		run(t, "/", "cp", "-a", from, changed)
		run(t, changed, "sh", "-c", "echo more >> json/decode.go; rm -r hex; mkdir new; echo new > new/file")
		run(t, "/", "rsync", "-a", "--delete", "--inplace", changed+"/", p.path("to"))
		run(t, "/", "diff", "-r", changed, p.path("to"))
	})
}

// onBoth runs f on memory and on S3.
func onBoth(t *testing.T, f func(t *testing.T, p place)) {
	for _, r := range []struct{ name, path string }{{"memory", "/"}, {"s3", "/s3-data"}} {
		t.Run(r.name, func(t *testing.T) { f(t, at(t, r.path)) })
	}
}
