package exec_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/exec"
	"github.com/agentfs/agentfs/backends/memory"
)

// programVariable makes the test binary a program that is asked: one of
// programs.
const programVariable = "EXEC_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if name := os.Getenv(programVariable); name != "" {
		programs[name]()
		return
	}
	os.Exit(m.Run())
}

// program returns the configuration of one of programs.
func program(t testing.TB, name string) exec.Config {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exec.Config{Command: []string{"/usr/bin/env", programVariable + "=" + name, "GORACE=atexit_sleep_ms=0", exe}}
}

// message is a request as a program sees it, and what it answers.
type message map[string]any

func (m message) str(key string) string { s, _ := m[key].(string); return s }

func (m message) num(key string) int64 { n, _ := m[key].(float64); return int64(n) }

func (m message) cond(key string) (c backends.If) {
	cond, _ := m[key].(map[string]any)
	match, _ := cond["match"].(string)
	c.Match = backends.Version(match)
	c.Absent, _ = cond["absent"].(bool)
	return c
}

var output sync.Mutex

// receive reads one request; it ends the program at the end of the input.
func receive(in io.Reader) (message, []byte) {
	var head [8]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		os.Exit(0)
	}
	text := make([]byte, binary.BigEndian.Uint32(head[:]))
	body := make([]byte, binary.BigEndian.Uint32(head[4:]))
	io.ReadFull(in, text)
	io.ReadFull(in, body)
	m := message{}
	if err := json.Unmarshal(text, &m); err != nil {
		panic(err)
	}
	return m, body
}

// send answers the request m.
func send(m message, answer message, body []byte) {
	answer["id"] = m["id"]
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	var b bytes.Buffer
	binary.Write(&b, binary.BigEndian, uint32(len(text)))
	binary.Write(&b, binary.BigEndian, uint32(len(body)))
	b.Write(text)
	b.Write(body)
	output.Lock()
	defer output.Unlock()
	os.Stdout.Write(b.Bytes())
}

// greet answers the hello.
func greet(in io.Reader, features ...string) {
	hello, _ := receive(in)
	send(hello, message{"protocol": 1, "features": features}, nil)
}

// serveMemory serves a memory store, with all features and many requests at
// once.
func serveMemory() {
	s, err := memory.New(memory.Config{NoTmpfs: true, Size: 1 << 30})
	if err != nil {
		panic(err)
	}
	in := bufio.NewReader(os.Stdin)
	greet(in, "walk", "copy", "rename", "remove_many", "usage", "operation")
	puts := map[any]*openPut{}
	for {
		m, body := receive(in)
		op := m.str("op")
		if op == "put" || op == "data" {
			p := puts[m["id"]]
			if p == nil {
				p = &openPut{m: m}
				puts[m["id"]] = p
			}
			p.body.Write(body)
			if m["more"] == true {
				send(m, message{"more": true}, nil)
				continue
			}
			delete(puts, m["id"])
			m, body = p.m, p.body.Bytes()
		}
		if op == "cancel" {
			if puts[m["id"]] != nil {
				delete(puts, m["id"])
				send(m, message{"error": "cancelled"}, nil)
			}
			continue
		}
		go func() {
			a, content, err := serve(s, m, body)
			if err != nil {
				a = message{"error": errorName(err), "message": err.Error()}
			}
			send(m, a, content)
		}()
	}
}

type openPut struct {
	m    message
	body bytes.Buffer
}

