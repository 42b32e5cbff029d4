package policy_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
	"github.com/agentfs/agentfs/backends/policy"
)

// guard is a file system with rules, and the one behind it.
type guard struct {
	*testing.T
	ctx    context.Context
	f, raw backends.FileSystem
}

// guardOf makes a file system with these rules (see rulesOf) over these files;
// a name that ends in a slash is a directory.
func guardOf(t *testing.T, rules string, files ...string) *guard {
	t.Helper()
	g := &guard{T: t, ctx: backends.WithCaller(t.Context(), backends.Caller{UID: 1})}
	g.raw = memorytest.New(t, memory.Config{NoTmpfs: true}).FileSystem()
	for _, name := range files {
		dir := g.raw.Root()
		segs := strings.Split(strings.TrimSuffix(name, "/"), "/")
		for i, seg := range segs {
			n, _, err := g.raw.Lookup(t.Context(), dir, seg)
			switch {
			case err == nil:
			case i < len(segs)-1 || strings.HasSuffix(name, "/"):
				n, _, err = g.raw.Mkdir(t.Context(), dir, seg, backends.CreateAttr{Mode: fs.ModeDir | 0o755})
			default:
				var h backends.File
				if n, _, h, err = g.raw.Create(t.Context(), dir, seg, os.O_RDWR, backends.CreateAttr{Mode: 0o644}); err == nil {
					_, err = h.WriteAt(t.Context(), []byte("0123456789"), 0)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			dir = n
		}
	}
	g.f = guarded(g.raw, newPolicy(t, rulesOf(rules)))
	return g
}

// as returns g for another user.
func (g *guard) as(uid uint32) *guard {
	h := *g
	h.ctx = backends.WithCaller(g.Context(), backends.Caller{UID: uid})
	return &h
}

// at returns the node of a path that can be looked up.
func (g *guard) at(path string) backends.Node {
	g.Helper()
	n := g.f.Root()
	for seg := range strings.SplitSeq(path, "/") {
		if seg == "" || seg == "." {
			continue
		}
		var err error
		if n, _, err = g.f.Lookup(g.ctx, n, seg); err != nil {
			g.Fatalf("lookup of %s: %v", path, err)
		}
	}
	return n
}

func (g *guard) dirOf(path string) (backends.Node, string) {
	g.Helper()
	i := strings.LastIndexByte("/"+path, '/')
	return g.at(path[:i]), path[i:]
}

// The operations on a path, each as the error that it ends in.
func (g *guard) lookup(path string) error {
	dir, name := g.dirOf(path)
	_, _, err := g.f.Lookup(g.ctx, dir, name)
	return err
}

func (g *guard) open(path string, flags int) error {
	h, err := g.f.Open(g.ctx, g.at(path), flags)
	if err == nil {
		err = h.Close(g.ctx)
	}
	return err
}

func (g *guard) create(path string) error {
	dir, name := g.dirOf(path)
	_, _, h, err := g.f.Create(g.ctx, dir, name, os.O_RDWR|os.O_CREATE|os.O_EXCL, backends.CreateAttr{Mode: 0o644})
	if err == nil {
		err = h.Close(g.ctx)
	}
	return err
}

func (g *guard) mkdir(path string) error {
	dir, name := g.dirOf(path)
	_, _, err := g.f.Mkdir(g.ctx, dir, name, backends.CreateAttr{Mode: fs.ModeDir | 0o755})
	return err
}

func (g *guard) symlink(path string) error {
	dir, name := g.dirOf(path)
	_, _, err := backends.SymlinkAt(g.ctx, g.f, dir, name, "x", backends.CreateAttr{})
	return err
}

func (g *guard) unlink(path string) error {
	dir, name := g.dirOf(path)
	return g.f.Unlink(g.ctx, dir, name)
}

func (g *guard) rename(from, to string, flags ...backends.RenameFlags) error {
	dir, name := g.dirOf(from)
	dir2, name2 := g.dirOf(to)
	return g.f.Rename(g.ctx, dir, name, dir2, name2, append(flags, 0)[0])
}

func (g *guard) link(from, to string) error {
	dir, name := g.dirOf(to)
	_, err := backends.LinkAt(g.ctx, g.f, g.at(from), dir, name)
	return err
}

func (g *guard) setAttr(path string, c backends.AttrChange) error {
	_, err := g.f.SetAttr(g.ctx, g.at(path), c)
	return err
}

func (g *guard) readDir(path string) (string, error) {
	es, err := g.f.ReadDir(g.ctx, g.at(path))
	var names []string
	for _, e := range es {
		names = append(names, e.Name)
	}
	return strings.Join(names, " "), err
}

// denied fails unless err is a refusal.
func (g *guard) denied(what string, err error) {
	g.Helper()
	if !errors.Is(err, fs.ErrPermission) {
		g.Errorf("%s: %v, want a refusal", what, err)
	}
}

func (g *guard) ok(what string, err error) {
	g.Helper()
	if err != nil {
		g.Errorf("%s: %v", what, err)
	}
}

func (g *guard) absent(what string, err error) {
	g.Helper()
	if !errors.Is(err, fs.ErrNotExist) {
		g.Errorf("%s: %v, want that it isn't there", what, err)
	}
}

var (
	now    = backends.AttrChange{Set: backends.SetMtime, Mtime: time.Unix(1, 0), Now: backends.SetMtime}
	past   = backends.AttrChange{Set: backends.SetMtime, Mtime: time.Unix(1, 0)}
	empty  = backends.AttrChange{Set: backends.SetSize}
	mode   = backends.AttrChange{Set: backends.SetMode, Mode: 0o600}
	isTrue = map[bool]string{true: "allowed", false: "refused"}
)

// Every operation under every access: + is allowed, - refused.
func TestAccesses(t *testing.T) {
	for _, c := range []struct {
		op    string
		do    func(g *guard) error
		gives string // write, append, read, none
	}{
		{"lookup", func(g *guard) error { return g.lookup("d/f") }, "++++"},
		{"open to read", func(g *guard) error { return g.open("d/f", os.O_RDONLY) }, "+++-"},
		{"open to write", func(g *guard) error { return g.open("d/f", os.O_WRONLY) }, "++--"},
		{"open to read and write", func(g *guard) error { return g.open("d/f", os.O_RDWR|os.O_APPEND) }, "++--"},
		{"open with O_TRUNC", func(g *guard) error { return g.open("d/f", os.O_WRONLY|os.O_TRUNC) }, "+---"},
		{"open to read with O_TRUNC", func(g *guard) error { return g.open("d/f", os.O_RDONLY|os.O_TRUNC) }, "+---"},
		{"truncate", func(g *guard) error { return g.setAttr("d/f", empty) }, "+---"},
		{"chmod", func(g *guard) error { return g.setAttr("d/f", mode) }, "+---"},
		{"touch", func(g *guard) error { return g.setAttr("d/f", now) }, "++--"},
		{"touch -d", func(g *guard) error { return g.setAttr("d/f", past) }, "+---"},
		{"create", func(g *guard) error { return g.create("d/new") }, "++--"},
		{"mkdir", func(g *guard) error { return g.mkdir("d/new") }, "++--"},
		{"symlink", func(g *guard) error { return g.symlink("d/new") }, "++--"},
		{"unlink", func(g *guard) error { return g.unlink("d/f") }, "+---"},
		{"rmdir", func(g *guard) error { return g.f.Rmdir(g.ctx, g.at("d"), "e") }, "+---"},
		{"rename from", func(g *guard) error { return g.rename("d/f", "free/new") }, "+---"},
		{"rename to", func(g *guard) error { return g.rename("free/f", "d/new") }, "++--"},
		{"rename over", func(g *guard) error { return g.rename("free/f", "d/f") }, "+---"},
		{"exchange", func(g *guard) error { return g.rename("free/f", "d/f", backends.RenameExchange) }, "+---"},
		{"rename a directory to", func(g *guard) error { return g.rename("free/dir", "d/new") }, "++--"},
		{"link from", func(g *guard) error { return g.link("d/f", "free/new") }, "+---"},
		{"link to", func(g *guard) error { return g.link("free/f", "d/new") }, "+---"},
		{"link within", func(g *guard) error { return g.link("d/f", "d/new") }, "++--"},
		{"readdir", func(g *guard) error { _, err := g.readDir("d"); return err }, "+++-"},
		{"opendir", func(g *guard) error { return backends.OpenDirAt(g.ctx, g.f, g.at("d")) }, "+++-"},
		{"setxattr", func(g *guard) error {
			return backends.SetXattrAt(g.ctx, g.f, g.at("d/f"), "user.x", nil, 0)
		}, "+---"},
		{"getxattr", func(g *guard) error {
			_, err := backends.GetXattrAt(g.ctx, g.f, g.at("d/g"), "user.x")
			if errors.Is(err, backends.ErrNoXattr) {
				return nil
			}
			return err
		}, "+++-"},
		{"listxattr", func(g *guard) error { _, err := backends.ListXattrAt(g.ctx, g.f, g.at("d/f")); return err }, "++++"},
		{"readlink", func(g *guard) error {
			_, err := backends.ReadlinkAt(g.ctx, g.f, g.at("d/f"))
			if errors.Is(err, fs.ErrInvalid) {
				return nil // not a link, but asked
			}
			return err
		}, "+++-"},
	} {
		for i, access := range []string{"write", "append", "read", "none"} {
			// The rule is about one user, so nothing is shut for all.
			g := guardOf(t, access+" u1 /d/**", "d/f", "d/g", "d/e/", "free/f", "free/dir/")
			got := true
			if err := c.do(g); errors.Is(err, fs.ErrPermission) {
				got = false
			} else if err != nil {
				t.Errorf("%s, %s: %v", access, c.op, err)
			}
			if want := c.gives[i] == '+'; got != want {
				t.Errorf("%s, %s: %s", access, c.op, isTrue[got])
			}
			if c.op != "link within" && !strings.HasPrefix(c.op, "link") {
				if err := c.do(g.as(2)); errors.Is(err, fs.ErrPermission) {
					t.Errorf("%s, %s: refused to a user whom the rule is not about", access, c.op)
				}
			}
		}
	}
}

func TestHide(t *testing.T) {
	g := guardOf(t, "hide /d/h*\nread /d/h/pub/**\nhide .git", "d/h/pub/x", "d/hf", "d/f", "only/.git", "e/f", "dir/.git")
	g.absent("lookup", g.lookup("d/h"))
	g.absent("lookup", g.lookup("d/H"))
	g.denied("create", g.create("d/h2"))
	g.denied("mkdir", g.mkdir("d/h"))
	g.denied("mkdir", g.mkdir("d/.git"))
	g.absent("unlink", g.unlink("d/hf"))
	g.absent("rename from", g.rename("d/hf", "d/g"))
	g.denied("rename to", g.rename("d/f", "d/h2"))
	g.denied("rename over", g.rename("d/f", "d/hf"))
	g.denied("link to", g.link("d/f", "d/h2"))
	g.denied("a directory with a hidden name moves", g.rename("dir", "dir2"))
	g.denied("a directory goes where it would hide something", g.rename("e", "d/h3"))
	if got, err := g.readDir("d"); got != "f" || err != nil {
		t.Errorf("listed: %q, %v", got, err)
	}
	if got, err := g.readDir("only"); got != "" || err != nil {
		t.Errorf("listed: %q, %v", got, err)
	}
	if err := g.f.Rmdir(g.ctx, g.f.Root(), "only"); !errors.Is(err, backends.ErrNotEmpty) {
		t.Errorf("rmdir of what holds only hidden names: %v", err)
	}
	a, err := g.f.Attr(g.ctx, g.at("d"))
	if err != nil || a.Nlink != 1 {
		t.Errorf("%d links, %v: hidden directories can be counted", a.Nlink, err)
	}
}

// Where nobody may do anything, nothing can even be looked up; on the way to
// what a rule further up allows, it can.
func TestNoneIsShut(t *testing.T) {
	g := guardOf(t, "read /a/pub/**\nnone /a\nnone u1 /b", "a/pub/x", "a/key", "b/key")
	g.denied("lookup", g.lookup("a/key"))
	g.denied("lookup of what isn't there", g.lookup("a/nope"))
	g.ok("lookup on the way", g.lookup("a/pub"))
	g.ok("read", g.open("a/pub/x", os.O_RDONLY))
	g.ok("lookup where others may", g.lookup("b/key"))
	g.denied("open where others may", g.open("b/key", os.O_RDONLY))
	g.ok("open by another one", g.as(2).open("b/key", os.O_RDONLY))
	if _, err := g.readDir("a"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("readdir: %v", err)
	}
}

func TestLinksKeepRights(t *testing.T) {
	g := guardOf(t, "append /log/**\nread u2 /b", "a", "b", "log/x", "d/e/f")
	g.denied("to other rights", g.link("log/x", "y"))
	g.denied("from other rights", g.link("a", "log/y"))
	g.denied("to other rights of another user", g.link("b", "c"))
	g.denied("from what may only be read", g.as(2).link("b", "c"))
	g.ok("to the same rights", g.link("a", "a2"))
	g.ok("to the same rights", g.link("log/x", "log/x2"))
	g.denied("a file with two names gets one with other rights", g.rename("a2", "log/a2"))
	g.ok("a file with one name", g.rename("d/e/f", "log/f"))
	// The kernel has forgotten the first name; there are still two.
	g.f.Forget(g.at("a"))
	g.denied("forgotten", g.rename("a2", "log/a2"))
	g.ok("link", g.link("a", "d/e/a"))
	g.denied("a directory with such a file", g.rename("d", "log/d"))
	g.ok("to the same rights", g.rename("d", "d2"))
}

// What lies below a directory is moved with it.
func TestRenameLooksBelow(t *testing.T) {
	for _, c := range []struct {
		rules, from, to string
		allowed         bool
	}{
		{"none **/.env", "clean", "x", true},
		{"none **/.env", "deep", "x", false},
		{"read /x/d/e", "deep", "x", true},
		{"read /x/d/.env", "deep", "x", false},
		{"read /deep/d", "deep", "x", false},
		{"none u2 **/.env", "deep", "x", true},
		{"append /log/**", "deep", "log/x", true},
		{"append /deep/d/.env", "deep", "x", false},
		{"write /**\nnone .env", "deep", "x", true},
		{"hide /x/d", "deep", "x", false},
	} {
		g := guardOf(t, c.rules, "deep/d/.env", "clean/f", "log/")
		err := g.rename(c.from, c.to)
		if got := err == nil; got != c.allowed {
			t.Errorf("%q: %s to %s: %s: %v", c.rules, c.from, c.to, isTrue[got], err)
		}
		g = guardOf(t, c.rules, "deep/d/.env", "clean/f", "log/", c.to+"/")
		if err := g.rename(c.from, c.to, backends.RenameExchange); (err == nil) != (c.allowed && !strings.HasPrefix(c.to, "log/")) {
			t.Errorf("%q: exchange of %s and %s: %v", c.rules, c.from, c.to, err)
		}
	}
}

func TestAppend(t *testing.T) {
	g := guardOf(t, "append u1 /log/**\nread u3 /log/**", "log/f", "log/g", "free")
	open := func(g *guard, path string) backends.File {
		h, err := g.f.Open(g.ctx, g.at(path), os.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Close(t.Context()) })
		return h
	}
	write := func(h backends.File, off int64) error {
		_, err := h.WriteAt(g.ctx, []byte("xx"), off)
		return err
	}
	h := open(g, "log/f")
	g.denied("below the size", write(h, 9))
	g.ok("at the size", write(h, 10))
	g.denied("below the size, after that", write(h, 9))
	g.ok("over what it has written itself", write(h, 10))
	g.denied("fallocate below", h.(backends.Allocator).Allocate(g.ctx, 0, 4, 0))
	g.ok("fallocate behind", h.(backends.Allocator).Allocate(g.ctx, 12, 4, 0))
	if h.(backends.DirectIOer).DirectIO() != true {
		t.Error("it may be mapped")
	}
	src := open(g, "free")
	_, err := backends.CopyRangeAt(g.ctx, g.f, src, 0, h, 0, 4)
	g.denied("copy_file_range below", err)
	if _, err = backends.CopyRangeAt(g.ctx, g.f, src, 0, h, 20, 4); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("copy_file_range behind: %v", err)
	}
	for _, x := range []backends.File{h, src, open(g.as(2), "log/f")} {
		if _, ok := x.(backends.Descriptor).Descriptor(); ok {
			t.Error("the kernel may write by itself")
		}
	}
	// Who may shortens it: the end is where it is now.
	g.ok("truncate", g.as(2).setAttr("log/f", empty))
	g.ok("at the new end", write(h, 0))
	// A handle from before the file came here.
	old := open(g, "free")
	g.ok("write", write(old, 0))
	g.ok("rename", g.rename("free", "log/new"))
	g.denied("below the size, with an old handle", write(old, 0))
	g.ok("behind it, with an old handle", write(old, 10))
}

// The errors say which rule it is, but of what is hidden nothing.
func TestDeniedSaysWhy(t *testing.T) {
	p := newPolicy(t, policy.Config{Rules: []policy.Rule{{Pattern: "/d/**", Access: policy.Read, Source: "f.yaml:3"}, {Pattern: "/h", Access: policy.Hide, Source: "f.yaml:4"}}})
	f := guarded(memorytest.New(t, memory.Config{NoTmpfs: true}).FileSystem(), p)
	_, _, err := f.Mkdir(t.Context(), f.Root(), "d", backends.CreateAttr{Mode: fs.ModeDir | 0o755})
	var d *policy.Denied
	if !errors.As(err, &d) || !strings.Contains(err.Error(), "f.yaml:3") || !strings.Contains(d.Remedy(), "agentfs explain") {
		t.Errorf("mkdir: %v", err)
	}
	_, _, err = f.Mkdir(t.Context(), f.Root(), "h", backends.CreateAttr{Mode: fs.ModeDir | 0o755})
	if !errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "yaml") {
		t.Errorf("mkdir of a hidden name: %v", err)
	}
}
