// Package journal is a durable table of key and value: what the cache owes the
// store, written down before an operation returns.
//
// It is an SQLite database with a write-ahead log, so that
//
//   - a commit is a few write(2) into the log: the kernel has it when
//     [Journal.Commit] returns, and the death of the process takes nothing away;
//   - a power loss leaves what [Journal.Sync] has confirmed, and of the commits
//     after it the first ones, each of them whole: the log's pages have sums
//     that run over all before them;
//   - what a process has left can be looked into with the sqlite3 command. While a
//     journal is open, its database is locked to other programs; [Count] works at
//     any time.
//
// What SQLite does not do is to say that something is missing: it takes a log
// whose end is damaged for one that was never longer. So the number of
// acknowledged commits is kept in a file beside the database as well as in it,
// and [Journal.Damage] speaks when the database has less. In the database proper
// pages have no sums: damage to its structure is found by [Open], damage to the
// bytes of a value is not.
//
// A directory with a journal has
//
//	journal.db       the table
//	journal.db-wal   the latest commits; absent after Close
//	journal.ack      how many commits were acknowledged; locked by the process
//	                 that has the journal open
//
// and what was found damaged beyond repair, as journal.db.damaged-TIME, with its
// log as journal.db.damaged-TIME-wal.
package journal
