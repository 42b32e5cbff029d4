// Package fs mounts a [backends.FileSystem]: it turns what the kernel asks
// over FUSE into calls of the file depth, and what these answer into what the
// kernel understands.
//
// It decides three things and nothing else: which errno an error becomes
// (errno.go), how long an operation may take and what may end it early
// (opctx.go), and what the kernel may keep or do by itself (names, attributes,
// pages, whole files: attr.go, dir.go and iomode.go). Names, links, times and
// permissions are the file system's and the kernel's.
//
// # Set-id bits and file capabilities
//
// The mount is nosuid, so neither has any power on it. The kernel is told
// (FUSE_HANDLE_KILLPRIV_V2) that this package clears set-id bits itself:
// without that it asks for security.capability before every write. They are
// cleared at chown, at truncate by an unprivileged caller, and at a write that
// comes from a user other than root; not at a write that the kernel does by
// itself (passthrough) on a file that got the bits after it was opened.
// security.capability, SELinux labels and POSIX ACLs do not exist: asking and
// setting is EOPNOTSUPP.
//
// # What is refused for good
//
// statx(2) beyond stat(2) and O_TMPFILE have no counterpart in the contract,
// for no file system.
//
// # Copying between descriptors
//
// copy_file_range(2) is CopyRange of the file system where both files are its
// own and it has one; else EOPNOTSUPP, which makes the kernel copy by itself.
package fs
