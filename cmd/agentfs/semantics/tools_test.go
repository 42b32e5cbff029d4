package semantics

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// git works on the mount: init, add, commit, status, log, branch, checkout, gc
// and fsck, with a clean status where nothing was changed. What is cloned from
// the mount is what was committed there.
func TestGit(t *testing.T) {
	need(t, "git", "git")
	src := sourceTree(t)
	onBoth(t, func(t *testing.T, p place) {
		repo := p.path("repo")
		git := func(args ...string) string {
			t.Helper()
			cmd := exec.Command("git", append([]string{"-C", repo, "-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "safe.directory=*", "-c", "gc.auto=0"}, args...)...)
			cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("git %v: %v\n%s", args, err, out)
			}
			return strings.TrimSpace(string(out))
		}
		mkdir(t, repo)
		git("init", "-q", "-b", "main")
		run(t, "/", "cp", "-r", filepath.Join(src.dir, "encoding/json"), filepath.Join(src.dir, "encoding/hex"), repo)
		git("add", ".")
		git("commit", "-q", "-m", "first")
		if s := git("status", "--porcelain"); s != "" {
			t.Errorf("status after the commit: %s", s)
		}
		git("checkout", "-q", "-b", "work")
		write(t, filepath.Join(repo, "hex/hex.go"), "package hex\n")
		ok(t, "remove", os.Remove(filepath.Join(repo, "json/decode.go")))
		if s := git("status", "--porcelain"); s != "M hex/hex.go\n D json/decode.go" {
			t.Errorf("status after changes: %q", s)
		}
		git("commit", "-q", "-am", "second")
		git("checkout", "-q", "main")
		git("merge", "-q", "--no-ff", "-m", "third", "work")
		git("gc", "-q", "--aggressive", "--prune=now")
		if out := git("fsck", "--full", "--strict"); strings.Contains(out, "error") || strings.Contains(out, "missing") {
			t.Errorf("fsck: %s", out)
		}
		if s := git("status", "--porcelain"); s != "" {
			t.Errorf("status at the end: %s", s)
		}
		if n := git("rev-list", "--count", "HEAD"); n != "3" {
			t.Errorf("%s commits", n)
		}
		settle()
		clone := filepath.Join(t.TempDir(), "clone")
		git("clone", "-q", repo, clone)
		run(t, "/", "diff", "-r", "-x", ".git", repo, clone)
	})
}

// sqlite3 works on the mount with its rollback journal, between the processes
// of one mount, and integrity_check is content. So does WAL, whose shared
// memory file is mapped by processes of the same mount. On S3 what is sent
// after a commit is the whole database, or megabytes of a large one: keep it
// small, or elsewhere.
func TestSQLite(t *testing.T) {
	need(t, "sqlite3", "sqlite3")
	onBoth(t, func(t *testing.T, p place) {
		for _, mode := range []string{"delete", "wal"} {
			db := p.path(mode + ".db")
			sql := func(script string) string {
				t.Helper()
				return strings.TrimSpace(run(t, p.dir, "sqlite3", "-cmd", ".timeout 20000", db, script))
			}
			if got := sql("pragma journal_mode=" + mode + "; create table t(id integer primary key, v text);"); got != mode {
				t.Errorf("journal mode %s", got)
			}
			sql("with recursive n(i) as (select 1 union all select i+1 from n where i<2000) insert into t select i, hex(randomblob(50)) from n;")
			sql("begin; delete from t where id%3=0; rollback;")
			// Two processes at once: locks keep them apart.
			cmds := [2]*exec.Cmd{}
			for i := range cmds {
				var script strings.Builder
				for range 15 {
					script.WriteString("insert into t(v) values('from a process');\n")
				}
				cmds[i] = exec.Command("sqlite3", "-cmd", ".timeout 20000", db)
				cmds[i].Stdin = strings.NewReader(script.String())
				ok(t, "start", cmds[i].Start())
			}
			for _, c := range cmds {
				ok(t, "sqlite3", c.Wait())
			}
			sql("update t set v='changed' where id%5=0; delete from t where id%7=0; vacuum;")
			if got := sql("pragma integrity_check; select count(*) from t where v='from a process' or id<=2000;"); !strings.HasPrefix(got, "ok\n") {
				t.Errorf("%s: %s", mode, got)
			}
			if p.s3 && mode == "delete" {
				local := filepath.Join(t.TempDir(), "copy.db")
				content, _ := p.object("delete.db")
				write(t, local, content)
				if got := strings.TrimSpace(run(t, "/", "sqlite3", local, "pragma integrity_check")); got != "ok" {
					t.Errorf("the object: %s", got)
				}
			}
		}
	})
}

// A Go module that lies on the mount can be built, tested and run there, build
// cache and output included.
func TestGoBuild(t *testing.T) {
	onBoth(t, func(t *testing.T, p place) {
		write(t, p.path("go.mod"), "module example.org/m\n\ngo 1.26\n")
		mkdir(t, p.path("dep"))
		write(t, p.path("dep/dep.go"), "package dep\n\nfunc Text() string { return \"built on the mount\" }\n")
		write(t, p.path("main.go"), "package main\n\nimport \"example.org/m/dep\"\n\nfunc main() { println(dep.Text()) }\n")
		cmd := exec.Command("go", "build", "-o", "out/program", ".")
		cmd.Dir = p.dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "CGO_ENABLED=0", "GOTMPDIR="+p.dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
		if got := run(t, p.dir, "out/program"); got != "built on the mount\n" {
			t.Errorf("the program said %q", got)
		}
		run(t, p.dir, "go", "vet", "./...")
	})
}

// Editors save on the mount, whether they write a new file and rename it over
// the old one, move the old one away as a backup, or write in place. The file
// then has the new content and its mode, and no swap or backup file is left
// that the editor did not mean to leave.
func TestEditorsSave(t *testing.T) {
	vim := ""
	for _, name := range []string{"vim", "vim.basic", "vim.tiny", "vi"} {
		if path, err := exec.LookPath(name); err == nil {
			vim = path
			break
		}
	}
	onBoth(t, func(t *testing.T, p place) {
		// The system calls of one that saves by rename.
		write(t, p.path("f"), "one\ntwo\n")
		ok(t, "chmod", os.Chmod(p.path("f"), 0o640))
		tmp := open(t, p.path(".f.swp"), os.O_RDWR|os.O_CREATE|os.O_EXCL)
		_, err := tmp.WriteString("one\nTWO\n")
		ok(t, "write", err)
		ok(t, "fchmod", tmp.Chmod(0o640))
		ok(t, "fsync", tmp.Sync())
		ok(t, "close", tmp.Close())
		ok(t, "rename", os.Rename(p.path(".f.swp"), p.path("f")))
		holds(t, p.path("f"), "one\nTWO\n")
		if m := stat(t, p.path("f")).Mode & 0o777; m != 0o640 {
			t.Errorf("mode %o", m)
		}
		if p.s3 {
			p.holdsObject("f", "one\nTWO\n")
		}
		if vim == "" {
			return
		}
		for _, how := range []string{"backupcopy=yes", "backupcopy=no", "backupcopy=auto"} {
			run(t, p.dir, vim, "-u", "NONE", "-N", "-es", "-c", "set writebackup swapfile "+how, "-c", "%s/TWO/2 "+how+"/e", "-c", "$s/$/ "+strings.TrimPrefix(how, "backupcopy=")+"/", "-c", "wq", "f")
		}
		want := "one\n2 backupcopy=yes yes no auto\n"
		holds(t, p.path("f"), want)
		if p.s3 {
			p.holdsObject("f", want)
		}
		if got := names(t, p.dir); len(got) != 1 {
			t.Errorf("left: %q", got)
		}
	})
}

// cp -a and tar keep times and modes, and shells redirect, append, use
// here-documents and temporary files as anywhere.
func TestShellAndArchives(t *testing.T) {
	onBoth(t, func(t *testing.T, p place) {
		run(t, p.dir, "sh", "-ec", `
			mkdir -p a/b; echo one > a/b/f; echo two >> a/b/f; chmod 750 a/b/f; touch -d '2001-02-03 04:05:06' a/b/f
			cat > here <<EOT
text
EOT
			cp -a a copy; tar -cf t.tar a; mkdir out; tar -xf t.tar -C out
			for f in copy/b/f out/a/b/f; do
				cmp a/b/f $f; [ "$(stat -c '%a %Y' a/b/f)" = "$(stat -c '%a %Y' $f)" ]
			done
			dd if=/dev/zero of=big bs=1M count=3 status=none; dd if=here of=big bs=1 seek=100 conv=notrunc status=none
			[ "$(stat -c %s big)" = 3145728 ]; [ "$(tail -c +101 big | head -c 4)" = text ]
			split -b 1M big part.; cat part.* | cmp - big; ln here hard 2>/dev/null || cp here hard; cmp here hard
			sort -o here here; tee -a here < a/b/f > /dev/null; [ "$(wc -l < here)" = 3 ]; gzip big; gunzip big.gz; mv part.aa x; rm part.*`)
	})
}
