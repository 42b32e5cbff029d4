package backendtest

import (
	"slices"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// validNames are names that are hard for somebody. A store that can't hold
// one of the second kind refuses it when it is put, with ErrIllegalName or
// ErrNameTooLong, and shows nothing of it.
var validNames = []struct {
	test    string
	name    string
	must    bool // every store can
	perhaps error
}{
	{"Space", " lead and trail ", true, nil},
	{"Unicode", "häßlich-日本語-🚀", true, nil},
	{"Decomposed", "e\u0301", true, nil}, // not the same name as U+00E9
	{"LeadingDash", "-rf", true, nil},
	{"Dotfile", ".hidden", true, nil},
	{"ThreeDots", "...", true, nil},
	{"TrailingDot", "trailing.", true, nil},
	{"Percent", "100%25%2F", true, nil},
	{"Plus", "a+b c", true, nil},
	{"Query", "a?b=c&d", true, nil},
	{"Fragment", "a#b", true, nil},
	{"Glob", "*[a]{b}", true, nil},
	{"Quotes", `it's "quoted" <xml> & $HOME;`, true, nil},
	{"Colon", "c:d|e", true, nil},
	{"Case", "CaseSensitive", true, nil},
	{"Segment255", strings.Repeat("n", 255), true, nil},
	{"Deep", strings.Repeat("d/", 60) + "f", true, nil},
	{"Backslash", `back\slash`, false, backends.ErrIllegalName},
	{"Newline", "new\nline", false, backends.ErrIllegalName},
	{"Control", "bell\x07tab\tdel\x7f", false, backends.ErrIllegalName},
	{"NotUTF8", "latin1-\xe9", false, backends.ErrIllegalName},
	{"Segment256", strings.Repeat("n", 256), false, backends.ErrNameTooLong},
	{"Path2000", strings.Repeat(strings.Repeat("p", 99)+"/", 20) + "f", false, backends.ErrNameTooLong},
}

// invalidNames are not of the form that the package documentation of backends
// gives names.
var invalidNames = []string{
	"", "/", "/abs", "trailing/", "a//b", "..", "../up", "a/..", "a/../../up", "./a", "a/.", "a/./b", "nul\x00byte",
}

func nameUnits() []unit[*storeEnv] {
	units := []unit[*storeEnv]{{"Names/Invalid", testInvalidNames}, {"Names/Records", testRecords}}
	for _, n := range validNames {
		units = append(units, unit[*storeEnv]{"Names/" + n.test, func(e *storeEnv) {
			e.testName(n.name, n.must, n.perhaps)
		}})
	}
	return units
}

func testInvalidNames(e *storeEnv) {
	e.put("f", "x")
	for _, name := range invalidNames {
		calls := map[string]func() error{
			"Stat":  func() error { _, err := e.s.Stat(e.ctx, name); return err },
			"List":  func() error { _, err := collect(e.s.List(e.ctx, name, "")); return err },
			"Open":  func() error { _, _, err := e.read(name, backends.Range{}, backends.If{}); return err },
			"Put":   func() error { _, err := e.s.Put(e.ctx, name, section("x"), backends.PutOptions{}); return err },
			"Mkdir": func() error { return e.s.Mkdir(e.ctx, name, backends.AttrChange{}) },
			"Remove": func() error {
				return e.s.Remove(e.ctx, name, backends.If{})
			},
		}
		for op, call := range calls {
			wantErrOf(e.T, call(), []error{errInvalid, backends.ErrIllegalName}, "%s(%q)", op, name)
		}
	}
	e.wantList(".", "f")
}

// testRecords makes sure that the lean form takes the cache's records as it
// does any file.
func testRecords(e *storeEnv) {
	lean := &storeEnv{T: e.T, ctx: e.ctx, s: backends.LeanStore(e.s)}
	for _, dir := range []string{"", "d/"} {
		name := dir + backends.RecordPrefix + "-1"
		v := lean.putWith(name, "record", backends.PutOptions{If: backends.If{Absent: true}}).Version
		lean.wantContent(name, "record")
		if got := lean.stat(name).Version; got != v {
			e.Errorf("Stat of a record has version %q, want %q", got, v)
		}
		if !slices.Contains(lean.walk(".", ""), name) {
			e.Errorf("Walk has no %q", name)
		}
	}
	lean.wantList(".", backends.RecordPrefix+"-1", "d/")
	lean.wantList("d", backends.RecordPrefix+"-1")
	lean.remove(backends.RecordPrefix + "-1")
	if err := backends.RemoveMany(e.ctx, lean.s, []backends.Removal{{Name: "d/" + backends.RecordPrefix + "-1"}})[0]; err != nil {
		e.Fatal(err)
	}
	lean.wantGone(backends.RecordPrefix + "-1")
	lean.wantGone("d/" + backends.RecordPrefix + "-1")
}

// testName puts a file and a directory under name and looks for exactly that
// name everywhere.
func (e *storeEnv) testName(name string, must bool, perhaps error) {
	_, err := e.s.Put(e.ctx, "d/"+name, section("content"), backends.PutOptions{})
	if err != nil {
		if must {
			e.Fatalf("Put(%q): %v", "d/"+name, err)
		}
		e.wantErr(err, perhaps, "Put(%q)", "d/"+name)
		err = e.s.Mkdir(e.ctx, name, backends.AttrChange{})
		e.wantErr(err, perhaps, "Mkdir(%q)", name)
		_, err = e.s.Stat(e.ctx, name)
		wantErrOf(e.T, err, []error{errNotExist, perhaps}, "Stat(%q)", name)
		for _, dir := range []string{".", "d"} {
			entries, err := collect(e.s.List(e.ctx, dir, ""))
			for _, entry := range entries {
				if entry.Name != "d" {
					e.Errorf("%q was refused and is there in part: %+v (%v)", name, entry, err)
				}
			}
		}
		return
	}
	first, _, deep := strings.Cut(name, "/")
	key := first
	if deep {
		key += "/"
	}
	e.wantContent("d/"+name, "content")
	e.wantList("d", key)
	if got := e.stat("d/" + name).Name; got != "d/"+name {
		e.Fatalf("Stat has the name %q, want %q", got, "d/"+name)
	}
	if lower := strings.ToLower(name); lower != name {
		e.wantGone("d/" + lower)
	}
	e.remove("d/" + name)
	e.wantGone("d/" + name)
	// As a directory, with something in it.
	e.mkdir(name)
	e.put(name+"/x", "inner")
	e.wantContent(name+"/x", "inner")
	e.wantList(name, "x")
	for _, entry := range e.list(name, "") {
		if entry.Name != name+"/x" {
			e.Fatalf("List has the name %q, want %q", entry.Name, name+"/x")
		}
	}
	e.remove(name + "/x")
	e.remove(name)
	e.wantGone(name)
}
