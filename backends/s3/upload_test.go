package s3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/s3"
	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// A completion that was done unseen is a success when it is tried again, with
// the same upload and with one that another process has resumed.
func TestLostComplete(t *testing.T) {
	lostThenAgain(t, func(t *testing.T, srv s3test.Server, s, again backends.Store, p *s3test.Proxy) {
		ctx, name := t.Context(), t.Name()
		for i, cond := range []backends.If{{}, {Absent: true}, {Match: put(t, s, "match", "old", backends.If{}).Version}} {
			to := fmt.Sprint(name, i)
			if cond.Match != "" {
				to = "match"
			}
			opts := backends.PutOptions{If: cond, Operation: fmt.Sprint("op-", i)}
			u, err := backends.BeginUpload(ctx, s, to, opts)
			if errors.Is(err, errors.ErrUnsupported) && !honest(srv) && i > 0 {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			part, err := u.Put(ctx, 3, section("content"))
			if err != nil {
				t.Fatal(err)
			}
			losing(p, "CompleteMultipartUpload")
			_, err = u.Complete(ctx, []backends.Part{part})
			wantLost(t, "Complete", err)
			p.Inject(nil)
			if again != s {
				u, _ = backends.ResumeUpload(again, to, u.ID(), opts)
			}
			e, err := u.Complete(ctx, []backends.Part{part})
			if err != nil || e.Size != 7 {
				t.Fatalf("%+v: trying again: %+v, %v", cond, e, err)
			}
			if now, err := again.Stat(ctx, to); err != nil || now.Version != e.Version {
				t.Errorf("Complete says %+v, Stat %+v, %v", e, now, err)
			}
			if op := srv.Head(t, to).Metadata["agentfs-op"]; op != opts.Operation {
				t.Errorf("the object carries %q", op)
			}
			// Another operation is not excused by it, but can go on from it.
			if cond == (backends.If{}) {
				continue
			}
			for _, earlier := range [][]string{nil, {opts.Operation}} {
				u, err := backends.BeginUpload(ctx, again, to, backends.PutOptions{If: cond, Operation: "op-later", Earlier: earlier})
				if err != nil {
					t.Fatal(err)
				}
				part, err := u.Put(ctx, 1, section("later"))
				if err != nil {
					t.Fatal(err)
				}
				_, err = u.Complete(ctx, []backends.Part{part})
				if earlier == nil != (err != nil) {
					t.Errorf("%+v: after %q: %v", cond, earlier, err)
				}
				if err := u.Abort(ctx); err != nil {
					t.Error(err)
				}
			}
		}
		if left := srvUploads(t, srv); len(left) > 0 {
			t.Errorf("uploads are left: %q", left)
		}
	})
}

func srvUploads(t *testing.T, srv s3test.Server) (keys []string) {
	t.Helper()
	out, err := srv.Client().ListMultipartUploads(t.Context(), &awss3.ListMultipartUploadsInput{Bucket: &srv.Bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range out.Uploads {
		keys = append(keys, *u.Key)
	}
	return keys
}

// What an endpoint can't do is said where the caller can do something else, and
// not asked again.
func TestUploadUnsupported(t *testing.T) {
	st, p := faulty(t, s3test.Fake(t))
	s, ctx := st.Lean(), t.Context()
	_, err := backends.BeginUpload(ctx, s, "f", backends.PutOptions{If: backends.If{Absent: true}})
	wantIs(t, "a conditional upload", err, errors.ErrUnsupported)
	src := backends.If{Match: put(t, s, "from", "content", backends.If{}).Version}
	u, err := backends.BeginUpload(ctx, s, "f", backends.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, err = u.Copy(ctx, 1, "from", src, backends.Range{Len: 3})
		wantIs(t, "a copied part", err, errors.ErrUnsupported)
	}
	if n := p.Counts()["UploadPartCopy"]; n != 1 {
		t.Errorf("UploadPartCopy was tried %d times", n)
	}
	if err := u.Abort(ctx); err != nil {
		t.Error(err)
	}
}

// Copied parts are of the version that was asked for, and cost one request
// each.
func TestUploadCopy(t *testing.T) {
	st, p := faulty(t, s3test.Versitygw(t))
	s, ctx := st.Lean(), t.Context()
	data := noise(12<<20, 1)
	e, err := s.Put(ctx, "d/from here+", bytesOf(data), backends.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.Reset()
	u, err := backends.BeginUpload(ctx, s, "to", backends.PutOptions{If: backends.If{Absent: true}})
	if err != nil {
		t.Fatal(err)
	}
	var parts []backends.Part
	for i, r := range []backends.Range{{Off: 1, Len: 6 << 20}, {Off: 7, Len: 5 << 20}} {
		part, err := u.Copy(ctx, i+1, "d/from here+", backends.If{Match: e.Version}, r)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part)
	}
	last, err := u.Put(ctx, 3, section("end"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = u.Complete(ctx, append(parts, last)); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(p.Counts()); got != fmt.Sprint(map[string]int{"CreateMultipartUpload": 1, "UploadPartCopy": 2, "UploadPart": 1, "CompleteMultipartUpload": 1}) {
		t.Errorf("requests: %s", got)
	}
	want := slices.Concat(data[1:1+6<<20], data[7:7+5<<20], []byte("end"))
	if got, _, err := read(ctx, s, "to", backends.Range{}, backends.If{}); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	put(t, s, "d/from here+", "changed", backends.If{})
	u, err = backends.BeginUpload(ctx, s, "to", backends.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = u.Copy(ctx, 1, "d/from here+", backends.If{Match: e.Version}, backends.Range{Len: 3})
	wantIs(t, "a changed source", err, backends.ErrChanged)
	_, err = u.Copy(ctx, 1, "nothing", backends.If{}, backends.Range{})
	wantIs(t, "a missing source", err, fs.ErrNotExist)
	wantIs(t, "Abort", u.Abort(ctx), nil)
}

// An upload keeps what the object had, as a Put does, and goes the way to AWS
// with checksums on every part.
func TestUploadKeepsMetadata(t *testing.T) {
	srv := s3test.Versitygw(t)
	for _, aws := range []bool{false, true} {
		s := srv.Store(t, quick)
		if aws {
			s.LikeAWS()
		}
		srv.Put(t, "f", "one", func(in *awss3.PutObjectInput) {
			in.ContentType, in.Tagging = ptr("text/x-special"), ptr("team=blue")
			in.Metadata = map[string]string{"project": "apollo"}
		})
		e, err := s.Stat(t.Context(), "f")
		if err != nil {
			t.Fatal(err)
		}
		u, err := backends.BeginUpload(t.Context(), s, "f", backends.PutOptions{If: backends.If{Match: e.Version}})
		if err != nil {
			t.Fatal(err)
		}
		data := noise(5<<20, 1)
		second, err := u.Put(t.Context(), 2, section("rest"))
		if err != nil {
			t.Fatal(err)
		}
		first, err := u.Put(t.Context(), 1, bytesOf(data))
		if err != nil {
			t.Fatal(err)
		}
		if aws && first.Sum == "" {
			t.Error("a part has no checksum")
		}
		if _, err = u.Complete(t.Context(), []backends.Part{second, first}); err != nil {
			t.Fatal(err)
		}
		h := srv.Head(t, "f")
		if *h.ContentType != "text/x-special" || h.Metadata["project"] != "apollo" || *h.ContentLength != 5<<20+4 {
			t.Errorf("type %q, metadata %v, %d bytes", *h.ContentType, h.Metadata, *h.ContentLength)
		}
		out, err := srv.Client().GetObjectTagging(t.Context(), &awss3.GetObjectTaggingInput{Bucket: &srv.Bucket, Key: ptr("f")})
		if err != nil || len(out.TagSet) != 1 {
			t.Errorf("tags %v, %v", out, err)
		}
	}
}

// Uploads are listed page by page, below the prefix, and not for keys that are
// no file's name.
func TestUploadsPages(t *testing.T) {
	onBoth(t, func(t *testing.T, srv s3test.Server) {
		ctx := t.Context()
		s := srv.Store(t, small(2), func(c *s3.Config) { c.Prefix = "p" })
		var want []string
		for i := range 5 {
			name := fmt.Sprintf("d/f%d", i)
			if !honest(srv) { // versitygw loses those of a key that are on the next page
				name = fmt.Sprintf("d/f%d", i/2)
			}
			u, err := backends.BeginUpload(ctx, s, name, backends.PutOptions{})
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, name+" "+u.ID())
		}
		for _, key := range []string{"other", "p/.agentfs-x"} {
			if _, err := srv.Client().CreateMultipartUpload(ctx, &awss3.CreateMultipartUploadInput{Bucket: &srv.Bucket, Key: &key}); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for u, err := range s.Uploads(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, u.Name+" "+u.ID)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("Uploads has %q, want %q", got, want)
		}
	})
}
