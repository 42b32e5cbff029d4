package s3

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/agentfs/agentfs/backends"
)

// Config says which bucket a [Store] is and how to reach it. Only Bucket is
// needed; every zero field has a default.
type Config struct {
	Bucket string
	// Prefix is put before every name. Slashes at its ends don't matter.
	Prefix string
	// Region is by default that of the environment or the profile, then
	// us-east-1.
	Region string
	// Endpoint is the URL of an S3-compatible server; "" is AWS, or what
	// AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_S3 say.
	Endpoint string
	// PathStyle puts the bucket into the path, not into the host name. nil is
	// true for a custom endpoint and false for AWS.
	PathStyle *bool
	// Profile names a section of the shared AWS configuration.
	Profile string
	// Anonymous sends requests unsigned.
	Anonymous bool
	// Credentials, if not nil, take the place of the SDK's default chain.
	Credentials aws.CredentialsProvider
	// SSE is the server-side encryption of new objects: "AES256", "aws:kms"
	// or "aws:kms:dsse"; "" leaves it to the bucket.
	SSE string
	// SSEKMSKeyID is the key of the two KMS kinds.
	SSEKMSKeyID string
	// RequestPayer says that we pay for requests to a requester-pays bucket.
	RequestPayer bool
	// StorageClass is that of new objects.
	StorageClass string
	// PartSize is the size of the parts of large transfers in bytes, 8 MiB by
	// default; uploads up to it are one request.
	PartSize int64
	// Concurrency bounds the parts that are under way at once in the whole
	// Store, 8 by default. A reader holds at most that many in memory.
	Concurrency int
	// MaxAttempts bounds how often a request is sent, 12 by default.
	MaxAttempts int
	// RequestTimeout is how long a connection may stand still while a request
	// or its answer is under way, 30 s by default.
	RequestTimeout time.Duration
	// RetryTimeout is how long after its beginning a request is still sent
	// again, 60 s by default.
	RetryTimeout time.Duration
	// PageSize is how many keys a listing asks for at once, 1000 by default.
	PageSize int
	// Lean spares the requests that only guard against a caller who doesn't
	// know the name space; see [Store.Lean].
	Lean bool
	// Log takes what there is to say; nil says nothing.
	Log *slog.Logger
}

// Limits of S3: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
const (
	minPartSize  = 5 << 20
	maxPartSize  = 5 << 30
	maxParts     = 10_000
	maxSinglePut = 5 << 30
)

// Defaults of a Config.
const (
	defaultPartSize    = 8 << 20
	defaultConcurrency = 8
	defaultAttempts    = 12
	defaultTimeout     = 30 * time.Second
	defaultRetry       = 60 * time.Second
	defaultRegion      = "us-east-1"
	defaultPage        = 1000
)

