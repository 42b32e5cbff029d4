package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
)

// serve keeps the store of part "store" running, for workloads by hand: for a
// profile, or to see what a mount does.
func (b *bench) serve(ctx context.Context, out io.Writer) (err error) {
	server, err := b.startS3(ctx, filepath.Join(b.tmp, "versitygw"), b.likeS3())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.close()) }()
	direct := newSDK(server.direct)
	if err := direct.createBucket(ctx); err != nil {
		return err
	}
	data, err := b.newStoreData(ctx)
	if err != nil {
		return err
	}
	if err := data.seed(ctx, direct); err != nil {
		return err
	}
	if b.storeEntries > 0 {
		fake := &fakeList{prefix: entriesDir + "/", n: b.storeEntries, slow: true}
		if err := fake.mark(ctx, direct); err != nil {
			return err
		}
		server.slow.setFake(fake)
	}
	fmt.Fprintf(out, "A store like S3 in its delays, with the data of part \"store\", until this is interrupted (Ctrl-C):\n\n"+
		"    export AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s\n    %s mount --route '/=s3://%s?endpoint=%s&region=%s' MOUNTPOINT\n",
		accessKey, secretKey, b.agentfs, bucket, server.slow.url, region)
	<-ctx.Done()
	return nil
}

// likeS3 returns the delays that were asked for.
func (b *bench) likeS3() delays {
	d := likeS3
	if b.quick {
		d = delays{}
	}
	if b.storeTotal > 0 {
		d.total = &pacer{perSecond: float64(b.storeTotal)}
	}
	return d
}
