// Package sql is a backend that keeps files in a database: an SQLite file, or
// PostgreSQL for many machines that write at once.
//
// # Tables
//
// nodes has a row for every file and directory but the root, found by its path,
// by its parent's path, and by its key: the path with a slash after a
// directory's, which is the order of listings and walks. contents counts how many
// nodes refer to a content, and chunks has its bytes in pieces of [ChunkSize].
// agentfs has the version of the format; a newer one is refused.
//
// # What holds
//
// Every change is one transaction that looks at its precondition with the row
// locked. A content never changes; what is put is a new one, so a reader sees the
// bytes that it has opened or [backends.ErrChanged]. Versions are random and
// never come again.
//
// # Names
//
// Any bytes but NUL, at most 255 in a part and [MaxName] in all: an index of
// PostgreSQL holds no more. Attributes are not kept; the cache keeps them in
// records, as it does for object stores.
package sql
