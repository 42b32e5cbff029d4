// Package backends is the contract between agentfs and the places that hold
// its data. It has two depths.
//
// The object depth is [Store]: six methods that address files by name. This
// is what the author of a backend writes. Put is atomic, every change can
// carry a precondition, and nothing is said of open files, hard links or
// partial writes. Whatever a store can do beyond that it offers as a
// capability: an optional interface of one method, paired with a function of
// this package ([Walk], [Copy], [Rename], ...) that asks for it and falls
// back when it is missing.
//
// The file depth is [FileSystem]: what a mount needs. It addresses files by
// [Node], which keeps its identity through rename and unlink, and an open
// [File] has random access. A backend that has real files (memory, a host
// directory) says so with [Filer]; every other store gets a file depth from
// package cache.
//
// # Writing a backend
//
// Implement [Store], read the promises of each method, and run
// backendtest.Store over it: the suite is the contract in executable form,
// and a backend that passes needs no further unit tests for what it promises
// here. [PutOptions.Check] decides a Put where looking and acting are one step.
// Then hand an [Opener] to the command line:
//
//	func main() {
//		all := cli.Backends()
//		all["mine"] = mine.Open
//		os.Exit(cli.Main(all))
//	}
//
// examples/go-backend is a whole one.
//
// # Names
//
// A name is a slash-separated path relative to the store's root, in the form
// of [fs.ValidPath]: no leading or trailing slash, no empty, "." or ".."
// segment; the root itself is ".". Names are bytes, not text: a store that
// can't hold a name (S3 wants UTF-8 and at most 1,024 bytes) answers
// [ErrIllegalName] or [ErrNameTooLong], and answers it at the call. A stored
// thing whose own name is not valid in this sense is skipped in listings and
// never addressed.
//
// # Errors
//
// A method returns an error that wraps one of the errors of io/fs, of
// context, [errors.ErrUnsupported], or of this package (errors.go), preferably
// inside an [fs.PathError]. Callers match with [errors.Is] and nothing else.
// An error that matches none of them is taken for an I/O error.
//
// # Concurrency
//
// All methods of all interfaces in this package may be called by many
// goroutines at once, unless their documentation says otherwise.
//
// # Contexts
//
// A context ends a call early when the caller no longer wants the answer.
// When a mutating call returns a context's error, the change may or may not
// have taken effect. Who called travels in the context: see [WithCaller].
package backends
