package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyauth "github.com/aws/smithy-go/auth"
	smithyendpoints "github.com/aws/smithy-go/endpoints"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// unsignedPayload is what the SDK signs in place of a body's hash where TLS
// keeps the body whole.
const unsignedPayload = "UNSIGNED-PAYLOAD"

// shortcut is how the requests that are made for each file (GET, PUT, HEAD and
// DELETE of one object) go through the SDK where endpoint and authentication are
// plain: its serializers, deserializers and signer as they are, but between them
// one step in place of thirty. Those take half of a request's processor time, and find
// out anew each time where the bucket is and how it wants to be asked, which is the same
// for each of them.
type shortcut struct {
	endpoint     smithyendpoints.Endpoint
	name, region string                  // of the signature
	credentials  aws.CredentialsProvider // nil: nothing is signed
	signer       s3.HTTPSignerV4
	// gets and puts: the SDK neither checks what a GET brings nor adds a
	// checksum to a PUT.
	gets, puts bool
	// skew is how much the server's clock is ahead, in nanoseconds, if that is
	// more than maxSkew.
	skew atomic.Int64
}

// newShortcut returns that of a bucket, nil if the bucket wants more than
// Signature Version 4: S3 Express, access points of several regions.
func newShortcut(ctx context.Context, o s3.Options, bucket string, anonymous bool) *shortcut {
	if o.UseAccelerate || o.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled ||
		o.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled || len(o.AuthSchemePreference) > 0 {
		return nil // seldom, and not ours to put together
	}
	e, err := o.EndpointResolverV2.ResolveEndpoint(ctx, s3.EndpointParameters{
		Bucket: &bucket, Region: &o.Region, Endpoint: o.BaseEndpoint, ForcePathStyle: &o.UsePathStyle,
		Accelerate: new(bool), UseFIPS: new(bool), UseDualStack: new(bool), UseGlobalEndpoint: new(bool),
		DisableMultiRegionAccessPoints: &o.DisableMultiRegionAccessPoints, UseArnRegion: &o.UseARNRegion,
		DisableS3ExpressSessionAuth: o.DisableS3ExpressSessionAuth,
	})
	if err != nil {
		return nil // the SDK says it at the first request
	}
	auth, _ := smithyauth.GetAuthOptions(&e.Properties)
	if len(auth) == 0 || auth[0].SchemeID != "sigv4" {
		return nil
	}
	s := &shortcut{
		endpoint: e, credentials: o.Credentials, signer: o.HTTPSignerV4,
		gets: o.ResponseChecksumValidation == aws.ResponseChecksumValidationWhenRequired,
		puts: o.RequestChecksumCalculation == aws.RequestChecksumCalculationWhenRequired,
	}
	if anonymous {
		s.credentials = nil
	}
	var named, placed bool
	s.name, named = smithyhttp.GetSigV4SigningName(&auth[0].SignerProperties)
	s.region, placed = smithyhttp.GetSigV4SigningRegion(&auth[0].SignerProperties)
	if plain, _ := smithyhttp.GetDisableDoubleEncoding(&auth[0].SignerProperties); !named || !placed || !plain || s.name != "s3" {
		return nil
	}
	return s
}

func (s *shortcut) takes(operation string) bool {
	switch operation {
	case "GetObject":
		return s.gets
	case "PutObject":
		return s.puts
	case "HeadObject", "DeleteObject":
		return true
	}
	return false
}

// shorten is an option of a call that has a shortcut: it takes from the stack of an operation what c.short
// does in one step, or leaves the stack as it is.
func (c *call) shorten(stack *middleware.Stack) error {
	if !c.short.takes(stack.ID()) {
		return nil
	}
	serializer, ok := stack.Serialize.Get("OperationSerializer")
	if !ok {
		return nil
	}
	expect, large := stack.Build.Get("S3100Continue")
	stack.Initialize.Clear()
	stack.Serialize.Clear()
	stack.Build.Clear()
	stack.Finalize.Clear()
	err := errors.Join(stack.Serialize.Add(serializer, middleware.After), stack.Finalize.Add(attempts{c}, middleware.After))
	if large {
		err = errors.Join(err, stack.Build.Add(expect, middleware.After))
	}
	for _, id := range []string{"AddRawResponseToMetadata", "AWSChecksum:ValidateOutputPayloadChecksum", "RequestResponseLogger"} {
		if _, ok := stack.Deserialize.Get(id); ok {
			_, rerr := stack.Deserialize.Remove(id)
			err = errors.Join(err, rerr)
		}
	}
	return err
}

