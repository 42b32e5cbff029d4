package backends_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/agentfs/agentfs/backends"
)

func TestPutOptionsCheck(t *testing.T) {
	file := &backends.Entry{Name: "f", Version: "v", Operation: "op"}
	dir := &backends.Entry{Name: "f", Mode: fs.ModeDir}
	match := func(v backends.Version) backends.If { return backends.If{Match: v} }
	absent := backends.If{Absent: true}
	for i, c := range []struct {
		now  *backends.Entry
		opts backends.PutOptions
		done bool
		want error
	}{
		{nil, backends.PutOptions{}, false, nil},
		{nil, backends.PutOptions{If: absent}, false, nil},
		{nil, backends.PutOptions{If: match("v")}, false, backends.ErrChanged},
		{file, backends.PutOptions{}, false, nil},
		{file, backends.PutOptions{If: match("v")}, false, nil},
		{file, backends.PutOptions{If: match("w")}, false, backends.ErrChanged},
		{file, backends.PutOptions{If: absent}, false, fs.ErrExist},
		{file, backends.PutOptions{If: absent, Operation: "op"}, true, nil},
		{file, backends.PutOptions{If: match("w"), Operation: "op"}, true, nil},
		{file, backends.PutOptions{If: match("v"), Operation: "op"}, false, nil},
		{file, backends.PutOptions{If: match("w"), Operation: "op2"}, false, backends.ErrChanged},
		{file, backends.PutOptions{If: match("w"), Operation: "op2", Earlier: []string{"op1", "op"}}, false, nil},
		{file, backends.PutOptions{If: absent, Operation: "op2", Earlier: []string{"op"}}, false, nil},
		{&backends.Entry{Version: "v"}, backends.PutOptions{If: absent}, false, fs.ErrExist},
		{dir, backends.PutOptions{}, false, backends.ErrIsDir},
		{dir, backends.PutOptions{If: absent}, false, fs.ErrExist},
		{dir, backends.PutOptions{If: match("v")}, false, backends.ErrIsDir},
	} {
		if done, err := c.opts.Check(c.now); done != c.done || !errors.Is(err, c.want) {
			t.Errorf("%d: %v, %v, want %v, %v", i, done, err, c.done, c.want)
		}
	}
}
