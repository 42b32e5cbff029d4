package backends

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Option is one key of a route's options as the user wrote it.
type Option struct {
	Value string
	// List are the values of a key that has several; Value is empty then.
	List []string
	// Expanded says that some of it came from a variable of the environment,
	// so it may be a secret.
	Expanded bool
	// Source says where it was written, for errors: "agentfs.yaml:12" or
	// "--route /data".
	Source string
}

// Options are what a user said about one route, from the configuration file
// or from a route's URL: an [Opener] takes what it understands, and Close
// refuses the rest. The methods that take remember the first bad value; the
// opener need look at one error only, that of Close. Not for concurrent use.
type Options struct {
	// Source says where the route was written, for errors.
	Source string
	// Log takes what the backend has to say while it runs.
	Log *slog.Logger

	values map[string]Option
	taken  map[string]bool
	errs   []error
}

// NewOptions returns options with these values.
func NewOptions(source string, log *slog.Logger, values map[string]Option) *Options {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Options{Source: source, Log: log, values: values, taken: map[string]bool{}}
}

// Keys returns the sorted keys that the user wrote.
func (o *Options) Keys() []string { return slices.Sorted(maps.Keys(o.values)) }

// take takes a key of one value.
func (o *Options) take(key string) (string, bool) {
	v, ok := o.values[key]
	if v.List != nil && !o.taken[key] {
		o.Fail(key, "is one value, not a list")
	}
	o.taken[key] = true
	return v.Value, ok && v.List == nil
}

// Fail records that the value of key is wrong and why.
func (o *Options) Fail(key, format string, args ...any) {
	src := o.Source
	if v, ok := o.values[key]; ok && v.Source != "" {
		src = v.Source
	}
	o.errs = append(o.errs, fmt.Errorf("%s: %s: %s", src, key, fmt.Sprintf(format, args...)))
}

// String takes key, or def if it is not there.
func (o *Options) String(key, def string) string {
	if v, ok := o.take(key); ok {
		return v
	}
	return def
}

// Strings takes key as a list; one value is a list of one. It is nil if the key
// is not there.
func (o *Options) Strings(key string) []string {
	o.taken[key] = true
	switch v, ok := o.values[key]; {
	case !ok:
		return nil
	case v.List != nil:
		return v.List
	default:
		return []string{v.Value}
	}
}

// Expanded reports whether some of key's value came from the environment.
func (o *Options) Expanded(key string) bool { return o.values[key].Expanded }

// Refuse records that key must not be there, if it is, and why. It does not
// become one of the keys that the route is said to know.
func (o *Options) Refuse(key, why string) {
	if _, ok := o.values[key]; ok {
		o.taken[key] = true
		o.Fail(key, "%s", why)
	}
}

// Required takes key, which must be there and not empty.
func (o *Options) Required(key string) string {
	v, _ := o.take(key)
	if v == "" {
		o.Fail(key, "is required")
	}
	return v
}

// Bool takes key as a truth value; a key with an empty value is true, as in
// "?read_only".
func (o *Options) Bool(key string, def bool) bool {
	v, ok := o.take(key)
	switch {
	case !ok:
		return def
	case v == "":
		return true
	}
	b, err := strconv.ParseBool(strings.ToLower(v))
	if err != nil {
		o.Fail(key, "%q is neither true nor false", v)
	}
	return b
}

// Int takes key as a whole number between lo and hi.
func (o *Options) Int(key string, def, lo, hi int64) int64 {
	v, ok := o.take(key)
	if !ok {
		return def
	}
	n, err := strconv.ParseInt(v, 0, 64)
	if err != nil || n < lo || n > hi {
		o.Fail(key, "%q is not a whole number from %d to %d", v, lo, hi)
		return def
	}
	return n
}

// Duration takes key as a length of time such as "5s" or "100ms"; a bare
// number is refused, except 0.
func (o *Options) Duration(key string, def time.Duration) time.Duration {
	v, ok := o.take(key)
	if !ok {
		return def
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		o.Fail(key, "%q is not a length of time (write it as 5s, 100ms or 2m)", v)
		return def
	}
	return d
}

// Bytes takes key as a size such as "2GiB", "500MB" or "4096".
func (o *Options) Bytes(key string, def int64) int64 {
	v, ok := o.take(key)
	if !ok {
		return def
	}
	n, err := humanize.ParseBytes(v)
	if err != nil || n > 1<<62 {
		o.Fail(key, "%q is not a size (write it as 2GiB, 500MB or a number of bytes)", v)
		return def
	}
	return int64(n)
}

// Mode takes key as octal permission bits.
func (o *Options) Mode(key string, def uint32) uint32 {
	v, ok := o.take(key)
	if !ok {
		return def
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(v, "0o"), 8, 32)
	if err != nil || n > 0o7777 {
		o.Fail(key, "%q is not a mode (write it in octal, as 0644)", v)
		return def
	}
	return uint32(n)
}

// Close returns all that was wrong: bad values, and keys that nobody took.
func (o *Options) Close() error {
	for _, k := range o.Keys() {
		if !o.taken[k] {
			known := slices.Sorted(maps.Keys(o.taken))
			o.Fail(k, "unknown option; this route knows %s", strings.Join(known, ", "))
		}
	}
	return errors.Join(o.errs...)
}
