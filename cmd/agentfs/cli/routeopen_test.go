package cli

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/exec"
	"github.com/agentfs/agentfs/backends/local"
	"github.com/agentfs/agentfs/backends/memory"
)

// testProgram has memory and a backend that forgets to close its options.
func testProgram() *program {
	return &program{backends: map[string]backends.Opener{
		"memory": memory.Open,
		"local":  local.Open,
		"exec":   exec.Open,
		"lax": func(context.Context, *backends.Options) (backends.Store, error) {
			return memory.New(memory.Config{Size: 1 << 20})
		},
	}}
}

// Options of a route are refused with the line where they stand.
func TestRouteOptions(t *testing.T) {
	p := testProgram()
	for _, c := range []struct{ name, text, want string }{
		{"unknown backend", "routes:\n  /: {backend: ftp}\n", `F:2: unknown backend "ftp"; there are exec, lax, local, memory`},
		{"durability", "routes:\n  /:\n    backend: memory\n    durability: never\n", `F:4: durability: "never" is not a durability; there are writeback and close`},
		{"fetches", "routes:\n  /:\n    backend: memory\n    fetches: 0\n", `F:4: fetches: "0" is not a whole number from 1 to 1024`},
		{"open_files", "routes:\n  /:\n    backend: memory\n    open_files: 7\n", `F:4: open_files: "7" is not a whole number from 8 to 1048576`},
		{"entries", "routes:\n  /:\n    backend: memory\n    entries: many\n", `F:4: entries: "many" is not a whole number from 100 to 1099511627776`},
		{"uploads", "routes:\n  /:\n    backend: memory\n    uploads: 0\n", `F:4: uploads: "0" is not a whole number from 1 to 1024`},
		{"grace", "routes:\n  /:\n    backend: memory\n    grace: 100\n", `F:4: grace: "100" is not a length of time (write it as 5s, 100ms or 2m)`},
		{"attributes", "routes:\n  /:\n    backend: memory\n    attributes: some\n", `F:4: attributes: "some" is neither on nor off`},
		{"ttl", "routes:\n  /:\n    backend: memory\n    ttl: 5\n", `F:4: ttl: "5" is not a length of time (write it as 5s, 100ms or 2m)`},
		{"mode", "routes:\n  /:\n    backend: memory\n    file_mode: rw\n", `F:4: file_mode: "rw" is not a mode (write it in octal, as 0644)`},
		{"set-uid", "routes:\n  /:\n    backend: memory\n    file_mode: 4755\n", `F:4: file_mode: 4755 has more than permission bits`},
		{"read_only", "routes:\n  /:\n    backend: memory\n    read_only: maybe\n", `F:4: read_only: "maybe" is neither true nor false`},
		{"unknown option", "routes:\n  /:\n    backend: memory\n    sizes: 1\n", `F:4: sizes: unknown option; this route knows `},
		{"refused twice", "routes:\n  /:\n    backend: memory\n    uid: -1\n", `F:4: uid: "-1" is not a whole number from 0 to 4294967294`},
		{"no room", "routes:\n  /:\n    backend: memory\n    size: 0\n", `F:4: size: 0 leaves no room for anything; write a size such as 2GiB, or leave it out for half of the machine's memory`},
		{"same store", "routes:\n  /t: {backend: local, path: .}\n  /u: {backend: local, path: .}\n", `F:3: routes /t (F:2) and /u name the same store, local:D; keep one of them`},
		{"list", "routes:\n  /:\n    backend: memory\n    size: [1, 2]\n", `F:4: size: is one value, not a list`},
		{"no command", "routes:\n  /x:\n    backend: exec\n", `F:2: command: is required: the program and its arguments, as in [python3, /srv/store.py]`},
		{"no program", "routes:\n  /x:\n    backend: exec\n    command: [./none]\n", `F:4: command: there is no program D/none to run: no such file or directory`},
		{"exec option", "routes:\n  /x:\n    backend: exec\n    command: ['true']\n    args: [x]\n", `F:5: args: unknown option; this route knows `},
		{"lax opener", "routes:\n  /:\n    backend: lax\n    sizes: 1\n", `F:4: sizes: unknown option; this route knows `},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := writeConfig(t, c.text)
			conf, err := readConfig(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.openAll(t.Context(), conf, false, slog.New(slog.DiscardHandler))
			if err == nil {
				t.Fatal("no error")
			}
			got := strings.ReplaceAll(strings.ReplaceAll(err.Error(), file, "F"), filepath.Dir(file), "D")
			if got != c.want && (!strings.HasSuffix(c.want, " ") || !strings.HasPrefix(got, c.want)) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if exitStatus(err) != exitUsage {
				t.Errorf("exit status %d, want %d", exitStatus(err), exitUsage)
			}
		})
	}
}

// What the options of the cache come to.
func TestCacheOptions(t *testing.T) {
	for url, want := range map[string]generic{
		"memory:":                      {},
		"memory:?durability=writeback": {durability: durabilityWriteback},
		"memory:?durability=close":     {durability: durabilityClose},
		"memory:?uploads=8&grace=2s":   {uploads: 8, grace: 2 * time.Second},
		"memory:?grace=0s":             {grace: -1},
		"memory:?readahead=8MiB":       {readAhead: 8 << 20},
		"memory:?readahead=0":          {readAhead: -1},
		"memory:?fetches=7":            {fetches: 7},
		"memory:?open_files=100":       {openFiles: 100},
		"memory:?entries=5000":         {entries: 5000},
		"memory:?attributes=off":       {noAttributes: true},
		"memory:?attributes=on":        {},
	} {
		rc, err := parseRouteURL("/", url, "test", ".")
		if err != nil {
			t.Fatal(err)
		}
		g := takeGeneric(backends.NewOptions("test", nil, rc.values))
		got := generic{durability: g.durability, uploads: g.uploads, grace: g.grace, noAttributes: g.noAttributes, readAhead: g.readAhead, fetches: g.fetches, openFiles: g.openFiles, entries: g.entries}
		if got != want {
			t.Errorf("%s: %+v, want %+v", url, got, want)
		}
	}
	conf, err := readConfig(writeConfig(t, "routes:\n  /: {backend: memory, attributes: off, uploads: 0x10, durability: writeback}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	o := backends.NewOptions("test", nil, conf.routes[0].values)
	if g := takeGeneric(o); !g.noAttributes || g.uploads != 16 || g.durability != durabilityWriteback {
		t.Errorf("from YAML: %+v", g)
	}
}

func TestRouteReadOnly(t *testing.T) {
	conf, err := readConfig("", []string{"/=memory:", "/ro=memory:?read_only"})
	if err != nil {
		t.Fatal(err)
	}
	for _, all := range []bool{false, true} {
		open, err := testProgram().openAll(t.Context(), conf, all, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range open {
			err := r.store.Mkdir(t.Context(), "d", backends.AttrChange{})
			if wantErr := all || r.path == "/ro"; (err != nil) != wantErr {
				t.Errorf("%s, all read-only %v: mkdir %v", r.path, all, err)
			}
		}
		closeAll(open, slog.New(slog.DiscardHandler))
	}
}