func serve(s *memory.Store, m message, body []byte) (message, []byte, error) {
	ctx, name := context.Background(), m.str("name")
	opts := backends.PutOptions{If: m.cond("to_if"), Operation: m.str("operation")}
	switch m.str("op") {
	case "stat":
		e, err := s.Stat(ctx, name)
		return message{"entry": describe(e)}, nil, err
	case "list":
		return page(s.List(ctx, name, m.str("after")), m.num("limit"))
	case "walk":
		return page(backends.Walk(ctx, s, name, m.str("after")), m.num("limit"))
	case "read":
		r, e, err := s.Open(ctx, name, backends.Range{Off: m.num("off"), Len: m.num("len")}, m.cond("if"))
		if err != nil {
			return nil, nil, err
		}
		defer r.Close()
		content, err := io.ReadAll(r)
		return message{"entry": describe(e)}, content, err
	case "put":
		opts.If = m.cond("if")
		e, err := s.Put(ctx, name, io.NewSectionReader(bytes.NewReader(body), 0, int64(len(body))), opts)
		return message{"entry": describe(e)}, nil, err
	case "mkdir":
		return message{}, nil, s.Mkdir(ctx, name, backends.AttrChange{})
	case "remove":
		return message{}, nil, s.Remove(ctx, name, m.cond("if"))
	case "copy":
		e, err := backends.Copy(ctx, s, name, m.cond("if"), m.str("to"), opts)
		return message{"entry": describe(e)}, nil, err
	case "rename":
		return message{}, nil, s.Rename(ctx, name, m.cond("if"), m.str("to"), m.cond("to_if"))
	case "remove_many":
		var rs []backends.Removal
		for _, r := range m["removals"].([]any) {
			r := message(r.(map[string]any))
			rs = append(rs, backends.Removal{Name: r.str("name"), If: r.cond("if"), Dir: r["dir"] == true})
		}
		errs := []message{}
		for _, err := range backends.RemoveMany(ctx, s, rs) {
			errs = append(errs, message{"error": errorName(err)})
		}
		return message{"errors": errs}, nil, nil
	case "usage":
		u, err := s.Usage(ctx)
		return message{"usage": message{"total_bytes": u.TotalBytes, "free_bytes": u.FreeBytes}}, nil, err
	}
	return nil, nil, errors.ErrUnsupported
}

func page(all iter.Seq2[backends.Entry, error], limit int64) (message, []byte, error) {
	entries := []message{}
	for e, err := range all {
		if err != nil {
			return nil, nil, err
		}
		if int64(len(entries)) == limit {
			return message{"entries": entries, "more": true}, nil, nil
		}
		entries = append(entries, describe(e))
	}
	return message{"entries": entries}, nil, nil
}

func describe(e backends.Entry) message {
	if e.IsDir() {
		return message{"name": e.Name, "type": "dir"}
	}
	return message{"name": e.Name, "type": "file", "size": e.Size, "version": e.Version, "operation": e.Operation,
		"mtime": float64(e.ModTime.UnixMicro()) / 1e6}
}

// errorName returns the protocol's name for err.
func errorName(err error) string {
	if err == nil {
		return ""
	}
	for name, known := range exec.Failures {
		if errors.Is(err, known) && name != "exist" {
			return name
		}
	}
	if errors.Is(err, os.ErrExist) {
		return "exist"
	}
	return "io"
}

func section(content string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(content), 0, int64(len(content)))
}

func put(t testing.TB, s backends.Store, name, content string) backends.Entry {
	t.Helper()
	e, err := s.Put(t.Context(), name, section(content), backends.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func wantContent(t testing.TB, s backends.Store, name, want string) {
	t.Helper()
	r, _, err := s.Open(t.Context(), name, backends.Range{}, backends.If{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != want {
		t.Fatalf("%s holds %d bytes, %v; want %d", name, len(got), err, len(want))
	}
}

// wantFailure checks that err says want and is none of the errors that have an
// errno of their own, so that the mount shows it as EIO.
func wantFailure(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("the error is %v, want one that says %q", err, want)
	}
	for name, known := range exec.Failures {
		if errors.Is(err, known) {
			t.Fatalf("%v counts as %s", err, name)
		}
	}
	if !strings.Contains(fmt.Sprintf("%T", err), "PathError") {
		t.Errorf("%v is a %T and names nothing", err, err)
	}
}
