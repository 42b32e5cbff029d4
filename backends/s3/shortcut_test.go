package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
)

// sent is a request as a server gets it.
type sent struct {
	Method, URL, Host string
	Header            http.Header
	Length            int64
	Body              string
}

// answer is what a server says; err in place of it.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

// wire is an HTTP client that keeps what it is asked, and gives the answers one after the
// other, the last one again and again.
type wire struct {
	answers []answer
	sent    []sent
}

func (w *wire) Do(r *http.Request) (*http.Response, error) {
	s := sent{Method: r.Method, URL: r.URL.String(), Host: r.Host, Header: r.Header.Clone(), Length: r.ContentLength}
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		s.Body = string(b)
	}
	w.sent = append(w.sent, s)
	a := answer{status: http.StatusOK}
	if n := len(w.answers); n > 0 {
		a = w.answers[min(len(w.sent), n)-1]
	}
	if a.err != nil {
		return nil, a.err
	}
	h := a.header.Clone()
	if h == nil {
		h = http.Header{}
	}
	return &http.Response{StatusCode: a.status, Header: h, ContentLength: int64(len(a.body)), Body: io.NopCloser(strings.NewReader(a.body)), Request: r}, nil
}

// plainOptions are those of a server that is not AWS's.
func plainOptions(change ...func(*s3.Options)) s3.Options {
	o := s3.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String("http://127.0.0.1:9000"), UsePathStyle: true,
		Credentials:                aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider("key", "secret", "token")),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}
	for _, f := range change {
		f(&o)
	}
	return o
}

// operation is one of those that go the short way, with all that we ask of it.
type operation struct {
	name string
	ask  func(context.Context, *s3.Client, string, ...func(*s3.Options)) (any, error)
}

func operations(body []byte) []operation {
	return []operation{
		{"GetObject", func(ctx context.Context, c *s3.Client, key string, opts ...func(*s3.Options)) (any, error) {
			out, err := c.GetObject(ctx, &s3.GetObjectInput{
				Bucket: aws.String("bucket"), Key: &key, Range: aws.String("bytes=5-9"), IfMatch: aws.String(`"v"`), RequestPayer: types.RequestPayerRequester,
			}, opts...)
			if err != nil {
				return nil, err
			}
			defer out.Body.Close()
			b, err := io.ReadAll(out.Body)
			out.Body, out.ResultMetadata = io.NopCloser(bytes.NewReader(b)), middleware.Metadata{}
			return out, err
		}},
		{"HeadObject", func(ctx context.Context, c *s3.Client, key string, opts ...func(*s3.Options)) (any, error) {
			out, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String("bucket"), Key: &key}, opts...)
			if err == nil {
				out.ResultMetadata = middleware.Metadata{}
			}
			return out, err
		}},
		{"PutObject", func(ctx context.Context, c *s3.Client, key string, opts ...func(*s3.Options)) (any, error) {
			out, err := c.PutObject(ctx, &s3.PutObjectInput{
				Bucket: aws.String("bucket"), Key: &key, Body: bytes.NewReader(body), ContentLength: aws.Int64(int64(len(body))),
				Metadata: map[string]string{"op": "1", "name": "Übung"}, ContentType: aws.String("text/plain"), CacheControl: aws.String("no-store"),
				StorageClass: types.StorageClassStandardIa, Tagging: aws.String("a=b&c=d"), ServerSideEncryption: types.ServerSideEncryptionAwsKms,
				SSEKMSKeyId: aws.String("id"), IfNoneMatch: aws.String("*"),
			}, opts...)
			if err == nil {
				out.ResultMetadata = middleware.Metadata{}
			}
			return out, err
		}},
		{"DeleteObject", func(ctx context.Context, c *s3.Client, key string, opts ...func(*s3.Options)) (any, error) {
			out, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String("bucket"), Key: &key, IfMatch: aws.String(`"v"`)}, opts...)
			if err == nil {
				out.ResultMetadata = middleware.Metadata{}
			}
			return out, err
		}},
	}
}

