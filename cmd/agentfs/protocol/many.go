package protocol

import (
	"context"
	"slices"
)

// Outcome is what became of one of several paths: Result or Failure.
type Outcome[T any] struct {
	Path    string   `json:"path" jsonschema:"as it was asked for"`
	Result  *T       `json:"result,omitempty" jsonschema:"what was asked for, unless it failed"`
	Failure *Failure `json:"failure,omitempty" jsonschema:"why it failed"`
}

// Err returns the failure, if any.
func (o Outcome[T]) Err() error {
	if o.Failure == nil {
		return nil
	}
	return o.Failure
}

// each does something for several paths side by side, and calls emit with the
// outcomes in their order. It ends with emit's first error.
func each[A, T any](ctx context.Context, t *Tree, in []A, path func(A) string, do func(context.Context, A) (T, error), emit func(Outcome[T]) error) error {
	for o := range inOrder(ctx, t.parallel(), slices.Values(in), func(ctx context.Context, a A) Outcome[T] {
		res, err := do(ctx, a)
		if err != nil {
			return Outcome[T]{Path: path(a), Failure: FailureOf(path(a), err)}
		}
		return Outcome[T]{Path: path(a), Result: &res}
	}) {
		if err := emit(o); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func same(path string) string { return path }

// StatMany is Stat for several paths; one that fails does not keep the others.
func (t *Tree) StatMany(ctx context.Context, paths []string, emit func(Outcome[Item]) error) error {
	return each(ctx, t, paths, same, t.Stat, emit)
}

// ReadMany is ReadText of several files; one that fails does not keep the
// others. As many are in memory at once as are worked on at once.
func (t *Tree) ReadMany(ctx context.Context, paths []string, o ReadOptions, emit func(Outcome[Text]) error) error {
	return each(ctx, t, paths, same, func(ctx context.Context, p string) (Text, error) { return t.ReadText(ctx, p, o) }, emit)
}

// WriteMany is WriteFile of several files; one that fails does not keep the
// others. Two of them under one path are written in no promised order.
func (t *Tree) WriteMany(ctx context.Context, files []FileWrite, emit func(Outcome[Item]) error) error {
	return each(ctx, t, files, func(w FileWrite) string { return w.Path }, t.WriteFile, emit)
}
