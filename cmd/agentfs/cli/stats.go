package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/agentfs/agentfs/cache"
)

// metric is one family of .agentfs/stats.
type metric struct {
	name, kind, help string
	value            func(*cache.Status) int64
}

// metrics are what every route with a cache has. Sizes are in bytes and
// counters begin with the mount.
var metrics = []metric{
	{"pending_changes", "gauge", "Changes that the store does not have yet.", func(s *cache.Status) int64 { return s.PendingCount }},
	{"pending_bytes", "gauge", "Bytes of the changes that the store does not have yet.", func(s *cache.Status) int64 { return s.PendingBytes }},
	{"running_changes", "gauge", "Changes that are on their way to the store.", func(s *cache.Status) int64 { return s.Stats.RunningJobs }},
	{"running_changes_max", "gauge", "Most changes that were on their way at once.", func(s *cache.Status) int64 { return s.Stats.MaxRunningJobs }},
	{"uploads_total", "counter", "Files put into the store.", func(s *cache.Status) int64 { return s.Stats.Uploads }},
	{"upload_bytes_total", "counter", "Bytes sent to the store.", func(s *cache.Status) int64 { return s.Stats.UploadBytes }},
	{"copies_total", "counter", "Files copied inside the store.", func(s *cache.Status) int64 { return s.Stats.Copies }},
	{"removals_total", "counter", "Names removed from the store.", func(s *cache.Status) int64 { return s.Stats.Removals }},
	{"failures_total", "counter", "Attempts to change the store that failed.", func(s *cache.Status) int64 { return s.Stats.Failures }},
	{"cancelled_total", "counter", "Changes that ended before the store heard of them.", func(s *cache.Status) int64 { return s.Stats.Cancelled }},
	{"conflicts_total", "counter", "Contents put beside those of others.", func(s *cache.Status) int64 { return s.Stats.Conflicts }},
	{"conflicts", "gauge", "Conflicts that the mount shows.", func(s *cache.Status) int64 { return int64(len(s.Conflicts)) }},
	{"fetch_bytes_total", "counter", "Bytes read from the store.", func(s *cache.Status) int64 { return s.Stats.FetchBytes }},
	{"ahead_bytes_total", "counter", "Bytes of small files fetched before anybody opened them.", func(s *cache.Status) int64 { return s.Stats.AheadBytes }},
	{"ahead_used_bytes_total", "counter", "Bytes of these files that were opened then.", func(s *cache.Status) int64 { return s.Stats.AheadUsed }},
	{"ahead_wasted_bytes_total", "counter", "Bytes of these files that nobody came to.", func(s *cache.Status) int64 { return s.Stats.AheadWasted }},
	{"fetch_used_bytes_total", "counter", "Bytes read from the store that somebody has read since; the others were read ahead in vain, or wait.", func(s *cache.Status) int64 { return s.Stats.FetchUsedBytes }},
	{"hedged_requests_total", "counter", "Reads that the store was asked for a second time, because the first took much longer than others.", func(s *cache.Status) int64 { return s.Stats.Hedged }},
	{"hedges_won_total", "counter", "Such reads whose second answer came first.", func(s *cache.Status) int64 { return s.Stats.HedgesWon }},
	{"slow_downs_total", "counter", "Answers of the store that asked for fewer requests.", func(s *cache.Status) int64 { return s.Stats.SlowDowns }},
	{"request_limit", "gauge", "Requests that may wait for an answer at once because of such answers; 0 is no limit.", func(s *cache.Status) int64 { return s.Stats.RequestLimit }},
	{"journal_bytes", "gauge", "Size of the journal on disk.", func(s *cache.Status) int64 { return s.Stats.JournalBytes }},
	{"reads_hit_total", "counter", "Reads that were answered without the store; what the kernel has itself it does not ask for.", func(s *cache.Status) int64 { return s.Stats.Hits }},
	{"reads_missed_total", "counter", "Reads that waited for the store.", func(s *cache.Status) int64 { return s.Stats.Misses }},
	{"cache_adopted_total", "counter", "Contents of earlier mounts that were used.", func(s *cache.Status) int64 { return s.Stats.Adopted }},
	{"cache_damaged_total", "counter", "Pieces of the cache that were damaged and fetched again.", func(s *cache.Status) int64 { return s.Stats.Damaged }},
	{"cache_indexed", "gauge", "Contents that the next mount with this cache directory will find.", func(s *cache.Status) int64 { return s.Stats.Indexed }},
	{"cache_bytes", "gauge", "Bytes of contents on disk.", func(s *cache.Status) int64 { return s.CacheBytes }},
	{"cache_budget_bytes", "gauge", "Bytes that the contents of all routes together may take.", func(s *cache.Status) int64 { return s.CacheBudget }},
	{"nodes", "gauge", "Names known to the cache.", func(s *cache.Status) int64 { return s.Nodes }},
}

