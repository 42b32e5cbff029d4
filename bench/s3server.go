package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
)

// The credentials of the S3 server that a run starts for itself, and its bucket.
const (
	accessKey = "bench"
	secretKey = "bench-secret"
	region    = "us-east-1"
	bucket    = "bench"
)

// s3Server is a real S3 server and, in front of it, the proxy that makes it slow.
type s3Server struct {
	*server
	direct string // URL of the server itself
	slow   *proxy
}

// startS3 starts versitygw with its data in dir and a proxy in front of it.
func (b *bench) startS3(ctx context.Context, dir string, d delays) (_ *s3Server, err error) {
	binary, err := b.findVersitygw()
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	srv, err := startServer("versitygw", dir+".log", []string{"ROOT_ACCESS_KEY=" + accessKey, "ROOT_SECRET_KEY=" + secretKey},
		binary, "--port", addr, "--health", "/healthz", "--quiet", "--keep-alive", "posix", dir)
	if err != nil {
		return nil, err
	}
	s := &s3Server{server: srv, direct: "http://" + addr}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	err = srv.waitFor(ctx, "it is healthy", func() bool {
		resp, err := http.Get(s.direct + "/healthz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	if err != nil {
		return nil, err
	}
	s.slow, err = startProxy(s.direct, d)
	return s, err
}

func (s *s3Server) close() error {
	var err error
	if s.slow != nil {
		err = s.slow.close()
	}
	return errors.Join(err, s.stop())
}

// findVersitygw looks where `make tools` puts it, in this directory and its
// parents.
func (b *bench) findVersitygw() (string, error) {
	for _, p := range []string{b.versitygw, os.Getenv("AGENTFS_VERSITYGW")} {
		if p != "" {
			return filepath.Abs(p)
		}
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		p := filepath.Join(dir, ".tools", "bin", "versitygw")
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	if p, err := exec.LookPath("versitygw"); err == nil {
		return p, nil
	}
	return "", errors.New("versitygw is not there: run make tools, or name it with --versitygw")
}

// freeAddress returns a local address that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}
