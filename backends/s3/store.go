package s3

import (
	"context"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/agentfs/agentfs/backends"
)

// Store is a bucket, or what lies below a prefix of it. Make it with [New] or
// [Open]. All methods may be called by many goroutines at once.
type Store struct {
	cfg      Config
	keys     keyspace
	api      *s3.Client
	short    *shortcut      // nil where the bucket is not plain
	fresh    aws.HTTPClient // its connections are never used again
	gate     *gate
	hedges   *hedger
	endpoint string // "" is AWS
	aws      bool
	lean     bool
	// parts has one place per part that may be under way.
	parts    chan struct{}
	seen     *seen
	lost     *lost
	features *features
	notices  *notices
}

var (
	_ backends.Store           = (*Store)(nil)
	_ backends.Walker          = (*Store)(nil)
	_ backends.PageWalker      = (*Store)(nil)
	_ backends.Copier          = (*Store)(nil)
	_ backends.ManyRemover     = (*Store)(nil)
	_ backends.Uploader        = (*Store)(nil)
	_ backends.FeatureReporter = (*Store)(nil)
	_ backends.Identifier      = (*Store)(nil)
	_ backends.Closer          = (*Store)(nil)
	_ backends.NameChecker     = (*Store)(nil)
	_ backends.FileStatter     = (*Store)(nil)
	_ backends.Leaner          = (*Store)(nil)
	_ backends.LoadReporter    = (*Store)(nil)
	_ backends.Opener          = Open
)

// CheckName implements [backends.NameChecker].
func (s *Store) CheckName(name string) error {
	return keyspace{prefix: s.keys.prefix}.checkNew("create", name)
}

// Lean returns the same Store for a caller who knows the name space, such as
// the cache: Open, Put, Copy and Mkdir don't ask whether a directory has the
// name, and Remove and RemoveMany don't ask whether a version is still there
// before its conditional DELETE, nor keep the parent directory alive with a
// marker. The caller does that where it is needed (with Mkdir), so that a
// create, a rewrite and a removal are one request each. A file that is gone
// counts as removed. Files whose names begin with [backends.RecordPrefix] are
// listed, and can be read, written and removed.
func (s *Store) Lean() backends.Store {
	l := *s
	l.lean, l.keys.records = true, true
	return &l
}

// Identity implements [backends.Identifier]: endpoint, bucket and prefix.
func (s *Store) Identity() string {
	where := s.endpoint
	if where == "" {
		where = "aws"
	}
	return "s3 " + strings.TrimSuffix(where, "/") + " " + s.cfg.Bucket + "/" + s.keys.prefix
}

// Close implements [backends.Closer]. Calls that are under way run to their end, and
// connections that are idle end after [Config.RequestTimeout] at the latest.
func (s *Store) Close() error { return nil }

// Check asks for one key, and so finds out whether the endpoint answers, the
// bucket exists and the credentials may list it. The root's Stat asks nothing.
func (s *Store) Check(ctx context.Context) error {
	_, err := s.keysBelow(ctx, s.keys.prefix, 1)
	return s.fail(ctx, "check", ".", err)
}

// Load implements [backends.LoadReporter].
func (s *Store) Load() backends.Load {
	var l backends.Load
	l.Hedged, l.HedgesWon = s.hedges.state()
	l.Limit, l.SlowDowns = s.gate.state()
	return l
}

// payer is the request-payer field of every request.
func (s *Store) payer() types.RequestPayer {
	if s.cfg.RequestPayer {
		return types.RequestPayerRequester
	}
	return ""
}

// bucket is the bucket field of every request.
func (s *Store) bucket() *string { return &s.cfg.Bucket }

// etag turns a Version into the form that headers want.
func etag(v backends.Version) *string { return aws.String(`"` + string(v) + `"`) }

// version turns an ETag as a header or a listing has it into a Version.
func version(etag *string) backends.Version {
	return backends.Version(strings.Trim(strings.TrimPrefix(aws.ToString(etag), "W/"), `"`))
}

// modTime cuts a time to the second: that is what a HEAD can say, while a
// listing may have more digits, and the two have to agree.
func modTime(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.Truncate(time.Second)
}

func dirEntry(name string) backends.Entry { return backends.Entry{Name: name, Mode: fs.ModeDir} }

// notices logs things that may come up a thousand times, at most once a minute
// for each kind.
type notices struct {
	log  *slog.Logger
	mu   sync.Mutex
	last map[string]notice
}

type notice struct {
	at      time.Time
	dropped int
}

const noticeInterval = time.Minute

// warn logs msg unless one of the same kind was logged lately.
func (n *notices) warn(kind, msg string, args ...any) {
	n.mu.Lock()
	was, ok := n.last[kind]
	if ok && time.Since(was.at) < noticeInterval {
		was.dropped++
		n.last[kind] = was
		n.mu.Unlock()
		return
	}
	if n.last == nil {
		n.last = map[string]notice{}
	}
	n.last[kind] = notice{at: time.Now()}
	n.mu.Unlock()
	if was.dropped > 0 {
		args = append(args, "not_logged", was.dropped)
	}
	n.log.Warn(msg, args...)
}
