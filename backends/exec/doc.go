// Package exec is a backend that asks a program: it starts a command and
// speaks with it over its standard input and output, so that a store can be
// written in any language. docs/exec-backend.md specifies the protocol.
//
// # What a program's failures become
//
// The program is started at the first request. If it ends, or is killed
// because it hangs or writes what is no frame, the requests under way fail
// with an error that package fs shows as EIO, and the next one starts it
// again, after a pause that grows from 100 ms to 5 s while it keeps failing.
// An answer that makes no sense (an entry of another name, a listing out of
// order, a content of the wrong length) fails its request and names the thing.
//
// # Names
//
// Names travel in JSON, so they are UTF-8 ([backends.ErrIllegalName]), with at
// most 255 bytes in a part and 4096 in all.
package exec
