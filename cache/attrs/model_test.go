package attrs

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/faulty"
)

// modelled is what a name is to have: its object's version, and the change that
// is the latest.
type modelled struct {
	object backends.Version // "" if there is none
	attr   Attr
	at     int64
	// mayGo: what attr describes was gone since, so that it may be dropped.
	mayGo bool
}

// world is a directory that several machines change, each with what it knew at
// some time, over a store that fails now and then. Versions come back, as
// those of S3 do when a content does, so that an old entry that counts again is
// noticed.
type world struct {
	t        *testing.T
	r        *rand.Rand
	mem      backends.Store
	bad      *faulty.Faulty
	at       int64
	names    map[string]*modelled
	machines []*Dir
	depth    int
}

func (w *world) alive(name string, v backends.Version) bool {
	m := w.names[name]
	return m != nil && m.object != "" && m.object == v
}

// setObject is a put or removal of the object.
func (m *modelled) setObject(v backends.Version) {
	m.object = v
	m.mayGo = m.mayGo || v != m.attr.Version
}

// before lets another machine act in the middle of a step.
func (w *world) before(string) {
	if w.depth < 3 && w.r.IntN(12) == 0 {
		w.step(1)
	}
}

// step lets one machine do something, after a pause in nanoseconds.
func (w *world) step(pause int64) {
	w.depth++
	defer func() { w.depth-- }()
	w.at += pause
	i := w.r.IntN(len(w.machines))
	s := hooked{w.bad, w.before}
	switch w.r.IntN(6) {
	case 0: // looks
		asked := time.Unix(0, w.at)
		if es, err := listRecords(w.t.Context(), s, "."); err == nil {
			if d, err := Load(w.t.Context(), s, ".", es, asked, w.machines[i]); err == nil {
				w.machines[i] = d
			}
		}
		return
	case 1: // objects come and go, and nothing is recorded
		name := fmt.Sprint(w.r.IntN(12))
		if m := w.names[name]; m != nil {
			m.setObject([]backends.Version{"", "v1", "v2"}[w.r.IntN(3)])
		}
		return
	}
	changes := map[string]Attr{}
	for range 1 + w.r.IntN(3) {
		name := fmt.Sprint(w.r.IntN(12))
		if w.names[name] == nil {
			w.names[name] = &modelled{}
		}
		m := w.names[name]
		if m.object == "" || w.r.IntN(3) == 0 {
			m.setObject([]backends.Version{"v1", "v2"}[w.r.IntN(2)])
		}
		changes[name] = Attr{Version: m.object, Mtime: ptr(w.at)}
		if w.r.IntN(4) == 0 {
			changes[name] = Attr{Removed: true}
		}
	}
	for {
		w.at++
		at := w.at
		d, err := save(w.t.Context(), s, ".", w.machines[i], changes, w.alive, maxTrust, at)
		if err != nil {
			continue
		}
		w.machines[i] = d
		for name, a := range changes {
			if m := w.names[name]; at > m.at {
				a.Changed = at
				m.attr, m.at, m.mayGo = a, at, a.Version != m.object
			}
		}
		return
	}
}

// check compares what is recorded with the model.
func (w *world) check() {
	w.t.Helper()
	d := load(w.t, w.mem, ".", nil)
	for name, m := range w.names {
		for _, v := range []backends.Version{"v1", "v2"} {
			got, ok := d.Lookup(name, v)
			should := !m.attr.Removed && m.at != 0 && m.attr.Version == v
			switch {
			case ok && (!should || !reflect.DeepEqual(got, m.attr)):
				w.t.Fatalf("%s of %s has %+v; the latest is %+v", name, v, got, m.attr)
			case !ok && should && !m.mayGo:
				w.t.Fatalf("%s of %s has nothing; the latest is %+v", name, v, m.attr)
			}
		}
	}
}

// Whatever fails, and whoever acts in between: the latest change counts, and no
// earlier one ever again.
func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rounds := 60 / scale
	if testing.Short() {
		rounds = 10
	}
	defer func(n int) { parallel = n }(parallel)
	parallel = 1 // the world has no lock
	faults := 0
	for round := range rounds {
		mem := newMemory(t)
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		w := &world{
			t: t, r: r, mem: mem, at: 1e18, names: map[string]*modelled{}, machines: make([]*Dir, 3),
			bad: faulty.Store(mem,
				faulty.On(faulty.Probability(seed, 0.05), faulty.Fail(errDown)),
				faulty.On(faulty.And(faulty.OnOp("Put", "Remove"), faulty.Probability(seed+1, 0.05)), faulty.LostAnswer(errDown)),
				faulty.On(faulty.And(faulty.OnOp("Open", "Put", "List"), faulty.Probability(seed+2, 0.02)), faulty.CutBody(3)),
			),
		}
		for i := range 300 {
			pause := int64(time.Second)
			if r.IntN(20) == 0 {
				pause = 2 * int64(time.Hour)
			}
			w.step(pause)
			if i%10 == 0 {
				w.check()
			}
		}
		w.check()
		faults += w.bad.Injected()
	}
	if faults == 0 {
		t.Error("no fault was injected")
	}
}