// bothWays asks a client of o by the SDK's way and by the short one, and returns what came
// of each and what was sent.
func bothWays(t *testing.T, o s3.Options, op operation, key string, answers ...answer) (out [2]any, errs [2]error, wires [2]*wire) {
	t.Helper()
	for i := range 2 {
		wires[i] = &wire{answers: answers}
		o.HTTPClient = wires[i]
		c := s3.New(o)
		k := &call{ctx: t.Context(), began: time.Now(), max: 3, longest: time.Minute}
		if i == 1 {
			if k.short = newShortcut(t.Context(), c.Options(), "bucket", o.Credentials == nil); k.short == nil {
				t.Fatal("there is no short way")
			}
		}
		short := false
		out[i], errs[i] = op.ask(t.Context(), c, key, k.use, func(o *s3.Options) {
			o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
				_, short = stack.Finalize.Get(attempts{}.ID())
				return nil
			})
		})
		if short != (i == 1 && k.short.takes(op.name)) {
			t.Fatalf("%s: short is %v", op.name, short)
		}
	}
	return out, errs, wires
}

// sameSent compares two requests but for their dates, signatures and what the SDK says of itself.
func sameSent(t *testing.T, what string, sdk, short sent) {
	t.Helper()
	scope := func(s *sent) string {
		auth := s.Header.Get("Authorization")
		before, rest, _ := strings.Cut(auth, "SignedHeaders=")
		headers, signature, _ := strings.Cut(rest, ", Signature=")
		for _, h := range []string{"amz-sdk-invocation-id;", "amz-sdk-request;", "x-amz-date"} {
			headers = strings.Replace(headers, h, "", 1)
		}
		if auth != "" && len(signature) != 64 {
			t.Errorf("%s: signature %q", what, signature)
		}
		for _, h := range []string{"Amz-Sdk-Invocation-Id", "Amz-Sdk-Request", "X-Amz-Date", "Authorization", "User-Agent"} {
			s.Header.Del(h)
		}
		return before + headers
	}
	if a, b := scope(&sdk), scope(&short); a != b {
		t.Errorf("%s: the SDK signs\n%s\nwe sign\n%s", what, a, b)
	}
	if !reflect.DeepEqual(sdk, short) {
		t.Errorf("%s: the SDK sends\n%.2000v\nwe send\n%.2000v", what, sdk, short)
	}
}

// What goes the short way is the request that the SDK sends, for each kind of endpoint.
func TestShortcutSendsTheSame(t *testing.T) {
	endpoints := map[string]func(*s3.Options){
		"path":      func(*s3.Options) {},
		"host":      func(o *s3.Options) { o.UsePathStyle = false; o.BaseEndpoint = aws.String("http://s3.example.org") },
		"tls":       func(o *s3.Options) { o.BaseEndpoint = aws.String("https://s3.example.org:8443") },
		"with path": func(o *s3.Options) { o.BaseEndpoint = aws.String("https://example.org/s3/") },
		"AWS":       func(o *s3.Options) { o.BaseEndpoint, o.UsePathStyle = nil, false },
		"AWS, with its checksums": func(o *s3.Options) {
			o.BaseEndpoint, o.UsePathStyle = nil, false
			o.RequestChecksumCalculation, o.ResponseChecksumValidation = aws.RequestChecksumCalculationWhenSupported, aws.ResponseChecksumValidationWhenSupported
		},
		"AWS, one for all": func(o *s3.Options) { o.BaseEndpoint, o.UsePathStyle, o.Region = nil, true, "us-east-1" },
		"anonymous":        func(o *s3.Options) { o.Credentials = nil },
	}
	for endpoint, change := range endpoints {
		for _, size := range []int{0, 5, 3 << 20} {
			for _, op := range operations(make([]byte, size)) {
				for _, key := range []string{"a", "dir/file name+%2F&=?#.txt", "ü/日本/~-_.!*'()", "a/./b//c", "/lead"} {
					what := endpoint + " " + op.name + " " + key
					_, errs, wires := bothWays(t, plainOptions(change), op, key)
					if errs[0] != nil || errs[1] != nil || len(wires[0].sent) != 1 || len(wires[1].sent) != 1 {
						t.Fatalf("%s: %v, %v", what, errs[0], errs[1])
					}
					sameSent(t, what, wires[0].sent[0], wires[1].sent[0])
				}
			}
		}
	}
}

