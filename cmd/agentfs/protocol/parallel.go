package protocol

import (
	"context"
	"iter"
)

// inOrder calls work for every element of in, up to n at once, and yields what
// it returns in the order of in. It returns when no call is under way any more.
func inOrder[A, B any](ctx context.Context, n int, in iter.Seq[A], work func(context.Context, A) B) iter.Seq[B] {
	return func(yield func(B) bool) {
		ctx, cancel := context.WithCancel(ctx)
		results := make(chan chan B, n-1) // one more is being waited for
		ended := make(chan struct{})
		defer func() {
			cancel()
			for r := range results {
				<-r
			}
			<-ended
		}()
		go func() {
			defer close(ended)
			defer close(results)
			for a := range in {
				r := make(chan B, 1)
				select {
				case results <- r:
				case <-ctx.Done():
					return
				}
				go func() { r <- work(ctx, a) }()
			}
		}()
		for r := range results {
			if !yield(<-r) {
				return
			}
		}
	}
}
