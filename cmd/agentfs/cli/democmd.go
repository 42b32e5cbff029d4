package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/spf13/cobra"

	"github.com/agentfs/agentfs/backends"
)

// demoBucket is the bucket of the demo's server.
const demoBucket = "demo"

func (p *program) demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo [MOUNTPOINT]",
		Short: "Try it: an S3 server in the process, sample data, a mount",
		Long: `Demo starts an S3 server in this process, on this machine only, puts sample data
into a bucket and mounts it: memory at /, the bucket at /s3-data. Without
MOUNTPOINT it makes a directory for the purpose. Ctrl-C ends it and leaves
nothing behind.`,
		Args: args(0, 1), ValidArgsFunction: completeDir,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.runDemo(cmd.Context(), at(args, 0, ""))
		},
	}
}

func (p *program) runDemo(ctx context.Context, mountPoint string) (err error) {
	if p.log.level == "info" && p.log.file == "" {
		p.log.level = "warn" // what the demo shows is on the terminal already
	}
	log, err := p.logger()
	if err != nil {
		return err
	}
	sig := watchSignals()
	defer sig.stop()
	srv, err := startDemoServer()
	if err != nil {
		return err
	}
	defer srv.Close()
	scratch, err := newScratch(mountPoint)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.remove()) }()
	o, err := demoOptions(srv.endpoint, scratch)
	if err != nil {
		return err
	}
	m, err := p.mount(ctx, o, log)
	if err != nil {
		return err
	}
	if err := fillMemory(ctx, m); err != nil {
		log.Warn("putting sample files into memory failed", "err", err)
	}
	m.writeReady(p.out)
	p.printDemo(m, srv.endpoint)
	err = m.serve(sig, p.err)
	if err == nil {
		fmt.Fprintln(p.err, "Unmounted; nothing is left behind.")
	}
	return err
}

func demoOptions(endpoint string, s *scratch) (mountOptions, error) {
	c := &config{}
	for _, r := range [][2]string{
		{"/", "memory:?size=1GiB"},
		// No credentials: those that are in the user's environment are not for
		// this server.
		{"/s3-data", "s3://" + demoBucket + "?anonymous=true&region=us-east-1&path_style=true&ttl=1s&endpoint=" + endpoint},
	} {
		rc, err := parseRouteURL(r[0], r[1], "the demo", ".")
		if err != nil {
			return mountOptions{}, err
		}
		if err := c.add(rc); err != nil {
			return mountOptions{}, err
		}
	}
	point, err := resolvePoint(s.point)
	return mountOptions{
		config: c, point: point, cacheDir: s.cache, timeout: defaultTimeout, drainTimeout: time.Minute,
	}, err
}

// demoServer is an S3 server on the loopback interface.
type demoServer struct {
	*http.Server
	endpoint string
}

func startDemoServer() (*demoServer, error) {
	store := s3mem.New()
	if err := store.CreateBucket(demoBucket); err != nil {
		return nil, err
	}
	for name, text := range demoObjects {
		if _, err := store.PutObject(demoBucket, name, map[string]string{}, strings.NewReader(text), int64(len(text)), nil); err != nil {
			return nil, fmt.Errorf("sample data: %w", err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s := &demoServer{endpoint: "http://" + ln.Addr().String()}
	s.Server = &http.Server{
		Handler:           gofakes3.New(store, gofakes3.WithLogger(gofakes3.DiscardLog())).Server(),
		ErrorLog:          quiet,
		ReadHeaderTimeout: 10 * time.Second,
	}
	go func() { _ = s.Serve(ln) }()
	return s, nil
}

// scratch has the directories that the demo makes and removes.
type scratch struct {
	base  string // temporary: the cache and, if none is given, the mount point
	point string
	cache string
	made  bool // point did not exist
}

func newScratch(mountPoint string) (*scratch, error) {
	base, err := os.MkdirTemp("", "agentfs-demo-")
	if err != nil {
		return nil, err
	}
	s := &scratch{base: base, cache: filepath.Join(base, "cache")}
	if mountPoint == "" {
		s.point = filepath.Join(base, "mnt")
	} else if s.point, err = filepath.Abs(mountPoint); err != nil {
		return nil, errors.Join(err, os.RemoveAll(base))
	}
	switch err := os.Mkdir(s.point, 0o755); {
	case err == nil:
		s.made = true
	case !errors.Is(err, os.ErrExist):
		return nil, errors.Join(err, os.RemoveAll(base))
	}
	return s, nil
}

// remove removes what newScratch made. The mount point is only ever removed
// as an empty directory: were it still mounted, removing a tree would remove
// what is in the bucket.
func (s *scratch) remove() error {
	if s.made {
		if err := os.Remove(s.point); err != nil {
			return fmt.Errorf("left behind: %w", err)
		}
	}
	return os.RemoveAll(s.base)
}

// fillMemory puts the sample files of the memory route there through its
// store; the process must not write through its own mount.
func fillMemory(ctx context.Context, m *mounted) error {
	for _, r := range m.routes {
		if r.path != "/" {
			continue
		}
		for name, text := range memoryFiles {
			if _, err := r.store.Put(ctx, name, io.NewSectionReader(strings.NewReader(text), 0, int64(len(text))), backends.PutOptions{}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *program) printDemo(m *mounted, endpoint string) {
	point := shellQuote(m.point)
	fmt.Fprintf(p.out, `Try, in another terminal:

  cd %[1]s
  ls -la . s3-data
  grep -rn error s3-data/logs
  echo 'from the shell' > s3-data/notes/hello.txt
  sed -i 's/draft/final/' s3-data/reports/2026-q1.md
  cp -r s3-data/notes work && git -C work init && git -C work add -A
  cat .agentfs/AGENTS.md
  %[4]s status %[1]s

The same bucket, as S3 sees it:

  export AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo AWS_DEFAULT_REGION=us-east-1
  aws --endpoint-url %[2]s s3 ls --recursive s3://%[3]s/
  curl %[2]s/%[3]s/notes/hello.txt

Ctrl-C unmounts and removes everything.
`, point, endpoint, demoBucket, shellQuote(ownName()))
}

// ownName returns what a shell runs this program by: its name, if that is found in
// PATH and is this program, and where it is otherwise.
func ownName() string {
	const name = "agentfs"
	exe, err := os.Executable()
	if err != nil {
		return name
	}
	if found, err := exec.LookPath(name); err == nil && sameFile(found, exe) {
		return name
	}
	return exe
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}
