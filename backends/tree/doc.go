// Package tree holds a name space in memory and the rules of POSIX for it:
// which name may replace which, what a link count is, which times an
// operation changes, what a new inode inherits. Memory and the cache stand on
// it, so that these rules are written once.
//
// A tree knows nothing of contents. Its owner hangs whatever belongs to a node
// on [Node.Data] and supplies size and blocks itself. Each method is one
// atomic step under the tree's lock; the Check methods answer what the method
// of the same name would, for an owner that has to ask somebody else (a store)
// between the question and the deed and keeps others out meanwhile.
package tree
