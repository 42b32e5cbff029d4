package crash_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/rpc"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/memory"
	"github.com/agentfs/agentfs/backends/memory/memorytest"
)

// A store that outlives its clients: this process holds it, and processes that
// are killed ask it over a socket. A request that had been sent is carried out,
// as a server's is, whether or not anybody waits for the answer.

// plain hides all that a store can do beyond the six methods.
type plain struct{ backends.Store }

func newMemory(t testing.TB) *memory.Store {
	t.Helper()
	return memorytest.New(t, memory.Config{MinPart: 16 << 10, NoTmpfs: true, Size: 1 << 30})
}

// remembering is a store that keeps the operation of a put with what was put,
// as S3 does in an object's metadata, and lists subtrees in pages: small ones,
// so that a test's tree takes many.
type remembering struct {
	backends.Store
	mu  sync.Mutex
	ops map[string]backends.Entry
}

func newRemembering(s backends.Store) *remembering {
	return &remembering{Store: s, ops: map[string]backends.Entry{}}
}

const pageSize = 4

func (r *remembering) WalkPage(ctx context.Context, dir, after string) (backends.Page, error) {
	return backends.PageOf(backends.Walk(ctx, r.Store, dir, after), pageSize)
}

func (r *remembering) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	e, err := r.Store.Put(ctx, name, body, opts)
	if errors.Is(err, backends.ErrChanged) || errors.Is(err, fs.ErrExist) {
		there, mine := r.left(ctx, name, opts)
		switch {
		case mine == "":
			return e, err
		case mine == opts.Operation:
			return there, nil
		}
		opts.If = backends.If{Match: there.Version}
		e, err = r.Store.Put(ctx, name, body, opts)
	}
	if err == nil && opts.Operation != "" {
		r.mu.Lock()
		r.ops[opts.Operation] = e
		r.mu.Unlock()
	}
	return e, err
}

// Stat tells the operation, too.
func (r *remembering) Stat(ctx context.Context, name string) (backends.Entry, error) {
	e, err := r.Store.Stat(ctx, name)
	r.mu.Lock()
	defer r.mu.Unlock()
	for op, made := range r.ops {
		if err == nil && made.Name == name && made.Version == e.Version && e.Version != "" {
			e.Operation = op
		}
	}
	return e, err
}

