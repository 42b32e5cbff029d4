package semantics

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// ruled is a directory of a mount with rules, on a host or an S3 route.
type ruled struct {
	place
	m *mount
	// put and get go past the mount, and so past its rules.
	put func(name, content string)
	get func(name string) (string, bool)
}

// withRules runs a test on the routes /host and /s3 of a mount with these
// rules, lines of YAML. The files are there before.
func withRules(t *testing.T, rules string, files []string, test func(t *testing.T, p ruled)) {
	t.Helper()
	server := s3test.Versitygw(t)
	host := publicTempDir(t)
	config := filepath.Join(t.TempDir(), "agentfs.yaml")
	ok(t, "config", os.WriteFile(config, []byte("routes:\n  /: {backend: memory}\n  /host: {backend: local, path: "+host+"}\npolicy:\n"+rules), 0o644))
	places := []ruled{
		{place: place{key: ""}, put: func(name, content string) {
			ok(t, "mkdir", os.MkdirAll(filepath.Dir(filepath.Join(host, name)), 0o755))
			ok(t, "write", os.WriteFile(filepath.Join(host, name), []byte(content), 0o666))
			// Nothing but rules keeps anybody from anything.
			ok(t, "chmod", exec.Command("chmod", "-R", "a+rwX", host).Run())
		}, get: func(name string) (string, bool) {
			b, err := os.ReadFile(filepath.Join(host, name))
			return string(b), err == nil
		}},
		{place: place{key: keyPrefix, s3: true}, put: func(name, content string) {
			server.Put(t, keyPrefix+name, content)
		}, get: func(name string) (string, bool) { return server.Get(t, keyPrefix+name) }},
	}
	for _, p := range places {
		for _, f := range files {
			p.put(f, "content of "+f)
		}
	}
	m := start(t, setup{server: server, routes: []string{"/s3=" + s3URL(server, "file_mode", "0666", "dir_mode", "0777")}, flags: []string{"--config", config, "--allow-other"}})
	for i, name := range []string{"host", "s3"} {
		p := places[i]
		p.m, p.dir = m, filepath.Join(m.dir, name)
		t.Run(name, func(t *testing.T) {
			p.t = t
			test(t, p)
		})
	}
}

// refused fails unless err is EACCES.
func refused(t testing.TB, what string, err error) {
	t.Helper()
	isErr(t, what, err, syscall.EACCES)
}

// unchanged fails unless the file is as it was made, for whoever goes past the
// mount.
func (p ruled) unchanged(names ...string) {
	p.t.Helper()
	p.sync()
	for _, name := range names {
		if got, there := p.get(name); !there || got != "content of "+name {
			p.t.Errorf("behind the mount, %s is %q, %v", name, got, there)
		}
	}
}

// What a rule says is read may be read and listed, and everything that would
// change it is EACCES, for root, too: opening to write, creating, truncating,
// removing, renaming it or anything onto it, changing attributes. The first rule
// that matches decides, and it holds for what is below the directories that it
// names; where none matches, the access option of the route counts.
func TestRuleRead(t *testing.T) {
	withRules(t, `
- {path: "/*/ro/out/**", access: write}
- {path: "/*/ro", access: read}
`, []string{"ro/f", "ro/d/g"}, func(t *testing.T, p ruled) {
		holds(t, p.path("ro/f"), "content of ro/f")
		_, err := os.OpenFile(p.path("ro/f"), os.O_WRONLY, 0)
		refused(t, "open", err)
		_, err = os.OpenFile(p.path("ro/f"), os.O_WRONLY|os.O_APPEND, 0)
		refused(t, "open to append", err)
		refused(t, "create", os.WriteFile(p.path("ro/new"), nil, 0o644))
		refused(t, "mkdir", os.Mkdir(p.path("ro/d/new"), 0o755))
		refused(t, "truncate", os.Truncate(p.path("ro/f"), 0))
		refused(t, "chmod", os.Chmod(p.path("ro/f"), 0o600))
		refused(t, "unlink", syscall.Unlink(p.path("ro/f")))
		refused(t, "rmdir", syscall.Rmdir(p.path("ro/d")))
		refused(t, "setxattr", unix.Setxattr(p.path("ro/f"), "user.x", nil, 0))
		refused(t, "symlink", os.Symlink("f", p.path("ro/link")))
		refused(t, "rename", os.Rename(p.path("ro/f"), p.path("f")))
		refused(t, "rename of a directory", os.Rename(p.path("ro"), p.path("rw")))
		write(t, p.path("free"), "free")
		refused(t, "rename onto", os.Rename(p.path("free"), p.path("ro/f")))
		refused(t, "rename into", os.Rename(p.path("free"), p.path("ro/g")))
		p.unchanged("ro/f", "ro/d/g")
		mkdir(t, p.path("ro/out"))
		write(t, p.path("ro/out/x"), "a rule further up")
	})
}

