// Package journal is a durable table of key and value: what the cache owes the
// store, written down before an operation returns.
//
// It is an SQLite database with a write-ahead log, so that
//
//   - a commit is a few write(2) into the log: the kernel has it when
//     [Journal.Commit] returns, and the death of the process takes nothing away;
//   - a power loss leaves what [Journal.Sync] has confirmed, and of the commits
//     after it a first part in their order, each of them whole: every page in the log has a sum that
//     runs over all before it;
//   - anybody can look into a room with the sqlite3 command.
//
// What SQLite does not do is to say that something is missing: it takes a log
// whose end is damaged for one that was never longer. So the number of
// acknowledged commits is kept in a file beside the database as well as in it,
// and [Journal.Damage] speaks when the two don't agree.
//
// A directory with a journal has
//
//	journal.db       the table
//	journal.db-wal   the latest commits; absent after Close
//	journal.db-shm   an index of the log, shared by processes; absent after Close
//	journal.ack      how many commits were acknowledged; locked by the process
//	                 that has the journal open
//
// and what was found damaged, under the same names with ".damaged-TIME" in them.
package journal
