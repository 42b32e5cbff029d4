package backends

import (
	"io/fs"
	"slices"
)

// Check decides whether a Put (or Copy) with these options may take effect,
// for a store that looks and acts in one step: under a lock or in a transaction.
// now is what is under the name, nil if there is nothing.
//
// The error is [ErrIsDir], [ErrChanged] or [fs.ErrExist]. If done is true, now is
// what an earlier attempt of the same Operation has left: nothing is to be
// changed, and now is the answer. A store that doesn't keep operations leaves
// Entry.Operation empty and gets the plain conditions.
func (o PutOptions) Check(now *Entry) (done bool, err error) {
	switch {
	case now == nil && o.If.Match != "":
		return false, ErrChanged
	case now == nil:
		return false, nil
	case now.IsDir() && o.If.Absent:
		return false, fs.ErrExist
	case now.IsDir():
		return false, ErrIsDir
	case now.Operation != "" && slices.Contains(o.Earlier, now.Operation):
		return false, nil // as if the caller had named this version
	case o.If.Absent:
		err = fs.ErrExist
	case o.If.Match != "" && now.Version != o.If.Match:
		err = ErrChanged
	default:
		return false, nil
	}
	if now.Operation != "" && now.Operation == o.Operation {
		return true, nil
	}
	return false, err
}
