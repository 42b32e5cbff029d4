package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/spf13/cobra"

	"github.com/agentfs/agentfs/backends/readonly"
	"github.com/agentfs/agentfs/cmd/agentfs/mcp"
)

// mcpFlags are the flags of mcp.
type mcpFlags struct {
	source
	http      string
	tokenFile string
	readOnly  bool
	sync      bool
}

func (p *program) mcpCommand() *cobra.Command {
	var f mcpFlags
	cmd := &cobra.Command{
		Use:   "mcp",
		Short: "Serve the file commands as tools of an MCP server",
		Long: `Mcp serves what the other file commands do as tools for agents (Model Context
Protocol): ls, stat, read, read_many, write, write_many, edit, glob, grep, mkdir,
mv and rm. It speaks on standard input and output until that ends; logs go to
standard error. With --http it listens on a port of this machine instead and
takes requests that have the token: in the header "Authorization: Bearer TOKEN",
from the file --token-file, which is made with a new token if it is not there.` + sourceHelp,
		Example: `  agentfs mcp --mount ~/mnt
  agentfs mcp --route /data=s3://my-bucket --read-only
  agentfs mcp --config agentfs.yaml --http 127.0.0.1:8931 --token-file ~/.agentfs-token

In an MCP client's configuration:
  {"mcpServers": {"files": {"command": "agentfs", "args": ["mcp", "--mount", "/home/me/mnt"]}}}`,
		Args:              args(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return p.runMCP(cmd.Context(), &f) },
	}
	f.registerTree(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.http, "http", "", "listen on this loopback `address`, as 127.0.0.1:8931, instead of standard input")
	fl.StringVar(&f.tokenFile, "token-file", "", "with --http: the file that has, or is to have, the token")
	fl.BoolVar(&f.readOnly, "read-only", false, "offer no tool that changes anything")
	fl.BoolVar(&f.sync, "sync", false, "on a mount: writes and edits return when the store has them")
	must(cmd.MarkFlagFilename("token-file"))
	return cmd
}

func (p *program) runMCP(ctx context.Context, f *mcpFlags) error {
	if (f.http == "") != (f.tokenFile == "") {
		return usagef("--http and --token-file go together: a port is open to every program of this machine, so requests need a token")
	}
	log, err := p.logger()
	if err != nil {
		return err
	}
	o, err := p.openSource(ctx, &f.source)
	if err != nil {
		return err
	}
	defer o.close()
	if f.readOnly {
		o.Store = readonly.Store(o.Store)
	}
	s := mcp.New(o.Tree, mcp.Options{Version: version(), About: f.about(o), ReadOnly: f.readOnly, Sync: f.sync})
	if f.http != "" {
		return p.serveHTTP(ctx, s, f, log)
	}
	err = s.Run(ctx, &sdk.IOTransport{Reader: io.NopCloser(p.in), Writer: nopCloser{p.out}, MaxLineLength: mcp.MaxMessage})
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		return nil // the client has ended, or a signal has come
	}
	return err
}

// about says what the tree is, for the model to read.
func (f *mcpFlags) about(o *opened) string {
	var b strings.Builder
	if len(o.Fixed) > 0 {
		fmt.Fprintf(&b, "Stores begin at /%s. ", strings.Join(o.Fixed, ", /"))
	}
	switch {
	case f.mount == "":
		b.WriteString("What a tool has written is stored when it returns.")
	case f.sync:
		fmt.Fprintf(&b, "The tree is also mounted at %s. What write and edit have written is stored when they return.", f.mount)
	default:
		fmt.Fprintf(&b, "The tree is also mounted at %s, where /.agentfs/AGENTS.md says when what is written is stored.", f.mount)
	}
	return b.String()
}

// nopCloser leaves standard output open.
type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// serveHTTP serves s until the context ends.
func (p *program) serveHTTP(ctx context.Context, s *sdk.Server, f *mcpFlags, log *slog.Logger) error {
	if err := loopback(f.http); err != nil {
		return err
	}
	token, err := readToken(f.tokenFile)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", f.http)
	if err != nil {
		return fmt.Errorf("--http %s: %w", f.http, err)
	}
	server := &http.Server{
		Handler: mcp.Handler(s, token, log), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	fmt.Fprintf(p.out, "MCP server at http://%s, token in %s; Ctrl-C ends it.\n", l.Addr(), f.tokenFile)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	// Calls that are under way may end; the streams of idle sessions would not.
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(stop); err != nil {
		_ = server.Close()
	}
	return nil
}

// loopback refuses an address that others than this machine could reach.
func loopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return usagef("--http %s: it is an address and a port, as 127.0.0.1:8931", address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usagef("--http %s: it listens on this machine only; write 127.0.0.1, and let a proxy with its own rules carry it further", address)
	}
	return nil
}

// minToken is how many characters a token has at least.
const minToken = 16

// readToken returns the token in a file, which is made with a new one if there
// is none.
func readToken(name string) (string, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case err == nil:
		token := rand.Text()
		_, err = fmt.Fprintln(f, token)
		return token, errors.Join(err, f.Close())
	case !errors.Is(err, fs.ErrExist):
		return "", fmt.Errorf("--token-file: %w", err)
	}
	info, err := os.Stat(name)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("--token-file %s: others than its owner may use it; chmod 600 it", name)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if len(token) < minToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("--token-file %s: a token is one word of at least %d characters; remove the file to have one made", name, minToken)
	}
	return token, nil
}
