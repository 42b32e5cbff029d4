package backends

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
)

// Capabilities of stores beyond [Store]: one method each, asked for by the
// function of the same name, which falls back where the method is missing or
// answers [errors.ErrUnsupported]. (A wrapper always has the method; whether
// the wrapped store has it only the call can tell.)

// Walker is implemented by stores that can list a whole subtree at once.
type Walker interface {
	// Walk yields everything below dir, dir itself not included, each entry
	// complete, beginning after the name after ("" from the start). The order
	// is that of the names' bytes with "/" after a directory's, so that two
	// walks of disjoint ranges can run side by side. Directories that are
	// there only because something lies below them may be left out, and so
	// may one that is removed while the walk goes on; a walk that ends without
	// an error has everything else. After the error of a part of the subtree it
	// may go on with the rest, for who wants that.
	Walk(ctx context.Context, dir, after string) iter.Seq2[Entry, error]
}

// Page is a part of a listing.
type Page struct {
	Entries []Entry
	// More says that something may follow the last entry.
	More bool
}

// PageWalker is implemented by stores that list a subtree page by page, where
// a page costs one request as a rule.
type PageWalker interface {
	// WalkPage returns what [Walker.Walk] would yield first, about a thousand
	// entries, and at least one if there is more. The next page is the one
	// after the [WalkKey] of the last entry.
	WalkPage(ctx context.Context, dir, after string) (Page, error)
}

// FileStatter is implemented by stores that ask more for a name that may be a
// directory than for one that is a file.
type FileStatter interface {
	// StatFile is Stat for a caller who knew name as a file when he last asked. A
	// directory of that name that has come beside the file since need not hide
	// it; one that has taken its place is found.
	StatFile(ctx context.Context, name string) (Entry, error)
}

// StatWalker is implemented by stores where one listing has a name and what lies
// below it.
type StatWalker interface {
	// StatWalk returns what Stat has of name and, if that is a directory, what
	// [PageWalker.WalkPage] has of it: for one request as a rule.
	StatWalk(ctx context.Context, name string) (Entry, Page, error)
}

// Copier is implemented by stores that copy without moving bytes through this
// machine.
type Copier interface {
	// Copy makes to a copy of from, which must hold src then. opts are those
	// of the Put that it stands for.
	Copy(ctx context.Context, from string, src If, to string, opts PutOptions) (Entry, error)
}

// Renamer is implemented by stores that rename in one step.
type Renamer interface {
	// Rename moves a file or directory, replacing a file (or an empty
	// directory by a directory) at to. Of cond, the precondition at to, both
	// fields count; src is that at from.
	Rename(ctx context.Context, from string, src If, to string, cond If) error
}

// Removal is one of the removals of a RemoveMany.
type Removal struct {
	Name string
	If   If
	// Dir says that Name is an empty directory; If is not looked at. Who uses
	// the lean form knows that nothing lies below it, so the store need not
	// look, and what it removes is the directory's marker. In the other form
	// the removals that are below it are made first.
	Dir bool
	// Earlier are the operations of earlier changes of Name whose outcome the
	// caller doesn't know, as in [PutOptions]: If If.Match fails because one
	// of them took effect, the version that it left is removed.
	Earlier []string
}

// ManyRemover is implemented by stores that remove many names in one request.
type ManyRemover interface {
	// RemoveMany removes files and empty directories, in no promised order,
	// and returns as many errors as removals, nil for each that went. A name
	// that is not there may count as removed.
	RemoveMany(ctx context.Context, rs []Removal) []error
}

// AttrSetter is implemented by stores that can change the attributes of a
// name without writing its content.
type AttrSetter interface {
	SetAttr(ctx context.Context, name string, c AttrChange) error
}

// StoreSymlinker is implemented by stores with symbolic links.
type StoreSymlinker interface {
	Symlink(ctx context.Context, target, name string) error
	// Readlink returns the target; [fs.ErrInvalid] if name is no link.
	Readlink(ctx context.Context, name string) (string, error)
}

