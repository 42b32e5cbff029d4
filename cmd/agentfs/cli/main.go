package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/cmd/agentfs/protocol"
)

// program is one run of the command line: what its commands share.
type program struct {
	backends map[string]backends.Opener
	in       io.Reader
	out, err io.Writer
	log      logFlags
	// background is the log file if this process is to serve a mount in the
	// background; see backgroundEnv.
	background string
}

// Main runs the command line with these backends, by the name that routes use
// for them, and returns the exit status.
func Main(all map[string]backends.Opener) int {
	p := &program{backends: all, in: os.Stdin, out: os.Stdout, err: os.Stderr}
	p.takeBackground()
	if p.isHelperCall(os.Args) {
		return p.exit(p.runHelper(os.Args))
	}
	// Commands that end by themselves are ended by a signal through their
	// context; mount and demo listen to signals on their own.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	root := p.rootCommand()
	root.SetContext(ctx)
	return p.exit(root.ExecuteContext(ctx))
}

func (p *program) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "agentfs",
		Short: "Mount S3 buckets, memory and host directories as one directory",
		Long: `agentfs mounts several storage backends as one local directory, so that a
program that only knows files works on S3, on memory and on host directories.
An S3 object's body is exactly the file's bytes, under the key that its path
says. There is no server of its own and no database.`,
		Example: `  agentfs demo                                       # try it: an S3 server in the process, sample data
  agentfs mount --route /data=s3://my-bucket ~/mnt   # memory at /, the bucket at /data; Ctrl-C unmounts
  agentfs check --route /data=s3://my-bucket         # would that work? if not, what is to do
  agentfs status ~/mnt
  agentfs unmount ~/mnt

Routes say which store serves which directory, as PATH=URL or in a YAML file:

  memory:?size=2GiB
  s3://BUCKET/PREFIX?region=eu-central-1&read_only=true
  s3://BUCKET/PREFIX?durability=close&ttl=1s
  s3://BUCKET?endpoint=http://127.0.0.1:9000&path_style=true
  local:/srv/reference

  cache: {dir: ~/.cache/agentfs}
  routes:
    /:      {backend: memory, size: 2GiB}
    /data:  {backend: s3, bucket: corpus, prefix: v3/, read_only: true}
  policy:
    - {path: "/logs/**", access: append}
    - {path: ".env", access: none, users: [1000]}

agentfs mount --help lists the options that every route takes. S3 credentials
come from where the AWS SDK looks for them: the environment, ~/.aws, the
machine's role. They are never part of a route.

Exit status:
  0  done
  1  failed; one line on standard error says what and what to do
  2  wrong usage: a flag, an argument, a route or the configuration
  3  unmount, sync, recover or the mount ended, but not everything is stored
  4  a precondition did not hold: the file exists, or changed meanwhile`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
		Args:          p.noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(p.in)
	root.SetOut(p.out)
	root.SetErr(p.err)
	root.SetVersionTemplate("agentfs {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%s (%s --help shows the flags)", err, cmd.CommandPath())
	})
	root.AddGroup(
		&cobra.Group{ID: "mount", Title: "Mounting:"},
		&cobra.Group{ID: "files", Title: "Working on files, with or without a mount:"},
	)
	p.log.register(root.PersistentFlags())
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("mount", p.mountCommand(), p.unmountCommand(), p.demoCommand(), p.statusCommand(), p.syncCommand(), p.auditCommand(),
		p.checkCommand(), p.explainCommand(), p.recoverCommand())
	add("files", p.lsCommand(), p.readCommand(), p.writeCommand(), p.editCommand(), p.globCommand(), p.grepCommand(),
		p.statCommand(), p.mkdirCommand(), p.mvCommand(), p.rmCommand(), p.mcpCommand())
	root.AddCommand(p.versionCommand())
	return root
}

// noCommand refuses arguments of the bare program, which are mistyped commands.
func (p *program) noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		hint = ", did you mean " + strings.Join(s, " or ") + "?"
	}
	return usagef("unknown command %q%s (agentfs --help shows them all)", args[0], hint)
}

// args returns a validator for a number of arguments between lo and hi.
func args(lo, hi int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= lo && len(args) <= hi {
			return nil
		}
		problem := "arguments are missing"
		if len(args) > hi {
			problem = fmt.Sprintf("%q is one argument too many", args[hi])
		}
		return usagef("%s: it is %s", problem, strings.TrimSuffix(cmd.UseLine(), " [flags]"))
	}
}

// logger returns the log, which goes to standard error or to --log-file.
func (p *program) logger() (*slog.Logger, error) { return p.log.open(p.err) }

// exit reports err, if any, on one line and returns the exit status.
func (p *program) exit(err error) int {
	if err == nil {
		return exitOK
	}
	var quiet silentError
	if !errors.As(err, &quiet) {
		for line := range strings.Lines(protocol.Describe(err)) {
			if line = strings.TrimSpace(line); line != "" {
				fmt.Fprintf(p.err, "agentfs: %s\n", line)
			}
		}
	}
	return exitStatus(err)
}

// completeDir makes the shell complete directories.
func completeDir(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// displayPath returns an absolute path for messages.
func displayPath(p string) string {
	if abs, err := filepath.Abs(p); err == nil {
		return abs
	}
	return p
}