// attempts is the one step: what the SDK does from Retry to Signing.
type attempts struct{ *call }

// ID implements [middleware.FinalizeMiddleware].
func (attempts) ID() string { return "agentfs:Attempts" }

// HandleFinalize implements [middleware.FinalizeMiddleware].
func (c attempts) HandleFinalize(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (out middleware.FinalizeOutput, metadata middleware.Metadata, err error) {
	req, ok := in.Request.(*smithyhttp.Request)
	if !ok {
		return out, metadata, fmt.Errorf("a request of type %T", in.Request)
	}
	hash, err := c.short.aim(req)
	if err != nil {
		return out, metadata, err
	}
	corrected := false
	for attempt := 1; ; attempt++ {
		if err := ctx.Err(); err != nil {
			return out, metadata, err
		}
		ahead := time.Duration(c.short.skew.Load())
		if err := c.short.sign(ctx, req, hash, time.Now().Add(ahead)); err != nil {
			return out, metadata, err
		}
		out, metadata, err = next.HandleFinalize(ctx, in)
		off := c.short.learn(ahead, metadata)
		if err == nil {
			return out, metadata, nil
		}
		again := c.IsErrorRetryable(err)
		if !again && off && !corrected && status(err) == http.StatusForbidden {
			again, corrected = true, true // the answer to a HEAD has no code that says why
		}
		switch {
		case !again:
			return out, metadata, err
		case attempt >= c.max:
			return out, metadata, &retry.MaxAttemptsError{Attempt: attempt, Err: err}
		}
		if serr := sleep(ctx, backoff(attempt)); serr != nil {
			return out, metadata, &aws.RequestCanceledError{Err: serr}
		}
		if rerr := req.RewindStream(); rerr != nil {
			return out, metadata, rerr
		}
	}
}

// aim completes a request but for its signature, and returns what is to be signed as its
// body's hash.
func (s *shortcut) aim(req *smithyhttp.Request) (hash string, err error) {
	uri := s.endpoint.URI
	if uri.RawPath == "" && req.URL.RawPath != "" {
		uri.RawPath = uri.Path
	}
	req.URL.Scheme, req.URL.Host = uri.Scheme, uri.Host
	req.URL.Path = smithyhttp.JoinPath(uri.Path, req.URL.Path)
	req.URL.RawPath = smithyhttp.JoinPath(uri.RawPath, req.URL.RawPath)
	for k := range s.endpoint.Headers {
		req.Header.Set(k, s.endpoint.Headers.Get(k))
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "agentfs")
	if hash = unsignedPayload; req.Method != http.MethodPut || !req.IsHTTPS() {
		h := sha256.New()
		if body := req.GetStream(); body != nil {
			if _, err := io.Copy(h, body); err != nil {
				return "", err
			}
			if err := req.RewindStream(); err != nil {
				return "", err
			}
		}
		hash = hex.EncodeToString(h.Sum(nil))
	}
	req.Header.Set("X-Amz-Content-Sha256", hash)
	return hash, nil
}

// maxSkew is how far the clocks may differ before it is the server's that counts, as in the SDK:
// S3 refuses what was signed a quarter of an hour away from its own.
const maxSkew = 4 * time.Minute

// learn takes the server's clock from an answer to what was signed by one that is ahead of
// ours, and reports whether that was wrong.
func (s *shortcut) learn(ahead time.Duration, answer middleware.Metadata) bool {
	skew, ok := awsmiddleware.GetAttemptSkew(answer)
	if !ok || (skew-ahead).Abs() <= maxSkew {
		return false
	}
	s.skew.Store(int64(skew))
	return true
}

func (s *shortcut) sign(ctx context.Context, req *smithyhttp.Request, hash string, at time.Time) error {
	if s.credentials == nil {
		return nil
	}
	creds, err := s.credentials.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("get credentials: %w", err)
	}
	req.Header.Del("X-Amz-Security-Token") // of an earlier attempt's credentials
	return s.signer.SignHTTP(ctx, creds, req.Request, hash, s.name, s.region, at, func(o *v4.SignerOptions) {
		o.DisableURIPathEscaping = true // S3 alone: a key is encoded once
	})
}
