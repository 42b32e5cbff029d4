package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Backoff between the attempts of a request: it doubles from first to longest,
// and half of it is random. The SDK's own begins at seconds and stops asking
// altogether once its token bucket is empty, so that a few injected 500s slow
// a reader down to a crawl.
const (
	firstBackoff   = 40 * time.Millisecond
	longestBackoff = 2 * time.Second
)

// call is one request with its retries, and what is known of its outcome. It
// is the SDK's retryer for this one request.
type call struct {
	ctx     context.Context
	began   time.Time
	max     int
	longest time.Duration
	short   *shortcut // nil: the SDK's way
	// unknown: an attempt ended without an answer that settles whether it
	// took effect.
	unknown bool
}

var _ aws.RetryerV2 = (*call)(nil)

func (s *Store) call(ctx context.Context) *call {
	return &call{ctx: ctx, began: time.Now(), max: s.cfg.MaxAttempts, longest: s.cfg.RetryTimeout, short: s.short}
}

// use makes c the retryer of an API call.
func (c *call) use(o *s3.Options) {
	o.Retryer = c
	if c.short != nil {
		o.APIOptions = append(o.APIOptions, c.shorten)
	}
}

// MaxAttempts implements [aws.Retryer].
func (c *call) MaxAttempts() int { return c.max }

// IsErrorRetryable implements [aws.Retryer]; the SDK asks it once for every
// attempt that failed.
func (c *call) IsErrorRetryable(err error) bool {
	if outcomeUnknown(err) {
		c.unknown = true
	}
	if c.ctx.Err() != nil || time.Since(c.began) > c.longest {
		return false
	}
	if d, ok := c.ctx.Deadline(); ok && time.Until(d) < firstBackoff {
		return false
	}
	return retryable(err)
}

// RetryDelay implements [aws.Retryer].
func (c *call) RetryDelay(attempt int, _ error) (time.Duration, error) {
	return backoff(attempt), nil
}

// GetRetryToken implements [aws.Retryer]: there is no token bucket.
func (c *call) GetRetryToken(context.Context, error) (func(error) error, error) {
	return noToken, nil
}

// GetInitialToken implements [aws.Retryer].
func (c *call) GetInitialToken() func(error) error { return noToken }

// GetAttemptToken implements [aws.RetryerV2].
func (c *call) GetAttemptToken(context.Context) (func(error) error, error) { return noToken, nil }

func noToken(error) error { return nil }

// backoff returns the wait before attempt+1.
func backoff(attempt int) time.Duration {
	d := longestBackoff
	if attempt < 8 {
		d = min(d, firstBackoff<<max(attempt-1, 0))
	}
	return d/2 + rand.N(d/2)
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retryable reports whether a request that failed with err may succeed when it
// is sent again.
func retryable(err error) bool {
	var cert *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var notTLS tls.RecordHeaderError
	var dns *net.DNSError
	var cred *credentialsError
	switch {
	case errors.As(err, &cert), errors.As(err, &authority), errors.As(err, &notTLS), errors.As(err, &cred):
		return false
	case errors.As(err, &dns) && dns.IsNotFound:
		return false
	}
	var skew interface{ RetryableError() bool }
	if errors.As(err, &skew) && skew.RetryableError() {
		return true // the SDK found out the server's clock
	}
	switch code(err) {
	case "SlowDown", "SlowDownRead", "SlowDownWrite", "InternalError", "RequestTimeout", "ServiceUnavailable", "Throttling",
		"ThrottlingException", "RequestLimitExceeded", "ConditionalRequestConflict", "OperationAborted", "XMinioServerNotInitialized":
		return true
	}
	switch status(err) {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	case 0: // no answer at all
		var send *smithyhttp.RequestSendError
		return errors.As(err, &send) || cutAnswer(err)
	}
	return cutAnswer(err)
}

// cutAnswer reports whether an answer began well and was cut short.
func cutAnswer(err error) bool {
	var de *smithy.DeserializationError
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &de) && status(err)/100 == 2
}

// outcomeUnknown reports whether a changing request that failed with err may
// have taken effect all the same.
func outcomeUnknown(err error) bool {
	var cred *credentialsError
	var op *net.OpError
	switch {
	case errors.As(err, &cred):
		return false
	case errors.As(err, &op) && op.Op == "dial":
		return false
	}
	st := status(err)
	return st < 400 || st >= 500 && code(err) != "SlowDown"
}

// status returns the HTTP status that err came with, 0 for none.
func status(err error) int {
	var re *smithyhttp.ResponseError
	if errors.As(err, &re) && re.Response != nil && re.Response.Response != nil {
		return re.HTTPStatusCode()
	}
	return 0
}

// code returns the S3 error code that err came with, "" for none.
func code(err error) string {
	var ae smithy.APIError
	if errors.As(err, &ae) {
		return ae.ErrorCode()
	}
	return ""
}
