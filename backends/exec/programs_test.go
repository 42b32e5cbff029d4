package exec_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// programs are what the test binary can be: one that serves, and those that
// break something.
var programs = map[string]func(){
	"memory": serveMemory,
	"host":   beHost,
	"sink":   serveSink,

	// What ends.
	"exits at once":     func() { fmt.Fprintln(os.Stderr, "no configuration"); os.Exit(3) },
	"old protocol":      func() { m, _ := receive(os.Stdin); send(m, message{"protocol": 0}, nil); receive(os.Stdin) },
	"unknown feature":   func() { greet(os.Stdin, "time travel"); receive(os.Stdin) },
	"exits when asked":  answering(func(message) { os.Exit(7) }),
	"killed when asked": answering(func(message) { syscall.Kill(os.Getpid(), syscall.SIGKILL) }),
	"exits in a frame":  answering(func(message) { os.Stdout.Write([]byte{0, 0, 0, 9, 0, 0, 0, 0, '{'}); os.Exit(0) }),
	"closes its output": answering(func(message) { os.Stdout.Close() }),

	// What is no answer.
	"prints":         answering(func(message) { fmt.Println("got a request!") }),
	"long content":   answering(func(message) { os.Stdout.Write([]byte{0, 0, 0, 2, 0xff, 0, 0, 0, '{', '}'}) }),
	"no JSON":        answering(func(message) { os.Stdout.Write([]byte{0, 0, 0, 2, 0, 0, 0, 0, '{', '{'}) }),
	"unasked answer": answering(func(m message) { send(message{"id": 999}, message{}, nil) }),
	"two answers": answering(func(m message) {
		for range 3 {
			send(m, message{"more": true}, nil)
		}
	}),

	// What hangs.
	"never answers": answering(func(message) {}),
	"never reads":   func() { greet(os.Stdin); select {} },
	"answers the rest": answering(func(m message) {
		if m.str("name") != "stuck" {
			send(m, fileAnswer(m, nil), nil)
		}
	}),
	"slow but alive": answering(func(m message) {
		for range 10 {
			time.Sleep(60 * time.Millisecond)
			send(m, message{"wait": true}, nil)
		}
		send(m, fileAnswer(m, nil), nil)
	}),

	// What ends badly.
	"ignores the end": func() { greet(os.Stdin); io.Copy(io.Discard, os.Stdin); select {} },
	"ignores SIGTERM": func() {
		signal.Ignore(syscall.SIGTERM)
		child := osexec.Command("sleep", "1000")
		child.Stdout, child.Stderr = os.Stdout, os.Stderr // so that they stay open
		if err := child.Start(); err != nil {
			panic(err)
		}
		greet(os.Stdin)
		m, _ := receive(os.Stdin)
		send(m, message{"entry": message{"name": m["name"], "type": "file", "version": "v", "size": child.Process.Pid}}, nil)
		io.Copy(io.Discard, os.Stdin)
		select {}
	},

	// What makes no sense.
	"another name":    answering(func(m message) { send(m, fileAnswer(m, message{"name": "other"}), nil) }),
	"no version":      answering(func(m message) { send(m, fileAnswer(m, message{"version": ""}), nil) }),
	"no size":         answering(func(m message) { send(m, fileAnswer(m, message{"size": -1}), nil) }),
	"no type":         answering(func(m message) { send(m, fileAnswer(m, message{"type": "socket"}), nil) }),
	"no entry":        answering(func(m message) { send(m, message{}, nil) }),
	"a directory":     answering(func(m message) { send(m, fileAnswer(m, message{"type": "dir"}), nil) }),
	"short content":   answering(func(m message) { send(m, fileAnswer(m, nil), []byte("1234")) }),
	"unknown error":   answering(func(m message) { send(m, message{"error": "quota", "message": "ask Bob"}, nil) }),
	"wants more":      answering(func(m message) { send(m, message{"more": true}, nil) }),
	"wrong order":     listing("b", "a"),
	"twice":           listing("a", "a"),
	"of elsewhere":    listing("d/x"),
	"above itself":    listing(".."),
	"no last page":    answering(func(m message) { send(m, message{"entries": []message{}, "more": true}, nil) }),
	"few errors":      answeringWith([]string{"remove_many"}, func(m message) { send(m, message{"errors": []message{}}, nil) }),
	"another version": answering(func(m message) { send(m, fileAnswer(m, message{"version": "v2"}), []byte("12345")) }),
}

func answering(f func(message)) func() { return answeringWith(nil, f) }

// answeringWith is a program that greets and calls f for every request, and
// ends at the end of its input.
func answeringWith(features []string, f func(message)) func() {
	return func() {
		in := bufio.NewReader(os.Stdin)
		greet(in, features...)
		for {
			m, _ := receive(in)
			if m.str("op") != "cancel" {
				f(m)
			}
		}
	}
}

// listing is a program whose directories have these names.
func listing(names ...string) func() {
	return answering(func(m message) {
		var entries []message
		for _, n := range names {
			entries = append(entries, message{"name": n, "type": "file", "version": "v"})
		}
		send(m, message{"entries": entries}, nil)
	})
}

// fileAnswer is the answer that the name is a file of 5 bytes, changed by but.
func fileAnswer(m, but message) message {
	e := message{"name": m["name"], "type": "file", "version": "v", "size": 5}
	for k, v := range but {
		e[k] = v
	}
	return message{"entry": e}
}

// serveSink takes contents of any size and keeps nothing, and has one of
// 96 MiB under every name.
func serveSink() {
	in := bufio.NewReader(os.Stdin)
	greet(in)
	sizes := map[any]int64{}
	for {
		m, body := receive(in)
		switch m.str("op") {
		case "put", "data":
			sizes[m["id"]] += int64(len(body))
			if m["more"] == true {
				send(m, message{"more": true}, nil)
				continue
			}
			send(m, message{"entry": message{"type": "file", "version": "v", "size": sizes[m["id"]]}}, nil)
		case "read":
			off, n := m.num("off"), m.num("len")
			send(m, fileAnswer(m, message{"size": large}), []byte(strings.Repeat("x", int(min(n, max(large-off, 0))))))
		}
	}
}

const large = 96 << 20
