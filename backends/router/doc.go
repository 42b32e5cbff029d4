// Package router makes one store, and one file system, of several: each route
// puts a store at a path, and the route with the longest path that is a whole
// segment prefix of a name serves that name. It is the one place where a path
// is routed.
//
// The table is fixed when it is made. Its paths and their ancestors, the
// points, are the only places where routes meet, and they follow rules of
// their own:
//
//   - A point is always a directory, also where the store around it has no
//     such directory (it is then made in that store when something is created
//     in it), has a file there (which is never seen), or can't be reached.
//   - It can't be removed, renamed or replaced: [backends.ErrBusy].
//   - The path of a route shows that route only; what the store around it has
//     at and below that path is never seen.
//   - Its identity and inode number are its own and never change.
//
// A failing route fails what lies inside it and nothing else: the directory
// that shows it can still be listed, and its own root still has attributes.
//
// Nothing moves from one route to another in one step: rename and link across
// routes are [errors.ErrUnsupported] (EXDEV), as between mounts.
package router
