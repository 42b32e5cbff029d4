package router

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// maxRoutes is how many routes have a number in the 16 bits above an inode's
// 48. The highest number is kept for points that are no route's root.
const maxRoutes = pointRoute

// Route says which store serves a path and everything below it.
type Route struct {
	// Path is absolute and clean ("/", "/data", "/team/docs"); one slash at
	// its end is tolerated.
	Path string
	// Store is the object depth. It is required.
	Store backends.Store
	// Files is the file depth; nil takes the one that Store has of its own.
	// A file system serves one route only.
	Files backends.FileSystem
	// Source says where the route was written, for errors:
	// "agentfs.yaml:12" or "--route /data".
	Source string
	// Hidden routes are found by name and not listed.
	Hidden bool
}

// fail returns an error that begins with where r was written.
func (r Route) fail(format string, args ...any) error {
	src := r.Source
	if src == "" {
		src = fmt.Sprintf("route %q", r.Path)
	}
	return fmt.Errorf("%s: %s", src, fmt.Sprintf(format, args...))
}

// check returns the name form of r's path ("." for "/"), or what is wrong.
func (r Route) check() (string, error) {
	if r.Store == nil {
		return "", r.fail("the route at %q has no store", r.Path)
	}
	if !strings.HasPrefix(r.Path, "/") {
		return "", r.fail("route path %q is not absolute; write it as %q", r.Path, path.Clean("/"+r.Path))
	}
	if r.Path == "/" {
		if r.Hidden {
			return "", r.fail("the route at / can't be hidden")
		}
		return ".", nil
	}
	name := strings.TrimSuffix(r.Path[1:], "/")
	for seg := range strings.SplitSeq(name, "/") {
		switch {
		case seg == "" || seg == "." || seg == "..":
			return "", r.fail("route path %q is not clean; write it as %q", r.Path, path.Clean(r.Path))
		case strings.IndexByte(seg, 0) >= 0:
			return "", r.fail("route path %q has a NUL byte, which no file name can have", r.Path)
		case len(seg) > backends.MaxNameLen:
			return "", r.fail("route path %.40q… has a name of %d bytes; a name has at most %d",
				r.Path, len(seg), backends.MaxNameLen)
		}
	}
	return name, nil
}

// New makes a router. Exactly one route must be at "/". All that is wrong with
// the routes is in the error, each line beginning with the Source of its
// route.
func New(routes []Route) (*Router, error) {
	rt := newTable()
	var errs []error
	seen := map[string]Route{}
	names := make([]string, 0, len(routes))
	for _, r := range routes {
		name, err := r.check()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if first, ok := seen[name]; ok {
			where := ""
			if first.Source != "" {
				where = " (the first is at " + first.Source + ")"
			}
			errs = append(errs, r.fail("a second route at %s%s; remove one or give it another path", display(name), where))
			continue
		}
		seen[name] = r
		names = append(names, name)
	}
	switch _, ok := seen["."]; {
	case len(routes) == 0:
		errs = append(errs, errors.New("no routes; add one at /, for example / with backend memory"))
	case len(routes) > maxRoutes:
		errs = append(errs, routes[maxRoutes].fail("%d routes; at most %d are possible", len(routes), maxRoutes))
	case !ok && len(errs) == 0:
		errs = append(errs, routes[0].fail("no route at /; add one, for example / with backend memory"))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	rt.build(names, seen)
	return rt, nil
}

// display returns the path that a user wrote for name.
func display(name string) string {
	if name == "." {
		return "/"
	}
	return "/" + name
}
