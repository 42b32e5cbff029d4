package cache

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/agentfs/agentfs/backends/tree"
)

const (
	// defaultGrace is how long a change waits for the next one.
	defaultGrace = 100 * time.Millisecond
	// maxGrace is how long it waits if the next one always comes.
	maxGrace = 2 * time.Second
	// attrGrace is how many graces attributes wait for the next ones.
	attrGrace = 3
	// maxAttrRest is how long they wait at most for more while others keep the
	// queue busy; see dirAttrs.rest. So long other machines don't see them, and
	// what one of them makes of the same file's attributes is overtaken.
	maxAttrRest = 10 * time.Second
	// defaultUploads is how many changes are on their way at once.
	defaultUploads = 64
	// retryFirst and retryMax are the pauses before a failed change is tried
	// again: they double from the one to the other.
	retryFirst = time.Second
	retryMax   = time.Minute
	// attemptLimit bounds one attempt, which may have a large file to send.
	attemptLimit = 6 * time.Hour
)

type jobKind int

const (
	jobFile  jobKind = iota // a file that differs from the store
	jobDir                  // a directory that the store has to be made to have
	jobGhost                // a name to be removed; done many at once, by sweep
	jobSweep                // removes what is due of the ghosts
	jobAttrs                // attributes of the names in a directory
)

// job is one thing in which the store is to follow. It exists as long as the
// difference does. Its fields are guarded by queue.mu but for what it is about.
type job struct {
	kind jobKind
	f    *file
	d    *tree.Node
	g    *ghost

	place   int       // in queue.all
	index   int       // in the heap, -1 if not in it
	due     time.Time // when it is to be tried
	first   time.Time // since when it waits for the grace to end
	running bool
	again   bool // touched while it was running
	hurry   bool // somebody waits for it
	dropped bool
	// rest is until when attributes wait for more, unless the queue becomes quiet or
	// eager says that some are not to wait.
	rest  time.Time
	eager bool
	// wait is the job that has to end first, waiters those that wait for this.
	// It is a soft wait if there is another way where it would be a circle.
	wait    *job
	soft    bool
	waiters []*job

	begun    uint64        // attempts
	began    time.Time     // the last of them
	ended    chan struct{} // closed at the end of the attempt under way, or the next; nil if nobody waits
	err      error         // of the last attempt
	failures int           // attempts in a row that failed
	since    time.Time     // of the first of these
}

// outcome is how an attempt went: nothing set is well.
type outcome struct {
	err  error
	wait *job // nothing was done: that one comes first
	soon bool // to be tried again at once
}

// queue runs jobs: those that are due, so many at once. Lock order: mu comes
// after FS.ns and file.mu.
type queue struct {
	c     *FS
	grace time.Duration
	max   int
	run   func(context.Context, *job) outcome

	mu      sync.Mutex
	all     []*job // but for the sweep, in no order
	heap    jobHeap
	count   int // running
	most    int // ever running at once
	ends    uint64
	active  time.Time // when something was touched last
	resting bool      // jobs in the heap are due when their rest ends
	stopped bool
	sweep   *job
	failing []*job // ghosts that could not be removed, or looked at; some may be gone meanwhile
	load    pressure
	// down says that the store could not be reached: until then, only what
	// somebody waits for is tried, and one job to see whether it is back.
	down     time.Time
	downWait time.Duration
	wake     chan struct{}
	idle     chan func() // workers that have nothing to do wait here
	done     sync.WaitGroup
	ctx      context.Context
	cancel   context.CancelFunc
}

func newQueue(c *FS, grace time.Duration, most int) *queue {
	q := &queue{c: c, grace: grace, max: most, load: newPressure(grace), wake: make(chan struct{}, 1), idle: make(chan func())}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	q.sweep = &job{kind: jobSweep, index: -1}
	return q
}

// newJob returns a job that is not due before it is touched; about says what
// it is about, before anybody else sees it.
func (q *queue) newJob(k jobKind, about func(*job)) *job {
	j := &job{kind: k, index: -1}
	about(j)
	q.mu.Lock()
	j.place = len(q.all)
	q.all = append(q.all, j)
	q.mu.Unlock()
	return j
}

// jobs returns all jobs.
func (q *queue) jobs() []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.all)
}

// len returns how many jobs there are.
func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.all)
}

func (q *queue) start(run func(context.Context, *job) outcome) {
	q.run = run
	q.done.Go(q.dispatch)
}

// stop ends the background. With cancel, what is under way is given up.
func (q *queue) stop() {
	q.mu.Lock()
	q.stopped = true
	q.mu.Unlock()
	q.poke()
	q.cancel()
	q.done.Wait()
}

