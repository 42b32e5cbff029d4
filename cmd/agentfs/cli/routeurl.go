package cli

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// parseRouteFlag reads a route given as PATH=URL.
func parseRouteFlag(arg string) (routeConfig, error) {
	path, rawURL, ok := strings.Cut(arg, "=")
	if !ok || !strings.HasPrefix(path, "/") {
		return routeConfig{}, fmt.Errorf("--route %s: a route is PATH=URL with a path that begins with a slash, as in --route /data=s3://bucket/prefix", redact(arg))
	}
	clean, err := cleanRoutePath(path)
	if err != nil {
		return routeConfig{}, fmt.Errorf("--route: %w", err)
	}
	return parseRouteURL(clean, rawURL, "--route "+clean, ".")
}

// parseRouteURL reads a route's URL:
//
//	memory:?size=2GiB
//	s3://BUCKET/PREFIX?region=...&endpoint=http://...
//	local:/DIR
//	sqlite:/FILE
//	postgres://USER@HOST:PORT/DATABASE?schema=...
//	exec:/PROGRAM?arg=...&arg=...
//
// and for any other backend NAME://HOST/PATH or NAME:PATH, whose parts come to
// its opener as the options "host" and "path". Options follow the question
// mark, under the keys that the configuration file has. A relative directory
// counts from dir.
func parseRouteURL(path, raw, source, dir string) (routeConfig, error) {
	// Not url.Parse alone: it refuses directories with a "%" or spaces that
	// stand as they are, and its errors repeat the URL.
	scheme, rest, ok := strings.Cut(raw, ":")
	backend := scheme
	if name, ok := schemes[scheme]; ok {
		backend = name
	}
	if (&routeConfig{backend: backend}).hasCredentials(raw) {
		return routeConfig{}, fmt.Errorf("%s: the URL contains credentials; %s", source, credentialsRemedy(backend))
	}
	if !ok || !isScheme(scheme) {
		return routeConfig{}, fmt.Errorf("%s: %s is not a URL: write memory:, s3://BUCKET/PREFIX or local:/DIR", source, redact(raw))
	}
	r := routeConfig{path: path, backend: backend, source: source, values: map[string]backends.Option{}}
	rest, query, _ := strings.Cut(rest, "?")
	if err := r.setQuery(query); err != nil {
		return routeConfig{}, err
	}
	if err := r.setPlace(scheme, rest, dir); err != nil {
		return routeConfig{}, err
	}
	return r, r.checkSecrets()
}

// schemes are those of backends that have another name.
var schemes = map[string]string{"sqlite": "sql", "postgres": "sql", "postgresql": "sql"}

func (r *routeConfig) set(key, value string) error {
	if _, ok := r.values[key]; ok {
		return fmt.Errorf("%s: %s is given twice", r.source, key)
	}
	r.values[key] = backends.Option{Value: value, Source: r.source}
	return nil
}

func (r *routeConfig) setQuery(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("%s: the part after the question mark is not KEY=VALUE&KEY=VALUE: %s", r.source, urlCause(err))
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if r.backend == "exec" && key == "arg" {
			r.values["command"] = backends.Option{List: values[key], Source: r.source}
			continue
		}
		if len(values[key]) > 1 {
			return fmt.Errorf("%s: %s is given twice", r.source, key)
		}
		if key == "backend" {
			return fmt.Errorf("%s: backend: the URL's scheme is the backend", r.source)
		}
		v := values[key][0]
		if isPathKey(r.backend, key) {
			if v, err = absolute(v, "."); err != nil {
				return fmt.Errorf("%s: %s: %w", r.source, key, err)
			}
		}
		if err := r.set(key, v); err != nil {
			return err
		}
	}
	return nil
}

