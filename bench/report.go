package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// header writes what a reader of the figures has to know.
func header(out io.Writer, b *bench) {
	fmt.Fprintf(out, "# agentfs bench, %s\n\n", time.Now().UTC().Format("2006-01-02 15:04 MST"))
	fmt.Fprintf(out, "Linux %s, %d CPUs, %s. %d rounds, median of the ratios within the rounds. Load at start: %s.\n\n",
		kernelRelease(), runtime.NumCPU(), runtime.Version(), b.rounds, loadAverage())
	fmt.Fprintf(out, "Command: `go run ./bench %s`.\n\n", strings.Join(b.args, " "))
	if b.quick {
		fmt.Fprint(out, "**Quick run: it shows that everything works; its times mean nothing.**\n\n")
	}
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "(unknown)"
	}
	return unix.ByteSliceToString(u.Release[:])
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// writeTable writes a Markdown table; the first row is its head. All columns
// but the first are figures.
func writeTable(out io.Writer, rows [][]string) {
	for i, r := range rows {
		fmt.Fprintf(out, "| %s |\n", strings.Join(r, " | "))
		if i == 0 {
			fmt.Fprintf(out, "|---%s|\n", strings.Repeat("|--:", len(r)-1))
		}
	}
	fmt.Fprintln(out)
}

// localTable is the result of part "local".
type localTable struct {
	rows       []localRow
	candidates []localCandidate
	cells      map[string]map[string]*cell // candidate, row
}

func (t localTable) write(out io.Writer, fio bool) {
	if len(t.candidates) == 0 {
		return
	}
	by := "by the built-in equal of fio's psync engine"
	if fio {
		by = "by fio, psync engine"
	}
	fmt.Fprintf(out, "## Memory route\n\nData %s, one thread, the page cache dropped before reads. Figures are speeds as parts of the named candidate's; 1.00 is as fast.\n\n", by)
	head := []string{"workload", "tmpfs"}
	if t.cells["tmpfs"] == nil {
		head[1] = t.candidates[0].name
	}
	for _, p := range t.pairs() {
		head = append(head, p[0]+" / "+p[1])
	}
	lines := [][]string{head}
	for _, r := range t.rows {
		line := []string{r.name, rate(r, t.cells[head[1]][r.name])}
		for _, p := range t.pairs() {
			ratio := "failed"
			if v, ok := t.cells[p[0]][r.name].speed(t.cells[p[1]][r.name]); ok {
				ratio = fmt.Sprintf("%.2f", v)
			}
			line = append(line, ratio)
		}
		lines = append(lines, line)
	}
	writeTable(out, lines)
	t.writeRequests(out)
}

// pairs returns which candidate is compared with which, of those that ran.
func (t localTable) pairs() [][2]string {
	var ps [][2]string
	for _, c := range t.candidates {
		for _, base := range c.against {
			if t.cells[base] != nil {
				ps = append(ps, [2]string{c.name, base})
			}
		}
	}
	return ps
}

func rate(r localRow, c *cell) string {
	if len(c.times) == 0 {
		return "failed"
	}
	return fmt.Sprintf("%.0f %s", r.work/median(c.times).Seconds(), r.unit)
}

func (t localTable) writeRequests(out io.Writer) {
	head := []string{"FUSE requests"}
	var served []string
	for _, c := range t.candidates {
		for _, r := range t.rows {
			if t.cells[c.name][r.name].requests != nil {
				served, head = append(served, c.name), append(head, c.name)
				break
			}
		}
	}
	if served == nil {
		return
	}
	lines := [][]string{head}
	for _, r := range t.rows {
		line := []string{r.name}
		for _, c := range served {
			line = append(line, t.cells[c][r.name].requests.String())
		}
		lines = append(lines, line)
	}
	writeTable(out, lines)
}
