package backendtest_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/backendtest"
	"github.com/agentfs/agentfs/backends/local"
)

// brokenVariable has the name of the broken backend that this process, started
// by TestSuitesFindFaults, runs a suite over.
const brokenVariable = "BACKENDTEST_BROKEN"

func open(t *testing.T) *local.Store {
	t.Helper()
	s, err := local.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// brokenStores are stores that break one promise each, and the tests that have
// to find it.
var brokenStores = map[string]struct {
	wrap  func(*local.Store) backends.Store
	tests []string
}{
	"sound":                 {func(s *local.Store) backends.Store { return s }, nil},
	"no conditions":         {func(s *local.Store) backends.Store { return noConditions{s} }, []string{"Put/IfAbsent", "Put/IfMatch", "Put/IfMatchRace", "Put/IfAbsentRace", "Copy/TargetConditions"}},
	"check, then act":       {func(s *local.Store) backends.Store { return checkThenAct{s} }, []string{"Put/IfMatchRace"}},
	"remove without If":     {func(s *local.Store) backends.Store { return removeAnyway{s} }, []string{"Remove/IfMatch", "RemoveMany/IfMatch"}},
	"parents go":            {func(s *local.Store) backends.Store { return parentsGo{s} }, []string{"Remove/ParentStays"}},
	"order of bare names":   {func(s *local.Store) backends.Store { return bareOrder{s} }, []string{"List/Order"}},
	"after is ignored":      {func(s *local.Store) backends.Store { return noAfter{s} }, []string{"List/After", "List/EmptyAfterEnd"}},
	"listing without sizes": {func(s *local.Store) backends.Store { return thinList{s} }, []string{"List/Complete", "Walk/Complete"}},
	"ranges without length": {func(s *local.Store) backends.Store { return longRanges{s} }, []string{"Open/Range"}},
	"errors without a kind": {func(s *local.Store) backends.Store { return ownErrors{s} }, []string{"Stat/Missing"}},
	"names are cleaned":     {func(s *local.Store) backends.Store { return cleanNames{s} }, []string{"Names/Invalid"}},
	"plus is space":         {func(s *local.Store) backends.Store { return plusIsSpace{s} }, []string{"Names/Plus"}},
	"partial bodies":        {func(s *local.Store) backends.Store { return partialBodies{s} }, []string{"Put/BodyFails", "Context/CancelledPut"}},
}

var brokenFiles = map[string]struct {
	wrap  func(*local.FileSystem) backends.FileSystem
	tests []string
}{
	"sound":               {func(f *local.FileSystem) backends.FileSystem { return f }, nil},
	"rename by unlink":    {func(f *local.FileSystem) backends.FileSystem { return unlinkFirst{f} }, []string{"Rename/NeverMissing", "Rename/DirOverDir"}},
	"no O_EXCL":           {func(f *local.FileSystem) backends.FileSystem { return noExclusive{f} }, []string{"Create/Exclusive", "Race/Exclusive", "Model"}},
	"NOREPLACE is lost":   {func(f *local.FileSystem) backends.FileSystem { return noReplace{f} }, []string{"Rename/NoReplace"}},
	"times are not set":   {func(f *local.FileSystem) backends.FileSystem { return noTimes{f} }, []string{"SetAttr/Times", "SetAttr/TimesKeptByClose"}},
	"unlink of all":       {func(f *local.FileSystem) backends.FileSystem { return unlinkAll{f} }, []string{"Unlink/Dir", "Model"}},
	"foreign is missing":  {func(f *local.FileSystem) backends.FileSystem { return foreignMissing{f} }, []string{"Node/Foreign"}},
	"writes lose a byte":  {func(f *local.FileSystem) backends.FileSystem { return lossy{f} }, []string{"Write/Random", "Model"}},
	"xattr without flags": {func(f *local.FileSystem) backends.FileSystem { return noXattrFlags{f} }, []string{"Xattr/Flags"}},
	"one listing for all": {func(f *local.FileSystem) backends.FileSystem { return staleList{f, new([]backends.DirEntry)} }, []string{"ReadDir/Snapshot"}},
}

// TestBrokenStore and TestBrokenFiles run only in the processes that
// TestSuitesFindFaults starts.
func TestBrokenStore(t *testing.T) {
	b, ok := brokenStores[os.Getenv(brokenVariable)]
	if !ok {
		t.Skip("runs as a part of TestSuitesFindFaults")
	}
	backendtest.Store(t, func(t *testing.T) backends.Store { return b.wrap(open(t)) })
}

func TestBrokenFiles(t *testing.T) {
	b, ok := brokenFiles[os.Getenv(brokenVariable)]
	if !ok {
		t.Skip("runs as a part of TestSuitesFindFaults")
	}
	backendtest.FileSystem(t, func(t *testing.T) backends.FileSystem {
		return b.wrap(open(t).FileSystem().(*local.FileSystem))
	})
}

func TestExceptions(t *testing.T) {
	if os.Getenv(brokenVariable) == "" {
		t.Skip("runs as a part of TestSuitesFindFaults")
	}
	backendtest.Store(t, func(t *testing.T) backends.Store { return open(t) },
		backendtest.Exception{Test: "Stat", Reason: "not needed"},
		backendtest.Exception{Test: os.Getenv(brokenVariable), Reason: "not needed"})
}

// run runs a test of this binary in a process of its own, over the broken
// backend of that name, and returns what it says.
func run(t *testing.T, pattern, broken string) (output string, ok bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.short", "-test.run="+pattern)
	cmd.Env = append(os.Environ(), brokenVariable+"="+broken)
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// A suite that finds nothing proves nothing: each broken backend has to fail
// the tests that are there for its fault.
func TestSuitesFindFaults(t *testing.T) {
	check := func(suite, name string, tests []string) {
		t.Run(suite+"/"+name, func(t *testing.T) {
			t.Parallel()
			for _, test := range tests {
				pattern := "^" + suite + "$/^" + strings.ReplaceAll(test, "/", "$/^") + "$"
				// Some draw their operations at random, and miss a fault now and then.
				out, found := "", false
				for try := 0; try < 4 && !found; try++ {
					var ok bool
					out, ok = run(t, pattern, name)
					found = !ok && strings.Contains(out, "--- FAIL: "+suite+"/"+test)
				}
				if !found {
					t.Errorf("%s does not find it:\n%s", test, out)
				}
			}
			if len(tests) > 0 {
				return
			}
			if out, ok := run(t, "^"+suite+"$/^Stat|Rename|Truncate", name); !ok {
				t.Errorf("a sound backend fails:\n%s", out)
			}
		})
	}
	for name, b := range brokenStores {
		check("TestBrokenStore", name, b.tests)
	}
	for name, b := range brokenFiles {
		check("TestBrokenFiles", name, b.tests)
	}
}

func TestExceptionNamesATest(t *testing.T) {
	if out, ok := run(t, "^TestExceptions$/^(Stat|Open)$/^(Dir|Whole)$", "Open/Dir"); !ok ||
		!strings.Contains(out, "--- SKIP: TestExceptions/Stat/Dir") ||
		!strings.Contains(out, "--- SKIP: TestExceptions/Open/Dir") ||
		!strings.Contains(out, "--- PASS: TestExceptions/Open/Whole") ||
		!strings.Contains(out, "exception: not needed") {
		t.Errorf("exceptions for Stat and Open/Dir:\n%s", out)
	}
	if out, ok := run(t, "^TestExceptions$/^Stat$/^Dir$", "Open/Nonsense"); ok || !strings.Contains(out, "names no test") {
		t.Errorf("an exception that names no test is let through:\n%s", out)
	}
}

type noConditions struct{ backends.Store }

func (s noConditions) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	o.If = backends.If{}
	return s.Store.Put(ctx, name, body, o)
}

type checkThenAct struct{ backends.Store }

func (s checkThenAct) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	e, err := s.Stat(ctx, name)
	if o.If.Match != "" && (err != nil || e.Version != o.If.Match) {
		return backends.Entry{}, backends.ErrChanged
	}
	o.If = backends.If{}
	return s.Store.Put(ctx, name, body, o)
}

