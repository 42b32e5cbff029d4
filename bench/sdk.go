package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

const (
	// sdkWorkers is how many requests the SDK alone has in flight.
	sdkWorkers = 64
	// partSize is that of its multipart transfers, in bytes.
	partSize = 8 << 20
)

// sdk is the bucket as a program sees it that uses the SDK and nothing else, and
// knows what it wants: the measure of what the network allows.
type sdk struct {
	client *s3.Client
}

func newSDK(endpoint string) *sdk {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 2 * sdkWorkers
	transport.DisableCompression = true
	return &sdk{client: s3.New(s3.Options{
		BaseEndpoint: aws.String(endpoint),
		Region:       region,
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
		HTTPClient:   &http.Client{Transport: transport},

		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})}
}

func (s *sdk) createBucket(ctx context.Context) error {
	_, err := s.client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	return err
}

func (s *sdk) put(ctx context.Context, key string, body []byte) error {
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: bytes.NewReader(body)})
	return err
}

// putAll writes objects side by side.
func (s *sdk) putAll(ctx context.Context, prefix string, files map[string][]byte) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sdkWorkers)
	for name, body := range files {
		g.Go(func() error { return s.put(ctx, prefix+name, body) })
	}
	return g.Wait()
}

// list returns the sizes of all objects below prefix, by what follows the
// prefix. What is no file to a mount is left out: directory markers, and the
// records in which agentfs keeps attributes.
func (s *sdk) list(ctx context.Context, prefix string) (map[string]int64, error) {
	sizes := map[string]int64{}
	err := s.each(ctx, prefix, func(key string, size int64) {
		name := key[len(prefix):]
		if name != "" && !strings.HasSuffix(name, "/") && !strings.HasPrefix(path.Base(name), ".agentfs") {
			sizes[name] = size
		}
	})
	return sizes, err
}

// keys returns all keys that begin with prefix.
func (s *sdk) keys(ctx context.Context, prefix string) ([]string, error) {
	var keys []string
	err := s.each(ctx, prefix, func(key string, _ int64) { keys = append(keys, key) })
	return keys, err
}

func (s *sdk) each(ctx context.Context, prefix string, f func(key string, size int64)) error {
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, o := range page.Contents {
			f(aws.ToString(o.Key), aws.ToInt64(o.Size))
		}
	}
	return nil
}

// get returns an object's bytes: all of them if n is 0, else n from off.
func (s *sdk) get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	in := &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key}
	if n > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	}
	out, err := s.client.GetObject(ctx, in)
	if err != nil {
		return nil, err
	}
	defer out.Body.Close()
	return io.ReadAll(out.Body)
}

// getAll calls f, one call at a time, with every object below prefix.
func (s *sdk) getAll(ctx context.Context, prefix string, f func(name string, body []byte)) error {
	sizes, err := s.list(ctx, prefix)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sdkWorkers)
	for name := range sizes {
		g.Go(func() error {
			body, err := s.get(ctx, prefix+name, 0, 0)
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				f(name, body)
			}
			return err
		})
	}
	return g.Wait()
}

// search reads every object below prefix and fails unless want of them have the
// needle.
func (s *sdk) search(ctx context.Context, prefix string, want int) error {
	found := 0
	err := s.getAll(ctx, prefix, func(_ string, body []byte) {
		if bytes.Contains(body, []byte(needle)) {
			found++
		}
	})
	return errors.Join(err, wantCount("files with the needle", found, want))
}

// putLarge writes one object in parts that are under way side by side.
func (s *sdk) putLarge(ctx context.Context, key string, body []byte) error {
	up, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: &key})
	if err != nil {
		return err
	}
	parts := make([]types.CompletedPart, (len(body)+partSize-1)/partSize)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(sdkWorkers)
	for i := range parts {
		g.Go(func() error {
			section := body[i*partSize : min((i+1)*partSize, len(body))]
			number := aws.Int32(int32(i + 1))
			out, err := s.client.UploadPart(gctx, &s3.UploadPartInput{
				Bucket: aws.String(bucket), Key: &key, UploadId: up.UploadId, PartNumber: number, Body: bytes.NewReader(section)})
			if err == nil {
				parts[i] = types.CompletedPart{ETag: out.ETag, PartNumber: number}
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	_, err = s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: aws.String(bucket), Key: &key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	return err
}

// getLarge reads one object in ranges that are under way side by side, and
// compares it with want.
func (s *sdk) getLarge(ctx context.Context, key string, want []byte) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sdkWorkers)
	for off := int64(0); off < int64(len(want)); off += partSize {
		g.Go(func() error {
			section := want[off:min(off+partSize, int64(len(want)))]
			got, err := s.get(ctx, key, off, int64(len(section)))
			if err == nil && !bytes.Equal(got, section) {
				err = errors.New("the bytes are not those that were written")
			}
			return err
		})
	}
	return g.Wait()
}
