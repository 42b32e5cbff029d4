package cache

import (
	"errors"

	"github.com/agentfs/agentfs/backends"
)

// report is what those who have a file open are to hear of: a change that could
// not be brought to the store, or not under its name.
//
// Each open file hears of it by fsync(2), whatever a close(2) has said: one that
// a program makes which was started meanwhile, and closes its own copy of the
// descriptor, says it to nobody. The next close of an open file says it if no
// fsync did. Who opens the file later hears of it if nobody has. So it is with
// Linux's own file systems, too (errseq_t). Its fields are guarded by file.mu.
type report struct {
	err    error
	told   bool // somebody has heard
	others bool // somebody who does not have the file open has
}

// conflict reports whether both contents are somewhere, and nothing is to be
// tried again.
func (r *report) conflict() bool { return errors.Is(r.err, backends.ErrChanged) }

// fails makes err be told. A failed attempt does not hide that there was a
// conflict. f.mu is held.
func (f *file) fails(err error) {
	r := &report{err: err}
	if was := f.report; was == nil || was.told || !was.conflict() || r.conflict() {
		f.report = r
	}
}

// recovers says that what failed was done after all. f.mu is held.
func (f *file) recovers() {
	if f.report != nil && !f.report.conflict() {
		f.report = nil
	}
}

// heard is what an open file has heard of. file.mu guards it.
type heard struct{ bySync, byClose *report }

// openedLocked starts with what others have heard already. f.mu is held.
func (f *file) openedLocked() heard {
	if f.report != nil && f.report.told {
		return heard{f.report, f.report}
	}
	return heard{}
}

// closeHears returns what h's close(2) has to say, nil if that was said. f.mu
// is held.
func (h *handle) closeHears() error {
	r := h.f.report
	if r == nil || h.heard.byClose == r {
		return nil
	}
	h.heard.byClose = r
	r.told = true
	return r.err
}

// syncHears is closeHears for fsync(2).
func (h *handle) syncHears() error {
	r := h.f.report
	if r == nil || h.heard.bySync == r {
		return nil
	}
	h.heard = heard{r, r}
	r.told = true
	return r.err
}

// waited returns what h has to hear after it has waited for the store, with err:
// if that is nil a conflict, one found before or just now.
func (h *handle) waited(err, before error) error {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	for _, r := range []error{h.syncHears(), before} {
		if err == nil && errors.Is(r, backends.ErrChanged) {
			err = r
		}
	}
	return err
}

// othersHear returns a conflict that who waits for the file without having it
// open has not heard of: for its directory, or after truncate(2).
func (f *file) othersHear() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.report
	if r == nil || r.others || !r.conflict() {
		return nil
	}
	r.others, r.told = true, true
	return r.err
}
