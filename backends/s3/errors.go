package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/agentfs/agentfs/backends"
)

// Error is a request that the endpoint refused or that got no answer. It wraps
// what of the contract's errors it stands for, and nothing else: a transport
// error may hold an errno that means something quite different for a file.
type Error struct {
	// Kind is the error of io/fs, context, errors or backends that callers
	// match; nil stands for an I/O error.
	Kind error
	// Code and Status are S3's; empty and 0 if there was no answer.
	Code   string
	Status int
	// RequestID names the request in the server's logs.
	RequestID string
	// Text says in one line what happened and what to do.
	Text string

	noAnswer bool
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Text)
	var more []string
	if e.Code != "" {
		more = append(more, e.Code)
	}
	if e.Status != 0 {
		more = append(more, fmt.Sprintf("status %d", e.Status))
	}
	if e.RequestID != "" {
		more = append(more, "request id "+e.RequestID)
	}
	if len(more) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(more, ", "))
	}
	return b.String()
}

// Unwrap returns Kind.
func (e *Error) Unwrap() error { return e.Kind }

// Unavailable reports whether the endpoint could not be reached or could not
// answer just then: a failure that ends by itself.
func (e *Error) Unavailable() bool {
	switch e.Status {
	case http.StatusNotImplemented, http.StatusInsufficientStorage:
		return false
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	}
	return e.noAnswer || e.Status >= http.StatusInternalServerError || e.Code == "SlowDown" || e.Code == "RequestTimeout"
}

// credentialsError marks the failure of a credentials provider.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// remedy is what is said when nobody has any credentials.
const remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE or the profile option, or anonymous=true for a public bucket"

// fail returns the error of op on name for err as an API call returned it.
func (s *Store) fail(ctx context.Context, op, name string, err error) error {
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return err
	}
	return &fs.PathError{Op: op, Path: name, Err: s.explain(ctx, err)}
}

// explain is the one place where S3's errors become the contract's.
func (s *Store) explain(ctx context.Context, err error) error {
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	for _, k := range []error{backends.ErrChanged, backends.ErrIsDir, backends.ErrNotDir, fs.ErrExist, fs.ErrInvalid} {
		if errors.Is(err, k) && status(err) == 0 {
			return err // ours already
		}
	}
	e := &Error{Code: code(err), Status: status(err), RequestID: requestID(err)}
	var cred *credentialsError
	var ae smithy.APIError
	switch {
	case e.Status == 0 && ctx.Err() != nil:
		e.Kind, e.Text = ctx.Err(), ctx.Err().Error()
		return e
	case errors.As(err, &cred):
		e.Kind, e.Text = fs.ErrPermission, fmt.Sprintf("no usable credentials for bucket %q: %s; %s", s.cfg.Bucket, oneLine(cred.err.Error()), remedy)
		return e
	case errors.As(err, &ae):
		e.Text = oneLine(ae.ErrorMessage())
		if e.Text == "" {
			e.Text = http.StatusText(e.Status)
		}
	case e.Status/100 == 2:
		e.Text = fmt.Sprintf("%s answers, but not as S3 does (is it an S3 endpoint?): %s", s.where(), oneLine(cause(err).Error()))
		return e
	case e.Status != 0:
		e.Text = http.StatusText(e.Status)
	default:
		e.noAnswer = true
		e.Text = fmt.Sprintf("no answer from %s: %s; is the server up, and are the endpoint, the region and the network right?",
			s.where(), oneLine(cause(err).Error()))
		return e
	}
	s.classify(e, err)
	return e
}

