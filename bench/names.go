package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// names runs part "names": what programs do with one directory of very many names,
// more of them than a mount is to know; what that costs for each, what the mount
// occupies meanwhile and afterwards, and how long others are kept waiting. The
// directory is made up by the proxy, whose answers take as long as the others.
func (b *bench) names(ctx context.Context, out io.Writer) (err error) {
	d := b.likeS3()
	server, err := b.startS3(ctx, filepath.Join(b.tmp, "versitygw-names"), d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.close()) }()
	run := &storeRun{bench: b, server: server, slow: newSDK(server.slow.url), direct: newSDK(server.direct)}
	if run.peers, err = b.loadPeers(); err != nil {
		return err
	}
	p, ok := run.peer(agentfs)
	if !ok {
		return nil
	}
	if err := run.direct.createBucket(ctx); err != nil {
		return err
	}
	lines := [][]string{{"one directory", "time", "per name", "requests", "mount's CPU per name", "resident at most", "and at rest", "names known", "others waited, meanwhile", "and until rest"}}
	for _, n := range b.nameCounts {
		fake := &fakeList{prefix: entriesDir + "/", n: n, slow: !b.quick}
		if err := fake.mark(ctx, run.direct); err != nil {
			return err
		}
		server.slow.setFake(fake)
		more, err := run.namesOf(ctx, p, n)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.fail(agentfs, fmt.Sprintf("%d names", n), err)
		}
		lines = append(lines, more...)
	}
	if len(lines) > 1 {
		fmt.Fprintf(out, "## A directory of very many names\n\nThe store: %s. Route options: `%s`. \"Others\" stat a file, and create and remove one, in another directory of the mount; in brackets the same stat outside of the mount, which is what this machine makes them wait.\n\n", d, b.nameOptions)
		writeTable(out, lines)
	}
	return nil
}

// namesStep is something to do with a directory of n names.
type namesStep struct {
	name string
	do   func(ctx context.Context, dir string, n int) error
}

var namesSteps = []namesStep{
	{"ls -f", func(ctx context.Context, dir string, n int) error { return countLines(ctx, n+2, "ls", "-f", dir) }},
	{"ls", func(ctx context.Context, dir string, n int) error { return countLines(ctx, n, "ls", dir) }},
	{"ls -l", func(ctx context.Context, dir string, n int) error { return countLines(ctx, n+1, "ls", "-l", dir) }},
	{"find -size", func(ctx context.Context, dir string, n int) error {
		return countLines(ctx, n, "find", dir, "-type", "f", "-size", "-9k")
	}},
}

// countLines runs a command that prints want lines, however many bytes.
func countLines(ctx context.Context, want int, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = 5 * time.Second
	var got lineCount
	var errs strings.Builder
	cmd.Stdout, cmd.Stderr = &got, &errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w after %d lines: %s", argv[0], err, got, strings.TrimSpace(errs.String()))
	}
	return wantCount("lines", int(got), want)
}

type lineCount int

func (c *lineCount) Write(p []byte) (int, error) {
	*c += lineCount(strings.Count(string(p), "\n"))
	return len(p), nil
}

// restLimit is how long is waited for a mount to forget what is too much.
const restLimit = time.Minute

// namesOf measures every step with a directory of n names, in one mount.
func (r *storeRun) namesOf(ctx context.Context, p peer, n int) (lines [][]string, err error) {
	r.seq++
	m, err := p.start(ctx, r.bench, r.server.slow.url, filepath.Join(r.tmp, fmt.Sprintf("names%04d", r.seq)), r.nameOptions)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	beside := filepath.Join(r.tmp, fmt.Sprintf("beside%04d", r.seq))
	if err := os.Mkdir(beside, 0o755); err != nil {
		return nil, err
	}
	others, err := watch(m.dir, beside)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, others.stop()) }()
	for _, s := range namesSteps {
		if !r.rows.MatchString(s.name) {
			continue
		}
		line, err := r.namesStep(ctx, m, others, s, n)
		if err != nil {
			return lines, fmt.Errorf("%s: %w\n%s", s.name, err, m.lastWords())
		}
		lines = append(lines, line)
		r.log.Printf("names: %s", strings.Join(line, ", "))
	}
	return lines, nil
}

