package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// call asks a worker for one operation; answer is what it says.
type call struct {
	Op    string
	Files int   `json:",omitempty"`
	Size  int64 `json:",omitempty"` // bytes of the data file, or of each small file
	Block int   `json:",omitempty"` // bytes per read or write
}

type answer struct {
	Nanos int64
	Steps []time.Duration `json:",omitempty"` // if the operation has some
	Err   string          `json:",omitempty"`
}

// worker is the client of a mount: a process of its own that does one operation
// after another in one directory and says how long each took. A process that
// both served and used a mount would measure its own scheduler.
type worker struct {
	dir string
	cmd *exec.Cmd
	in  io.WriteCloser
	ask *json.Encoder
	out *json.Decoder
}

func (b *bench) startWorker(dir string) (*worker, error) {
	cmd := exec.Command(b.self, "worker", dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	return &worker{dir: dir, cmd: cmd, in: in, ask: json.NewEncoder(in), out: json.NewDecoder(out)}, nil
}

// do has the worker do c and returns how long it took.
func (w *worker) do(c call) (time.Duration, error) {
	a, err := w.answer(c)
	return time.Duration(a.Nanos), err
}

// steps has the worker do c and returns how long each of its steps took.
func (w *worker) steps(c call) ([]time.Duration, error) {
	a, err := w.answer(c)
	return a.Steps, err
}

func (w *worker) answer(c call) (a answer, err error) {
	if err := w.ask.Encode(c); err != nil {
		return a, fmt.Errorf("worker: %w", err)
	}
	if err := w.out.Decode(&a); err != nil {
		return a, fmt.Errorf("worker: %w", err)
	}
	if a.Err != "" {
		return a, errors.New(a.Err)
	}
	return a, nil
}

// stop ends the worker: it ends when its input does.
func (w *worker) stop() error {
	return errors.Join(w.in.Close(), w.cmd.Wait())
}

// workerMain is "bench worker DIR": it reads calls from standard input and
// answers on standard output until there are no more.
func workerMain(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: bench worker DIR")
		return 2
	}
	c := &client{dir: args[0]}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var q call
		switch err := in.Decode(&q); {
		case errors.Is(err, io.EOF):
			return 0
		case err != nil:
			fmt.Fprintln(os.Stderr, "worker:", err)
			return 1
		}
		var a answer
		began := time.Now()
		if err := c.do(q); err != nil {
			a.Err = fmt.Sprintf("%s: %v", q.Op, err)
		}
		a.Nanos = int64(time.Since(began))
		a.Steps, c.steps = c.steps, nil
		if err := out.Encode(a); err != nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			return 1
		}
	}
}
