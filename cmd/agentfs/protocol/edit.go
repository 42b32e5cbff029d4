package protocol

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/aymanbagabas/go-udiff"
	"github.com/dustin/go-humanize"

	"github.com/agentfs/agentfs/backends"
)

// EditOptions modify an Edit.
type EditOptions struct {
	All    bool // replace every occurrence instead of asking for exactly one
	DryRun bool // change nothing, and return the difference that it would make
	// IfVersion edits only if the file still holds this version.
	IfVersion backends.Version
}

// maxEditLines is how many lines an EditResult or an AmbiguousError carries at
// most: enough to choose more context by, and bounded.
const maxEditLines = 20

// EditResult says what an Edit replaced.
type EditResult struct {
	Item
	Replaced int64 `json:"replaced" jsonschema:"how many occurrences"`
	// Lines are the lines, counted from 1, where the replaced texts began:
	// the first 20.
	Lines []int64 `json:"lines" jsonschema:"the lines, from 1, where the replaced texts began; the first 20"`
	// Diff is what a dry run would change, as a unified diff.
	Diff string `json:"diff,omitempty" jsonschema:"what would change, as a unified diff"`
}

// ErrNoMatch means that the text to replace is not in the file.
var ErrNoMatch = errors.New("the text to replace is not in the file")

var errAmbiguous = errors.New("the text to replace is there more than once")

// EditLine is a line of a file.
type EditLine struct {
	Number int64  `json:"line"`
	Text   string `json:"text"` // at most 160 bytes of it
}

// AmbiguousError means that the text to replace is in the file more than once.
type AmbiguousError struct {
	Count int64
	Lines []EditLine // where they begin, counted from 1: the first 20
}

// Error implements error.
func (e *AmbiguousError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the text to replace is there %d times:", e.Count)
	for _, l := range e.Lines {
		fmt.Fprintf(&b, " line %d: %q;", l.Number, l.Text)
	}
	if int64(len(e.Lines)) < e.Count {
		b.WriteString(" and more;")
	}
	return strings.TrimSuffix(b.String(), ";")
}

// Is makes all of them one kind.
func (e *AmbiguousError) Is(target error) bool { return target == errAmbiguous }

// Edit replaces the text old by new in the file p. old must be there exactly
// once, byte for byte, unless o.All. The file is written only if it still
// holds the version that was read, else the error is [backends.ErrChanged]; it
// keeps its mode.
//
// In a file whose first line ends in "\r\n", each "\n" of old and new that has
// no "\r" stands for "\r\n", so that an edit does not mix line ends; a text that
// is only there as it was given is still found.
//
// Files of any size need the same memory, but for the difference of a dry run.
func (t *Tree) Edit(ctx context.Context, p, old, new string, o EditOptions) (EditResult, error) {
	name, err := fileName("edit", p)
	if err != nil {
		return EditResult{}, err
	}
	switch {
	case old == "":
		err = invalid("the text to replace is empty; write the whole file to fill an empty one")
	case old == new:
		err = invalid("the old text and the new are the same")
	}
	if err != nil {
		return EditResult{}, &fs.PathError{Op: "edit", Path: name, Err: err}
	}
	tmp, err := scratch()
	if err != nil {
		return EditResult{}, err
	}
	defer tmp.Close()
	e, done, err := t.replaceIn(ctx, name, old, new, o, tmp)
	if err != nil {
		return EditResult{}, err
	}
	res := EditResult{Item: itemOf(e), Replaced: done.count, Lines: done.lines}
	if o.DryRun {
		res.Diff, err = t.diff(ctx, e, io.NewSectionReader(tmp, 0, done.size))
		return res, err
	}
	put, err := t.Store.Put(ctx, name, io.NewSectionReader(tmp, 0, done.size), backends.PutOptions{
		If: backends.If{Match: e.Version}, Attr: keep(e),
	})
	if err != nil {
		return EditResult{}, err
	}
	res.Item = itemOf(put)
	return res, nil
}