// left returns which of the caller's operations left what is there now.
func (r *remembering) left(ctx context.Context, name string, opts backends.PutOptions) (there backends.Entry, mine string) {
	there, err := r.Stat(ctx, name)
	if err != nil || there.Version == "" {
		return there, ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, op := range append([]string{opts.Operation}, opts.Earlier...) {
		if e, ok := r.ops[op]; ok && op != "" && e.Name == name && e.Version == there.Version {
			return there, op
		}
	}
	return there, ""
}

// Question and Answer are what goes over the socket.
type Question struct {
	Name, After string
	Range       backends.Range
	If          backends.If
	Body        []byte
	Options     backends.PutOptions
	Attr        backends.AttrChange
}

type Answer struct {
	Entries []backends.Entry
	More    bool // of a page
	Body    []byte
	Failed  bool
	Err     string
	Kinds   []int // what the error matches, among kinds
}

// kinds are the errors that have to match on the other side, too.
var kinds = []error{
	fs.ErrNotExist, fs.ErrExist, fs.ErrInvalid, errors.ErrUnsupported, backends.ErrChanged, backends.ErrIsDir, backends.ErrNotDir,
	backends.ErrNotEmpty, backends.ErrNoSpace, backends.ErrBusy, backends.ErrNameTooLong, backends.ErrIllegalName,
}

func (a *Answer) fail(err error) {
	if err == nil {
		return
	}
	a.Failed, a.Err = true, err.Error()
	for i, k := range kinds {
		if errors.Is(err, k) {
			a.Kinds = append(a.Kinds, i)
		}
	}
}

func (a *Answer) err() error {
	if !a.Failed {
		return nil
	}
	return &remoteError{a.Err, a.Kinds}
}

type remoteError struct {
	text  string
	kinds []int
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Is(target error) bool {
	for _, k := range e.kinds {
		if kinds[k] == target {
			return true
		}
	}
	return false
}

// Server answers questions about a store; its methods are what package rpc
// wants.
type Server struct{ s backends.Store }

// serve makes s reachable at the socket that it returns. idle waits until
// nobody is connected any more and all that was asked is done.
func serve(t testing.TB, s backends.Store) (socket string, idle func()) {
	t.Helper()
	server := rpc.NewServer()
	if err := server.RegisterName("Store", &Server{s}); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	var mu sync.Mutex
	open := []io.Closer{l}
	var active atomic.Int64
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			active.Add(1)
			conns.Go(func() {
				defer active.Add(-1)
				server.ServeConn(conn) // returns when its requests are done
			})
		}
	})
	t.Cleanup(func() {
		mu.Lock()
		for _, c := range open {
			_ = c.Close() // its client may have gone
		}
		mu.Unlock()
		conns.Wait()
	})
	return socket, func() {
		for active.Load() > 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

func (s *Server) Stat(q Question, a *Answer) error {
	e, err := s.s.Stat(context.Background(), q.Name)
	a.Entries = []backends.Entry{e}
	a.fail(err)
	return nil
}

func (s *Server) List(q Question, a *Answer) error {
	for e, err := range s.s.List(context.Background(), q.Name, q.After) {
		if err != nil {
			a.fail(err)
			return nil
		}
		a.Entries = append(a.Entries, e)
	}
	return nil
}

func (s *Server) WalkPage(q Question, a *Answer) error {
	p, err := backends.WalkPage(context.Background(), s.s, q.Name, q.After)
	a.Entries, a.More = p.Entries, p.More
	a.fail(err)
	return nil
}

func (s *Server) Open(q Question, a *Answer) error {
	r, e, err := s.s.Open(context.Background(), q.Name, q.Range, q.If)
	if err == nil {
		a.Body, err = io.ReadAll(r)
		err = errors.Join(err, r.Close())
	}
	a.Entries = []backends.Entry{e}
	a.fail(err)
	return nil
}

func (s *Server) Put(q Question, a *Answer) error {
	e, err := s.s.Put(context.Background(), q.Name, io.NewSectionReader(bytes.NewReader(q.Body), 0, int64(len(q.Body))), q.Options)
	a.Entries = []backends.Entry{e}
	a.fail(err)
	return nil
}

func (s *Server) Mkdir(q Question, a *Answer) error {
	a.fail(s.s.Mkdir(context.Background(), q.Name, q.Attr))
	return nil
}

func (s *Server) Remove(q Question, a *Answer) error {
	a.fail(s.s.Remove(context.Background(), q.Name, q.If))
	return nil
}

// client is a store in another process.
type client struct{ c *rpc.Client }

func dial(socket string) (client, error) {
	c, err := rpc.Dial("unix", socket)
	return client{c}, err
}

func (c client) Close() error { return c.c.Close() }

func (c client) ask(ctx context.Context, what string, q Question) (*Answer, error) {
	var a Answer
	call := c.c.Go("Store."+what, q, &a, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		if call.Error != nil {
			return &Answer{Entries: make([]backends.Entry, 1)}, call.Error
		}
	case <-ctx.Done():
		return &Answer{Entries: make([]backends.Entry, 1)}, ctx.Err()
	}
	if len(a.Entries) == 0 {
		a.Entries = append(a.Entries, backends.Entry{})
	}
	return &a, a.err()
}

func (c client) one(ctx context.Context, what string, q Question) (backends.Entry, []byte, error) {
	a, err := c.ask(ctx, what, q)
	if err != nil {
		return backends.Entry{}, nil, err
	}
	return a.Entries[0], a.Body, nil
}

func (c client) Stat(ctx context.Context, name string) (backends.Entry, error) {
	e, _, err := c.one(ctx, "Stat", Question{Name: name})
	return e, err
}

func (c client) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		a, err := c.ask(ctx, "List", Question{Name: dir, After: after})
		for _, e := range a.Entries {
			if e.Name != "" && !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(backends.Entry{}, err)
		}
	}
}

func (c client) WalkPage(ctx context.Context, dir, after string) (backends.Page, error) {
	a, err := c.ask(ctx, "WalkPage", Question{Name: dir, After: after})
	if a.Entries[0].Name == "" {
		return backends.Page{}, err
	}
	return backends.Page{Entries: a.Entries, More: a.More}, err
}

func (c client) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	e, body, err := c.one(ctx, "Open", Question{Name: name, Range: r, If: cond})
	if err != nil {
		return nil, e, err
	}
	return io.NopCloser(bytes.NewReader(body)), e, nil
}

func (c client) Put(ctx context.Context, name string, body *io.SectionReader, opts backends.PutOptions) (backends.Entry, error) {
	data, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	if err != nil {
		return backends.Entry{}, err
	}
	e, _, err := c.one(ctx, "Put", Question{Name: name, Body: data, Options: opts})
	return e, err
}

func (c client) Mkdir(ctx context.Context, name string, attr backends.AttrChange) error {
	_, err := c.ask(ctx, "Mkdir", Question{Name: name, Attr: attr})
	return err
}

func (c client) Remove(ctx context.Context, name string, cond backends.If) error {
	_, err := c.ask(ctx, "Remove", Question{Name: name, If: cond})
	return err
}