// UsageReporter is implemented by stores with a known capacity.
type UsageReporter interface {
	Usage(ctx context.Context) (Usage, error)
}

// Feature is one thing that a store does or doesn't do, for people to read.
type Feature struct {
	Name    string // "conditional put"
	Honored bool
	Note    string // why not, what happens instead
}

// FeatureReporter is implemented by stores that can find out what their server
// honours. It may write scratch files and removes them.
type FeatureReporter interface {
	Features(ctx context.Context) ([]Feature, error)
}

// Load says how a store has coped with what was asked of it since it was
// opened.
type Load struct {
	// Hedged counts requests that were sent a second time because the first
	// took much longer than others do, HedgesWon those whose second answer came
	// first.
	Hedged, HedgesWon int64
	// SlowDowns counts answers that asked for fewer requests. Limit is how many
	// may be under way because of them, 0 if there is no limit now.
	SlowDowns, Limit int64
}

// LoadReporter is implemented by stores that know their load.
type LoadReporter interface {
	Load() Load
}

// LoadOf returns the load of s; it is zero for a store that knows of none.
func LoadOf(s Store) Load {
	if r, ok := s.(LoadReporter); ok {
		return r.Load()
	}
	return Load{}
}

// Walk walks the subtree below dir. See [Walker]; the fallback lists directory
// after directory, and goes on after one that can't be listed.
func Walk(ctx context.Context, s Store, dir, after string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if w, ok := s.(Walker); ok {
			for e, err := range w.Walk(ctx, dir, after) {
				if errors.Is(err, errors.ErrUnsupported) {
					walkByList(ctx, s, dir, after, false, yield)
					return
				}
				if !yield(e, err) {
					return
				}
			}
			return
		}
		walkByList(ctx, s, dir, after, false, yield)
	}
}

func walkByList(ctx context.Context, s Store, dir, after string, below bool, yield func(Entry, error) bool) bool {
	for e, err := range s.List(ctx, dir, "") {
		if err != nil && below && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotDir)) {
			return true // removed since it was listed
		}
		if err != nil {
			return yield(Entry{}, err) && ctx.Err() == nil
		}
		key := e.Name
		if e.IsDir() {
			key += "/"
		}
		if key > after && !yield(e, nil) {
			return false
		}
		if e.IsDir() && key <= after && !strings.HasPrefix(after, key) {
			continue // all of it lies before after
		}
		if e.IsDir() && !walkByList(ctx, s, e.Name, after, true, yield) {
			return false
		}
	}
	return true
}

// WalkPage returns a page of a walk, or is [errors.ErrUnsupported]: where there
// are no flat listings, nothing can stand for one at its price.
func WalkPage(ctx context.Context, s Store, dir, after string) (Page, error) {
	w, ok := s.(PageWalker)
	if !ok {
		return Page{}, &fs.PathError{Op: "walk", Path: dir, Err: errors.ErrUnsupported}
	}
	p, err := w.WalkPage(ctx, dir, after)
	if err == nil {
		err = p.check(dir, after)
	}
	return p, err
}

// check returns an error for a page that nobody can go on behind: who went on
// after its last entry would do so for ever.
func (p Page) check(dir, after string) error {
	if !p.More || len(p.Entries) > 0 && WalkKey(p.Entries[len(p.Entries)-1]) > after {
		return nil
	}
	return &fs.PathError{Op: "walk", Path: dir, Err: fmt.Errorf("the store's page after %q says that there is more, and does not go on", after)}
}

// StatWalk returns the entry of name and, if it is a directory, a page of its walk,
// or is [errors.ErrUnsupported], as [WalkPage] is.
func StatWalk(ctx context.Context, s Store, name string) (Entry, Page, error) {
	w, ok := s.(StatWalker)
	if !ok {
		return Entry{}, Page{}, &fs.PathError{Op: "stat", Path: name, Err: errors.ErrUnsupported}
	}
	e, p, err := w.StatWalk(ctx, name)
	if err == nil {
		err = p.check(name, "")
	}
	return e, p, err
}

