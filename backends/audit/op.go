// Package audit wraps a store or a file system and tells what is done to it:
// each operation that changes or opens something to a [Log], which may refuse
// it beforehand, and each that failed, whatever it was, to whoever explains
// failures.
//
// It stands outside everything else, so what it tells is what callers asked
// for and what they got. It never tells contents: not those of files, of
// extended attributes or of symbolic links.
package audit

import (
	"context"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/names"
	"github.com/agentfs/agentfs/backends/process"
)

// Kind is what an operation is, by the name of its system call as far as there
// is one.
type Kind string

// Operations that a [Log] records.
const (
	Open        Kind = "open"
	Close       Kind = "close" // the end of an open file, with what was read and written
	OpenDir     Kind = "opendir"
	Create      Kind = "create"
	Put         Kind = "put" // a whole file at the object depth
	Copy        Kind = "copy"
	Mkdir       Kind = "mkdir"
	Mknod       Kind = "mknod"
	Symlink     Kind = "symlink"
	Link        Kind = "link"
	Unlink      Kind = "unlink"
	Rmdir       Kind = "rmdir"
	Remove      Kind = "remove" // a file or an empty directory at the object depth
	Rename      Kind = "rename"
	SetAttr     Kind = "setattr"
	SetXattr    Kind = "setxattr"
	RemoveXattr Kind = "removexattr"
	Allocate    Kind = "fallocate"
	// Stored is no call of anybody: a store has a content that was changed
	// before, and its version is known.
	Stored Kind = "stored"
)

// Operations that are told only when they fail.
const (
	Lookup    Kind = "lookup"
	GetAttr   Kind = "getattr"
	ReadDir   Kind = "readdir"
	Readlink  Kind = "readlink"
	GetXattr  Kind = "getxattr"
	Read      Kind = "read"
	Write     Kind = "write"
	Flush     Kind = "flush" // what close(2) hears
	Sync      Kind = "fsync"
	CopyRange Kind = "copy_file_range"
)

// Op is one operation.
type Op struct {
	Time   time.Time // when it began
	Kind   Kind
	Caller backends.Caller
	// Process and Exe say, if there is a Log, which process that was and what it
	// ran; zero if it can't be seen. Of a Close they are those of the open.
	Process process.Process
	Exe     string
	// Path is what it was done to, as a name of a [backends.Store]. Of a file
	// without a name it is the last one; "" if it is not known.
	Path string
	// To is the new name of a Rename, Link or Copy.
	To string
	// Xattr is the name of an extended attribute.
	Xattr string
	// Flags are those of an Open, Create or Close, as of package os.
	Flags int
	// Set says what a SetAttr changes.
	Set backends.AttrMask
	// Read and Written are the bytes that were moved, of a Close by all that
	// was done with the file. What a program reads from the kernel's pages
	// does not come here and isn't counted.
	Read, Written int64
	// Before and After are the versions of the content at To, else at Path,
	// before and after the operation; "" where there is none or the store does
	// not know it yet.
	Before, After backends.Version
	// Err is how it ended. Of a Close it is the first error of what was done
	// with the file.
	Err error

	// internal: nobody has called; the program itself did, for its own ends.
	internal bool
}

// Log records operations. Its methods may be called by many goroutines at once,
// and do not block.
type Log interface {
	// Reserve makes sure that there is room for records, or refuses the
	// operation that they would be about with an error that matches
	// [backends.ErrNotRecorded]. What was reserved is either recorded or
	// released.
	Reserve(records int) error
	// Record records an operation, for which room was reserved.
	Record(*Op)
	// Release gives room back.
	Release(records int)
}

// Config says who is told what.
type Config struct {
	// Log records; nil records nothing.
	Log Log
	// Failed is told every operation that failed, after a Log; nil isn't. It is
	// called by the failed operation, before its caller hears of it.
	Failed func(*Op)
	// Made is told every name that came into being; nil isn't.
	Made func(path string)
	// Skip reports whether nothing at and below this path is told.
	Skip func(path string) bool
	// Self is the caller where the context has none. Without it, a call that has
	// none is the program's own, whose failure nobody is told.
	Self backends.Caller

	// Paths is for the file depth: it knows the nodes' names. Nil makes one.
	Paths *names.Tracker
	// Processes is required with a Log.
	Processes *process.Table
}

// begin returns an operation that begins now.
func (c *Config) begin(ctx context.Context, k Kind, path, to string) *Op {
	caller, ok := backends.CallerFrom(ctx)
	if !ok {
		caller = c.Self
	}
	internal := !ok && c.Self == backends.Caller{}
	op := &Op{Time: time.Now(), Kind: k, Path: path, To: to, Caller: caller, internal: internal}
	if c.Log != nil && k != Close {
		if p, ok := c.Processes.Of(caller.PID); ok {
			op.Process, op.Exe = p, p.Exe()
		}
	}
	return op
}

func (c *Config) skips(path string) bool { return c.Skip != nil && c.Skip(path) }

// run makes the operation op with do and tells it.
func (c *Config) run(op *Op, do func() error) error {
	if c.skips(op.Path) {
		return do()
	}
	if c.Log != nil {
		if err := c.Log.Reserve(1); err != nil {
			op.Err = err
			c.fail(op)
			return err
		}
	}
	op.Err = do()
	if c.Log != nil {
		c.Log.Record(op)
	}
	c.fail(op)
	return op.Err
}

// made tells that a name came into being.
func (c *Config) made(path string) {
	if c.Made != nil && path != "" {
		c.Made(path)
	}
}

// fail tells op if it failed.
func (c *Config) fail(op *Op) {
	if op.Err != nil && c.Failed != nil && !op.internal && !c.skips(op.Path) {
		c.Failed(op)
	}
}
