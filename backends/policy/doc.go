// Package policy decides who may do what under which path, and wraps a store
// and a file system so that the decisions hold.
//
// A [Policy] is a list of rules, each a pattern of paths and an [Access]. The
// first rule that matches a path and a user decides; if there is none, the
// default of the path's route does. Three things are added, and all can only
// take rights away:
//
//   - A rule holds for everything below the directories that it names, too,
//     against rules that follow it and against the default. What lies below a
//     hidden directory is hidden, whatever any rule says.
//   - Paths and patterns are compared as they are written and once more with
//     case and Unicode form folded; the stricter of the two answers counts.
//     Some host directories take "Secret" for "secret".
//   - NAME.conflict-HOST-TIME, which is where the cache puts one of two contents
//     that both claim NAME, has at most the rights of NAME.
//
// A [Temporary] name of NAME has the rights of NAME instead of its own, and Write
// where that has Append.
//
// So a decision depends on nothing but path and user, and no file has to be
// looked at.
//
// # What an access allows
//
// Of the operations on a path,
//
//   - [Write] allows all;
//   - [Append] allows to read, to create what is not there, and to write at
//     and beyond the size that a file has when it is opened; what is there can't
//     be shortened, overwritten, replaced, renamed, removed, or given other
//     attributes, except the times of now;
//   - [Read] allows to read and to list;
//   - [None] allows to look the name up and to see its attributes, unless
//     nothing below its directory is allowed to anybody: then not even that;
//   - [Hide] makes the path one that isn't there. The name can't be created
//     either ([fs.ErrPermission]), and a directory that has nothing but hidden
//     names is not empty ([backends.ErrNotEmpty]).
//
// What is refused is [*Denied], which is an [fs.ErrPermission].
//
// A rename takes one name away and makes another; that of a directory does so
// for everything below. A link makes a second name, which must give everybody
// the rights of the first.
//
// # Users
//
// The user is that of the caller in the context ([backends.CallerFrom]);
// without one it is the user of this process.
package policy