// What a server answers is taken as the SDK takes it, and asked for again as often.
func TestShortcutTakesTheSame(t *testing.T) {
	date := time.Now().UTC().Format(http.TimeFormat) // else it is said that the clocks differ
	ok := http.Header{
		"Etag": {`"v"`}, "Last-Modified": {date}, "Date": {date}, "Content-Length": {"5"}, "Content-Type": {"text/x"}, "Content-Range": {"bytes 5-9/10"},
		"X-Amz-Meta-Op": {"1"}, "Cache-Control": {"no-store"}, "X-Amz-Storage-Class": {"STANDARD_IA"}, "X-Amz-Tagging-Count": {"2"}, "X-Amz-Version-Id": {"7"},
		"Expires": {"never"}, "X-Amz-Expiration": {"x"}, "X-Amz-Request-Id": {"r"}, "X-Amz-Id-2": {"h"},
	}
	refused := func(code string) string {
		return `<?xml version="1.0" encoding="UTF-8"?><Error><Code>` + code + `</Code><Message>so it is</Message><RequestId>r</RequestId></Error>`
	}
	ids := http.Header{"X-Amz-Request-Id": {"r"}, "X-Amz-Id-2": {"h"}, "Date": {date}}
	cases := map[string][]answer{
		"well":             {{status: 200, header: ok, body: "12345"}},
		"a part":           {{status: 206, header: ok, body: "12345"}},
		"no content":       {{status: 204, header: ids}},
		"not modified":     {{status: 304, header: ids}},
		"missing":          {{status: 404, header: ids, body: refused("NoSuchKey")}},
		"no bucket":        {{status: 404, header: ids, body: refused("NoSuchBucket")}},
		"bare 404":         {{status: 404}},
		"changed":          {{status: 412, header: ids, body: refused("PreconditionFailed")}},
		"range":            {{status: 416, header: ids, body: refused("InvalidRange")}},
		"denied":           {{status: 403, header: ids, body: refused("AccessDenied")}},
		"error in a 200":   {{status: 200, header: ids, body: refused("InternalError")}},
		"moved":            {{status: 301, header: ids, body: refused("PermanentRedirect")}},
		"archived":         {{status: 403, header: ids, body: refused("InvalidObjectState")}},
		"not XML":          {{status: 400, header: ids, body: "what?"}},
		"slow, then well":  {{status: 503, header: ids, body: refused("SlowDown")}, {status: 200, header: ok, body: "12345"}},
		"500, then denied": {{status: 500, header: ids}, {status: 403, header: ids, body: refused("AccessDenied")}},
		"always 503":       {{status: 503, header: ids, body: refused("ServiceUnavailable")}},
		"conflict":         {{status: 409, header: ids, body: refused("ConditionalRequestConflict")}, {status: 200, header: ok, body: "12345"}},
		"reset, then well": {{err: errors.New("connection reset by peer")}, {status: 200, header: ok, body: "12345"}},
		"always reset":     {{err: errors.New("connection reset by peer")}},
		"cut answer":       {{status: 500, header: ids, body: `<?xml version="1.0" encoding="UTF-8"?><Error><Code>Inter`}},
	}
	for name, answers := range cases {
		for _, op := range operations([]byte("hello")) {
			out, errs, wires := bothWays(t, plainOptions(), op, "key", answers...)
			what := name + " " + op.name
			if len(wires[0].sent) != len(wires[1].sent) {
				t.Errorf("%s: the SDK sends %d, we send %d", what, len(wires[0].sent), len(wires[1].sent))
				continue
			}
			for i := range wires[0].sent {
				sameSent(t, what, wires[0].sent[i], wires[1].sent[i])
			}
			a, b := errs[0], errs[1]
			if (a == nil) != (b == nil) || a != nil && (a.Error() != b.Error() || code(a) != code(b) || status(a) != status(b) || missing(a) != missing(b)) {
				t.Errorf("%s: the SDK says\n%v\nwe say\n%v", what, a, b)
			}
			if a == nil && b == nil && !reflect.DeepEqual(out[0], out[1]) {
				t.Errorf("%s: the SDK takes\n%+v\nwe take\n%+v", what, out[0], out[1])
			}
		}
	}
}

