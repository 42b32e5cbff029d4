package crash_test

import (
	"context"
	"errors"
	"io"
	"path"
	"strings"
	"testing"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/faulty"
	"github.com/agentfs/agentfs/backends/s3"
	"github.com/agentfs/agentfs/backends/s3/s3test"
)

// place says where a store is, for any process: at a socket, or it is an S3
// server.
type place struct {
	Socket string
	Server *s3test.Server // through a front

	direct backends.Store // in the process that holds it
	behind *s3test.Server // the S3 server itself
	idle   func()         // waits for the requests of those that were killed

	transcript *transcript
}

// settle waits until what a process had asked before it was killed is done or
// never will be: what the store holds then is what the next one finds.
func (p place) settle() { p.idle() }

// open returns the store as the cache gets it, without faults.
func (p place) open() (backends.Store, error) {
	if p.Server != nil {
		s, err := s3.New(p.Server.Config())
		if err != nil {
			return nil, err
		}
		// As the cache would take it; the wrapper with the faults has no lean
		// form of its own.
		return s.Lean(), nil
	}
	return dial(p.Socket)
}

// newPlace makes an empty store for the time of the test.
func newPlace(t *testing.T, onS3 bool) place {
	t.Helper()
	all := &transcript{}
	if onS3 {
		server := s3test.Versitygw(t)
		before, idle := newFront(t, server, all)
		return place{Server: &before, behind: &server, idle: idle, transcript: all}
	}
	m := newMemory(t)
	socket, idle := serve(t, transcribed{newRemembering(plain{m}), all})
	return place{Socket: socket, direct: m, idle: idle, transcript: all}
}

// look reads all that the store holds by a way of its own: in the memory of
// this process, or as an S3 client that knows nothing of agentfs.
func (p place) look() (listing, error) {
	if p.Server != nil {
		all := listing{}
		return all, p.lookS3(all)
	}
	return readStore(context.Background(), p.direct, ".")
}

// hidden reports whether a key is none of the user's: a record that the cache
// keeps beside files, or what a store has tried out when its process was killed.
func hidden(name string) bool { return strings.HasPrefix(path.Base(name), ".agentfs-") }

func (p place) lookS3(all listing) error {
	ctx, cancel := seconds(60)
	defer cancel()
	client := p.behind.Client()
	pages := awss3.NewListObjectsV2Paginator(client, &awss3.ListObjectsV2Input{Bucket: &p.behind.Bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, o := range page.Contents {
			name, isDir := strings.CutSuffix(*o.Key, "/")
			for dir := name; dir != "."; dir, _ = split(dir) {
				if dir != name || isDir {
					all[dir] = entry{dir: true}
				}
			}
			if isDir || hidden(name) {
				continue
			}
			out, err := client.GetObject(ctx, &awss3.GetObjectInput{Bucket: &p.behind.Bucket, Key: o.Key})
			if err != nil {
				if strings.Contains(err.Error(), "NoSuchKey") {
					continue // removed since
				}
				return err
			}
			data, err := io.ReadAll(out.Body)
			if err = errors.Join(err, out.Body.Close()); err != nil {
				return err
			}
			all[name] = entry{data: data}
		}
	}
	return nil
}

var errDown = errors.New("no route to host")

// faults are the ways in which a store can be bad, by the names of variants.
var faults = map[string]func(seed uint64) []faulty.Rule{
	"down": func(uint64) []faulty.Rule {
		return []faulty.Rule{faulty.On(faulty.Always(), faulty.Fail(errDown))}
	},
	"slow": func(seed uint64) []faulty.Rule {
		return []faulty.Rule{
			faulty.On(faulty.Always(), faulty.Delay(3*time.Millisecond)),
			faulty.On(faulty.Probability(seed, 0.05), faulty.Delay(60*time.Millisecond)),
		}
	},
	"flaky": func(seed uint64) []faulty.Rule {
		rules := []faulty.Rule{
			faulty.On(faulty.Probability(seed, 0.05), faulty.Fail(errDown)),
			faulty.On(faulty.Probability(seed+2, 0.05), faulty.Delay(20*time.Millisecond)),
		}
		if journaled() {
			// Who keeps no operations takes his own change for somebody else's.
			rules = append(rules, faulty.On(faulty.And(faulty.Mutating(), faulty.Probability(seed+1, 0.05)), faulty.LostAnswer(errDown)))
		}
		return rules
	},
	"cut": func(seed uint64) []faulty.Rule {
		return []faulty.Rule{
			faulty.On(faulty.And(faulty.OnOp("Open", "Put"), faulty.Probability(seed, 0.15)), faulty.CutBody(1000)),
			faulty.On(faulty.And(faulty.OnOp("List"), faulty.Probability(seed+1, 0.1)), faulty.CutBody(1)),
		}
	},
}