type removeAnyway struct{ backends.Store }

func (s removeAnyway) Remove(ctx context.Context, name string, _ backends.If) error {
	return s.Store.Remove(ctx, name, backends.If{})
}

type parentsGo struct{ backends.Store }

func (s parentsGo) Remove(ctx context.Context, name string, cond backends.If) error {
	err := s.Store.Remove(ctx, name, cond)
	for dir := path.Dir(name); err == nil && dir != "."; dir = path.Dir(dir) {
		if s.Store.Remove(ctx, dir, backends.If{}) != nil {
			break
		}
	}
	return err
}

type bareOrder struct{ backends.Store }

func (s bareOrder) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		var all []backends.Entry
		for e, err := range s.Store.List(ctx, dir, after) {
			if err != nil {
				yield(e, err)
				return
			}
			all = append(all, e)
		}
		slices.SortFunc(all, func(a, b backends.Entry) int { return strings.Compare(a.Name, b.Name) })
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
	}
}

type noAfter struct{ backends.Store }

func (s noAfter) List(ctx context.Context, dir, _ string) iter.Seq2[backends.Entry, error] {
	return s.Store.List(ctx, dir, "")
}

type thinList struct{ backends.Store }

func (s thinList) List(ctx context.Context, dir, after string) iter.Seq2[backends.Entry, error] {
	return func(yield func(backends.Entry, error) bool) {
		for e, err := range s.Store.List(ctx, dir, after) {
			e.Size = 0
			if !yield(e, err) {
				return
			}
		}
	}
}

type longRanges struct{ backends.Store }

