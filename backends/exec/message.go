package exec

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// protocol is the version of the protocol that this package speaks.
const protocol = 1

// The optional things that a program can say of itself in its hello.
const (
	featureWalk       = "walk"
	featureCopy       = "copy"
	featureRename     = "rename"
	featureRemoveMany = "remove_many"
	featureUsage      = "usage"
	// featureOperation: entries keep the operation that made the content.
	featureOperation = "operation"
)

// features are all that there are, with what a store without one does.
var features = []struct{ name, otherwise string }{
	{featureWalk, "directories are listed one by one"},
	{featureCopy, "a copy is read and put again"},
	{featureRename, "a rename is a copy and a removal"},
	{featureRemoveMany, "names are removed one by one"},
	{featureUsage, "df shows no capacity"},
	{featureOperation, "a change whose answer was lost is told from somebody else's by its content"},
}

// request is what a program is asked. Fields that an operation has no use for
// are left out.
type request struct {
	ID        uint64     `json:"id"`
	Op        string     `json:"op"`
	Name      string     `json:"name,omitempty"`
	If        *condition `json:"if,omitempty"`
	To        string     `json:"to,omitempty"`
	ToIf      *condition `json:"to_if,omitempty"`
	After     string     `json:"after,omitempty"`
	Limit     int        `json:"limit,omitempty"`
	Off       int64      `json:"off,omitempty"`
	Len       int64      `json:"len,omitempty"`
	Size      int64      `json:"size,omitempty"`
	More      bool       `json:"more,omitempty"`
	Operation string     `json:"operation,omitempty"`
	Removals  []removal  `json:"removals,omitempty"`
	Protocols []int      `json:"protocols,omitempty"`
}

type condition struct {
	Match  backends.Version `json:"match,omitempty"`
	Absent bool             `json:"absent,omitempty"`
}

// conditionOf returns c for a message; nothing where nothing is asked.
func conditionOf(c backends.If) *condition {
	if c == (backends.If{}) {
		return nil
	}
	return &condition{Match: c.Match, Absent: c.Absent}
}

type removal struct {
	Name string     `json:"name"`
	If   *condition `json:"if,omitempty"`
	Dir  bool       `json:"dir,omitempty"`
}

// answer is what a program answers.
type answer struct {
	ID uint64 `json:"id"`
	failure
	Wait    bool      `json:"wait"`
	More    bool      `json:"more"`
	Entry   *entry    `json:"entry"`
	Entries []entry   `json:"entries"`
	Errors  []failure `json:"errors"`
	Usage   *usage    `json:"usage"`

	Protocol int      `json:"protocol"`
	Features []string `json:"features"`
	Parallel int      `json:"parallel"`
}

type failure struct {
	Error   string `json:"error"`
	Message string `json:"message"`
}

type usage struct {
	TotalBytes uint64 `json:"total_bytes"`
	FreeBytes  uint64 `json:"free_bytes"`
	TotalFiles uint64 `json:"total_files"`
	FreeFiles  uint64 `json:"free_files"`
}

type entry struct {
	Name      string           `json:"name"`
	Type      string           `json:"type"`
	Size      int64            `json:"size"`
	Mtime     float64          `json:"mtime"` // seconds since 1970
	Version   backends.Version `json:"version"`
	Operation string           `json:"operation"`
}

// failures are the errors that have a name in the protocol.
var failures = map[string]error{
	"not_exist":     fs.ErrNotExist,
	"exist":         fs.ErrExist,
	"permission":    fs.ErrPermission,
	"invalid":       fs.ErrInvalid,
	"changed":       backends.ErrChanged,
	"is_dir":        backends.ErrIsDir,
	"not_dir":       backends.ErrNotDir,
	"not_empty":     backends.ErrNotEmpty,
	"no_space":      backends.ErrNoSpace,
	"too_large":     backends.ErrTooLarge,
	"name_too_long": backends.ErrNameTooLong,
	"illegal_name":  backends.ErrIllegalName,
	"busy":          backends.ErrBusy,
	"read_only":     backends.ErrReadOnly,
	"not_permitted": backends.ErrNotPermitted,
	"unsupported":   errors.ErrUnsupported,
}

// err returns the error that f stands for, nil if it is none.
func (f failure) err() error {
	if f.Error == "" {
		return nil
	}
	known, ok := failures[f.Error]
	switch {
	case ok && f.Message == "":
		return known
	case ok:
		return fmt.Errorf("%w (%.500s)", known, f.Message)
	}
	return fmt.Errorf("the program failed: %.50s: %.500s", f.Error, f.Message)
}

// entry returns the entry that the answer has for name.
func (a *answer) entry(name string) (backends.Entry, error) {
	if a.Entry == nil {
		return backends.Entry{}, errors.New("the program's answer has no entry")
	}
	e := *a.Entry
	if e.Name == "" {
		e.Name = name
	}
	if e.Name != name {
		return backends.Entry{}, fmt.Errorf("the program answers with the entry of %.300q", e.Name)
	}
	return e.decode()
}

// file is entry for what has to be a file.
func (a *answer) file(name string) (backends.Entry, error) {
	e, err := a.entry(name)
	if err == nil && e.IsDir() {
		err = errors.New("the program answers with a directory where there is a file")
	}
	return e, err
}

// decode checks e, whose name is known to be right.
func (e entry) decode() (backends.Entry, error) {
	d := backends.Entry{Name: e.Name}
	sec, frac := math.Modf(e.Mtime)
	if math.Abs(sec) < 1<<40 {
		d.ModTime = time.Unix(int64(sec), int64(frac*1e9))
	}
	switch e.Type {
	case "dir":
		d.Mode = fs.ModeDir
		return d, nil
	case "file":
	default:
		return d, fmt.Errorf("the program's entry of %.300q has the type %.50q; there are file and dir", e.Name, e.Type)
	}
	switch {
	case e.Version == "":
		return d, fmt.Errorf("the program's entry of %.300q has no version", e.Name)
	case e.Size < 0:
		return d, fmt.Errorf("the program's entry of %.300q has the size %d", e.Name, e.Size)
	}
	d.Size, d.Version, d.Operation = e.Size, e.Version, e.Operation
	return d, nil
}

// greeting checks the answer to a hello.
func (a *answer) greeting() error {
	if a.Protocol != protocol {
		return fmt.Errorf("it speaks version %d of the protocol, and this agentfs %d", a.Protocol, protocol)
	}
	for _, name := range a.Features {
		known := slices.ContainsFunc(features, func(f struct{ name, otherwise string }) bool { return f.name == name })
		if !known {
			return fmt.Errorf("it says that it has %.50q, which version %d of the protocol doesn't know", name, protocol)
		}
	}
	if a.Parallel < 0 {
		return fmt.Errorf("it wants %d requests at once", a.Parallel)
	}
	return nil
}
