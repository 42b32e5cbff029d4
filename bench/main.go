// Command bench measures agentfs beside what it has to stand beside.
//
//	go run ./bench [flags]
//
// Part "local": the memory route beside tmpfs and beside go-fuse's loopback
// file system over tmpfs, data and metadata, with the number of FUSE requests
// and the memory that a file and an open handle cost.
//
// Part "store": an S3 mount beside the bare SDK with 64 workers and beside
// whatever other mounts are installed, in front of a real S3 server made as slow
// as S3 is, with the number of requests by operation and the bytes, and two times
// each: until the tool returns, and until the store has everything. What agentfs
// aims at stands beside it. With --store-memory also what pending uploads and
// cached entries cost.
//
// Part "growth": how cold reading grows with the number of files, of readers, and
// with the size of a file. Part "names": one directory of very many names.
//
// The machine may be shared, so no figure is held against a limit here: each
// workload goes round the candidates several times, and what is reported is the
// median of the ratios within the rounds. The report is Markdown, on standard
// output; progress goes to standard error. The exit status tells whether every
// workload did what it should, not how fast.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// options are the flags.
type options struct {
	parts     []string
	rows      *regexp.Regexp
	only      []string
	rounds    int
	quick     bool
	fio       bool
	agentfs   string
	versitygw string
	peers     string

	size     int64 // of the file that data workloads read and write
	files    int   // how many files metadata workloads have
	memFiles int   // how many files the memory measurement makes
	handles  int   // how many of them it holds open

	storeFiles   int           // how many objects of 4 KiB store workloads have
	storeSize    int64         // of the one large object
	storeMedium  int64         // of the object that is appended to and copied
	storeLimit   time.Duration // how long one workload may take
	growthFiles  []int         // of the trees of part "growth"
	growthSizes  []int64       // of its files, in bytes
	nameCounts   []int         // of names in one directory of part "names"
	nameOptions  string        // of the route there
	storeTotal   int64         // bytes a second that all bodies together may have; 0 is no limit
	storeFaults  float64       // which part of the requests fails
	storePending int           // how many pending uploads the memory measurement makes
	storeEntries int           // how many entries it has listed

	args []string // as they were given
}

