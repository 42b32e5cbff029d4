package semantics

import "sync"

// eachParallel calls f for each of all, n at a time.
func eachParallel[T any](n int, all []T, f func(T)) {
	var wg sync.WaitGroup
	next := make(chan T)
	for range n {
		wg.Go(func() {
			for x := range next {
				f(x)
			}
		})
	}
	for _, x := range all {
		next <- x
	}
	close(next)
	wg.Wait()
}
