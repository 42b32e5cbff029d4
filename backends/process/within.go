package process

import (
	"errors"
	"time"
)

// ErrNoAnswer is what Within returns when it gives up.
var ErrNoAnswer = errors.New("does not answer")

// Within returns what ask does, or ErrNoAnswer if that takes longer than limit.
// It is for asking the kernel what may wait for another process: what a mount
// has whose server may hang, or what /proc has of a process that waits for this
// one. The goroutine that asks stays until the kernel answers.
func Within[T any](limit time.Duration, ask func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		v, err := ask()
		done <- answer{v, err}
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case a := <-done:
		return a.value, a.err
	case <-timer.C:
		var none T
		return none, ErrNoAnswer
	}
}
