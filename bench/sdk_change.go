package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

// removeAll removes everything below prefix, a thousand keys in a request.
func (s *sdk) removeAll(ctx context.Context, prefix string) error {
	keys, err := s.keys(ctx, prefix)
	if err != nil {
		return err
	}
	return s.remove(ctx, keys)
}

func (s *sdk) remove(ctx context.Context, keys []string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sdkWorkers)
	for ; len(keys) > 0; keys = keys[min(1000, len(keys)):] {
		var ids []types.ObjectIdentifier
		for _, key := range keys[:min(1000, len(keys))] {
			ids = append(ids, types.ObjectIdentifier{Key: aws.String(key)})
		}
		g.Go(func() error {
			out, err := s.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
				Bucket: aws.String(bucket), Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)}})
			if err == nil && len(out.Errors) > 0 {
				err = fmt.Errorf("%s: %s", aws.ToString(out.Errors[0].Key), aws.ToString(out.Errors[0].Message))
			}
			return err
		})
	}
	return g.Wait()
}

// copy copies an object on the server.
func (s *sdk) copy(ctx context.Context, from, to string) error {
	_, err := s.client.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String(bucket), Key: &to, CopySource: aws.String(bucket + "/" + from)})
	return err
}

// moveAll moves everything below a prefix below another one.
func (s *sdk) moveAll(ctx context.Context, from, to string) error {
	keys, err := s.keys(ctx, from)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(sdkWorkers)
	for _, key := range keys {
		g.Go(func() error { return s.copy(gctx, key, to+strings.TrimPrefix(key, from)) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return s.remove(ctx, keys)
}

// editAll reads these objects, changes them and writes them back.
func (s *sdk) editAll(ctx context.Context, prefix string, files map[string][]byte, edit func([]byte) []byte) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sdkWorkers)
	for name := range files {
		g.Go(func() error {
			body, err := s.get(ctx, prefix+name, 0, 0)
			if err != nil {
				return err
			}
			return s.put(ctx, prefix+name, edit(body))
		})
	}
	return g.Wait()
}

// append adds to the end of an object of at least 5 MiB without moving what it
// has: a part that the server copies and a part that is sent.
func (s *sdk) append(ctx context.Context, key string, size int64, tail []byte) error {
	up, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: &key})
	if err != nil {
		return err
	}
	parts := make([]types.CompletedPart, 2)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		out, err := s.client.UploadPartCopy(gctx, &s3.UploadPartCopyInput{
			Bucket: aws.String(bucket), Key: &key, UploadId: up.UploadId, PartNumber: aws.Int32(1),
			CopySource: aws.String(bucket + "/" + key), CopySourceRange: aws.String(fmt.Sprintf("bytes=0-%d", size-1))})
		if err != nil {
			return err
		}
		if out.CopyPartResult == nil {
			return errors.New("a copied part has no ETag")
		}
		parts[0] = types.CompletedPart{ETag: out.CopyPartResult.ETag, PartNumber: aws.Int32(1)}
		return nil
	})
	g.Go(func() error {
		out, err := s.client.UploadPart(gctx, &s3.UploadPartInput{
			Bucket: aws.String(bucket), Key: &key, UploadId: up.UploadId, PartNumber: aws.Int32(2), Body: bytes.NewReader(tail)})
		if err == nil {
			parts[1] = types.CompletedPart{ETag: out.ETag, PartNumber: aws.Int32(2)}
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	_, err = s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: aws.String(bucket), Key: &key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	return err
}