func (r *storeRun) namesStep(ctx context.Context, m *mount, others *bystander, s namesStep, n int) ([]string, error) {
	if err := resetPeak(m.pid); err != nil {
		return nil, err
	}
	cpu, err := cpuTime(m.pid)
	if err != nil {
		return nil, err
	}
	_ = others.take()
	_ = r.server.slow.takeTraffic()
	limit, cancel := context.WithTimeout(ctx, r.storeLimit)
	defer cancel()
	began := time.Now()
	if err := s.do(limit, filepath.Join(m.dir, entriesDir), n); err != nil {
		if limit.Err() != nil && ctx.Err() == nil {
			m.kill()
			err = fmt.Errorf("> %v: %w: %w", r.storeLimit, errTooLong, err)
		}
		return nil, err
	}
	took, meanwhile, traffic := time.Since(began), others.take(), r.server.slow.takeTraffic()
	used, err := cpuTime(m.pid)
	if err != nil {
		return nil, err
	}
	most, err := kilobytes(fmt.Sprintf("/proc/%d/status", m.pid), "VmHWM:")
	if err != nil {
		return nil, err
	}
	known, err := r.rest(ctx, m)
	if err != nil {
		return nil, err
	}
	rest, err := kilobytes(fmt.Sprintf("/proc/%d/status", m.pid), "VmRSS:")
	if err != nil {
		return nil, err
	}
	each := func(d time.Duration) string { return fmt.Sprintf("%.1f µs", float64(d.Nanoseconds())/1e3/float64(n)) }
	return []string{
		fmt.Sprintf("%s, %d names", s.name, n), fmt.Sprintf("%.1f s", took.Seconds()), each(took), traffic.requests.String(), each(used - cpu),
		fmt.Sprintf("%d MiB", most>>20), fmt.Sprintf("%d MiB", rest>>20), strconv.Itoa(known), meanwhile.String(), others.take().String(),
	}, nil
}

// rest waits until the mount knows about as many names for a while, and returns how
// many; the bystander makes some.
func (r *storeRun) rest(ctx context.Context, m *mount) (known int, err error) {
	still, some := 5*time.Second, 16
	if r.quick {
		still = 500 * time.Millisecond
	}
	since := time.Now()
	for began := since; time.Since(began) < restLimit && time.Since(since) < still; {
		now, err := knownNames(m.dir)
		if err != nil {
			return 0, err
		}
		if now < known-some || now > known+some {
			known, since = now, time.Now()
		}
		if err := sleepUntil(ctx, time.Now().Add(200*time.Millisecond)); err != nil {
			return 0, err
		}
	}
	return known, nil
}

// knownNames returns how many names the mount at dir knows.
func knownNames(dir string) (int, error) {
	text, err := os.ReadFile(filepath.Join(dir, ".agentfs", "stats"))
	if err != nil {
		return 0, err
	}
	sum := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "agentfs_nodes{") {
			f := strings.Fields(line)
			n, err := strconv.Atoi(f[len(f)-1])
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// resetPeak makes the peak of a process's memory what it has now.
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// clockTick is the unit of times in /proc/PID/stat.
const clockTick = 10 * time.Millisecond

// cpuTime returns how much of the processors' time a process has had.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in brackets, may have spaces; utime and stime are the 14th and 15th.
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var ticks time.Duration
	for _, v := range f[11:13] {
		n, err := strconv.Atoi(v)
		if err != nil {
			return 0, err
		}
		ticks += time.Duration(n)
	}
	return ticks * clockTick, nil
}
