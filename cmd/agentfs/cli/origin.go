package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// origin says how a route's store can be opened again, by whoever drains its
// room after the mount has ended. It lies on disk, so it holds no secrets:
// credentials are never options of our own backends, and what another
// backend's option may hold is withheld.
type origin struct {
	// Path is the route's; it only names the store to people.
	Path    string            `json:"path"`
	Backend string            `json:"backend"`
	Values  map[string]string `json:"values"`
	// Lists are the options that are lists.
	Lists map[string][]string `json:"lists,omitempty"`
	// Withheld are the keys of options that may be secrets.
	Withheld []string `json:"withheld,omitempty"`
}

// origin returns how r's store can be opened again. That a route is read-only
// is its mount's choice and says nothing of the store.
func (r *routeConfig) origin() json.RawMessage {
	o := origin{Path: r.path, Backend: r.backend, Values: map[string]string{}}
	for _, key := range slices.Sorted(maps.Keys(r.values)) {
		switch v := r.values[key]; {
		case key == "read_only":
		case r.withheld(key):
			o.Withheld = append(o.Withheld, key)
		case v.List != nil:
			if o.Lists == nil {
				o.Lists = map[string][]string{}
			}
			o.Lists[key] = v.List
		default:
			o.Values[key] = v.Value
		}
	}
	b, err := json.Marshal(o)
	must(err) // strings only
	return b
}

// readOrigin returns the route that a room's origin describes; dir names the
// room in errors.
func readOrigin(b json.RawMessage, dir string) (routeConfig, error) {
	var o origin
	if err := json.Unmarshal(b, &o); err != nil {
		return routeConfig{}, fmt.Errorf("%s does not say how its store is opened; name the store with --route or --config", dir)
	}
	if len(o.Withheld) > 0 {
		return routeConfig{}, fmt.Errorf("%s can't say how its store is opened: %s may be secret and is not kept there; name the store with --route or --config",
			dir, strings.Join(o.Withheld, ", "))
	}
	r := routeConfig{path: o.Path, backend: o.Backend, source: dir, values: map[string]backends.Option{}}
	for key, v := range o.Values {
		r.values[key] = backends.Option{Value: v, Source: dir}
	}
	for key, v := range o.Lists {
		r.values[key] = backends.Option{List: v, Source: dir}
	}
	return r, nil
}