// StatFile returns the entry of a name that was a file. See [FileStatter]; the
// fallback is Stat.
func StatFile(ctx context.Context, s Store, name string) (Entry, error) {
	if f, ok := s.(FileStatter); ok {
		e, err := f.StatFile(ctx, name)
		if !errors.Is(err, errors.ErrUnsupported) {
			return e, err
		}
	}
	return s.Stat(ctx, name)
}

// WalkKey returns the key by which a walk is ordered and after which it can go
// on: the name, and for a directory the name followed by a slash.
func WalkKey(e Entry) string {
	if e.IsDir() {
		return e.Name + "/"
	}
	return e.Name
}

// PageOf returns the first n entries of a walk as a page.
func PageOf(walk iter.Seq2[Entry, error], n int) (Page, error) {
	var p Page
	for e, err := range walk {
		if err != nil {
			return Page{}, err
		}
		if len(p.Entries) == n {
			p.More = true
			break
		}
		p.Entries = append(p.Entries, e)
	}
	return p, nil
}

// Copy copies a file. See [Copier]; the fallback reads from into a temporary
// file and puts it, so it is atomic at to but moves every byte.
func Copy(ctx context.Context, s Store, from string, src If, to string, opts PutOptions) (Entry, error) {
	if c, ok := s.(Copier); ok {
		e, err := c.Copy(ctx, from, src, to, opts)
		if !errors.Is(err, errors.ErrUnsupported) {
			return e, err
		}
	}
	return CopyBetween(ctx, s, from, src, s, to, opts)
}

// CopyBetween copies a file from one store to another, or within one that has
// no Copy, through a temporary file.
func CopyBetween(ctx context.Context, a Store, from string, src If, b Store, to string, opts PutOptions) (Entry, error) {
	r, e, err := a.Open(ctx, from, Range{}, src)
	if err != nil {
		return Entry{}, err
	}
	defer r.Close()
	tmp, err := os.CreateTemp("", "agentfs-copy-*")
	if err != nil {
		return Entry{}, fmt.Errorf("room for a copy of %s: %w", from, err)
	}
	defer tmp.Close()
	if err := os.Remove(tmp.Name()); err != nil {
		return Entry{}, err
	}
	n, err := io.Copy(tmp, r)
	if err != nil {
		return Entry{}, WrapPath("copy", from, err)
	}
	if n != e.Size {
		return Entry{}, &fs.PathError{Op: "copy", Path: from, Err: io.ErrUnexpectedEOF}
	}
	return b.Put(ctx, to, io.NewSectionReader(tmp, 0, n), opts)
}

