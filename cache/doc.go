// Package cache makes an object store behave like a local disk: it gives the
// file depth ([backends.FileSystem]) to any [backends.Store].
//
// Names live in a tree ([tree.Tree]) that is filled by what the store answers
// and changed by what this machine does; see lookup.go for how long an answer
// is believed. Contents are extent maps over a sparse file in the room
// (content.go): local bytes, holes, and ranges of stored objects that are
// fetched when somebody reads them. Changes of names and contents take effect
// here and in the journal at once (names.go, rename.go, write.go, record.go); the
// store follows in the background (queue.go, send.go, sweep.go; assemble.go and
// parts.go for what is made of parts, stream.go for what is sent while it grows),
// and a later process goes on where one was killed (replay.go). Contents that the
// store has, too, are kept for the next mount (shelf.go, shelve.go, pieces.go).
//
// # Locks
//
// In this order; each is released before one to its left is taken:
//
//	shelf.writing  who brings the index up to date
//	Budget.evicting  who makes room, in whichever cache
//	walks.mu      the ways of programs through the tree
//	FS.ns         whatever changes names, or what is known of the store's:
//	              ghosts, jobs of nodes, what the journal has
//	dir.mu        what is known of a directory
//	file.mu       a file's state
//	content.mu    a content's extents, its layers, its seals and its stream
//	descriptors.mu  which local files are open; of a second content.mu it only tries
//	spares.mu     the room's empty files
//	shelf.pick    which contents of earlier mounts somebody takes
//	shelf.mu      what the index has still to be told
//	queue.mu      the jobs
//	Budget.mu     what all caches have on disk
//	FS.mu         the lists of the whole cache
//	tree.Tree.mu  inside package tree
//
// None of them is held while the store is asked. A commit to the journal is
// made with FS.ns held, so that records are in the order of what they record;
// only the rows of a content's map are written with just content.mu, and the uploads
// that are under way with nothing.
package cache
