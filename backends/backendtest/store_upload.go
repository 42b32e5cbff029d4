package backendtest

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/agentfs/agentfs/backends"
)

// storeUploadUnits are those of [backends.Uploader].
var storeUploadUnits = []unit[*storeEnv]{
	{"Upload/Parts", func(e *storeEnv) {
		u := e.begin("d/f", backends.PutOptions{})
		small := e.partSize()
		a, b, c := patterned(small, 1), patterned(small+7, 2), "the end"
		// In any order, with gaps, and one of them twice.
		parts := []backends.Part{e.part(u, 9, c), e.part(u, 2, b)}
		e.part(u, 1, patterned(small, 8))
		parts = append(parts, e.part(u, 1, a))
		e.wantGone("d/f")
		entry := e.complete(u, parts)
		if want := e.stat("d/f"); entry.Name != "d/f" || entry.Size != want.Size || entry.Version != want.Version {
			e.Errorf("Complete returned %+v, Stat has %+v", entry, want)
		}
		e.wantContent("d/f", a+b+c)
		if _, _, err := e.read("d/f", backends.Range{}, backends.If{Match: entry.Version}); err != nil {
			e.Errorf("reading the version that Complete returned: %v", err)
		}
		e.wantList("d", "f")
	}},
	{"Upload/Parallel", func(e *storeEnv) {
		u := e.begin("f", backends.PutOptions{})
		parts := make([]backends.Part, 6)
		size, whole := e.partSize(), ""
		for i := range parts {
			whole += patterned(size, byte(i))
		}
		parallel(len(parts), func(i int) {
			var err error
			if parts[i], err = u.Put(e.ctx, i+1, section(patterned(size, byte(i)))); err != nil {
				e.Errorf("part %d: %v", i+1, err)
			}
		})
		e.complete(u, parts)
		e.wantContent("f", whole)
	}},
	{"Upload/Replace", func(e *storeEnv) {
		e.put("f", "old")
		u := e.begin("f", backends.PutOptions{})
		parts := []backends.Part{e.part(u, 1, "new")}
		e.wantContent("f", "old")
		e.complete(u, parts)
		e.wantContent("f", "new")
	}},
	{"Upload/Conditions", func(e *storeEnv) {
		old := e.put("f", "one").Version
		now := e.put("f", "two").Version
		for what, c := range map[string]struct {
			cond backends.If
			want error
		}{"If.Absent": {backends.If{Absent: true}, errExist}, "an old version": {backends.If{Match: old}, backends.ErrChanged}} {
			u, err := backends.BeginUpload(e.ctx, e.s, "f", backends.PutOptions{If: c.cond})
			if err == nil {
				_, err = u.Complete(e.ctx, []backends.Part{e.part(u, 1, "three")})
				if aerr := u.Abort(e.ctx); aerr != nil {
					e.Errorf("Abort after a failed condition: %v", aerr)
				}
			}
			if errors.Is(err, errors.ErrUnsupported) {
				e.Skipf("BeginUpload: %v", err)
			}
			e.wantErr(err, c.want, "an upload with %s", what)
			e.wantContent("f", "two")
		}
		u := e.begin("f", backends.PutOptions{If: backends.If{Match: now}})
		e.complete(u, []backends.Part{e.part(u, 1, "three")})
		e.wantContent("f", "three")
		u = e.begin("new", backends.PutOptions{If: backends.If{Absent: true}})
		e.complete(u, []backends.Part{e.part(u, 1, "new")})
		e.wantContent("new", "new")
	}},
	{"Upload/ConditionAtTheEnd", func(e *storeEnv) {
		v := e.put("f", "one").Version
		u := e.begin("f", backends.PutOptions{If: backends.If{Match: v}})
		parts := []backends.Part{e.part(u, 1, "mine")}
		e.put("f", "theirs")
		_, err := u.Complete(e.ctx, parts)
		e.wantErr(err, backends.ErrChanged, "Complete after somebody else's change")
		e.wantContent("f", "theirs")
	}},
	{"Upload/Copy", func(e *storeEnv) {
		small := e.partSize()
		content := patterned(2*small+100, 3)
		src := backends.If{Match: e.put("from", content).Version}
		u := e.begin("to", backends.PutOptions{})
		end := small + 50
		first, err := u.Copy(e.ctx, 1, "from", src, backends.Range{Off: 50, Len: int64(small)})
		if errors.Is(err, errors.ErrUnsupported) {
			first, err = e.part(u, 1, content[50:end]), nil
		}
		if err != nil {
			e.Fatalf("Copy of a part: %v", err)
		}
		parts := []backends.Part{first, e.part(u, 2, patterned(small, 4))}
		for n, r := range map[int]backends.Range{3: {}, 4: {Off: int64(small)}} {
			p, err := u.Copy(e.ctx, n, "from", src, r)
			if errors.Is(err, errors.ErrUnsupported) {
				p, err = e.part(u, n, content[r.Off:]), nil
			}
			if err != nil || p.N != n || p.Size != int64(len(content))-r.Off {
				e.Fatalf("Copy of a part to the end: %+v, %v", p, err)
			}
			parts = append(parts, p)
		}
		e.complete(u, parts)
		e.wantContent("to", content[50:end]+patterned(small, 4)+content+content[small:])
		e.wantContent("from", content)
	}},
	{"Upload/CopyOfChanged", func(e *storeEnv) {
		old := e.put("from", "old").Version
		e.put("from", "new")
		u := e.begin("to", backends.PutOptions{})
		for _, r := range []backends.Range{{}, {Len: 2}} {
			_, err := u.Copy(e.ctx, 1, "from", backends.If{Match: old}, r)
			if errors.Is(err, errors.ErrUnsupported) {
				e.Skipf("Copy: %v", err)
			}
			e.wantErr(err, backends.ErrChanged, "Copy of an old version")
		}
		if err := u.Abort(e.ctx); err != nil {
			e.Fatal(err)
		}
	}},
	{"Upload/CompleteTwice", func(e *storeEnv) {
		opts := backends.PutOptions{Operation: "op-upload"}
		u := e.begin("f", opts)
		parts := []backends.Part{e.part(u, 1, "content")}
		first := e.complete(u, parts)
		again, ok := backends.ResumeUpload(e.s, "f", u.ID(), opts)
		if !ok {
			e.Fatal("an upload can't be resumed")
		}
		for who, u := range map[string]backends.Upload{"the same": u, "a resumed": again} {
			second, err := u.Complete(e.ctx, parts)
			if err != nil || second.Version != first.Version || second.Size != first.Size {
				e.Errorf("%s upload, completed again: %+v, %v, want %+v", who, second, err, first)
			}
		}
		e.wantContent("f", "content")
		if err := u.Abort(e.ctx); err != nil {
			e.Errorf("Abort of a completed upload: %v", err)
		}
		e.wantContent("f", "content")
	}},
	{"Upload/Resume", func(e *storeEnv) {
		opts := backends.PutOptions{Operation: "op-upload"}
		begun := e.begin("d/f", opts)
		small := e.partSize()
		stored, err := json.Marshal(e.part(begun, 1, patterned(small, 1)))
		if err != nil {
			e.Fatal(err)
		}
		u, ok := backends.ResumeUpload(e.s, "d/f", begun.ID(), opts)
		if !ok || u.ID() != begun.ID() {
			e.Fatal("an upload can't be resumed")
		}
		var first backends.Part
		if err := json.Unmarshal(stored, &first); err != nil {
			e.Fatal(err)
		}
		e.complete(u, []backends.Part{first, e.part(u, 2, "rest")})
		e.wantContent("d/f", patterned(small, 1)+"rest")
	}},
	{"Upload/Abort", func(e *storeEnv) {
		u := e.begin("f", backends.PutOptions{})
		part := e.part(u, 1, "x")
		for range 2 {
			if err := u.Abort(e.ctx); err != nil {
				e.Fatalf("Abort: %v", err)
			}
		}
		_, err := u.Put(e.ctx, 2, section("y"))
		e.wantErr(err, errNotExist, "a part of an aborted upload")
		_, err = u.Complete(e.ctx, []backends.Part{part})
		e.wantErr(err, errNotExist, "Complete of an aborted upload")
		if slices.Contains(e.uploads(), "f "+u.ID()) {
			e.Error("an aborted upload is listed")
		}
		e.wantGone("f")
	}},
	{"Upload/List", func(e *storeEnv) {
		a, b := e.begin("d/a b+c", backends.PutOptions{}), e.begin("f", backends.PutOptions{})
		done := e.begin("done", backends.PutOptions{})
		e.complete(done, []backends.Part{e.part(done, 1, "x")})
		got := e.uploads()
		for _, want := range []string{"d/a b+c " + a.ID(), "f " + b.ID()} {
			if !slices.Contains(got, want) {
				e.Errorf("Uploads has %q, not %q", got, want)
			}
		}
		if slices.Contains(got, "done "+done.ID()) {
			e.Error("a completed upload is listed")
		}
	}},
	{"Upload/Errors", func(e *storeEnv) {
		e.mkdir("d")
		e.begin("f", backends.PutOptions{})
		for name, want := range map[string]error{"d": backends.ErrIsDir, ".": backends.ErrIsDir, "../f": errInvalid} {
			_, err := backends.BeginUpload(e.ctx, e.s, name, backends.PutOptions{})
			e.wantErr(err, want, "BeginUpload(%q)", name)
		}
		u := e.begin("g", backends.PutOptions{})
		_, err := u.Put(e.ctx, 0, section("x"))
		e.wantErr(err, errInvalid, "part 0")
		if _, err := u.Complete(e.ctx, nil); err == nil {
			e.Error("Complete without parts reported success")
		}
		e.wantGone("g")
	}},
}

