package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/audit"
	"github.com/agentfs/agentfs/cmd/agentfs/lasterror"
	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
	fusefs "github.com/agentfs/agentfs/fs"
)

// lastErrorPage is .agentfs/last-error for whoever reads it.
func (m *mounted) lastErrorPage(ctx context.Context) ([]byte, error) {
	all, relation := m.failed.Of(ctx)
	var b bytes.Buffer
	if len(all) == 0 {
		b.WriteString("No call of yours has failed here, as far as this mount has seen. What the kernel answers by itself (a name\n" +
			"that it knows to be absent, permissions by mode and owner, reads and writes of a file that it passes through, a mount\n" +
			"that is read-only as a whole) it has not.\n")
		return b.Bytes(), nil
	}
	now := time.Now()
	last := &all[0]
	fmt.Fprintf(&b, "%s, %s ago:\n\n", whose(last, relation), last.Age(now))
	m.writeFailure(ctx, &b, last)
	if len(all) > 1 {
		fmt.Fprint(&b, "\nBefore that:\n\n")
		for i := range all[1:] {
			f := &all[i+1]
			fmt.Fprintf(&b, "  %s ago: %s: %s (%s)\n", f.Age(now), called(&f.Op), errnoName(f.Kind, f.Err), runBy(f))
		}
	}
	return b.Bytes(), nil
}

// whose says whose failure it is.
func whose(f *lasterror.Failure, relation int) string {
	who := runBy(f)
	switch {
	case f.Process.PID == 0:
		return "The last failed call of a process of user " + fmt.Sprint(f.Caller.UID) + " in a pid namespace that this mount can't see"
	case relation == 0:
		return "The last failed call of your process or of one that it has started, " + who
	case relation == 1:
		return "The last failed call of your parent process or of what it has started, " + who
	}
	return fmt.Sprintf("The last failed call in your family of processes (%d generations up), %s", relation, who)
}

func runBy(f *lasterror.Failure) string {
	switch {
	case f.Process.PID == 0:
		return "a process that can't be seen"
	case f.Exe != "":
		return fmt.Sprintf("%s, pid %d", printable(f.Exe), f.Process.PID)
	}
	return fmt.Sprintf("pid %d", f.Process.PID)
}

// called returns the call as people write it.
func called(op *audit.Op) string {
	s := string(op.Kind) + " "
	if op.Path == "" {
		s += "(a file whose path is not known)"
	} else {
		s += printable(protocol.Path(op.Path, false))
	}
	if op.To != "" {
		s += " to " + printable(protocol.Path(op.To, false))
	}
	return s
}

func (m *mounted) writeFailure(ctx context.Context, w io.Writer, f *lasterror.Failure) {
	errno := fusefs.Errno(string(f.Kind), f.Err)
	r := m.routeFor(ctx, f.Path)
	fmt.Fprintf(w, "  call:   %s\n", called(&f.Op))
	fmt.Fprintf(w, "  errno:  %s (%s)\n", unix.ErrnoName(errno), errno)
	fmt.Fprintf(w, "  cause:  %s\n", cause(f.Err))
	if r != nil {
		fmt.Fprintf(w, "  route:  %s, %s\n", r.path, r.String())
	}
	fmt.Fprintf(w, "  to do:  %s\n", m.remedyFor(ctx, f, r))
}

// cause returns what err says, on one line, without what may be a secret in a
// URL.
func cause(err error) string {
	words := strings.Fields(printable(briefly(err)))
	for i, word := range words {
		if strings.Contains(word, "://") {
			words[i] = redact(word)
		}
	}
	return strings.Join(words, " ")
}

// routeFor returns the route that serves the name, nil if it is not known or not
// to be known.
func (m *mounted) routeFor(ctx context.Context, name string) *mountedRoute {
	if name == "" {
		return nil
	}
	path := m.config.routeOf(protocol.Path(name, false))
	for i := range m.routes {
		if m.routes[i].path == path && m.sees(ctx)(path) {
			return &m.routes[i]
		}
	}
	return nil
}

