package exec

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	osexec "os/exec"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/agentfs/agentfs/backends"
)

// DefaultTimeout is how long a program may take to answer a request.
const DefaultTimeout = 30 * time.Second

// Config says which program is asked.
type Config struct {
	// Command is the program and its arguments. A name without a slash is
	// looked for in PATH.
	Command []string
	// Timeout is how long one answer may take; 0 is DefaultTimeout.
	Timeout time.Duration
	// Identity says what the program serves, for the cache; "" is made of the
	// command.
	Identity string
	// Log takes what the program writes to its standard error, and when it
	// ends. nil is silence.
	Log *slog.Logger
}

// Store is a program that is asked.
type Store struct {
	keeper   *keeper
	identity string
	// How long the program may take to end.
	end, term time.Duration
}

var (
	_ backends.Store           = (*Store)(nil)
	_ backends.Closer          = (*Store)(nil)
	_ backends.Identifier      = (*Store)(nil)
	_ backends.NameChecker     = (*Store)(nil)
	_ backends.Walker          = (*Store)(nil)
	_ backends.Copier          = (*Store)(nil)
	_ backends.Renamer         = (*Store)(nil)
	_ backends.ManyRemover     = (*Store)(nil)
	_ backends.UsageReporter   = (*Store)(nil)
	_ backends.FeatureReporter = (*Store)(nil)
	_ backends.Opener          = Open
)

// Open takes the options of a route: "command", a list, "timeout" and
// "identity". The program is not started before the first request.
func Open(_ context.Context, o *backends.Options) (backends.Store, error) {
	c := Config{Log: o.Log, Command: o.Strings("command")}
	c.Timeout = o.Duration("timeout", DefaultTimeout)
	c.Identity = o.String("identity", "")
	if c.Timeout == 0 {
		o.Fail("timeout", "an answer needs some time; leave it out for %s", DefaultTimeout)
	}
	s, err := New(c)
	if err != nil {
		o.Fail("command", "%v", err)
	}
	if err := o.Close(); err != nil {
		return nil, err
	}
	return s, nil
}

