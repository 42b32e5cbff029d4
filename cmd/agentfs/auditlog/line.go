package auditlog

import (
	"encoding/json"
	"os"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/audit"
)

// Line is one record. It has no field that could take a content or an option.
type Line struct {
	Time time.Time `json:"time"`
	// Op is the kind of operation, or "audit" for a record about the records
	// themselves.
	Op    string `json:"op"`
	Route string `json:"route,omitempty"`
	Path  string `json:"path,omitempty"`
	To    string `json:"to,omitempty"`
	// PathBytes and ToBytes are there, in base64, for names that are not UTF-8.
	PathBytes []byte `json:"path_bytes,omitempty"`
	ToBytes   []byte `json:"to_bytes,omitempty"`
	Xattr     string `json:"xattr,omitempty"`
	// Mode says what an open file is for: "r", "w" or "rw", with "a" for
	// appending and "t" for truncated.
	Mode string `json:"mode,omitempty"`
	// Set are the attributes that setattr changes.
	Set []string `json:"set,omitempty"`
	// PID is the process, 0 if it is in another pid namespace; TID is the
	// thread where that is another one or the process can't be seen.
	PID uint32 `json:"pid"`
	TID uint32 `json:"tid,omitempty"`
	UID uint32 `json:"uid"`
	Exe string `json:"exe,omitempty"`
	// Result is "ok" or the name of an errno; of a record about the records
	// "dropped" or "refused".
	Result  string           `json:"result"`
	Read    *int64           `json:"read,omitempty"`
	Written *int64           `json:"written,omitempty"`
	Before  backends.Version `json:"version_before,omitempty"`
	After   backends.Version `json:"version_after,omitempty"`
	// Count and Since are of a record about the records: how many operations,
	// and when the first one was.
	Count int64      `json:"count,omitempty"`
	Since *time.Time `json:"since,omitempty"`
}

// OpAudit is the kind of a [Line] about the records themselves.
const OpAudit = "audit"

// ResultOK is the result of what did not fail.
const ResultOK = "ok"

// Describer says what a record needs beyond the operation. All is required.
type Describer struct {
	// Route returns the path of the route that serves a path.
	Route func(path string) string
	// Errno returns the name of the errno that a kind of operation ends in.
	Errno func(kind audit.Kind, err error) string
}

// line returns the record of op.
func (d *Describer) line(op *audit.Op) Line {
	l := Line{
		Time: op.Time, Op: string(op.Kind), Xattr: op.Xattr, Set: attributes(op.Set), UID: op.Caller.UID,
		Result: ResultOK, Before: op.Before, After: op.After,
	}
	l.Path, l.PathBytes = text(op.Path)
	l.To, l.ToBytes = text(op.To)
	if l.Path != "" {
		l.Route = d.Route(l.Path)
	}
	if op.Err != nil {
		l.Result = d.Errno(op.Kind, op.Err)
	}
	switch op.Kind {
	case audit.Open, audit.Create, audit.Close:
		l.Mode = mode(op.Flags)
	}
	switch op.Kind {
	case audit.Close:
		l.Read, l.Written = &op.Read, &op.Written
	case audit.Put, audit.Copy:
		l.Written = &op.Written
	}
	l.PID, l.Exe = op.Process.PID, op.Exe
	if l.PID != op.Caller.PID {
		l.TID = op.Caller.PID
	}
	return l
}

// text returns the path of a name, and its bytes if it is no UTF-8.
func text(name string) (string, []byte) {
	if name == "" {
		return "", nil
	}
	p := "/" + name
	if name == "." {
		p = "/"
	}
	if !utf8.ValidString(p) {
		return p, []byte(p)
	}
	return p, nil
}

func mode(flags int) string {
	m := map[int]string{os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "rw"}[flags&syscall.O_ACCMODE]
	if flags&os.O_APPEND != 0 {
		m += "a"
	}
	if flags&os.O_TRUNC != 0 {
		m += "t"
	}
	return m
}

func attributes(set backends.AttrMask) (names []string) {
	for _, a := range []struct {
		bit  backends.AttrMask
		name string
	}{
		{backends.SetMode, "mode"}, {backends.SetUID, "uid"}, {backends.SetGID, "gid"},
		{backends.SetSize, "size"}, {backends.SetAtime, "atime"}, {backends.SetMtime, "mtime"},
	} {
		if set&a.bit != 0 {
			names = append(names, a.name)
		}
	}
	return names
}

// encode returns l as a line with its end.
func (l *Line) encode() []byte {
	b, err := json.Marshal(l)
	if err != nil {
		panic(err) // every field can be encoded
	}
	return append(b, '\n')
}
