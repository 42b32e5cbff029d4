package backends

import (
	"context"
	"io"
	"iter"
)

// Store is the object depth: files addressed by name. See the package
// documentation for names, errors and concurrency.
//
// A store may have directories of its own (memory, a host directory) or only
// keys with slashes (S3). Either way it shows directories: a name is a
// directory if it was made with Mkdir and not removed, or if anything lies
// below it. Where a directory and a file share a name, the directory hides
// the file.
type Store interface {
	// Stat returns the entry of name, or an error matching [fs.ErrNotExist].
	// The root always exists.
	Stat(ctx context.Context, name string) (Entry, error)

	// List yields the direct children of directory dir, each complete, in
	// the order of [Entry.Key], beginning after the key after ("" from the
	// start). Its cost must not depend on what lies deeper. It ends after
	// yielding an error: [fs.ErrNotExist] for a missing directory,
	// [ErrNotDir] for a file. A child that appears or goes while the listing
	// runs may be in it or not; every other child is in it exactly once.
	List(ctx context.Context, dir, after string) iter.Seq2[Entry, error]

	// Open returns a reader of section r of the file name, and the entry of
	// the whole file whose bytes these are: all bytes come from that one
	// version, or reading fails with [ErrChanged]. A directory is
	// [ErrIsDir]. Of If only Match has a meaning here. The caller closes the
	// reader; ctx must stay alive until then.
	Open(ctx context.Context, name string, r Range, cond If) (io.ReadCloser, Entry, error)

	// Put makes body the content of name, all or nothing: others see the old
	// content or the new, never a mix and never a part. Missing parent
	// directories come into being with it. A directory under that name is
	// [ErrIsDir]; where a parent is a file, the store may answer [ErrNotDir]
	// or may be able to hold both. Readers that are open keep the old content
	// or get ErrChanged. The returned entry has the new version.
	//
	// The store may read body several times, at several places at once and
	// in any order, until Put returns.
	Put(ctx context.Context, name string, body *io.SectionReader, opts PutOptions) (Entry, error)

	// Mkdir makes an empty directory, and missing parents. A directory or
	// file of that name is [fs.ErrExist]. Of attr the store keeps what it can.
	Mkdir(ctx context.Context, name string, attr AttrChange) error

	// Remove removes a file or an empty directory. A directory with children
	// is [ErrNotEmpty], a missing name [fs.ErrNotExist], the root [ErrBusy].
	// With cond.Match only a file of that version is removed, else
	// [ErrChanged]; that the name is gone already may count as removed, where
	// a server's conditional removal does. The parent directory stays, even if it was there only
	// because of this child, as far as the store can keep an empty one.
	Remove(ctx context.Context, name string, cond If) error
}

// Opener opens the store that a route's options describe. It must not block
// on a network that isn't there: a store that can't be reached yet is opened,
// and its calls fail. Wrong options are errors that name the option.
type Opener func(ctx context.Context, o *Options) (Store, error)

// Identifier is implemented by stores that know what they are: two stores with
// the same identity hold the same data (S3: endpoint, bucket and prefix). The
// cache keeps one room per identity. It contains no secret.
type Identifier interface {
	Identity() string
}

// Closer is implemented by stores that hold resources.
type Closer interface {
	Close() error
}

// Filer is implemented by stores that have a file depth of their own, over the
// same data.
type Filer interface {
	// FileSystem returns the file depth; always the same one.
	FileSystem() FileSystem
}
