package backends

import "context"

type expectKey struct{}

// ExpectEntries returns a context for a [Store.List] whose caller is likely to take about n
// entries and no more: a store that lists by pages may make the first one that small. It
// is a hint; what the listing has is the same.
func ExpectEntries(ctx context.Context, n int) context.Context {
	return context.WithValue(ctx, expectKey{}, n)
}

// ExpectedEntries returns the n of [ExpectEntries], 0 if nothing was said.
func ExpectedEntries(ctx context.Context) int {
	n, _ := ctx.Value(expectKey{}).(int)
	return n
}