// New returns the store that a program serves.
func New(c Config) (*Store, error) {
	if len(c.Command) == 0 || c.Command[0] == "" {
		return nil, errors.New("is required: the program and its arguments, as in [python3, /srv/store.py]")
	}
	path, err := osexec.LookPath(c.Command[0])
	if err != nil {
		for cause := err; cause != nil; cause = errors.Unwrap(cause) {
			err = cause // the last one names nothing again
		}
		return nil, fmt.Errorf("there is no program %s to run: %w", c.Command[0], err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	s := &Store{identity: c.Identity, end: endGrace, term: termGrace}
	if s.identity == "" {
		// Arguments may be secrets, so only their digest tells two apart.
		sum := sha256.Sum256([]byte(strings.Join(c.Command[1:], "\x00")))
		s.identity = fmt.Sprintf("%s#%x", path, sum[:6])
	}
	c.Command = append([]string{path}, c.Command[1:]...)
	s.keeper = newKeeper(c)
	return s, nil
}

// Identity returns the option of that name, or the program with a digest of
// its arguments.
func (s *Store) Identity() string { return "exec:" + s.identity }

// Close ends the program. No call may follow.
func (s *Store) Close() error {
	s.keeper.close(s.end, s.term)
	return nil
}

// maxName is the length of the longest name in bytes, PATH_MAX of Linux.
const maxName = 4096

// CheckName implements [backends.NameChecker].
func (s *Store) CheckName(name string) error { return checkName("create", name) }

func checkName(op, name string) error {
	if err := backends.CheckName(op, name); err != nil {
		return err
	}
	fail := func(err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }
	if !utf8.ValidString(name) {
		return fail(backends.ErrIllegalName)
	}
	if len(name) > maxName {
		return fail(backends.ErrNameTooLong)
	}
	for seg := range strings.SplitSeq(name, "/") {
		if len(seg) > backends.MaxNameLen {
			return fail(backends.ErrNameTooLong)
		}
	}
	return nil
}

// ask makes a request about r.Name. op is how an error calls it.
func (s *Store) ask(ctx context.Context, op string, r request) (reply, error) {
	if err := checkName(op, r.Name); err != nil {
		return reply{}, err
	}
	session, err := s.keeper.get(ctx)
	if err != nil {
		return reply{}, wrap(op, r.Name, err)
	}
	a, err := session.ask(ctx, r)
	return a, wrap(op, r.Name, err)
}

// wrap returns err as one of op on name.
func wrap(op, name string, err error) error { return backends.WrapPath(op, name, err) }

// with returns the running program if it has a feature.
func (s *Store) with(ctx context.Context, op, name, feature string) (*session, error) {
	session, err := s.keeper.get(ctx)
	if err == nil && !session.has(feature) {
		err = errors.ErrUnsupported
	}
	return session, wrap(op, name, err)
}

// Stat implements [backends.Store].
func (s *Store) Stat(ctx context.Context, name string) (backends.Entry, error) {
	a, err := s.ask(ctx, "stat", request{Op: "stat", Name: name})
	if err != nil {
		return backends.Entry{}, err
	}
	e, err := a.entry(name)
	return e, wrap("stat", name, err)
}

// Mkdir implements [backends.Store]. Attributes are not kept.
func (s *Store) Mkdir(ctx context.Context, name string, _ backends.AttrChange) error {
	_, err := s.ask(ctx, "mkdir", request{Op: "mkdir", Name: name, If: &condition{Absent: true}})
	return err
}

// Remove implements [backends.Store].
func (s *Store) Remove(ctx context.Context, name string, cond backends.If) error {
	_, err := s.ask(ctx, "remove", request{Op: "remove", Name: name, If: conditionOf(cond)})
	return err
}

// Open implements [backends.Store]. A content is asked for piece by piece,
// each when the one before it was read.
func (s *Store) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	p, err := s.piece(ctx, name, r.Off, r.Len, cond)
	if err != nil {
		return nil, backends.Entry{}, err
	}
	e := p.entry
	rd := &reader{s: s, ctx: ctx, entry: e, left: p.body, off: r.Off + int64(len(p.body)), end: e.Size}
	if r.Len > 0 && r.Len < e.Size-r.Off {
		rd.end = r.Off + r.Len
	}
	return rd, e, nil
}

// piece is a section of a content, and the entry of the whole.
type piece struct {
	entry backends.Entry
	body  []byte
}

// piece asks for at most length bytes from off, 0 for all to the end, and gets
// at most as many as a frame holds.
func (s *Store) piece(ctx context.Context, name string, off, length int64, cond backends.If) (piece, error) {
	if length <= 0 || length > MaxBody {
		length = MaxBody
	}
	cond.Absent = false
	a, err := s.ask(ctx, "read", request{Op: "read", Name: name, Off: off, Len: length, If: conditionOf(cond)})
	if err != nil {
		return piece{}, err
	}
	e, err := a.file(name)
	if err == nil && cond.Match != "" && e.Version != cond.Match {
		err = fmt.Errorf("the program answers with the version %.100q for %.100q", e.Version, cond.Match)
	}
	if want := min(length, max(e.Size-off, 0)); err == nil && int64(len(a.body)) != want {
		err = fmt.Errorf("the program answers with %d bytes from %d of %d; %d were asked for", len(a.body), off, e.Size, want)
	}
	return piece{e, a.body}, wrap("read", name, err)
}

// reader reads one version of a content.
type reader struct {
	s        *Store
	ctx      context.Context
	entry    backends.Entry
	left     []byte // of the last piece
	off, end int64  // what was not asked for
	closed   bool
}

func (r *reader) Read(b []byte) (int, error) {
	if r.closed {
		return 0, fs.ErrClosed
	}
	if len(b) == 0 {
		return 0, nil
	}
	if len(r.left) == 0 {
		if r.off >= r.end {
			return 0, io.EOF
		}
		p, err := r.s.piece(r.ctx, r.entry.Name, r.off, r.end-r.off, backends.If{Match: r.entry.Version})
		if errors.Is(err, fs.ErrNotExist) {
			err = &fs.PathError{Op: "read", Path: r.entry.Name, Err: backends.ErrChanged}
		}
		if err != nil {
			return 0, err
		}
		r.left = p.body
		r.off += int64(len(p.body))
	}
	n := copy(b, r.left)
	r.left = r.left[n:]
	return n, nil
}

func (r *reader) Close() error {
	r.closed = true
	return nil
}
