package s3_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/s3"
	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// honest reports whether srv is more than gofakes3.
func honest(srv s3test.Server) bool { return srv.AccessKey != "fake" }

// Sizes around every boundary of parts go up and come down byte for byte, as
// another client sees them too.
func TestSizes(t *testing.T) {
	onBoth(t, func(t *testing.T, srv s3test.Server) {
		s := srv.Store(t, quick)
		const part = 5 << 20
		skew := time.Duration(0)
		if !honest(srv) {
			skew = time.Minute // gofakes3 lists an upload's end and heads its beginning
		}
		for i, size := range []int{0, 1, part, part + 1, 2 * part, 2*part + 1, 3*part + 7} {
			name := fmt.Sprintf("d/f%d", i)
			data := noise(size, uint64(i))
			e, err := s.Put(t.Context(), name, bytesOf(data), backends.PutOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if c, _ := srv.Get(t, name); c != string(data) {
				t.Fatalf("%d bytes: another client reads %d bytes", size, len(c))
			}
			got, ge, err := read(t.Context(), s, name, backends.Range{}, backends.If{Match: e.Version})
			if err != nil || !bytes.Equal(got, data) || ge.Size != int64(size) {
				t.Fatalf("%d bytes: %d, %+v, %v", size, len(got), ge, err)
			}
			se, err := s.Stat(t.Context(), name)
			if err != nil || se.Version != e.Version || se.Size != int64(size) {
				t.Fatalf("Stat is %+v, %v; Put was %+v", se, err, e)
			}
			for le, err := range s.List(t.Context(), "d", "") {
				if err != nil {
					t.Fatal(err)
				}
				if le.Name == name && (le.Version != e.Version || le.ModTime.Sub(se.ModTime).Abs() > skew) {
					t.Fatalf("List has %+v, Stat %+v", le, se)
				}
			}
		}
	})
}

// A rewrite keeps what other clients gave the object; a new object gets its
// type from its name.
func TestMetadataIsKept(t *testing.T) {
	onBoth(t, func(t *testing.T, srv s3test.Server) {
		s := srv.Store(t, quick)
		srv.Put(t, "page.txt", "one", func(in *awss3.PutObjectInput) {
			ct, cc := "text/x-special", "max-age=7"
			in.ContentType, in.CacheControl = &ct, &cc
			in.Metadata = map[string]string{"project": "apollo", "mtime": "1.5"}
		})
		e, err := s.Stat(t.Context(), "page.txt")
		if err != nil {
			t.Fatal(err)
		}
		for i, body := range []string{"two", strings.Repeat("3", 6<<20)} {
			attr := backends.AttrChange{Set: backends.SetMode | backends.SetUID, Mode: 0o750, UID: 7}
			if i == 1 {
				attr = backends.AttrChange{Set: backends.SetMtime, Mtime: time.Unix(1700000000, 500e6)}
			}
			e, err = s.Put(t.Context(), "page.txt", section(body), backends.PutOptions{If: backends.If{Match: e.Version}, Attr: attr})
			if err != nil {
				t.Fatal(err)
			}
			h := srv.Head(t, "page.txt")
			if *h.ContentType != "text/x-special" || h.Metadata["project"] != "apollo" || h.Metadata["mode"] != "33256" || h.Metadata["uid"] != "7" {
				t.Errorf("rewrite %d: type %q, metadata %v", i, *h.ContentType, h.Metadata)
			}
			if wantTime := []string{"", "1700000000.500000000"}[i]; h.Metadata["mtime"] != wantTime && honest(srv) {
				// gofakes3 merges the metadata of the old object into the new one's.
				t.Errorf("rewrite %d: mtime %q, want %q", i, h.Metadata["mtime"], wantTime)
			}
		}
		if _, err := s.Copy(t.Context(), "page.txt", backends.If{Match: e.Version}, "copy", backends.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if h := srv.Head(t, "copy"); h.Metadata["project"] != "apollo" || *h.ContentType != "text/x-special" {
			t.Errorf("the copy has type %q, metadata %v", *h.ContentType, h.Metadata)
		}
		put(t, s, "new.html", "x", backends.If{})
		if h := srv.Head(t, "new.html"); !strings.HasPrefix(*h.ContentType, "text/html") {
			t.Errorf("a new file's type is %q", *h.ContentType)
		}
	})
}

// The tags of an object survive its rewrite.
func TestTagsAreKept(t *testing.T) {
	srv := s3test.Versitygw(t)
	s := srv.Store(t)
	srv.Put(t, "f", "one", func(in *awss3.PutObjectInput) {
		tags := "team=blue&cost=12"
		in.Tagging = &tags
	})
	e, err := s.Stat(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "f", "two", backends.If{Match: e.Version})
	out, err := srv.Client().GetObjectTagging(t.Context(), &awss3.GetObjectTaggingInput{Bucket: &srv.Bucket, Key: ptr("f")})
	if err != nil || len(out.TagSet) != 2 {
		t.Errorf("tags %v, %v", out, err)
	}
}

func ptr[T any](v T) *T { return &v }

// Conditional copies keep both conditions, whatever the server makes of them.
func TestCopyConditions(t *testing.T) {
	onBoth(t, func(t *testing.T, srv s3test.Server) {
		s := srv.Store(t)
		ctx := t.Context()
		a := put(t, s, "a", "aaa", backends.If{})
		b := put(t, s, "b", "bbb", backends.If{})
		stale := backends.If{Match: "00000000000000000000000000000000"}
		_, err := backends.Copy(ctx, s, "a", stale, "c", backends.PutOptions{})
		wantIs(t, "a changed source", err, backends.ErrChanged)
		_, err = backends.Copy(ctx, s, "a", backends.If{}, "b", backends.PutOptions{If: stale})
		wantIs(t, "a changed destination", err, backends.ErrChanged)
		_, err = backends.Copy(ctx, s, "a", backends.If{}, "b", backends.PutOptions{If: backends.If{Absent: true}})
		wantIs(t, "an existing destination", err, fs.ErrExist)
		if c, _ := srv.Get(t, "b"); c != "bbb" {
			t.Fatalf("b has become %q", c)
		}
		if _, err = backends.Copy(ctx, s, "a", backends.If{Match: a.Version}, "b", backends.PutOptions{If: backends.If{Match: b.Version}}); err != nil {
			t.Fatal(err)
		}
		if _, err = backends.Copy(ctx, s, "a", backends.If{Match: a.Version}, "c d+e", backends.PutOptions{If: backends.If{Absent: true}}); err != nil {
			t.Fatal(err)
		}
		put(t, s, "empty", "", backends.If{})
		if _, err = backends.Copy(ctx, s, "empty", backends.If{}, "empty2", backends.PutOptions{If: backends.If{Absent: true}}); err != nil {
			t.Fatal(err)
		}
		want(t, "keys", srv.Keys(t), []string{"a", "b", "c d+e", "empty", "empty2"})
		if c, _ := srv.Get(t, "b"); c != "aaa" {
			t.Errorf("b is %q", c)
		}
	})
}

// A server that ignores conditions gets a look before each change, one warning
// for each kind, and no scratch objects left behind. Reading tries nothing.
func TestConditionsNotHonoured(t *testing.T) {
	srv := s3test.Fake(t)
	log, logged := logTo()
	p := s3test.NewProxy(t, srv)
	s := srv.Through(p).Store(t, func(c *s3.Config) { c.Log = log })
	srv.Put(t, "f", "one")
	e, err := s.Stat(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := read(t.Context(), s, "f", backends.Range{}, backends.If{Match: e.Version}); err != nil {
		t.Fatal(err)
	}
	if n := p.Counts()["PutObject"]; n != 0 {
		t.Errorf("reading alone put %d objects", n)
	}
	for range 3 {
		wantIs(t, "Remove", s.Remove(t.Context(), "f", backends.If{Match: "stale"}), backends.ErrChanged)
	}
	if n := strings.Count(logged(), "does not enforce"); n != 1 {
		t.Errorf("%d warnings: %s", n, logged())
	}
	if err := s.Remove(t.Context(), "f", backends.If{Match: e.Version}); err != nil {
		t.Fatal(err)
	}
	want(t, "keys", srv.Keys(t), nil)
}

// A reader of a large object that is closed early leaves nothing running.
func TestCloseEarly(t *testing.T) {
	srv := s3test.Fake(t)
	s := srv.Store(t, quick)
	if _, err := s.Put(t.Context(), "f", bytesOf(noise(30<<20, 1)), backends.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for range 5 {
		f, _, err := s.Open(t.Context(), "f", backends.Range{}, backends.If{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Read(make([]byte, 4<<20)); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if _, err := f.Read(make([]byte, 1)); err == nil {
			t.Error("a closed reader reads")
		}
	}
	s.Close()
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+10; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// What the configuration says of objects and of who pays goes with the
// requests.
func TestRequestOptions(t *testing.T) {
	srv := s3test.Fake(t)
	p := s3test.NewProxy(t, srv)
	s := srv.Through(p).Store(t, quick, func(c *s3.Config) {
		c.SSE, c.SSEKMSKeyID, c.RequestPayer, c.StorageClass = "aws:kms", "key-1", true, "STANDARD_IA"
	})
	seen := make(chan s3test.Request, 100)
	p.Inject(func(r s3test.Request) s3test.Fault {
		seen <- r
		return s3test.Fault{}
	})
	put(t, s, "small", "x", backends.If{})
	if _, err := s.Put(t.Context(), "large", bytesOf(noise(6<<20, 1)), backends.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := read(t.Context(), s, "small", backends.Range{}, backends.If{}); err != nil {
		t.Fatal(err)
	}
	close(seen)
	for r := range seen {
		if got := r.Header.Get("X-Amz-Request-Payer"); got != "requester" {
			t.Errorf("%s has request payer %q", r.Op, got)
		}
		if r.Op != "PutObject" && r.Op != "CreateMultipartUpload" {
			continue
		}
		for h, w := range map[string]string{
			"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "key-1", "X-Amz-Storage-Class": "STANDARD_IA",
		} {
			if got := r.Header.Get(h); got != w {
				t.Errorf("%s has %s %q, want %q", r.Op, h, got, w)
			}
		}
	}
}

// RemoveMany has an answer for each, keeps the directories, and removes nothing
// that has changed.
func TestRemoveMany(t *testing.T) {
	onBoth(t, func(t *testing.T, srv s3test.Server) {
		s := srv.Store(t)
		var rs []backends.Removal
		for i := range 1050 {
			name := fmt.Sprintf("d/f%04d", i)
			if i%100 == 0 {
				put(t, s, name, "x", backends.If{})
			}
			rs = append(rs, backends.Removal{Name: name})
		}
		for i, err := range s.RemoveMany(t.Context(), rs) {
			if err != nil {
				t.Fatalf("%s: %v", rs[i].Name, err)
			}
		}
		want(t, "keys", srv.Keys(t), []string{"d/"})
		a := put(t, s, "d/a", "a", backends.If{})
		put(t, s, "d/b", "b", backends.If{})
		put(t, s, "d/tab\there", "c", backends.If{})
		errs := s.RemoveMany(t.Context(), []backends.Removal{
			{Name: "d/a", If: backends.If{Match: a.Version}}, {Name: "d/b", If: backends.If{Match: a.Version}}, {Name: "d/tab\there"}, {Name: "."},
		})
		wantIs(t, "a", errs[0], nil)
		wantIs(t, "b", errs[1], backends.ErrChanged)
		wantIs(t, "tab", errs[2], nil)
		wantIs(t, "root", errs[3], backends.ErrBusy)
		want(t, "keys", srv.Keys(t), []string{"d/", "d/b"})
	})
}

// The way to AWS: default checksums on everything, in one piece and in parts.
func TestLikeAWS(t *testing.T) {
	srv := s3test.Versitygw(t)
	s := srv.Store(t, quick)
	s.LikeAWS()
	for i, size := range []int{0, 100, 12 << 20} {
		data := noise(size, uint64(i))
		e, err := s.Put(t.Context(), "f", bytesOf(data), backends.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		e, err = s.Put(t.Context(), "f", bytesOf(data), backends.PutOptions{If: backends.If{Match: e.Version}})
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := read(t.Context(), s, "f", backends.Range{}, backends.If{Match: e.Version})
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes: %d, %v", size, len(got), err)
		}
	}
	if errs := s.RemoveMany(t.Context(), []backends.Removal{{Name: "f"}}); errs[0] != nil {
		t.Fatal(errs[0])
	}
}

// Many removals are as few requests as the server's conditions allow: together
// without one, and with one after a look at the directory's listing where the
// server honours none.
func TestRemoveManyRequests(t *testing.T) {
	onBoth(t, func(t *testing.T, srv s3test.Server) {
		st, p := faulty(t, srv)
		s := st.Lean()
		fill := func() (plain, conditional []backends.Removal) {
			for i := range 30 {
				name := fmt.Sprintf("d%d/f%02d", i/29, i)
				e := put(t, s, name, name, backends.If{})
				plain = append(plain, backends.Removal{Name: name})
				conditional = append(conditional, backends.Removal{Name: name, If: backends.If{Match: e.Version}})
			}
			for _, dir := range []string{"empty", "empty/below"} {
				if err := s.Mkdir(t.Context(), dir, backends.AttrChange{}); err != nil {
					t.Fatal(err)
				}
				dirs := backends.Removal{Name: dir, Dir: true}
				plain, conditional = append(plain, dirs), append(conditional, dirs)
			}
			p.Reset()
			return plain, conditional
		}
		remove := func(what string, rs []backends.Removal, counts map[string]int) {
			t.Helper()
			for i, err := range backends.RemoveMany(t.Context(), s, rs) {
				if err != nil {
					t.Errorf("%s: %s: %v", what, rs[i].Name, err)
				}
			}
			if got := fmt.Sprint(p.Counts()); got != fmt.Sprint(counts) {
				t.Errorf("%s: requests %s, want %v", what, got, counts)
			}
			p.Reset()
			want(t, "keys", srv.Keys(t), nil)
		}
		plain, _ := fill()
		remove("without conditions", plain, map[string]int{"DeleteObjects": 1})
		_, conditional := fill()
		with, gone := map[string]int{"HeadObject": 1, "ListObjectsV2": 1, "DeleteObjects": 1}, map[string]int{"ListObjectsV2": 1}
		if honest(srv) {
			with, gone = map[string]int{"DeleteObject": 30, "DeleteObjects": 1}, map[string]int{"DeleteObject": 5}
		}
		remove("with conditions", conditional, with)
		remove("what is gone", conditional[:5], gone)
	})
}

// An answer to a removal of many names what failed. If it doesn't say what did,
// nothing counts as removed.
func TestRemoveManyFailsWithoutAKey(t *testing.T) {
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			io.WriteString(w, `<DeleteResult><Error><Code>InternalError</Code><Message>please try again</Message></Error></DeleteResult>`)
			return
		}
		io.WriteString(w, `<ListBucketResult></ListBucketResult>`)
	}))
	defer h.Close()
	srv := s3test.Server{Endpoint: h.URL, Bucket: "b", Region: "us-east-1", AccessKey: "k", SecretKey: "s"}
	for i, err := range backends.RemoveMany(t.Context(), srv.Store(t, quick).Lean(), []backends.Removal{{Name: "f"}, {Name: "g"}}) {
		if err == nil || !strings.Contains(err.Error(), "InternalError") {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// A name that is to be removed twice in one request, and was not, was not either time.
func TestRemoveManyOfOneName(t *testing.T) {
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			io.WriteString(w, `<DeleteResult><Error><Key>f</Key><Code>AccessDenied</Code></Error></DeleteResult>`)
			return
		}
		io.WriteString(w, `<ListBucketResult></ListBucketResult>`)
	}))
	defer h.Close()
	srv := s3test.Server{Endpoint: h.URL, Bucket: "b", Region: "us-east-1", AccessKey: "k", SecretKey: "s"}
	errs := backends.RemoveMany(t.Context(), srv.Store(t, quick).Lean(), []backends.Removal{{Name: "f"}, {Name: "g"}, {Name: "f"}})
	wantIs(t, "f", errs[0], fs.ErrPermission)
	wantIs(t, "g", errs[1], nil)
	wantIs(t, "f again", errs[2], fs.ErrPermission)
}

// A connection that nobody uses ends by itself, also after Close.
func TestIdleConnectionsEnd(t *testing.T) {
	ended := make(chan struct{}, 10)
	h := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `<ListBucketResult></ListBucketResult>`)
	}))
	h.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			ended <- struct{}{}
		}
	}
	h.Start()
	defer h.Close()
	srv := s3test.Server{Endpoint: h.URL, Bucket: "b", Region: "us-east-1", AccessKey: "k", SecretKey: "s"}
	st := srv.Store(t, quick, func(c *s3.Config) { c.RequestTimeout = 200 * time.Millisecond })
	if err := st.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("it is still there after 10 s")
	}
}