func (c *Config) setDefaults() {
	c.Prefix = normalPrefix(c.Prefix)
	setDefault(&c.PartSize, defaultPartSize)
	setDefault(&c.Concurrency, defaultConcurrency)
	setDefault(&c.MaxAttempts, defaultAttempts)
	setDefault(&c.RequestTimeout, defaultTimeout)
	setDefault(&c.RetryTimeout, defaultRetry)
	setDefault(&c.PageSize, defaultPage)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

func setDefault[T comparable](p *T, def T) {
	var zero T
	if *p == zero {
		*p = def
	}
}

// problem is a wrong field of a Config, under the name of its option.
type problem struct{ key, text string }

// problems returns what is wrong with c.
func (c *Config) problems() []problem {
	var ps []problem
	add := func(key, format string, args ...any) { ps = append(ps, problem{key, fmt.Sprintf(format, args...)}) }
	switch {
	case c.Bucket == "":
		add("bucket", "is required")
	case strings.HasSuffix(c.Bucket, "--x-s3"):
		add("bucket", "%q is a directory bucket, which lists in no order: use a general-purpose bucket", c.Bucket)
	case strings.Contains(c.Bucket, "/") && !strings.HasPrefix(c.Bucket, "arn:"):
		add("bucket", "%q is not a bucket's name: what follows the slash belongs into prefix", c.Bucket)
	}
	if p := normalPrefix(c.Prefix); p != "" {
		if err := (keyspace{}).check("open", strings.TrimSuffix(p, "/")); err != nil || len(p) > maxKey-maxSegment {
			add("prefix", "%q can't be the beginning of names (no empty, \".\" or \"..\" segment, UTF-8, at most %d bytes)", c.Prefix, maxKey-maxSegment)
		}
	}
	if text := endpointProblem(c.Endpoint); text != "" {
		add("endpoint", "%s", text)
	}
	switch c.SSE {
	case "", string(types.ServerSideEncryptionAes256):
		if c.SSEKMSKeyID != "" {
			add("sse_kms_key_id", "needs sse=aws:kms or sse=aws:kms:dsse")
		}
	case string(types.ServerSideEncryptionAwsKms), string(types.ServerSideEncryptionAwsKmsDsse):
	default:
		add("sse", "%q is none of AES256, aws:kms, aws:kms:dsse", c.SSE)
	}
	if c.Anonymous && (c.Profile != "" || c.Credentials != nil) {
		add("anonymous", "can't go with a profile or credentials")
	}
	if c.PartSize != 0 && (c.PartSize < minPartSize || c.PartSize > maxPartSize) {
		add("part_size", "%d is not between 5MiB and 5GiB", c.PartSize)
	}
	for _, n := range []struct {
		key string
		v   int64
	}{
		{"concurrency", int64(c.Concurrency)}, {"max_attempts", int64(c.MaxAttempts)},
		{"request_timeout", int64(c.RequestTimeout)}, {"retry_timeout", int64(c.RetryTimeout)}, {"page_size", int64(c.PageSize)},
	} {
		if n.v < 0 {
			add(n.key, "is negative")
		}
	}
	return ps
}

// endpointProblem returns what is wrong with an endpoint; "" is none. It shows
// nothing that may be a password.
func endpointProblem(endpoint string) string {
	if endpoint == "" {
		return ""
	}
	u, err := url.Parse(endpoint)
	switch {
	case strings.Contains(endpoint, "@"):
		return "must not hold credentials: " + remedy
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Sprintf("%q is not a URL such as https://host:port", endpoint)
	}
	return ""
}

// refusedKeys are keys that people try although no route takes credentials: a
// route's URL is seen by everybody who can list processes or read /etc/fstab.
var refusedKeys = []string{
	"access_key", "access_key_id", "aws_access_key_id", "secret_key", "secret_access_key", "aws_secret_access_key",
	"session_token", "aws_session_token", "password", "secret", "token",
}

// Open makes the Store that a route's options describe. It is a
// [backends.Opener] and knows bucket, prefix, region, endpoint, path_style,
// profile, anonymous, sse, sse_kms_key_id, request_payer, storage_class,
// part_size, concurrency, max_attempts, request_timeout and retry_timeout.
func Open(_ context.Context, o *backends.Options) (backends.Store, error) {
	for _, key := range refusedKeys {
		o.Refuse(key, "credentials don't belong into a route: "+remedy)
	}
	cfg := Config{
		Bucket:         o.String("bucket", ""),
		Prefix:         o.String("prefix", ""),
		Region:         o.String("region", ""),
		Endpoint:       o.String("endpoint", ""),
		Profile:        o.String("profile", ""),
		Anonymous:      o.Bool("anonymous", false),
		SSE:            o.String("sse", ""),
		SSEKMSKeyID:    o.String("sse_kms_key_id", ""),
		RequestPayer:   requestPayer(o),
		StorageClass:   strings.ToUpper(o.String("storage_class", "")),
		PartSize:       o.Bytes("part_size", defaultPartSize),
		Concurrency:    int(o.Int("concurrency", defaultConcurrency, 1, 256)),
		MaxAttempts:    int(o.Int("max_attempts", defaultAttempts, 1, 100)),
		RequestTimeout: o.Duration("request_timeout", defaultTimeout),
		RetryTimeout:   o.Duration("retry_timeout", defaultRetry),
		Log:            o.Log,
	}
	if b := o.Bool("path_style", true); slices.Contains(o.Keys(), "path_style") {
		cfg.PathStyle = &b
	}
	for _, p := range cfg.problems() {
		o.Fail(p.key, "%s", p.text)
	}
	// In a Config zero is the default, which is not what it says here.
	for key, zero := range map[string]bool{
		"part_size": cfg.PartSize == 0, "request_timeout": cfg.RequestTimeout == 0, "retry_timeout": cfg.RetryTimeout == 0,
	} {
		if zero {
			o.Fail(key, "is zero: leave it out for the default (max_attempts=1 sends nothing again)")
		}
	}
	if err := o.Close(); err != nil {
		return nil, err
	}
	s, err := New(cfg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Source, err)
	}
	return s, nil
}

// requestPayer takes request_payer, a truth value or the protocol's own word.
func requestPayer(o *backends.Options) bool {
	if o.String("request_payer", "false") == string(types.RequestPayerRequester) {
		return true
	}
	return o.Bool("request_payer", false)
}

// New returns the Store of c. It asks nothing of the network, but for the
// credentials of an EC2 instance where there are no others, which takes at
// most a second.
func New(c Config) (*Store, error) {
	var errs []error
	for _, p := range c.problems() {
		errs = append(errs, fmt.Errorf("%s: %s", p.key, p.text))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	c.setDefaults()
	g := &gate{}
	api, fresh, err := newClient(&c, g)
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg:      c,
		keys:     keyspace{prefix: c.Prefix, records: c.Lean},
		api:      api,
		fresh:    fresh,
		gate:     g,
		hedges:   &hedger{},
		lean:     c.Lean,
		parts:    make(chan struct{}, c.Concurrency),
		seen:     newSeen(),
		lost:     newLost(),
		features: &features{},
		notices:  &notices{log: c.Log.With("bucket", c.Bucket)},
	}
	o := api.Options()
	s.cfg.Region = o.Region
	s.endpoint = aws.ToString(o.BaseEndpoint)
	s.aws = isAWS(o)
	s.short = newShortcut(context.Background(), o, c.Bucket, c.Anonymous)
	return s, nil
}

// isAWS reports whether the client talks to Amazon's own S3.
func isAWS(o s3.Options) bool {
	if o.BaseEndpoint == nil {
		return true
	}
	u, err := url.Parse(*o.BaseEndpoint)
	if err != nil {
		return false
	}
	h := u.Hostname()
	return strings.HasSuffix(h, ".amazonaws.com") || strings.HasSuffix(h, ".amazonaws.com.cn")
}
