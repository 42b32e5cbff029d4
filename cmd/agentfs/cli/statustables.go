package cli

import (
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/agentfs/agentfs/cache"
)

// The tables of the control directory, which agentfs status shows too. One
// line is one thing, so that grep and wc work on them.

func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 3, ' ', 0) }

// printable returns a name as it can stand on a line: quoted if it has what
// would break the line or a terminal.
func printable(name string) string {
	if utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return name
	}
	return strconv.Quote(name)
}

// writeRoutes prints the routes.
func writeRoutes(w io.Writer, st mountStatus) {
	tw := newTable(w)
	fmt.Fprintln(tw, "PATH\tSTORE\tACCESS\tCLOSED FILES ARE\tSPACE\tCACHED\tPENDING")
	for _, r := range st.Routes {
		access, stored, room, cached := "read and write", "in "+r.Backend, "-", "-"
		switch {
		case r.ReadOnly:
			access, stored = "read only", "-"
		case r.Durability == durabilityWriteback:
			stored = "on this disk, then in the store"
		case r.Durability != "":
			stored = "in the store"
		case r.Backend == "local":
			stored = "on this host"
		}
		if r.Access != "" && !r.ReadOnly {
			access = "by rule, else " + r.Access
		}
		if r.TotalBytes > 0 {
			room = humanize.IBytes(r.FreeBytes) + " of " + humanize.IBytes(r.TotalBytes) + " free"
		}
		if r.Cache != nil {
			cached = humanize.IBytes(uint64(r.Cache.CacheBytes)) + " of " + humanize.IBytes(uint64(r.Cache.CacheBudget))
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%d\n", r.Path, r.Store, access, stored, room, cached, r.Pending)
	}
	_ = tw.Flush()
}

// writePending prints every change that is not stored yet.
func writePending(w io.Writer, st mountStatus) {
	if st.Pending == 0 {
		fmt.Fprintln(w, "Nothing waits to be stored.")
		return
	}
	pendingTable(w, st, 0)
}

// pendingTable prints the first most of the pending changes, or with 0 all
// that the status has and why the last attempts failed.
func pendingTable(w io.Writer, st mountStatus, most int) {
	tw := newTable(w)
	fmt.Fprint(tw, "CHANGE\tSIZE\tSTATE\tPATH")
	if most == 0 {
		fmt.Fprint(tw, "\tERROR")
	}
	fmt.Fprintln(tw)
	shown := int64(0)
	for _, r := range st.Routes {
		if r.Cache == nil {
			continue
		}
		for _, x := range r.Cache.Pending {
			if most > 0 && shown == int64(most) {
				break
			}
			shown++
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s", x.Op, bytesOf(x.Size), stateOf(x), printable(r.on("/", x.Name)))
			if most == 0 {
				fmt.Fprintf(tw, "\t%s", printable(x.Error))
			}
			fmt.Fprintln(tw)
		}
	}
	_ = tw.Flush()
	if more := st.Pending - shown; more > 0 {
		fmt.Fprintf(w, "... and %d more\n", more)
	}
}

func stateOf(x cache.Pending) string {
	switch {
	case x.Running:
		return "under way"
	case x.Error != "":
		return "tried again"
	case x.Open:
		return "open"
	}
	return "waiting"
}

// bytesOf returns a size for people.
func bytesOf(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

// writeConflicts prints where both contents of every conflict are.
func writeConflicts(w io.Writer, st mountStatus) {
	if st.Conflicts == 0 {
		fmt.Fprintln(w, "No conflicts since this mount began.")
		return
	}
	conflictTable(w, st)
}

func conflictTable(w io.Writer, st mountStatus) {
	tw := newTable(w)
	fmt.Fprintln(tw, "WHEN\tTHEIRS\tOURS")
	for _, r := range st.Routes {
		if r.Cache == nil {
			continue
		}
		for _, x := range r.Cache.Conflicts {
			ours := x.Ours
			if !filepath.IsAbs(ours) { // absolute: kept in the cache directory
				ours = r.on(st.MountPoint, ours)
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\n", x.Time.Format(time.RFC3339), printable(r.on(st.MountPoint, x.Name)), printable(ours))
		}
	}
	_ = tw.Flush()
}

// writeErrors prints the changes whose last attempt failed, and what to do.
func writeErrors(w io.Writer, st mountStatus) {
	damaged := false
	for _, r := range st.Routes {
		if r.Cache != nil && r.Cache.Damage != "" {
			fmt.Fprintf(w, "%s: the journal was damaged: %s\n", r.Path, printable(r.Cache.Damage))
			damaged = true
		}
	}
	if st.Errors == 0 && !damaged {
		fmt.Fprintln(w, "No errors.")
	}
	for _, r := range st.Routes {
		if r.Cache == nil {
			continue
		}
		for _, x := range r.Cache.Errors {
			writeProblem(w, st, r, x)
		}
	}
}

func writeProblem(w io.Writer, st mountStatus, r routeStatus, x cache.Problem) {
	when := "waits for another change"
	if x.Attempts > 0 {
		when = fmt.Sprintf("since %s, %s, next %s", x.Since.Format(time.RFC3339), count(int64(x.Attempts), "attempt", "attempts"), x.Next.Format(time.RFC3339))
	}
	fmt.Fprintf(w, "%s: %s %s\n  %s: %s\n  -> %s\n",
		x.Kind, x.Op, printable(r.on(st.MountPoint, x.Name)), when, printable(x.Error), problemRemedy(r.Backend, x))
}

// problemRemedy says what somebody can do about a change that can't be stored.
func problemRemedy(backend string, x cache.Problem) string {
	switch x.Kind {
	case "outage":
		return "nothing to do: it is tried again until the store answers, and its bytes are kept here meanwhile"
	case "permission":
		if backend != "s3" {
			return "give the mount's user the permission to change this; it is tried again by itself"
		}
		return "the credentials lack " + s3Permission(x.Op) + ", or the bucket's policy denies it; it is tried again by itself"
	case "quota":
		return "make room in the store or raise its quota; it is tried again by itself"
	case "name":
		return "the store can't hold this name: rename it with mv"
	case "size":
		return "the store can't hold a file as large as this: split it, or move it to another route"
	}
	return "it is tried again by itself; the log of the mount says more"
}

// s3Permission names what a change needs in an IAM policy.
func s3Permission(op string) string {
	switch op {
	case "put":
		return "s3:PutObject (and kms:GenerateDataKey where the bucket is encrypted with a KMS key)"
	case "copy":
		return "s3:GetObject and s3:PutObject"
	case "remove":
		return "s3:DeleteObject"
	case "mkdir":
		return "s3:PutObject"
	}
	return "s3:PutObject and s3:DeleteObject"
}
