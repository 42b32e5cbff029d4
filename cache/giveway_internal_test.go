package cache

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// burst touches a new job each step for so long, and returns after how long each of
// them was run, in their order, once all were.
func burst(t *testing.T, few bool, step, long time.Duration, during func(q *queue, jobs []*job)) (after []time.Duration) {
	q := newQueue(nil, defaultGrace, defaultUploads)
	q.load.few = few
	ran := map[*job]time.Time{}
	q.start(func(_ context.Context, j *job) outcome {
		q.mu.Lock()
		ran[j] = time.Now()
		q.mu.Unlock()
		return outcome{}
	})
	defer q.stop()
	var jobs []*job
	var touched []time.Time
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(step) {
		j := q.newJob(jobFile, func(*job) {})
		jobs, touched = append(jobs, j), append(touched, time.Now())
		q.touch(j)
		if during != nil {
			during(q, jobs)
		}
	}
	time.Sleep(time.Second)
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, j := range jobs {
		at, ok := ran[j]
		if !ok {
			t.Fatalf("job %d was not run", i)
		}
		after = append(after, at.Sub(touched[i]))
	}
	return after
}

// While there are many changes, what is due gives way, until there are few again.
func TestManyChangesComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const long = time.Second
		after := burst(t, true, time.Millisecond, long, nil)
		if first := after[0]; first < long || first > long+2*busyTime {
			t.Errorf("the first of %v of many changes was sent after %v", long, first)
		}
		if last := after[len(after)-1]; last > 2*defaultGrace {
			t.Errorf("the last was sent after %v", last)
		}
	})
}

// It gives way for so long and no longer.
func TestManyChangesDontComeFirstForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i, d := range burst(t, true, time.Millisecond, 10*time.Second, nil) {
			if d > defaultGrace+maxHold+holdStep {
				t.Fatalf("change %d was sent after %v", i, d)
			}
		}
	})
}

// A few changes, and those of a machine with many processors, are sent after the
// grace.
func TestFewChangesAreSentAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			few  bool
			step time.Duration
		}{{true, 10 * time.Millisecond}, {false, time.Millisecond}} {
			for i, d := range burst(t, c.few, c.step, time.Second, nil) {
				if d > defaultGrace+holdStep {
					t.Fatalf("few processors %t, a change each %v: change %d was sent after %v", c.few, c.step, i, d)
				}
			}
		}
	})
}

// What somebody waits for does not give way, nor does anything if a writer waits for room.
func TestWhoWaitsComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		after := burst(t, true, time.Millisecond, time.Second, func(q *queue, jobs []*job) {
			if len(jobs) == 300 {
				q.hurry(jobs[200])
			}
		})
		if d := after[200]; d > 110*time.Millisecond {
			t.Errorf("what somebody waited for was sent after %v", d)
		}
		if d := after[199]; d < 500*time.Millisecond {
			t.Errorf("what nobody waited for was sent after %v", d)
		}
		after = burst(t, true, time.Millisecond, time.Second, func(q *queue, jobs []*job) {
			if len(jobs) == 300 {
				q.hurryAll()
			}
		})
		for i, d := range after[:300] {
			if d > 310*time.Millisecond {
				t.Fatalf("a writer waited for room, and change %d was sent after %v", i, d)
			}
		}
	})
}

// Who waits for jobs in turn does not send those back that were in front.
func TestWaitingKeepsThePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(nil, defaultGrace, 1)
		var order []*job
		q.start(func(_ context.Context, j *job) outcome {
			time.Sleep(time.Second)
			order = append(order, j)
			q.drop(j)
			return outcome{}
		})
		defer q.stop()
		var jobs []*job
		for range 10 {
			jobs = append(jobs, q.newJob(jobFile, func(*job) {}))
			q.touch(jobs[len(jobs)-1])
			time.Sleep(time.Millisecond)
		}
		time.Sleep(2 * defaultGrace) // all are due, one is run
		q.hurrySorted(jobs)
		for _, j := range jobs {
			if err := q.await(t.Context(), j, func() bool { return false }); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(order, jobs) {
			t.Error("they were not run in the order in which they were touched")
		}
	})
}
