package exec

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/agentfs/agentfs/backends"
)

// Copy implements [backends.Copier] for programs with that feature.
func (s *Store) Copy(ctx context.Context, from string, src backends.If, to string, opts backends.PutOptions) (backends.Entry, error) {
	if err := errors.Join(checkName("copy", from), checkName("copy", to)); err != nil {
		return backends.Entry{}, err
	}
	session, err := s.with(ctx, "copy", from, featureCopy)
	if err != nil {
		return backends.Entry{}, err
	}
	e, err := s.settled(ctx, session, to, opts, func(opts backends.PutOptions) (backends.Entry, error) {
		a, err := session.ask(ctx, request{
			Op: "copy", Name: from, If: conditionOf(src), To: to, ToIf: conditionOf(opts.If), Operation: opts.Operation,
		})
		if err != nil {
			return backends.Entry{}, err
		}
		return a.file(to)
	})
	return e, wrap("copy", to, err)
}

// Rename implements [backends.Renamer] for programs with that feature.
func (s *Store) Rename(ctx context.Context, from string, src backends.If, to string, cond backends.If) error {
	if err := errors.Join(checkName("rename", from), checkName("rename", to)); err != nil {
		return err
	}
	session, err := s.with(ctx, "rename", from, featureRename)
	if err != nil {
		return err
	}
	_, err = session.ask(ctx, request{Op: "rename", Name: from, If: conditionOf(src), To: to, ToIf: conditionOf(cond)})
	return wrap("rename", from, err)
}

// maxRemovals is how many removals go in one request.
const maxRemovals = 1000

// RemoveMany implements [backends.ManyRemover]. Programs without that feature
// are asked to remove one after the other, as many at once as they take.
func (s *Store) RemoveMany(ctx context.Context, rs []backends.Removal) []error {
	errs := make([]error, len(rs))
	var files, dirs []int
	for i, r := range rs {
		if errs[i] = checkName("remove", r.Name); errs[i] != nil {
			continue
		}
		if r.Dir {
			dirs = append(dirs, i)
		} else {
			files = append(files, i)
		}
	}
	session, err := s.keeper.get(ctx)
	if err != nil {
		for i := range errs {
			errs[i] = wrap("remove", rs[i].Name, err)
		}
		return errs
	}
	if session.has(featureRemoveMany) {
		for batch := range slices.Chunk(slices.Concat(files, dirs), maxRemovals) {
			session.removeBatch(ctx, rs, batch, errs)
		}
	} else {
		var wg sync.WaitGroup
		for _, i := range files {
			wg.Go(func() { errs[i] = s.Remove(ctx, rs[i].Name, rs[i].If) })
		}
		wg.Wait()
		// What is below a directory has a longer name.
		slices.SortStableFunc(dirs, func(a, b int) int { return len(rs[b].Name) - len(rs[a].Name) })
		for _, i := range dirs {
			errs[i] = s.Remove(ctx, rs[i].Name, backends.If{})
		}
	}
	for i, r := range rs {
		if len(r.Earlier) > 0 && errors.Is(errs[i], backends.ErrChanged) {
			errs[i] = s.removeEarlier(ctx, r, errs[i])
		}
	}
	return errs
}

// removeBatch makes the removals of these numbers in one request.
func (s *session) removeBatch(ctx context.Context, rs []backends.Removal, batch []int, errs []error) {
	r := request{Op: "remove_many"}
	for _, i := range batch {
		m := removal{Name: rs[i].Name, Dir: rs[i].Dir}
		if !m.Dir {
			m.If = conditionOf(rs[i].If)
		}
		r.Removals = append(r.Removals, m)
	}
	a, err := s.ask(ctx, r)
	if err == nil && len(a.Errors) != len(batch) {
		err = fmt.Errorf("the program answers %d removals with %d errors", len(batch), len(a.Errors))
	}
	for n, i := range batch {
		if err != nil {
			errs[i] = wrap("remove", rs[i].Name, err)
		} else {
			errs[i] = wrap("remove", rs[i].Name, a.Errors[n].err())
		}
	}
}

// removeEarlier removes what one of the caller's earlier operations has left;
// err is what is said if that is not what is there.
func (s *Store) removeEarlier(ctx context.Context, r backends.Removal, err error) error {
	now, statErr := s.Stat(ctx, r.Name)
	if statErr != nil || now.Operation == "" || !slices.Contains(r.Earlier, now.Operation) {
		return err
	}
	return s.Remove(ctx, r.Name, backends.If{Match: now.Version})
}

// Usage implements [backends.UsageReporter] for programs with that feature.
func (s *Store) Usage(ctx context.Context) (backends.Usage, error) {
	session, err := s.with(ctx, "usage", ".", featureUsage)
	if err != nil {
		return backends.Usage{}, err
	}
	a, err := session.ask(ctx, request{Op: "usage"})
	if err == nil && a.answer.Usage == nil {
		err = errors.New("the program's answer has no usage")
	}
	if err != nil {
		return backends.Usage{}, wrap("usage", ".", err)
	}
	return backends.Usage(*a.answer.Usage), nil
}

// Features implements [backends.FeatureReporter]: what the program says of
// itself. That it lacks something is no fault, so the note only says what
// happens instead.
func (s *Store) Features(ctx context.Context) ([]backends.Feature, error) {
	session, err := s.keeper.get(ctx)
	if err != nil {
		return nil, wrap("features", ".", err)
	}
	has := backends.Feature{Name: fmt.Sprintf("version %d of the protocol", protocol), Honored: true}
	if len(session.features) > 0 {
		has.Note = "with " + strings.Join(session.features, ", ")
	}
	all := []backends.Feature{has}
	for _, f := range features {
		if !session.has(f.name) {
			all = append(all, backends.Feature{Name: "no " + f.name, Honored: true, Note: f.otherwise})
		}
	}
	return all, nil
}
