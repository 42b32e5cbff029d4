package s3

import (
	"bytes"
	"context"
	"io"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// fastListing makes the SDK read answers to ListObjectsV2 with parseListing. It is an
// option of a client, called for each of its requests.
func fastListing(stack *middleware.Stack) error {
	if stack.ID() != "ListObjectsV2" {
		return nil
	}
	const id = "OperationDeserializer"
	own, ok := stack.Deserialize.Get(id)
	if !ok {
		return nil // as long as the SDK has it, it is what takes the time
	}
	_, err := stack.Deserialize.Swap(id, listingReader{own})
	return err
}

// listingReader is the SDK's deserializer with a short way for plain answers.
type listingReader struct {
	middleware.DeserializeMiddleware
}

// HandleDeserialize implements [middleware.DeserializeMiddleware].
func (l listingReader) HandleDeserialize(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
	out, metadata, err := next.HandleDeserialize(ctx, in)
	if resp, ok := out.RawResponse.(*smithyhttp.Response); ok && err == nil && resp.StatusCode == 200 {
		body := resp.Body
		// What the SDK is to read is what was read already, its error included.
		p, rerr := io.ReadAll(body)
		if rerr == nil {
			if list, ok := parseListing(p); ok {
				out.Result = list
				return out, metadata, body.Close()
			}
			rerr = io.EOF
		}
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(p), failing{rerr}), body}
	}
	return l.DeserializeMiddleware.HandleDeserialize(ctx, in, middleware.DeserializeHandlerFunc(
		func(context.Context, middleware.DeserializeInput) (middleware.DeserializeOutput, middleware.Metadata, error) {
			return out, metadata, err
		}))
}

// failing is a reader that has nothing but an error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