// begin begins an upload, which the test's end aborts if it has not ended, and
// skips the test where the store has none.
func (e *storeEnv) begin(name string, opts backends.PutOptions) backends.Upload {
	e.Helper()
	u, err := backends.BeginUpload(e.ctx, e.s, name, opts)
	if errors.Is(err, errors.ErrUnsupported) {
		e.Skipf("BeginUpload: %v", err)
	}
	if err != nil {
		e.Fatalf("BeginUpload(%q): %v", name, err)
	}
	if u.ID() == "" {
		e.Fatal("an upload has no id")
	}
	return u
}

// partSize returns the size of a part that another one may follow.
func (e *storeEnv) partSize() int {
	e.Helper()
	l := backends.PartLimitsOf(e.s)
	if l.MaxParts == 0 {
		e.Skip("the store has no uploads")
	}
	if l.MinSize < 1 || l.MaxSize < l.MinSize || l.Good < l.MinSize || l.MaxParts < 2 {
		e.Fatalf("PartLimits are %+v", l)
	}
	if l.MinSize > 1<<20 && testing.Short() {
		e.Skipf("parts of %d bytes: not with -short", l.MinSize)
	}
	return int(l.MinSize)
}

func (e *storeEnv) part(u backends.Upload, n int, content string) backends.Part {
	e.Helper()
	p, err := u.Put(e.ctx, n, section(content))
	if err != nil {
		e.Fatalf("part %d: %v", n, err)
	}
	if p.N != n || p.Size != int64(len(content)) || p.Tag == "" {
		e.Fatalf("part %d of %d bytes is %+v", n, len(content), p)
	}
	return p
}

func (e *storeEnv) complete(u backends.Upload, parts []backends.Part) backends.Entry {
	e.Helper()
	entry, err := u.Complete(e.ctx, parts)
	if err != nil {
		e.Fatalf("Complete: %v", err)
	}
	return entry
}

// uploads returns "NAME ID" of all uploads.
func (e *storeEnv) uploads() []string {
	e.Helper()
	var all []string
	for u, err := range backends.Uploads(e.ctx, e.s) {
		if err != nil {
			e.Fatalf("Uploads: %v", err)
		}
		if u.Started.IsZero() {
			e.Errorf("the upload of %q has not been started", u.Name)
		}
		all = append(all, u.Name+" "+u.ID)
	}
	return all
}