// classify sets Kind, and Text where there is a better one than the server's.
func (s *Store) classify(e *Error, err error) {
	if region := otherRegion(err, s.cfg.Region); region != "" {
		e.Text = fmt.Sprintf("bucket %q is in region %s, not %s: set region=%s", s.cfg.Bucket, region, s.cfg.Region, region)
		return
	}
	switch e.Code {
	case "NoSuchBucket":
		// Not fs.ErrNotExist: no file is missing, the store is.
		e.Text = fmt.Sprintf("there is no bucket %q at %s: check the bucket's name, or create it", s.cfg.Bucket, s.where())
		return
	case "InvalidBucketName":
		e.Text = fmt.Sprintf("%q is no valid bucket name (%s): correct the bucket's name", s.cfg.Bucket, e.Text)
	case "NoSuchKey", "NotFound", "NoSuchUpload":
		e.Kind = fs.ErrNotExist
	case "PreconditionFailed":
		e.Kind = backends.ErrChanged
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidClientTokenId",
		"XAdminUserNotFound":
		e.Kind = fs.ErrPermission
		e.Text = fmt.Sprintf("%s refuses the credentials for bucket %q: %s; check the access key, the secret key and the profile", s.where(), s.cfg.Bucket, e.Text)
	case "AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden":
		s.denied(e)
	case "RequestTimeTooSkewed":
		e.Text = "this machine's clock differs too much from the server's: set it (" + e.Text + ")"
	case "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		e.Text = fmt.Sprintf("bucket %q is not in region %s: set the region option to the bucket's (%s)", s.cfg.Bucket, s.cfg.Region, e.Text)
	case "KeyTooLongError", "KeyTooLong", "XMinioInvalidObjectName":
		e.Kind = backends.ErrNameTooLong
	case "EntityTooLarge":
		e.Kind = backends.ErrTooLarge
	case "QuotaExceeded", "InsufficientStorage", "StorageFull", "InsufficientCapacity", "StorageLimitExceeded", "BucketQuotaExceeded",
		"XMinioAdminBucketQuotaExceeded", "XMinioStorageFull":
		e.Kind = backends.ErrNoSpace
	case "ObjectParentIsFile", "XMinioParentIsObject":
		e.Kind = backends.ErrNotDir
	case "ExistingObjectIsDirectory", "XMinioObjectExistsAsDirectory":
		e.Kind = backends.ErrIsDir
	case "ErrDirectoryNotEmpty", "DirectoryNotEmpty":
		e.Kind = backends.ErrNotEmpty
	case "NotImplemented":
		e.Kind = errors.ErrUnsupported
	case "InvalidObjectState":
		e.Text = "the object is archived: restore it first (" + e.Text + ")"
	default:
		s.classifyStatus(e)
	}
}

// classifyStatus is for answers without a code that is known: a HEAD has no
// body to carry one.
func (s *Store) classifyStatus(e *Error) {
	switch e.Status {
	case http.StatusNotFound:
		e.Kind = fs.ErrNotExist
	case http.StatusPreconditionFailed:
		e.Kind = backends.ErrChanged
	case http.StatusUnauthorized, http.StatusForbidden:
		s.denied(e)
	case http.StatusMovedPermanently:
		e.Text = fmt.Sprintf("bucket %q is not at %s: set the region option to the bucket's", s.cfg.Bucket, s.where())
	case http.StatusInsufficientStorage:
		e.Kind = backends.ErrNoSpace
	case http.StatusNotImplemented:
		e.Kind = errors.ErrUnsupported
	}
}

func (s *Store) denied(e *Error) {
	e.Kind = fs.ErrPermission
	e.Text = fmt.Sprintf("access to bucket %q denied: %s; check the credentials and the bucket's policy", s.cfg.Bucket, e.Text)
}

// where names the endpoint in messages.
func (s *Store) where() string {
	if s.endpoint != "" {
		return s.endpoint
	}
	return "AWS region " + s.cfg.Region
}

var expecting = regexp.MustCompile(`expecting '([^']+)'`)

// otherRegion returns the region that the server says the bucket is in, if
// that is why the request was refused.
func otherRegion(err error, asked string) string {
	st := status(err)
	if st != http.StatusMovedPermanently && st != http.StatusTemporaryRedirect && st != http.StatusBadRequest && st != http.StatusForbidden {
		return ""
	}
	var re *smithyhttp.ResponseError
	if errors.As(err, &re) {
		if r := re.Response.Header.Get("X-Amz-Bucket-Region"); r != "" && r != asked {
			return r
		}
	}
	if code(err) == "AuthorizationHeaderMalformed" {
		var ae smithy.APIError
		if errors.As(err, &ae) {
			if m := expecting.FindStringSubmatch(ae.ErrorMessage()); m != nil && m[1] != asked {
				return m[1]
			}
		}
	}
	return ""
}

func requestID(err error) string {
	var re *awshttp.ResponseError
	if errors.As(err, &re) {
		return re.ServiceRequestID()
	}
	return ""
}

// cause returns the innermost error that still says something: the SDK's
// wrappers repeat the operation and its attempts, and net/http's the URL.
func cause(err error) error {
	var sent *url.Error
	if errors.As(err, &sent) {
		return sent.Err
	}
	var send *smithyhttp.RequestSendError
	if errors.As(err, &send) {
		return send.Err
	}
	var op *smithy.OperationError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// missing reports whether an API call's error says that the key is not there.
// A missing bucket is not that.
func missing(err error) bool {
	switch code(err) {
	case "NoSuchBucket", "XAdminUserNotFound":
		return false
	case "NoSuchKey", "NotFound":
		return true
	}
	return status(err) == http.StatusNotFound
}

// preconditionFailed reports whether a condition of the request did not hold.
func preconditionFailed(err error) bool {
	return status(err) == http.StatusPreconditionFailed || code(err) == "PreconditionFailed"
}