func (s longRanges) Open(ctx context.Context, name string, r backends.Range, cond backends.If) (io.ReadCloser, backends.Entry, error) {
	r.Len = 0
	return s.Store.Open(ctx, name, r, cond)
}

type ownErrors struct{ backends.Store }

func (s ownErrors) Stat(ctx context.Context, name string) (backends.Entry, error) {
	e, err := s.Store.Stat(ctx, name)
	if err != nil {
		err = errors.New(err.Error())
	}
	return e, err
}

type cleanNames struct{ backends.Store }

func (s cleanNames) Stat(ctx context.Context, name string) (backends.Entry, error) {
	return s.Store.Stat(ctx, strings.TrimPrefix(path.Clean("/"+name), "/"))
}

type plusIsSpace struct{ backends.Store }

func (s plusIsSpace) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	e, err := s.Store.Put(ctx, strings.ReplaceAll(name, "+", " "), body, o)
	e.Name = name
	return e, err
}

type partialBodies struct{ backends.Store }

func (s partialBodies) Put(ctx context.Context, name string, body *io.SectionReader, o backends.PutOptions) (backends.Entry, error) {
	b, readErr := io.ReadAll(io.NewSectionReader(body, 0, min(body.Size(), 100<<10)))
	if rest, err := io.ReadAll(io.NewSectionReader(body, int64(len(b)), body.Size())); err == nil && ctx.Err() == nil {
		b = append(b, rest...)
	} else {
		readErr = errors.Join(readErr, err, ctx.Err())
	}
	e, err := s.Store.Put(context.WithoutCancel(ctx), name, io.NewSectionReader(strings.NewReader(string(b)), 0, int64(len(b))), o)
	return e, errors.Join(err, readErr)
}

type unlinkFirst struct{ *local.FileSystem }

func (f unlinkFirst) Rename(ctx context.Context, from backends.Node, oldName string, to backends.Node, newName string, flags backends.RenameFlags) error {
	if flags == 0 {
		if err := f.Unlink(ctx, to, newName); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		time.Sleep(100 * time.Microsecond)
	}
	return f.FileSystem.Rename(ctx, from, oldName, to, newName, flags)
}

type noExclusive struct{ *local.FileSystem }

func (f noExclusive) Create(ctx context.Context, parent backends.Node, name string, flags int, a backends.CreateAttr) (backends.Node, backends.Attr, backends.File, error) {
	return f.FileSystem.Create(ctx, parent, name, flags&^os.O_EXCL, a)
}

type noReplace struct{ *local.FileSystem }

func (f noReplace) Rename(ctx context.Context, from backends.Node, oldName string, to backends.Node, newName string, flags backends.RenameFlags) error {
	return f.FileSystem.Rename(ctx, from, oldName, to, newName, flags&^backends.RenameNoReplace)
}

type noTimes struct{ *local.FileSystem }

func (f noTimes) SetAttr(ctx context.Context, n backends.Node, c backends.AttrChange) (backends.Attr, error) {
	c.Set &^= backends.SetMtime
	return f.FileSystem.SetAttr(ctx, n, c)
}

type unlinkAll struct{ *local.FileSystem }

func (f unlinkAll) Unlink(ctx context.Context, parent backends.Node, name string) error {
	err := f.FileSystem.Unlink(ctx, parent, name)
	if errors.Is(err, backends.ErrIsDir) {
		return f.Rmdir(ctx, parent, name)
	}
	return err
}

type foreignMissing struct{ *local.FileSystem }

func (f foreignMissing) Lookup(ctx context.Context, parent backends.Node, name string) (backends.Node, backends.Attr, error) {
	n, a, err := f.FileSystem.Lookup(ctx, parent, name)
	if errors.Is(err, errors.ErrUnsupported) {
		err = fs.ErrNotExist
	}
	return n, a, err
}

type lossy struct{ *local.FileSystem }

func (f lossy) Open(ctx context.Context, n backends.Node, flags int) (backends.File, error) {
	file, err := f.FileSystem.Open(ctx, n, flags)
	return lossyFile{file}, err
}

type lossyFile struct{ backends.File }

func (f lossyFile) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	_, err := f.File.WriteAt(ctx, p[:len(p)-1], off)
	return len(p), err
}

type noXattrFlags struct{ *local.FileSystem }

func (f noXattrFlags) SetXattr(ctx context.Context, n backends.Node, name string, value []byte, _ backends.XattrFlags) error {
	return f.FileSystem.SetXattr(ctx, n, name, value, 0)
}

// staleList returns the same slice again and again.
type staleList struct {
	*local.FileSystem
	last *[]backends.DirEntry
}

func (f staleList) ReadDir(ctx context.Context, dir backends.Node) ([]backends.DirEntry, error) {
	list, err := f.FileSystem.ReadDir(ctx, dir)
	*f.last = append((*f.last)[:0], list...)
	return *f.last, err
}
