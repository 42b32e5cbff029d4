// Package s3 is the object depth over Amazon S3 and every endpoint that speaks
// its protocol: [Store] implements [backends.Store].
//
// A file is one object: its body is exactly the file's bytes, its key the
// configured prefix followed by the file's name. Any other S3 tool sees plain
// objects. A directory is there when a key below it is; an empty one is held
// by a marker, a zero-byte object whose key ends in a slash. Keys that no path
// can express ("//", "." and ".." segments, NUL, segments over 255 bytes) are
// skipped with a log line and never touched. Names that begin with ".agentfs"
// are hidden and reserved, but for the cache's records in the lean form.
//
// # Conditions
//
// Every change can carry the version it derives from. AWS enforces that; other
// servers differ, and some answer 200 and ignore it. What an endpoint honours
// is found out at the first change that needs it, by scratch objects whose
// content is read back (never on AWS, never by reading alone). Where a
// condition is not honoured, the object is looked at just before the change,
// and one warning says so.
//
// A conditional request whose answer was lost is settled by looking: each
// carries an operation id in the object's metadata, and an object that carries
// ours is our success, not somebody's conflict. A caller who gives the id
// ([backends.PutOptions].Operation) has that across processes too: then every
// condition that fails is looked into. What becomes of an upload in parts is
// settled the same way, so all of them carry an id.
//
// # What is written beside the bytes
//
// A new object gets its Content-Type from its name's extension. A rewrite with
// If.Match keeps what the object had: metadata, content type and other
// headers, storage class and tags; that costs a HEAD unless this Store has seen
// that version before. A rewrite without If.Match keeps what was last seen of
// the key, if anything. Mode, uid and gid go into user metadata as s3fs names
// them, mtime as rclone does. They are there for other tools and not read
// back, because a listing doesn't have them and Stat must agree with it.
package s3
