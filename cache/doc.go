// Package cache makes an object store behave like a local disk: it gives the
// file depth ([backends.FileSystem]) to any [backends.Store].
//
// Names live in a tree ([tree.Tree]) that is filled by what the store answers
// and changed by what this machine does; see lookup.go for how long an answer
// is believed. Contents are extent maps over a sparse file in the room
// (content.go): local bytes, holes, and ranges of the stored version that are
// fetched when somebody reads them. What was written is uploaded on close and
// fsync, with the version that it derives from (upload.go). Changes of names
// ask the store first and then change the tree (namespace.go, rename.go).
//
// # Locks
//
// In this order; each is released before one to its left is taken:
//
//	FS.names      read: any operation that relies on paths; write: a directory
//	              rename, which changes many
//	dir.op        operations that change names in one directory; two of them in
//	              the order of the nodes' ids
//	file.up       one upload, removal or rename of this file at a time
//	FS.moving     merging what the store said, against moves of directories
//	dir.mu        what is known of a directory, and merging what the store said
//	file.mu       a file's state
//	content.mu    a content's extents
//	Budget.mu     what all caches have on disk
//	FS.mu         the lists of the whole cache
//	tree.Tree.mu  inside package tree
//
// Only names, op and up are held while the store is asked. A lookup and a read
// hold none of them.
package cache
