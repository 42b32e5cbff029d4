// Package auditlog keeps the records of package audit: one JSON object a line,
// through a bounded queue, into a file that is rotated. It reads and filters
// them, too.
//
// A record is taken at the moment of the operation and written a moment later
// by one goroutine. Whatever the file does (a full disk, a disk that hangs, a
// pipe that nobody reads), the operations that are recorded do not wait for it:
// when the queue is full, they are either done without a record, which is
// counted and said, or refused, as the user has chosen.
package auditlog
