// Package attrs keeps what an object store has no place for, so that a listing
// shows it (modes, owners, times, symbolic links, extended attributes), in
// records: files beside the ones that they describe.
//
// # Records
//
// A record is a file of the directory that it describes, named
// [backends.RecordPrefix]-ID, and holds entries: a name and its [Attr]. It is
// never changed. A batch of changes is a new record, and of all entries of a
// name the latest counts. So two machines never write the same file, a change
// needs no read, and the listing that shows the directory says which records
// there are to read.
//
// # Order
//
// Entries of one name are ordered by Changed, and entries of the same moment
// by how they are written down. This does not depend on the record that an
// entry is in, so it is the same for everybody, whatever was merged meanwhile.
// A record's id begins with a time that is later than that of every record
// that its writer knew; a listing, which goes in the order of names, that runs
// while records are merged therefore meets the old ones or the new one.
//
// # Merging
//
// Reading costs a request per record, so whoever saves also tidies up, once
// there are more than maxRecords. First go records of which no entry counts
// any more. Then the smallest are merged, as many as make the result at least
// twice as large as the largest of them; an entry is thus written again a
// number of times that is logarithmic in the size of the directory. A record
// of more than half of maxRecord is not merged any more, unless most of it
// counts no longer.
//
// The new record is put before the old ones are removed. If that is cut short,
// entries are there twice, and a later Save removes those that are not needed;
// the same is true when two machines merge at once. An entry that counts is
// dropped, because it says that nothing is recorded or because what it describes
// is gone, only if no other record has the name: otherwise, if its record
// went first, an older entry would count again. And only when it is an hour old:
// whoever merges has read it, and is done, long before that.
//
// # Looking before a merge
//
// Whoever merges needs no listing if what it knows is not older than maxTrust: it
// listed the records, or put them all itself, so lately. Two things depend on
// that, and both only on the hour in which nothing is dropped:
//
//   - A record that others have merged meanwhile comes back in the new one. What
//     they dropped of it was older than the hour and the last entry of its name,
//     so it was so when this machine looked, and is in what it knows: nothing
//     older comes back instead. What they did not drop is there twice.
//   - An entry that is dropped has no other record with its name. One that came
//     after this machine looked is a merge of somebody who had not seen
//     the entry, which is an hour old; nobody's knowledge is.
//
// What others have saved meanwhile is in records that this machine does not know,
// and so neither merges nor removes. If a record turns out to be gone when it is
// to be removed, others are at work here, and the next merge looks.
//
// # Format
//
// Lines of JSON, compressed with gzip when they are more than a little. The
// first says the format's version and how many entries follow, in the order of
// the names' bytes:
//
//	{"agentfs-attrs":1,"entries":2}
//	{"name":"run","version":"\"9a0364b9\"","changed":1767225600000000000,"mode":493}
//	{"name":{"base64":"/w=="},"version":"\"5d414\"","changed":1767225600000000000,"symlink":true,"target":"run"}
//
// Names are bytes; those that are no UTF-8 are written in base64. Fields may be
// added without a new version: who doesn't know them ignores them, and keeps them
// when merging. A record of another version, or one that is damaged, is left
// alone by everything here.
package attrs