// Under append, names can be created, and what is written goes to the end:
// O_APPEND works, by several processes at once, as does writing at or beyond the
// size that the file had when it was opened. A write below that size, O_TRUNC,
// truncate, unlink, rename and a rename over it are EACCES, and so is a change
// of attributes except touch(1). A shared writable mapping is ENODEV, since it
// would write whole pages; other files of a route with such a rule are not
// passed through to the kernel.
func TestRuleAppend(t *testing.T) {
	withRules(t, `- {path: "/*/log/**", access: append}`, []string{"log/old"}, func(t *testing.T, p ruled) {
		const was = "content of log/old"
		f, err := os.OpenFile(p.path("log/old"), os.O_RDWR, 0)
		ok(t, "open", err)
		defer f.Close()
		_, err = f.WriteAt([]byte("x"), 0)
		refused(t, "write at 0", err)
		_, err = f.WriteAt([]byte("xyz"), int64(len(was))-1)
		refused(t, "write over the end", err)
		_, err = f.WriteAt([]byte(" and more"), int64(len(was)))
		ok(t, "write at the end", err)
		_, err = unix.Mmap(int(f.Fd()), 0, 10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		isErr(t, "mmap", err, syscall.ENODEV)
		refused(t, "ftruncate", f.Truncate(0))
		_, err = os.OpenFile(p.path("log/old"), os.O_WRONLY|os.O_TRUNC, 0)
		refused(t, "O_TRUNC", err)
		refused(t, "truncate", os.Truncate(p.path("log/old"), 100))
		refused(t, "unlink", syscall.Unlink(p.path("log/old")))
		refused(t, "rename", os.Rename(p.path("log/old"), p.path("log/older")))
		write(t, p.path("free"), "free")
		refused(t, "rename over", os.Rename(p.path("free"), p.path("log/old")))
		refused(t, "chmod", os.Chmod(p.path("log/old"), 0o600))
		ok(t, "touch", exec.Command("touch", p.path("log/old")).Run())
		holds(t, p.path("log/old"), was+" and more")

		ok(t, "rename to a new name", os.Rename(p.path("free"), p.path("log/new")))
		refused(t, "and back", os.Rename(p.path("log/new"), p.path("free")))
		write(t, p.path("log/lines"), "")
		inTwo(t, "append", []string{p.path("log/lines"), "a", "200"}, []string{p.path("log/lines"), "b", "200"})
		b, err := os.ReadFile(p.path("log/lines"))
		ok(t, "read", err)
		if n := strings.Count(string(b), "\n"); n != 400 {
			t.Errorf("%d lines of 400", n)
		}
		p.sync()
		if got, _ := p.get("log/old"); got != was+" and more" {
			t.Errorf("behind the mount: %q", got)
		}
	})
}

// Under none, a name and its attributes are seen in its directory, and that is
// all: opening and listing it and every change are EACCES. Where nobody may do
// anything in a directory or below it, names in it can't be looked up either,
// whether they are there or not.
func TestRuleNone(t *testing.T) {
	withRules(t, `
- {path: "/*/shut/**", access: none}
- {path: .env, access: none}
`, []string{"shut/key", "a/.env", "a/f"}, func(t *testing.T, p ruled) {
		for _, name := range []string{"a/.env", "shut/key"} {
			_, err := os.ReadFile(p.path(name))
			refused(t, "read "+name, err)
			refused(t, "write "+name, os.WriteFile(p.path(name), nil, 0o644))
			refused(t, "unlink "+name, syscall.Unlink(p.path(name)))
			refused(t, "rename "+name, os.Rename(p.path(name), p.path("x")))
		}
		_, err := os.Stat(p.path("a/.env"))
		ok(t, "stat", err)
		for _, name := range []string{"shut/key", "shut/nope"} {
			_, err = os.Stat(p.path(name))
			refused(t, "stat "+name, err)
		}
		_, err = os.ReadDir(p.path("shut"))
		refused(t, "readdir", err)
		refused(t, "a name that is not there yet", os.WriteFile(p.path(".env"), nil, 0o644))
		p.unchanged("shut/key", "a/.env")
	})
}

// What is hidden isn't there: ENOENT, and in no listing. Making a name that is
// hidden, by create, mkdir, rename or link, is EACCES, whether it is there or
// not. A directory in which only hidden names are left is ENOTEMPTY for rmdir(2):
// nothing hidden is ever removed. Everything below a hidden directory is hidden,
// whatever other rules say. Dot-files are names as any other.
func TestRuleHide(t *testing.T) {
	withRules(t, `
- {path: "/*/secret/pub/**", access: write}
- {path: "/*/secret/**", access: hide}
- {path: "**/.hidden*", access: hide}
`, []string{"secret/key", "secret/pub/f", "a/.hidden1", "a/f"}, func(t *testing.T, p ruled) {
		for _, name := range []string{"secret", "secret/key", "secret/pub/f", "a/.hidden1"} {
			_, err := os.Lstat(p.path(name))
			isErr(t, "stat "+name, err, syscall.ENOENT)
		}
		if got := listing(t, p.dir); !slices.Equal(got, []string{"a"}) {
			t.Errorf("listed: %q", got)
		}
		if got := listing(t, p.path("a")); !slices.Equal(got, []string{"f"}) {
			t.Errorf("listed: %q", got)
		}
		isErr(t, "unlink", syscall.Unlink(p.path("a/.hidden1")), syscall.ENOENT)
		isErr(t, "rename from", os.Rename(p.path("a/.hidden1"), p.path("x")), syscall.ENOENT)
		refused(t, "mkdir", os.Mkdir(p.path("secret"), 0o755))
		refused(t, "create", os.WriteFile(p.path("a/.hidden1"), nil, 0o644))
		refused(t, "create of what is not there", os.WriteFile(p.path("a/.hidden2"), nil, 0o644))
		refused(t, "rename to", os.Rename(p.path("a/f"), p.path("a/.hidden1")))
		refused(t, "rename of the directory", os.Rename(p.path("a"), p.path("b")))
		ok(t, "unlink", os.Remove(p.path("a/f")))
		isErr(t, "rmdir", syscall.Rmdir(p.path("a")), syscall.ENOTEMPTY)
		p.unchanged("secret/key", "secret/pub/f", "a/.hidden1")
	})
}

func listing(t testing.TB, dir string) (names []string) {
	t.Helper()
	es, err := os.ReadDir(dir)
	ok(t, "readdir", err)
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names
}

// A rename takes a name away and makes one, and that of a directory does so for
// everything below it: if the rules do not allow each of these, it is EACCES, and
// nothing has moved. A hard link must give everybody the rights of the name that
// there is, and a file with several names can only be renamed to where its rights
// are the same. A symbolic link gives no rights: what it leads to has its own.
func TestRulesHoldForWhatMoves(t *testing.T) {
	withRules(t, `
- {path: "/*/keep/**", access: read}
- {path: "**/*.pem", access: none}
- {path: "/*/log/**", access: append}
`, []string{"keep/f", "tree/deep/key.pem", "clean/deep/f", "log/f", "free"}, func(t *testing.T, p ruled) {
		refused(t, "a directory with a key in it", os.Rename(p.path("tree"), p.path("clean/tree")))
		refused(t, "a key by its own name", os.Rename(p.path("tree/deep/key.pem"), p.path("key.txt")))
		refused(t, "something becomes a key", os.Rename(p.path("free"), p.path("free.pem")))
		refused(t, "a directory goes where nothing may come into being", os.Rename(p.path("clean"), p.path("keep/clean")))
		ok(t, "a directory that no rule is about", os.Rename(p.path("clean"), p.path("cleaner")))
		holds(t, p.path("cleaner/deep/f"), "content of clean/deep/f")
		for _, l := range [][2]string{{"keep/f", "f"}, {"log/f", "f"}, {"free", "log/free"}, {"tree/deep/key.pem", "key"}} {
			refused(t, fmt.Sprint("link ", l), os.Link(p.path(l[0]), p.path(l[1])))
		}
		if !p.s3 {
			ok(t, "link", os.Link(p.path("free"), p.path("free2")))
			refused(t, "a file with two names goes elsewhere", os.Rename(p.path("free2"), p.path("log/free2")))
		}
		ok(t, "symlink", os.Symlink("tree/deep/key.pem", p.path("link")))
		_, err := os.ReadFile(p.path("link"))
		refused(t, "through a link", err)
		ok(t, "symlink", os.Symlink("log/f", p.path("link2")))
		refused(t, "through a link", os.WriteFile(p.path("link2"), nil, 0o644))
		p.unchanged("keep/f", "tree/deep/key.pem", "log/f", "free")
	})
}

// Names that differ only in case, or in how Unicode writes their letters, have
// the stricter of the rights that the rules give to both, on every route: there
// are host directories that take them for the same. Segments of dots are gone
// before a name gets to a rule.
func TestRulesIgnoreCase(t *testing.T) {
	withRules(t, `
- {path: "/*/Secret/**", access: none}
- {path: "/*/gr\u00fc\u00dfe", access: none}
`, []string{"SECRET/key", "Secret/key", "GRU\u0308SSE", "f"}, func(t *testing.T, p ruled) {
		for _, name := range []string{"Secret/key", "SECRET/key", "GRU\u0308SSE", "x/../Secret/key", ".//./Secret/./key"} {
			_, err := os.ReadFile(p.dir + "/" + name)
			if name[0] == 'x' {
				isErr(t, "read", err, syscall.ENOENT) // there is no x
				continue
			}
			refused(t, "read "+name, err)
		}
		for _, name := range []string{"secreT/new", "gr\u00fcsse", "gr\u00fc\u00dfe"} {
			if err := os.WriteFile(p.path(name), nil, 0o644); err == nil {
				t.Errorf("%q was made", name)
			}
		}
		p.unchanged("SECRET/key", "Secret/key", "GRU\u0308SSE")
	})
}
