package cli

import (
	"log/slog"

	"github.com/agentfs/agentfs/cache"
)

// leftRooms returns the rooms below dir that hold changes for their store and
// belong to nobody: what ended mounts could not store, and nothing sends until
// the store is mounted again or drained by recover.
func leftRooms(dir string) ([]cache.RoomStatus, error) {
	all, err := cache.Rooms(dir)
	if err != nil {
		return nil, err
	}
	var left []cache.RoomStatus
	for _, r := range all {
		if r.Pending != 0 && r.Holder == nil {
			left = append(left, r)
		}
	}
	return left, nil
}

// pendingIn says how much a room holds for its store.
func pendingIn(r cache.RoomStatus) string {
	if r.Pending < 0 {
		return "its journal can't be read"
	}
	return count(r.Pending, "change is not stored", "changes are not stored")
}

// warnOfLeftWork says what of ended mounts this one does not take up: it would
// be forgotten otherwise, because nothing else looks into the cache directory.
func (m *mounted) warnOfLeftWork() {
	left, err := leftRooms(m.cacheDir)
	if err != nil {
		m.log.Warn("looking for what ended mounts left failed", "cache_dir", m.cacheDir, "err", err)
		return
	}
	do := slog.String("do", "agentfs recover --cache-dir "+shellQuote(m.cacheDir))
	for _, r := range left {
		m.log.Warn("an ended mount of a store that this one has no route for left changes that are not stored",
			"store", r.Identity, "changes", r.Pending, "room", r.Dir, do)
	}
	for _, r := range m.routes {
		if r.cache == nil || !r.readOnly {
			continue
		}
		if n := r.cache.State().PendingCount; n > 0 {
			m.log.Warn("an earlier mount of this route left changes that are not stored, and a read-only one does not store them",
				"route", r.path, "store", r.cache.Identity(), "changes", n, do)
		}
	}
}