// A server's clock that is an hour away is found out once, by the first answer, whatever
// the request; and when ours is put right, so is that.
func TestShortcutFollowsTheServersClock(t *testing.T) {
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		for _, op := range operations([]byte("hello")) {
			refusal := `<Error><Code>RequestTimeTooSkewed</Code></Error>`
			if op.name == "HeadObject" {
				refusal = ""
			}
			date := func(ahead time.Duration) http.Header {
				return http.Header{"Date": {time.Now().Add(ahead).UTC().Format(http.TimeFormat)}}
			}
			w := &wire{}
			c := s3.New(plainOptions(func(o *s3.Options) { o.HTTPClient = w }))
			short := newShortcut(t.Context(), c.Options(), "bucket", false)
			for _, ahead := range []time.Duration{off, 0} {
				w.sent = nil
				w.answers = []answer{{status: 403, header: date(ahead), body: refusal}, {status: 200, header: date(ahead)}}
				for range 2 {
					k := &call{ctx: t.Context(), began: time.Now(), max: 3, longest: time.Minute, short: short}
					if _, err := op.ask(t.Context(), c, "key", k.use); err != nil {
						t.Fatalf("%s, %v: %v", op.name, ahead, err)
					}
				}
				if len(w.sent) != 3 {
					t.Fatalf("%s, %v: %d requests for two, one of them refused", op.name, ahead, len(w.sent))
				}
				for _, s := range w.sent[1:] {
					at, err := time.Parse("20060102T150405Z", s.Header.Get("X-Amz-Date"))
					if err != nil || time.Until(at).Abs()-ahead.Abs() > time.Minute || at.After(time.Now().Add(time.Minute)) != (ahead > 0) {
						t.Errorf("%s, %v: signed at %v, %v", op.name, ahead, at, err)
					}
				}
			}
			// A refusal that has nothing to do with the clock is one.
			w.sent, w.answers = nil, []answer{{status: 403, header: date(0)}}
			k := &call{ctx: t.Context(), began: time.Now(), max: 3, longest: time.Minute, short: short}
			if _, err := op.ask(t.Context(), c, "key", k.use); status(err) != 403 || len(w.sent) != 1 {
				t.Errorf("%s: %v after %d requests", op.name, err, len(w.sent))
			}
		}
	}
}

// Without credentials nothing is sent, and it is said which part failed.
func TestShortcutWithoutCredentials(t *testing.T) {
	w := &wire{}
	failing := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errors.New("no such role") })
	c := s3.New(plainOptions(func(o *s3.Options) { o.HTTPClient, o.Credentials = w, markedCredentials{failing} }))
	k := &call{ctx: t.Context(), began: time.Now(), max: 3, longest: time.Minute, short: newShortcut(t.Context(), c.Options(), "bucket", false)}
	_, err := operations(nil)[1].ask(t.Context(), c, "key", k.use)
	var ours *credentialsError
	if !errors.As(err, &ours) || !strings.Contains(err.Error(), "no such role") || len(w.sent) != 0 {
		t.Fatalf("%v after %d requests", err, len(w.sent))
	}
}

// Where a bucket wants more than Signature Version 4 there is no short way.
func TestShortcutLeavesWhatIsNotPlain(t *testing.T) {
	for bucket, change := range map[string]func(*s3.Options){
		"bucket--use1-az4--x-s3":                                              func(o *s3.Options) { o.BaseEndpoint, o.UsePathStyle = nil, false },
		"arn:aws:s3::123456789012:accesspoint:mfzwi23gnjvgw.mrap":             func(o *s3.Options) { o.BaseEndpoint, o.UsePathStyle = nil, false },
		"arn:aws:s3-object-lambda:eu-central-1:123456789012:accesspoint/name": func(o *s3.Options) { o.BaseEndpoint, o.UsePathStyle = nil, false },
		"bucket": func(o *s3.Options) { o.BaseEndpoint, o.UsePathStyle, o.UseAccelerate = nil, false, true },
		"other": func(o *s3.Options) {
			o.BaseEndpoint, o.EndpointOptions.UseFIPSEndpoint = nil, aws.FIPSEndpointStateEnabled
		},
	} {
		if newShortcut(t.Context(), s3.New(plainOptions(change)).Options(), bucket, false) != nil {
			t.Errorf("%s goes the short way", bucket)
		}
	}
}

// BenchmarkGet asks for an object of a server that takes no time.
func BenchmarkGet(b *testing.B) {
	for _, way := range []string{"SDK", "short"} {
		b.Run(way, func(b *testing.B) {
			w := &forgetful{}
			c := s3.New(plainOptions(func(o *s3.Options) { o.HTTPClient = w }))
			k := &call{ctx: b.Context(), began: time.Now(), max: 3, longest: time.Hour}
			if way == "short" {
				k.short = newShortcut(b.Context(), c.Options(), "bucket", false)
			}
			b.ReportAllocs()
			for b.Loop() {
				out, err := c.GetObject(b.Context(), &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String("dir/key"), IfMatch: aws.String(`"v"`)}, k.use)
				if err != nil {
					b.Fatal(err)
				}
				out.Body.Close()
			}
		})
	}
}

// forgetful is a wire that keeps nothing.
type forgetful struct{ wire }

func (f *forgetful) Do(r *http.Request) (*http.Response, error) {
	f.sent = nil
	return f.wire.Do(r)
}