// keep returns the attributes of e that its new content is to have.
func keep(e backends.Entry) backends.AttrChange {
	if perm := e.Mode.Perm(); perm != 0 {
		return backends.AttrChange{Set: backends.SetMode, Mode: perm}
	}
	return backends.AttrChange{}
}

// replaceIn writes to tmp the content that the file name is to have.
func (t *Tree) replaceIn(ctx context.Context, name, old, new string, o EditOptions, tmp *os.File) (backends.Entry, replaced, error) {
	fail := func(err error) (backends.Entry, replaced, error) {
		return backends.Entry{}, replaced{}, backends.WrapPath("edit", name, err)
	}
	cond := backends.If{Match: o.IfVersion}
	for given := false; ; given = true {
		f, err := t.openIf(ctx, "edit", name, cond)
		if err != nil {
			return fail(err)
		}
		e := f.entry
		cond.Match = e.Version // a second look is at the same content
		br := bufio.NewReaderSize(f, 64<<10)
		head, err := br.Peek(64 << 10)
		if err != nil && !errors.Is(err, io.EOF) {
			return fail(errors.Join(err, f.Close()))
		}
		from, to := old, new
		if !given {
			from, to = withEnds(head, old), withEnds(head, new)
		}
		done, err := replace(br, tmp, []byte(from), []byte(to))
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		switch {
		case err != nil:
			return fail(err)
		case done.count == 0 && from != old:
			continue // perhaps it is there as it was given
		case done.count == 0:
			return fail(ErrNoMatch)
		case done.count > 1 && !o.All:
			return fail(&AmbiguousError{Count: done.count, Lines: t.textOf(ctx, e, done.lines)})
		}
		return e, done, nil
	}
}

// openIf is open of a file that fits cond.
func (t *Tree) openIf(ctx context.Context, op, name string, cond backends.If) (*reader, error) {
	if cond.Match == "" {
		return t.open(ctx, op, name)
	}
	r, e, err := t.Store.Open(ctx, name, backends.Range{}, cond)
	return &reader{r, e}, err
}

// withEnds returns text with the line ends of the file that begins with head.
func withEnds(head []byte, text string) string {
	if i := bytes.IndexByte(head, '\n'); i < 1 || head[i-1] != '\r' {
		return text
	}
	return strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
}

// textOf returns these lines of a file, as far as they can be had.
func (t *Tree) textOf(ctx context.Context, e backends.Entry, numbers []int64) []EditLine {
	lines := make([]EditLine, len(numbers))
	for i, n := range numbers {
		lines[i].Number = n
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f, err := t.openIf(ctx, "edit", e.Name, backends.If{Match: e.Version})
	if err != nil {
		return lines
	}
	defer f.Close()
	const most = 160
	br := bufio.NewReader(f)
	at := int64(1)
	for i := range lines {
		if i > 0 && lines[i].Number == lines[i-1].Number {
			lines[i].Text = lines[i-1].Text
			continue
		}
		if _, _, err := countLines(br, lines[i].Number-at, -1); err != nil {
			break
		}
		at = lines[i].Number
		text, _ := br.Peek(most)
		text, _, _ = bytes.Cut(text, newline)
		lines[i].Text = string(trimEOL(text))
	}
	return lines
}

// maxDiff is the largest file of which a difference is shown.
const maxDiff = 64 << 20

// diff returns how the content of e would change, as a unified diff.
func (t *Tree) diff(ctx context.Context, e backends.Entry, changed *io.SectionReader) (string, error) {
	if max(e.Size, changed.Size()) > maxDiff {
		return "", &fs.PathError{Op: "edit", Path: e.Name, Err: invalid("the file is too large to show the difference (more than %s); edit it without a dry run", humanize.IBytes(maxDiff))}
	}
	f, err := t.openIf(ctx, "edit", e.Name, backends.If{Match: e.Version})
	if err != nil {
		return "", err
	}
	defer f.Close()
	before, err := io.ReadAll(f)
	if err != nil {
		return "", backends.WrapPath("edit", e.Name, err)
	}
	after, err := io.ReadAll(changed)
	return udiff.Unified("a/"+e.Name, "b/"+e.Name, string(before), string(after)), err
}