// Rename moves a name. See [Renamer]; the fallback copies and then removes,
// files only: a directory is [errors.ErrUnsupported], because a tree that
// moves piece by piece has to be somebody's decision.
func Rename(ctx context.Context, s Store, from string, src If, to string, cond If) error {
	if r, ok := s.(Renamer); ok {
		err := r.Rename(ctx, from, src, to, cond)
		if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	e, err := s.Stat(ctx, from)
	if err != nil {
		return err
	}
	if e.IsDir() {
		return &fs.PathError{Op: "rename", Path: from, Err: errors.ErrUnsupported}
	}
	if src.Match == "" {
		src.Match = e.Version
	}
	if path.Clean(from) == path.Clean(to) {
		return nil
	}
	if _, err := Copy(ctx, s, from, src, to, PutOptions{If: cond}); err != nil {
		return err
	}
	return s.Remove(ctx, from, src)
}

// RemoveMany removes files and empty directories. See [ManyRemover]; the
// fallback removes one after the other, directories last and the deepest of
// them first, and knows nothing of Removal.Earlier.
func RemoveMany(ctx context.Context, s Store, rs []Removal) []error {
	if m, ok := s.(ManyRemover); ok {
		errs := m.RemoveMany(ctx, rs)
		if len(errs) == 0 || !errors.Is(errs[0], errors.ErrUnsupported) {
			return errs
		}
	}
	errs := make([]error, len(rs))
	var dirs []int
	for i, r := range rs {
		if r.Dir {
			dirs = append(dirs, i)
			continue
		}
		errs[i] = s.Remove(ctx, r.Name, r.If)
	}
	// What is below a directory has a longer name.
	slices.SortStableFunc(dirs, func(a, b int) int { return len(rs[b].Name) - len(rs[a].Name) })
	for _, i := range dirs {
		errs[i] = s.Remove(ctx, rs[i].Name, If{})
	}
	return errs
}

// SetAttr changes attributes by name, or is [errors.ErrUnsupported].
func SetAttr(ctx context.Context, s Store, name string, c AttrChange) error {
	if a, ok := s.(AttrSetter); ok {
		return a.SetAttr(ctx, name, c)
	}
	return &fs.PathError{Op: "setattr", Path: name, Err: errors.ErrUnsupported}
}

// Symlink makes a symbolic link, or is [errors.ErrUnsupported].
func Symlink(ctx context.Context, s Store, target, name string) error {
	if l, ok := s.(StoreSymlinker); ok {
		return l.Symlink(ctx, target, name)
	}
	return &fs.PathError{Op: "symlink", Path: name, Err: errors.ErrUnsupported}
}

// Readlink returns a symbolic link's target, or is [errors.ErrUnsupported].
func Readlink(ctx context.Context, s Store, name string) (string, error) {
	if l, ok := s.(StoreSymlinker); ok {
		return l.Readlink(ctx, name)
	}
	return "", &fs.PathError{Op: "readlink", Path: name, Err: errors.ErrUnsupported}
}

// UsageOf returns the capacity of s; where it is not known, the zero Usage.
func UsageOf(ctx context.Context, s Store) (Usage, error) {
	if u, ok := s.(UsageReporter); ok {
		use, err := u.Usage(ctx)
		if !errors.Is(err, errors.ErrUnsupported) {
			return use, err
		}
	}
	return Usage{}, nil
}

// FeaturesOf returns what s knows of its server; nothing where it can't tell.
func FeaturesOf(ctx context.Context, s Store) ([]Feature, error) {
	if f, ok := s.(FeatureReporter); ok {
		fe, err := f.Features(ctx)
		if !errors.Is(err, errors.ErrUnsupported) {
			return fe, err
		}
	}
	return nil, nil
}

// CloseStore releases what s holds, if anything.
func CloseStore(s Store) error {
	if c, ok := s.(Closer); ok {
		return c.Close()
	}
	return nil
}

// IdentityOf returns what s is, or def.
func IdentityOf(s Store, def string) string {
	if i, ok := s.(Identifier); ok {
		if id := i.Identity(); id != "" {
			return id
		}
	}
	return def
}

// FilesOf returns the file depth that s has of its own, or nil.
func FilesOf(s Store) FileSystem {
	if f, ok := s.(Filer); ok {
		return f.FileSystem()
	}
	return nil
}

// NameChecker is implemented by stores that can't hold every name.
type NameChecker interface {
	// CheckName returns the error that creating name would end in because of
	// the name alone. It asks nobody. It is asked for names that users give,
	// so the lean form, which takes records (see [RecordPrefix]), refuses
	// them here too.
	CheckName(name string) error
}

// ValidName returns an error if s can't hold name; whoever stages a file
// before putting it asks at the time of the create.
func ValidName(s Store, name string) error {
	if c, ok := s.(NameChecker); ok {
		return c.CheckName(name)
	}
	return CheckName("create", name)
}

// Leaner is implemented by stores whose calls cost requests that only guard
// against a caller who doesn't know the name space.
type Leaner interface {
	// Lean returns the same store without those guards. Whoever uses it
	// promises to know what is a directory and what a file, to remove no
	// directory that has children, and to Mkdir the parent of the last child
	// that it removes if the parent is to stay.
	Lean() Store
}

// LeanStore returns s for a caller who keeps Leaner's promises: s itself if
// it has nothing to save.
func LeanStore(s Store) Store {
	if l, ok := s.(Leaner); ok {
		return l.Lean()
	}
	return s
}