func main() {
	if role, ok := roles[arg(1)]; ok {
		os.Exit(role(os.Args[2:]))
	}
	o, err := parseFlags(os.Args[1:], os.Stderr)
	if err != nil {
		os.Exit(2)
	}
	ctx, stop := untilEnded()
	defer stop()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// roles are what a process of this program can be beside the one that
// measures: the server of the loopback mount, and the client that works on a
// mount. Neither shares a process with another, as no server and its client
// would.
var roles = map[string]func(args []string) int{
	"loopback": loopbackMain,
	"worker":   workerMain,
}

func arg(i int) string {
	if i < len(os.Args) {
		return os.Args[i]
	}
	return ""
}

func parseFlags(args []string, errs io.Writer) (options, error) {
	fl := flag.NewFlagSet("bench", flag.ContinueOnError)
	fl.SetOutput(errs)
	o := options{args: args}
	parts := fl.String("part", "local,store", "which parts to run, of local, store, growth and names; serve: only keep the store of part store running")
	growthFiles := fl.String("growth-files", "1000,10000,100000", "numbers of files of part growth")
	growthSizes := fl.String("growth-sizes", "1KiB,32KiB,1MiB,32MiB,256MiB,1GiB", "sizes of files of part growth")
	rows := fl.String("rows", "", "run only the workloads whose names match this regular expression")
	only := fl.String("only", "", "run only these candidates, of tmpfs, loopback, loopback-nopt, agentfs, agentfs-nopt (nopt: without passthrough), SDK and the peers")
	nameCounts := fl.String("names", "1000000,1500000", "numbers of names in one directory of part names")
	fl.StringVar(&o.nameOptions, "names-options", "", "further options of the route of part names, such as &ttl=1h")
	size := fl.String("size", "256MiB", "size of the file that data workloads read and write")
	storeSize := fl.String("store-size", "256MiB", "size of the large object of the store workloads")
	storeMedium := fl.String("store-medium-size", "32MiB", "size of the object that is appended to and copied, at least 5MiB")
	storeTotal := fl.String("store-total", "", "bytes a second that the store gives and takes in all, such as 300MB; none: no limit")
	storeMemory := fl.Bool("store-memory", false, "measure the memory of pending uploads and of cached entries, too")
	fl.IntVar(&o.rounds, "rounds", 5, "how often each workload goes round the candidates")
	fl.BoolVar(&o.quick, "quick", false, "tiny sizes, one round, no delays: only whether everything works")
	fl.BoolVar(&o.fio, "fio", true, "use fio for data workloads if it is installed, else a built-in equal")
	fl.StringVar(&o.agentfs, "agentfs", "bin/agentfs", "the agentfs binary")
	fl.StringVar(&o.versitygw, "versitygw", "", "the versitygw binary (default $AGENTFS_VERSITYGW or .tools/bin/versitygw)")
	fl.StringVar(&o.peers, "peers", "", "YAML file with further mounts to compare with, in the form of bench/peers.yaml")
	fl.IntVar(&o.files, "files", 10_000, "number of files of the metadata workloads")
	fl.IntVar(&o.memFiles, "mem-files", 100_000, "number of files of the memory measurement; 0 leaves it out")
	fl.IntVar(&o.handles, "mem-handles", 10_000, "number of open handles of the memory measurement")
	fl.IntVar(&o.storeFiles, "store-files", 1000, "number of objects of 4 KiB of the store workloads")
	fl.DurationVar(&o.storeLimit, "store-limit", 4*time.Minute, "how long one workload of one candidate may take; longer is a result, too")
	fl.Float64Var(&o.storeFaults, "store-faults", 0, "part of the requests to the store that fails, 0 to 1: 503, 500, resets, lost answers, cut bodies")
	fl.IntVar(&o.storePending, "store-pending", 100_000, "number of pending uploads for --store-memory; 0 leaves them out")
	fl.IntVar(&o.storeEntries, "store-entries", 1_000_000, "number of cached entries for --store-memory; 0 leaves them out")
	if err := fl.Parse(args); err != nil {
		return o, err
	}
	if fl.NArg() > 0 {
		return o, usage(fl, "unexpected argument %q", fl.Arg(0))
	}
	o.parts, o.only = list(*parts), list(*only)
	for _, p := range o.parts {
		if !slices.Contains([]string{"local", "store", "growth", "names", "serve"}, p) {
			return o, usage(fl, "--part: there is no part %q, only local, store, growth, names and serve", p)
		}
	}
	var err error
	if o.rows, err = regexp.Compile("(?i)" + *rows); err != nil {
		return o, usage(fl, "--rows: %v", err)
	}
	for flag, v := range map[string]struct {
		text string
		to   *int64
	}{"size": {*size, &o.size}, "store-size": {*storeSize, &o.storeSize}, "store-medium-size": {*storeMedium, &o.storeMedium}} {
		n, err := humanize.ParseBytes(v.text)
		if err != nil || n < 1<<20 || n > 1<<40 {
			return o, usage(fl, "--%s: %q is not a size from 1MiB to 1TiB", flag, v.text)
		}
		*v.to = int64(n) &^ (1<<20 - 1) // whole blocks of the largest kind
	}
	for flag, v := range map[string]struct {
		text string
		to   *[]int
	}{"growth-files": {*growthFiles, &o.growthFiles}, "names": {*nameCounts, &o.nameCounts}} {
		for _, text := range list(v.text) {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				return o, usage(fl, "--%s: %q is not a number of files", flag, text)
			}
			*v.to = append(*v.to, n)
		}
	}
	for _, text := range list(*growthSizes) {
		n, err := humanize.ParseBytes(text)
		if err != nil || n < 1 || n > 1<<34 {
			return o, usage(fl, "--growth-sizes: %q is not a size up to 16GiB", text)
		}
		o.growthSizes = append(o.growthSizes, int64(n))
	}
	if *storeTotal != "" {
		n, err := humanize.ParseBytes(*storeTotal)
		if err != nil || n < 1<<20 || n > 1<<40 {
			return o, usage(fl, "--store-total: %q is not a size from 1MiB to 1TiB", *storeTotal)
		}
		o.storeTotal = int64(n)
	}
	if o.rounds < 1 || o.files < 1 || o.storeFiles < 1 || o.memFiles < 0 || o.handles < 0 || o.storePending < 0 || o.storeEntries < 0 {
		return o, usage(fl, "counts must be positive")
	}
	if o.storeMedium < 5<<20 || o.storeFaults < 0 || o.storeFaults > 1 {
		return o, usage(fl, "--store-medium-size is at least 5MiB (less can't be copied as a part), --store-faults from 0 to 1")
	}
	if o.quick {
		o.rounds, o.size, o.files, o.memFiles = 1, 2<<20, 50, min(o.memFiles, 200)
		o.storeFiles, o.storeSize, o.storeMedium = 20, 9<<20, 6<<20
		o.storePending, o.storeEntries = min(o.storePending, 300), min(o.storeEntries, 2500)
		o.growthFiles, o.growthSizes = []int{30, 120}, []int64{1 << 10, 9 << 20}
		o.nameCounts = []int{3000}
	}
	if !*storeMemory {
		o.storePending, o.storeEntries = 0, 0
	}
	o.handles = min(o.handles, o.memFiles)
	return o, nil
}

func usage(fl *flag.FlagSet, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	fmt.Fprintln(fl.Output(), "bench:", err)
	fl.Usage()
	return err
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// wants reports whether the candidate of this name was asked for.
func (o options) wants(candidate string) bool {
	return len(o.only) == 0 || slices.Contains(o.only, candidate)
}
