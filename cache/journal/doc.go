// Package journal is a durable table of key and value: what the cache owes the
// store, written down before an operation returns.
//
// It is a log and a table. A commit is a record at the end of the log, one write(2)
// for all that are committed together; what is in the log is in memory, too, of each
// key the latest state; and some megabytes of log at a time go into the table, an
// SQLite database, in the background. So that
//
//   - the kernel has a commit when [Journal.Commit] returns, and the death of the
//     process takes nothing away;
//   - a power loss leaves what [Journal.Sync] has confirmed, and of the commits
//     after it the first ones, each of them whole: a record has a sum, and follows
//     another one or does not count;
//   - most changes, which are overtaken within seconds, cost a record and no more;
//   - however much the store is behind, what is in memory of it is bounded by the log.
//
// SQLite has a log of its own. While a journal is open, its database is locked to other
// programs; [Count] works at any time.
//
// Neither log says by itself that something is missing: one whose end is damaged looks
// like one that was never longer. So the number of acknowledged commits is kept in a
// file beside them, and [Journal.Damage] speaks when there is less. In the table,
// damage to its structure is found by [Open], damage to the bytes of a value is not.
//
// A directory with a journal has
//
//	journal.db         the table
//	journal.db-wal     its latest transactions; absent after Close
//	journal-NUMBER.log the latest commits, beginning with that of this number, in one
//	                   file or more; absent after Close
//	journal.ack        how many commits were acknowledged; locked by the process
//	                   that has the journal open
//
// and what was found damaged beyond repair, as journal.db.damaged-TIME, with both logs
// as journal.db.damaged-TIME-wal and journal.db.damaged-TIME-journal-NUMBER.log. Of a log
// that has lost a part, the files behind that are moved aside like this.
package journal
