package main

import (
	"context"
	"errors"
	"path/filepath"
)

// localCandidate is a file system that part "local" measures. Those whose name
// ends in -nopt work without passthrough, as mounts without privileges do.
type localCandidate struct {
	name    string
	against []string // candidates that it is compared with
	// start serves it at dir, which does not exist yet. env is added to the
	// server's environment.
	start func(ctx context.Context, dir string, env []string) (*mount, error)
}

// localCandidates returns the candidates that were asked for.
func (b *bench) localCandidates() []localCandidate {
	served := func(start func(context.Context, string, []string, ...string) (*mount, error), flags ...string) func(context.Context, string, []string) (*mount, error) {
		return func(ctx context.Context, dir string, env []string) (*mount, error) {
			return start(ctx, dir, env, flags...)
		}
	}
	tmpfs := func(_ context.Context, dir string, _ []string) (*mount, error) {
		return mountTmpfs(dir, b.capacity())
	}
	all := []localCandidate{
		{"tmpfs", nil, tmpfs},
		{"loopback", []string{"tmpfs"}, served(b.startLoopback)},
		{"agentfs", []string{"tmpfs", "loopback"}, served(b.startMemory)},
		{"loopback-nopt", []string{"tmpfs"}, served(b.startLoopback, "--no-passthrough")},
		{"agentfs-nopt", []string{"tmpfs", "loopback-nopt"}, served(b.startMemory, "--no-passthrough")},
	}
	var wanted []localCandidate
	for _, c := range all {
		if b.wants(c.name) {
			wanted = append(wanted, c)
		}
	}
	return wanted
}

// capacity is how large a candidate's file system has to be, in bytes.
func (b *bench) capacity() int64 {
	perFile := int64(smallSize + 4096)
	return 2*b.size + perFile*int64(b.files+b.memFiles) + 64<<20
}

// startLoopback serves go-fuse's loopback file system over a tmpfs of its own.
func (b *bench) startLoopback(ctx context.Context, dir string, env []string, flags ...string) (*mount, error) {
	below, err := mountTmpfs(dir+".below", b.capacity())
	if err != nil {
		return nil, err
	}
	argv := append([]string{b.self, "loopback"}, flags...)
	m, err := serveMount(ctx, "loopback", dir, env, append(argv, below.dir, dir)...)
	if err != nil {
		return nil, errors.Join(err, below.close())
	}
	unmount := m.close
	m.close = func() error { return errors.Join(unmount(), below.close()) }
	return m, nil
}

// startMemory serves agentfs with memory at the root.
func (b *bench) startMemory(ctx context.Context, dir string, env []string, flags ...string) (*mount, error) {
	binary, err := filepath.Abs(b.agentfs)
	if err != nil {
		return nil, err
	}
	argv := append([]string{binary, "mount", "--cache-dir", dir + ".cache", "--route", "/=memory:?size=" + bytesOption(b.capacity())}, flags...)
	return serveMount(ctx, "agentfs", dir, env, append(argv, dir)...)
}