// remedyFor says what to do instead.
func (m *mounted) remedyFor(ctx context.Context, f *lasterror.Failure, r *mountedRoute) string {
	var known backends.Remedier
	is := func(err error) bool { return errors.Is(f.Err, err) }
	stored := r != nil && r.cache != nil
	switch {
	case errors.As(f.Err, &known):
		return known.Remedy()
	case is(backends.ErrReadOnly):
		return "this route takes no changes" + m.writableRoutes(ctx)
	case is(backends.ErrNotRecorded):
		return "try again in a moment; if it stays so, whoever runs the mount has to make room for the audit (agentfs status)"
	case is(backends.ErrChanged):
		return "somebody else has changed the file in the store; nothing is lost: cat .agentfs/conflicts, read the file again and repeat the change on what is there now"
	case is(backends.ErrNoSpace) && stored:
		return "the disk space for what is not stored yet is used up: wait for uploads (agentfs sync, cat .agentfs/pending) and try again"
	case is(backends.ErrNoSpace):
		return "the route's size is used up (cat .agentfs/routes): remove something, or write to another route"
	case is(unix.EDQUOT):
		return "a quota of the host is used up: remove something, or write to another route"
	case is(backends.ErrTooLarge):
		return "the store can't hold a file of this size: split it, or write it to another route"
	case is(backends.ErrNameTooLong):
		return "use a shorter name: /.agentfs/AGENTS.md has the limits"
	case is(backends.ErrIllegalName):
		return "the store can't hold a name with these bytes: use valid UTF-8 without control characters"
	case is(backends.ErrReserved):
		return "names that begin with .agentfs are reserved: choose another"
	case is(backends.ErrBusy):
		return "a route begins there, which only the configuration can move or remove: work on what is in it"
	case is(backends.ErrNotEmpty):
		return "remove what is in the directory first (rm -r)"
	case is(errors.ErrUnsupported) && (f.Kind == audit.Rename || f.Kind == audit.Link):
		return "this works within one route only, and not in every store: copy the file and remove the old one, as mv and cp do"
	case is(errors.ErrUnsupported):
		return "the route's store can't do this; /.agentfs/AGENTS.md says what it can"
	case is(fs.ErrPermission) && stored:
		return "the store refuses this mount's credentials (403) or has rules of its own; nothing done here changes that: tell whoever runs the mount, or write to another route"
	case is(fs.ErrPermission):
		return "you have no permission: look at the owner and mode (ls -l) of the file and its directory"
	case is(context.Canceled), is(unix.EINTR):
		return "the call was interrupted: repeat it"
	case f.Kind == audit.Lookup && is(fs.ErrNotExist):
		return "there is no such name: list the directory (ls), and mind the spelling; if your error was another one, the kernel gave it by itself after looking (EACCES: see owner and mode of the directory)"
	case is(fs.ErrNotExist):
		return "there is no such name: list the directory (ls), and mind the spelling"
	case is(fs.ErrExist):
		return "the name is taken: choose another, or open what is there"
	case is(backends.ErrIsDir), is(backends.ErrNotDir):
		return "look at what is there (ls -ld), a file or a directory"
	case is(context.DeadlineExceeded), stored && fusefs.Errno(string(f.Kind), f.Err) == unix.EIO:
		return "the store does not answer as it should: try again; cat .agentfs/errors says what can't be stored, and what is not stored yet is kept on this machine"
	}
	return "try again; if it stays so, whoever runs the mount finds more in its log"
}

// writableRoutes says where changes are taken.
func (m *mounted) writableRoutes(ctx context.Context) string {
	var all []string
	for _, r := range m.routes {
		if !r.readOnly && m.sees(ctx)(r.path) {
			all = append(all, r.path)
		}
	}
	if len(all) == 0 {
		return ", and no other route does: write outside the mount"
	}
	return ": write to another one (" + strings.Join(all, ", ") + ")"
}
