package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// helperCall is what mount(8) asks of a mount helper:
//
//	mount.agentfs SOURCE MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]
//
// and what mount.fuse3(8) runs for the type fuse.agentfs:
//
//	agentfs SOURCE MOUNTPOINT -o OPTIONS
type helperCall struct {
	source, point string
	options       []string
	sloppy        bool // ignore unknown options
	fake          bool // do everything but mount
	verbose       bool
}

// isHelperCall tells a call by mount(8) from one by a person: by the name of
// the program, or because the first argument is no command but a source.
func (p *program) isHelperCall(argv []string) bool {
	if strings.HasPrefix(filepath.Base(argv[0]), "mount.") {
		return true
	}
	if len(argv) < 4 || strings.HasPrefix(argv[1], "-") || strings.HasPrefix(argv[2], "-") {
		return false
	}
	// A command with -o can't be meant: none has that flag.
	return slices.ContainsFunc(argv[3:], func(a string) bool { return a == "-o" || strings.HasPrefix(a, "-o") })
}

func (p *program) runHelper(argv []string) error {
	call, err := parseHelperCall(argv[1:])
	if err != nil {
		return usage(err)
	}
	f, err := call.flags(&p.log)
	if err != nil {
		return usage(err)
	}
	if call.fake {
		_, err := f.routes.read()
		return err
	}
	return p.runMount(context.Background(), f, call.point)
}

func parseHelperCall(args []string) (*helperCall, error) {
	c := &helperCall{}
	var names []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		if !strings.HasPrefix(a, "-") || a == "-" {
			names = append(names, a)
			continue
		}
		for j := 1; j < len(a); j++ {
			switch a[j] {
			case 's':
				c.sloppy = true
			case 'f':
				c.fake = true
			case 'v':
				c.verbose = true
			case 'n':
			case 'r':
				c.options = append(c.options, "ro")
			case 'w':
				c.options = append(c.options, "rw")
			case 'o', 't', 'N':
				value := a[j+1:]
				if value == "" {
					if i++; i == len(args) {
						return nil, fmt.Errorf("mount helper: -%c is without its value", a[j])
					}
					value = args[i]
				}
				if a[j] == 'o' {
					c.options = append(c.options, splitOptions(value)...)
				}
				j = len(a)
			default:
				return nil, fmt.Errorf("mount helper: unknown flag -%c (it is agentfs SOURCE MOUNTPOINT -o OPTIONS)", a[j])
			}
		}
	}
	if len(names) != 2 {
		return nil, errors.New("mount helper: it is agentfs SOURCE MOUNTPOINT -o OPTIONS, with a route's URL or a configuration file as SOURCE")
	}
	c.source, c.point = names[0], names[1]
	return c, nil
}

// splitOptions splits at commas, except within double quotes, as mount(8)
// does.
func splitOptions(s string) []string {
	var all []string
	var b strings.Builder
	quoted := false
	for _, r := range s {
		switch {
		case r == '"':
			quoted = !quoted
		case r == ',' && !quoted:
			all = append(all, b.String())
			b.Reset()
		default:
			b.WriteRune(r)
		}
	}
	all = append(all, b.String())
	return slices.DeleteFunc(all, func(o string) bool { return o == "" })
}

// ignoredOptions are those that mount(8) handles itself or that say nothing
// to us: the file-system-independent ones of mount(8), and fstab's own.
var ignoredOptions = []string{
	"rw", "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "dev", "nodev", "suid", "nosuid",
	"exec", "noexec", "async", "sync", "dirsync", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime",
	"strictatime", "nostrictatime", "lazytime", "nolazytime", "_netdev", "nofail", "silent", "loud", "mand", "nomand",
	"default_permissions",
}

// flags turns the call into the flags of a mount in the background.
func (c *helperCall) flags(log *logFlags) (*mountFlags, error) {
	f := &mountFlags{source: c.source, background: true, timeout: defaultTimeout, drainTimeout: defaultDrainTimeout}
	*log = logFlags{level: "info", format: "text"}
	if c.verbose {
		log.level = "debug"
	}
	for _, o := range c.options {
		key, value, hasValue := strings.Cut(o, "=")
		switch {
		case key == "ro":
			f.readOnly = true
		case key == "rw":
			f.readOnly = false
		case key == "allow_other":
			f.allowOther = true
		case slices.Contains([]string{"cache_dir", "config", "route", "log_file", "log_level"}, key):
			if !hasValue || value == "" {
				return nil, fmt.Errorf("mount option %s: needs a value: %s=VALUE", key, key)
			}
			switch key {
			case "cache_dir":
				f.cacheDir = value
			case "config":
				f.routes.config = value
			case "route":
				f.routes.routes = append(f.routes.routes, value)
			case "log_file":
				log.file = value
			case "log_level":
				log.level = value
			}
		case slices.Contains(ignoredOptions, key), strings.HasPrefix(key, "x-"), strings.HasPrefix(key, "X-"),
			key == "comment", key == "fsname", key == "subtype":
		case c.sloppy:
		default:
			return nil, fmt.Errorf("mount option %s: unknown; there are ro, rw, allow_other, cache_dir=, config=, route=PATH=URL, log_file=, log_level=", key)
		}
	}
	return f, c.setSource(&f.routes)
}

// setSource takes the source: a route's URL for "/", or a configuration file.
func (c *helperCall) setSource(r *routeFlags) error {
	scheme, _, isURL := strings.Cut(c.source, ":")
	switch {
	case isURL && isScheme(scheme):
		r.routes = append([]string{"/=" + c.source}, r.routes...)
	case c.source == "none" || c.source == "agentfs":
		if !r.given() {
			return fmt.Errorf("mount source %s: say what to mount with the options route= or config=", c.source)
		}
	case r.config != "":
		return fmt.Errorf("mount source %s: the option config= names a file already", c.source)
	default:
		if _, err := os.Stat(c.source); err != nil {
			return fmt.Errorf("mount source %s: neither a URL such as s3://BUCKET/PREFIX nor a configuration file: %w", redact(c.source), pathless(err))
		}
		r.config = c.source
	}
	return nil
}
