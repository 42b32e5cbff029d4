package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentfs/agentfs/cmd/agentfs/auditlog"
)

func (p *program) auditCommand() *cobra.Command {
	var f auditlog.Filter
	var since, until string
	var users []string
	var follow, asJSON bool
	cmd := &cobra.Command{
		Use:   "audit MOUNTPOINT | audit FILE",
		Short: "Show what was done on a mount, by whom, and how it ended",
		Long: `Audit shows the records of a mount, or those in a file and in what it was
rotated to (FILE.1, FILE.2 ...), the oldest first: what was opened or changed,
when, by which process, user and program, and how it ended. A mount records if
its configuration says so:

  audit:
    file: /var/log/agentfs/audit.jsonl
    max_size: 100MiB    # then it becomes FILE.1, and so on
    keep: 5             # up to FILE.5
    queue: 8192         # records that may wait to be written
    when_full: drop     # do without a record, counted; or refuse: EAGAIN

or with --audit-file; so do the commands that work on stores without a mount.
Nobody but root and the owner of the mount can read the records.

Several filters of one kind take what any of them takes; those of different
kinds what all take.`,
		Example: `  agentfs audit ~/mnt --since 10m --path '/team/**' --result error
  agentfs audit ~/mnt -f --process python3.12
  agentfs audit /var/log/agentfs/audit.jsonl --since 2026-11-28T09:00:00Z --op unlink,rename --json`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			now := time.Now()
			for _, t := range []struct {
				flag, value string
				to          *time.Time
			}{{"since", since, &f.Since}, {"until", until, &f.Until}} {
				var err error
				if *t.to, err = parseTime(t.value, now); err != nil {
					return usagef("--%s: %w", t.flag, err)
				}
			}
			for _, u := range users {
				uid, err := parseUser(u)
				if err != nil {
					return usagef("--user: %w", err)
				}
				f.Users = append(f.Users, int(uid))
			}
			if err := f.Check(); err != nil {
				return usage(err)
			}
			return p.runAudit(cmd.Context(), args[0], &f, follow, asJSON)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&since, "since", "", "from this `time` on: 2026-11-28T09:00:00Z, '2026-11-28 09:00' (local), or 10m ago")
	fl.StringVar(&until, "until", "", "before this `time`")
	fl.StringArrayVar(&f.Paths, "path", nil, "of paths that match this `pattern`, such as '/data/**' or '*.md'")
	fl.StringSliceVar(&f.Processes, "process", nil, "of this `pid or program` (a pattern)")
	fl.StringSliceVar(&f.Ops, "op", nil, "of these `operations`: open, close, create, rename, unlink ...")
	fl.StringSliceVar(&f.Results, "result", nil, "that ended in these `results`: ok, error, EACCES ...")
	fl.StringSliceVar(&users, "user", nil, "of these `users`, by name or number")
	fl.BoolVarP(&follow, "follow", "f", false, "go on with what comes")
	fl.BoolVar(&asJSON, "json", false, "print the records as they are, one JSON object per line")
	return cmd
}

// parseTime reads a moment, or how long ago it was; "" is the zero time.
func parseTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	for _, layout := range []string{time.DateTime, "2006-01-02 15:04", time.DateOnly, "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is neither a time (2026-11-28T09:00:00Z, '2026-11-28 09:00') nor how long ago (10m)", s)
}

func (p *program) runAudit(ctx context.Context, arg string, f *auditlog.Filter, follow, asJSON bool) error {
	file, err := auditFile(arg)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(p.out, 64<<10)
	show := func(l *auditlog.Line, raw []byte) error {
		if !f.Match(l) {
			return nil
		}
		if asJSON {
			_, err := fmt.Fprintf(out, "%s\n", raw)
			return err
		}
		return writeRecord(out, l)
	}
	visit := show
	if follow {
		visit = func(l *auditlog.Line, raw []byte) error { return errors.Join(show(l, raw), out.Flush()) }
	}
	damaged, err := auditlog.Read(ctx, file, follow, visit)
	if err = errors.Join(err, out.Flush()); errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: only root and who mounted may read the audit", file)
	}
	if err == nil && damaged > 0 {
		fmt.Fprintf(p.err, "agentfs: %s in %s and what it was rotated to can't be read and %s left out\n",
			count(int64(damaged), "line", "lines"), file, map[bool]string{true: "is", false: "are"}[damaged == 1])
	}
	return err
}

// auditFile returns the file that arg names, or in which the mount at arg
// records.
func auditFile(arg string) (string, error) {
	point, err := resolvePoint(arg)
	if err != nil {
		return "", err
	}
	if _, mounted := mountAt(point); !mounted {
		st, err := os.Stat(point)
		if err != nil {
			return "", fmt.Errorf("%s: %w", arg, pathless(err))
		}
		if !st.IsDir() {
			return point, nil
		}
	}
	status, err := readStatus(point)
	if err != nil {
		return "", err
	}
	if status.Audit == nil {
		return "", fmt.Errorf("%s: this mount records nothing; mount it with --audit-file FILE, or with audit: {file: FILE} in its configuration", arg)
	}
	if st, err := os.Stat(status.Audit.File); err == nil && !st.Mode().IsRegular() {
		return "", fmt.Errorf("%s: its records go to %s, which is no regular file; cat %s shows the newest", arg, status.Audit.File, shellQuote(point+controlPath+"/audit"))
	}
	return status.Audit.File, nil
}

// writeRecord prints a record for people, on one line.
func writeRecord(w io.Writer, l *auditlog.Line) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %-9s %-12s ", l.Time.Local().Format("2006-01-02 15:04:05.000"), l.Result, l.Op)
	if l.Op == auditlog.OpAudit {
		fmt.Fprintf(&b, "%s for want of room", count(l.Count, "operation", "operations"))
		if l.Since != nil {
			b.WriteString(", since " + l.Since.Local().Format(time.DateTime))
		}
	} else {
		b.WriteString(printable(l.Path))
	}
	if l.To != "" {
		b.WriteString(" -> " + printable(l.To))
	}
	if l.Mode != "" {
		b.WriteString(" " + l.Mode)
	}
	if len(l.Set) > 0 {
		b.WriteString(" " + strings.Join(l.Set, ","))
	}
	if l.Xattr != "" {
		b.WriteString(" " + printable(l.Xattr))
	}
	if l.Read != nil && *l.Read > 0 {
		b.WriteString(" read " + bytesOf(*l.Read))
	}
	if l.Written != nil && *l.Written > 0 {
		b.WriteString(" wrote " + bytesOf(*l.Written))
	}
	fmt.Fprintf(&b, "  (%s pid %d uid %d)\n", printable(l.Exe), l.PID, l.UID)
	_, err := io.WriteString(w, b.String())
	return err
}