func (q *queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// touch says that j has changed, and is to be done when the grace has passed.
func (q *queue) touch(j *job) {
	if j == nil {
		return
	}
	q.touchAll([]*job{j})
}

// touchAll is touch for many at once, none of them nil.
func (q *queue) touchAll(jobs []*job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for _, j := range jobs {
		q.load.change(now)
		q.touchLocked(j, now)
	}
}

// follow is touch for what follows from something that the store has got: it is no sign
// of somebody who changes things.
func (q *queue) follow(j *job) {
	if j == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.touchLocked(j, time.Now())
}

// touchAttrs is follow for attributes that wait for more until rest, or not if that
// is zero.
func (q *queue) touchAttrs(j *job, rest time.Time) {
	if j == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	j.rest, j.eager = rest, j.eager || rest.IsZero()
	q.touchLocked(j, time.Now())
}

// touchLocked is touch with q.mu held.
func (q *queue) touchLocked(j *job, now time.Time) {
	if j.dropped {
		return
	}
	if j.kind == jobGhost {
		j = q.sweep
	}
	q.active = now
	if j.first.IsZero() {
		j.first = now
	}
	due := now.Add(q.grace)
	if j.kind == jobAttrs {
		due = now.Add(attrGrace * q.grace) // one record for as many as possible
	}
	if limit := j.first.Add(maxGrace); due.After(limit) {
		due = limit
	}
	if !j.eager && j.rest.After(due) {
		due = j.rest
	}
	switch {
	case j.hurry:
		due = now
	case j.failures > 0 && j.index >= 0 && j.due.After(due):
		due = j.due // its pause
	}
	q.schedule(j, due)
}

// schedule puts j into the heap. q.mu is held.
func (q *queue) schedule(j *job, due time.Time) {
	if j.dropped || q.stopped {
		return
	}
	if !q.resting && !j.rest.IsZero() && due.Equal(j.rest) {
		q.resting = true
		q.poke() // to look when it is quiet
	}
	if j.running {
		j.again = true
		j.due = due
		return
	}
	if j.wait != nil {
		if j.hurry {
			q.hurryLocked(j.wait)
		}
		return
	}
	j.due = due
	if j.index >= 0 {
		heap.Fix(&q.heap, j.index)
	} else {
		heap.Push(&q.heap, j)
	}
	if j.index == 0 { // else dispatch wakes early enough for the one before it
		q.poke()
	}
}

// endRests makes due what waits for more: nobody changes anything at the moment. q.mu
// is held.
func (q *queue) endRests(now time.Time) {
	q.resting = false
	for _, j := range q.heap {
		if !j.rest.IsZero() && j.due.Equal(j.rest) && j.due.After(now) {
			j.due = now
		}
	}
	heap.Init(&q.heap)
}

// hurryAll makes everything be done that is not in a pause after a failure.
func (q *queue) hurryAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.load.waits = now.Add(maxHold)
	for _, j := range q.heap {
		if j.failures == 0 {
			j.due = now
		}
	}
	heap.Init(&q.heap)
	q.poke()
}

// kick makes the sweep look again: something that ghosts waited for has ended.
func (q *queue) kick() {
	q.mu.Lock()
	defer q.mu.Unlock()
	due := time.Now().Add(min(q.grace, 20*time.Millisecond))
	if q.sweep.index >= 0 && q.sweep.due.Before(due) {
		return
	}
	q.schedule(q.sweep, due)
}

// drop ends a job that has nothing left to do. Those who wait for it go on.
func (q *queue) drop(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if j.dropped {
		return
	}
	j.dropped = true
	q.remove(j)
	if j.index >= 0 {
		heap.Remove(&q.heap, j.index)
	}
	j.err = nil
	if !j.running {
		q.finish(j)
	}
}

// remove takes j out of all. q.mu is held.
func (q *queue) remove(j *job) {
	last := len(q.all) - 1
	q.all[j.place] = q.all[last]
	q.all[j.place].place = j.place
	q.all[last] = nil
	q.all = q.all[:last]
}

// dispatch starts what is due.
func (q *queue) dispatch() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		q.mu.Lock()
		now := time.Now()
		sleep := time.Hour
		if q.resting {
			if sleep = q.active.Add(attrGrace * q.grace).Sub(now); sleep <= 0 {
				q.endRests(now)
				sleep = time.Hour
			}
		}
		for !q.stopped && len(q.heap) > 0 && q.count < q.max {
			j := q.heap[0]
			if wait := j.due.Sub(now); wait > 0 {
				sleep = min(sleep, wait)
				break
			}
			if q.load.holds(j, now) {
				sleep = holdStep
				break
			}
			heap.Pop(&q.heap)
			if q.down.After(now) && !j.hurry {
				j.due = q.down // the store is not there
				heap.Push(&q.heap, j)
				continue
			}
			if !q.down.IsZero() && !j.hurry {
				q.down = now.Add(q.downWait) // this one finds out whether it is back
			}
			q.begin(j)
		}
		stopped := q.stopped
		q.mu.Unlock()
		if stopped {
			return
		}
		timer.Reset(sleep)
		select {
		case <-q.wake:
		case <-timer.C:
		}
	}
}