// setPlace reads what stands between the scheme and the question mark.
func (r *routeConfig) setPlace(scheme, place, dir string) error {
	if strings.Contains(place, "#") {
		return fmt.Errorf("%s: a # in a URL is written %%23", r.source)
	}
	host, path, hasHost := "", place, strings.HasPrefix(place, "//")
	if hasHost {
		host, path, _ = strings.Cut(place[2:], "/")
	}
	var err error
	if path, err = url.PathUnescape(path); err != nil {
		return fmt.Errorf("%s: %s (a %% in a URL is written %%25)", r.source, urlCause(err))
	}
	switch {
	case r.backend == "s3":
		if !hasHost || host == "" {
			return fmt.Errorf("%s: the URL names no bucket: write s3://BUCKET or s3://BUCKET/PREFIX", r.source)
		}
		if err := r.set("bucket", host); err != nil || path == "" {
			return err
		}
		return r.set("prefix", path)
	case r.backend == "memory":
		if place != "" && place != "//" && place != "///" {
			return fmt.Errorf("%s: memory has no place: write memory: or memory:?size=2GiB", r.source)
		}
		return nil
	case r.backend == "sql" && scheme != "sqlite":
		if !hasHost {
			return fmt.Errorf("%s: the URL names no server: write %s://HOST/DATABASE", r.source, scheme)
		}
		return r.set("dsn", scheme+":"+place)
	case r.backend == "local", r.backend == "sql", r.backend == "exec":
		if hasHost {
			if host != "" {
				return fmt.Errorf("%s: what is on this machine has no host: write %s:/PATH", r.source, scheme)
			}
			path = "/" + path
		}
		if path == "" {
			return fmt.Errorf("%s: the URL names no %s: write %s:/PATH", r.source, pathNames[scheme], scheme)
		}
		if r.backend == "exec" {
			return r.setCommand(path, dir)
		}
		if path, err = absolute(path, dir); err != nil {
			return fmt.Errorf("%s: %w", r.source, err)
		}
		return r.set("path", path)
	}
	switch {
	case host != "":
		if err := r.set("host", host); err != nil {
			return err
		}
	case hasHost:
		path = "/" + path // NAME:///PATH is NAME:/PATH
	}
	if path == "" {
		return nil
	}
	return r.set("path", path)
}

// pathNames say what the path is in a URL of these schemes.
var pathNames = map[string]string{"local": "directory", "sqlite": "file", "exec": "program"}

// setCommand makes the program and the arguments of the query one command.
func (r *routeConfig) setCommand(path, dir string) error {
	program, err := absoluteProgram(path, dir)
	if err != nil {
		return fmt.Errorf("%s: %w", r.source, err)
	}
	r.values["command"] = backends.Option{List: append([]string{program}, r.values["command"].List...), Source: r.source}
	return nil
}

// isScheme reports whether s can be the name of a backend in a URL (RFC 3986,
// and the underscore).
func isScheme(s string) bool {
	for i := range len(s) {
		c := s[i]
		if ('a' > c || c > 'z') && (i == 0 || !strings.ContainsRune("0123456789+-._", rune(c))) {
			return false
		}
	}
	return s != ""
}

// urlCause returns what is wrong with a URL without the URL itself.
func urlCause(err error) string {
	var esc url.EscapeError
	if errors.As(err, &esc) {
		return fmt.Sprintf("%q is not an escape", string(esc))
	}
	return "it is malformed"
}

// String returns the route's store as a URL, for people: without options that
// could be secret.
func (r *routeConfig) String() string {
	v := func(key string) string { return r.values[key].Value }
	switch r.backend {
	case "s3":
		s := "s3://" + v("bucket") + "/" + strings.TrimPrefix(v("prefix"), "/")
		if e, _, _ := strings.Cut(v("endpoint"), "?"); e != "" {
			s += " at " + e
		}
		return s
	case "memory":
		if size := v("size"); size != "" {
			return "memory: up to " + size
		}
		return "memory:"
	case "local":
		return "local:" + v("path")
	case "sql":
		if dsn := v("dsn"); dsn != "" {
			return withoutSecrets(dsn)
		}
		return "sqlite:" + v("path")
	case "exec":
		// Arguments may be secrets.
		command := valuesOf(r.values["command"])
		if len(command) > 1 {
			return "exec:" + command[0] + " ..."
		}
		return "exec:" + strings.Join(command, "")
	}
	if h := v("host"); h != "" {
		return r.backend + "://" + h + "/" + v("path")
	}
	return r.backend + ":" + v("path")
}