// writeStats prints the mount in the text format of Prometheus:
// https://prometheus.io/docs/instrumenting/exposition_formats/. A client
// library would be larger than what it replaces.
func writeStats(w io.Writer, st mountStatus) {
	family := func(m metric) {
		fmt.Fprintf(w, "# HELP agentfs_%s %s\n# TYPE agentfs_%s %s\n", m.name, m.help, m.name, m.kind)
	}
	sample := func(name string, v string, labels ...string) {
		pairs := make([]string, 0, len(labels)/2)
		for i := 0; i < len(labels); i += 2 {
			pairs = append(pairs, labels[i]+`="`+labelEscaper.Replace(labels[i+1])+`"`)
		}
		fmt.Fprintf(w, "agentfs_%s{%s} %s\n", name, strings.Join(pairs, ","), v)
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }

	family(metric{name: "info", kind: "gauge", help: "The mount; always 1."})
	sample("info", "1", "version", st.Version, "mount_point", st.MountPoint)
	family(metric{name: "start_time_seconds", kind: "gauge", help: "When the mount began, in seconds since 1970."})
	fmt.Fprintf(w, "agentfs_start_time_seconds %d\n", st.Started.Unix())
	for _, m := range metrics {
		family(m)
		for _, r := range st.Routes {
			if r.Cache != nil {
				sample(m.name, number(m.value(r.Cache)), "route", r.Path)
			}
		}
	}
	family(metric{name: "failing_changes", kind: "gauge", help: "Changes whose last attempt failed, by what is the matter."})
	for _, r := range st.Routes {
		if r.Cache == nil {
			continue
		}
		// All kinds that there are, so that an alert on one finds a zero.
		kinds := map[string]int64{"outage": 0, "permission": 0, "quota": 0, "name": 0, "size": 0, "other": 0}
		maps.Copy(kinds, r.Cache.ErrorKinds)
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			sample("failing_changes", number(kinds[kind]), "route", r.Path, "kind", kind)
		}
	}
	if a := st.Audit; a != nil {
		for _, m := range []struct {
			name, kind, help string
			value            int64
		}{
			{"audit_records_total", "counter", "Operations on record.", a.Written},
			{"audit_queued", "gauge", "Records that wait to be written.", a.Queued},
			{"audit_dropped_total", "counter", "Operations done without a record, because there was no room.", a.Dropped},
			{"audit_refused_total", "counter", "Operations refused, because there was no room for a record.", a.Refused},
		} {
			family(metric{name: m.name, kind: m.kind, help: m.help})
			fmt.Fprintf(w, "agentfs_%s %d\n", m.name, m.value)
		}
	}
	for _, m := range []struct {
		name, help string
		value      func(routeStatus) uint64
	}{
		{"route_size_bytes", "Room of the route, where it is limited.", func(r routeStatus) uint64 { return r.TotalBytes }},
		{"route_free_bytes", "Room that is left in the route.", func(r routeStatus) uint64 { return r.FreeBytes }},
	} {
		family(metric{name: m.name, kind: "gauge", help: m.help})
		for _, r := range st.Routes {
			if r.TotalBytes > 0 {
				sample(m.name, strconv.FormatUint(m.value(r), 10), "route", r.Path)
			}
		}
	}
}

// labelEscaper escapes the value of a label.
var labelEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