// begin runs j. q.mu is held.
func (q *queue) begin(j *job) {
	j.running, j.again, j.eager = true, false, false
	j.first = time.Time{}
	j.begun++
	j.began = time.Now()
	q.count++
	q.most = max(q.most, q.count)
	attempt := func() {
		ctx, cancel := context.WithTimeout(q.ctx, attemptLimit)
		o := q.run(ctx, j)
		cancel()
		q.end(j, o)
	}
	select {
	case q.idle <- attempt:
	default:
		q.done.Go(func() { q.work(attempt) })
	}
}

// workerIdle is how long a worker waits for the next attempt.
const workerIdle = time.Second

// work makes attempts, one after the other, until there are none. A goroutine
// for each would have to grow its stack for each: a request goes deep.
func (q *queue) work(attempt func()) {
	timer := time.NewTimer(workerIdle)
	defer timer.Stop()
	for {
		attempt()
		timer.Reset(workerIdle)
		select {
		case attempt = <-q.idle:
		case <-timer.C:
			return
		case <-q.ctx.Done():
			return
		}
	}
}

func (q *queue) end(j *job, o outcome) {
	q.mu.Lock()
	defer q.mu.Unlock()
	j.running = false
	q.count--
	q.ends++
	hurry := j.hurry
	j.err = o.err
	now := time.Now()
	switch {
	case j.dropped:
	case o.wait != nil:
		q.blockLocked(j, o.wait)
		if j.wait == nil {
			q.schedule(j, now)
		}
		q.poke()
		return // the attempt goes on when that has ended
	case o.err != nil:
		j.hurry = false
		q.failed(j, o.err, now)
	default:
		j.hurry = false
		j.failures = 0
		q.down, q.downWait = time.Time{}, 0
		if o.soon || j.again {
			due := now
			if !o.soon && !hurry && j.due.After(now) {
				due = j.due
			}
			q.schedule(j, due)
		}
	}
	if j == q.sweep {
		q.comeBack(j.began)
	}
	q.finish(j)
	q.poke()
}

// comeBack makes the sweep look again when the next pause of a ghost ends: ghosts are in no
// heap. What was due before since it has just looked at. q.mu is held.
func (q *queue) comeBack(since time.Time) {
	q.failing = slices.DeleteFunc(q.failing, func(j *job) bool { return j.dropped })
	var next time.Time
	for _, j := range q.failing {
		if j.due.After(since) && (next.IsZero() || j.due.Before(next)) {
			next = j.due
		}
	}
	if !next.IsZero() {
		q.sweepBy(next)
	}
}

// sweepBy makes the sweep look at t at the latest. q.mu is held.
func (q *queue) sweepBy(t time.Time) {
	if q.sweep.index < 0 || t.Before(q.sweep.due) {
		q.schedule(q.sweep, t)
	}
}

// failed schedules the next attempt. An outage makes everybody wait, another
// failure only the job itself. q.mu is held.
func (q *queue) failed(j *job, err error, now time.Time) {
	if j.failures == 0 {
		j.since = now
	}
	j.failures++
	pause := min(retryFirst<<min(j.failures-1, 10), retryMax)
	if kindOf(err) == kindOutage && j.kind != jobGhost {
		if !q.down.After(now) {
			q.downWait = min(max(2*q.downWait, retryFirst), retryMax)
			q.down = now.Add(q.downWait)
		}
		pause = q.downWait
	}
	q.schedule(j, now.Add(pause))
}

// jobHeap orders jobs by when they are due, those first that somebody waits for.
type jobHeap []*job

func (h jobHeap) Len() int { return len(h) }
func (h jobHeap) Less(i, j int) bool {
	if h[i].hurry != h[j].hurry {
		return h[i].hurry
	}
	return h[i].due.Before(h[j].due)
}
func (h jobHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *jobHeap) Push(x any) {
	j := x.(*job)
	j.index = len(*h)
	*h = append(*h, j)
}
func (h *jobHeap) Pop() any {
	old := *h
	j := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	j.index = -1
	return j
}

// due reports whether a ghost is not in a pause after a failure.
func (q *queue) due(j *job, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !j.dropped && (j.failures == 0 || j.hurry || !j.due.After(now))
}

// fail records that the removal of a ghost has failed. comeBack makes the sweep look at it
// again.
func (q *queue) fail(j *job, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if j.failures == 0 {
		j.since = now
		q.failing = append(q.failing, j)
	}
	j.failures++
	j.begun++
	j.err, j.hurry = err, false
	j.due = now.Add(min(retryFirst<<min(j.failures-1, 10), retryMax))
	q.finish(j)
}

// progress returns how many attempts have ended, and whether there are others
// that can be expected to.
func (q *queue) progress() (ends uint64, busy bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	busy = q.count > 0
	for _, j := range q.heap {
		if j.failures == 0 && !j.due.After(now) && !q.down.After(now) {
			busy = true
			break
		}
	}
	return q.ends, busy
}

// begun reports whether an attempt was ever made.
func (q *queue) begun(j *job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return j.begun > 0
}
