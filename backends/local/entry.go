package local

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/unixmode"
)

func timeOf(ts unix.Timespec) time.Time { return time.Unix(ts.Unix()) }

func isDir(st *unix.Stat_t) bool     { return st.Mode&unix.S_IFMT == unix.S_IFDIR }
func isRegular(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFREG }

// versionOf names the content of what st describes; see the package
// documentation.
func versionOf(st *unix.Stat_t) backends.Version {
	if isDir(st) {
		return ""
	}
	return backends.Version(fmt.Sprintf("%x-%x-%x-%x", st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()))
}

func entryOf(name string, st *unix.Stat_t) backends.Entry {
	e := backends.Entry{
		Name:    name,
		Mode:    unixmode.From(st.Mode),
		ModTime: timeOf(st.Mtim),
		Version: versionOf(st),
	}
	if !isDir(st) {
		e.Size = st.Size
	}
	return e
}

// dirent is one element of a directory as getdents64(2) tells it.
type dirent struct {
	name string
	ino  uint64
	mode fs.FileMode // type bits
}

// readDir returns what is in the directory dir without temporary files, in
// the host's order, and the names of temporary files. dir may be opened with
// O_PATH.
func readDir(dir int) (entries []dirent, temps []string, err error) {
	fd, err := openAt(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	buf := make([]byte, 32<<10)
	for {
		n := 0
		err := retry(func() (err error) { n, err = unix.Getdents(fd, buf); return err })
		if err != nil {
			return nil, nil, err
		}
		if n <= 0 {
			return entries, temps, nil
		}
		for b := buf[:n]; len(b) > 0; {
			d, size, kind := parseDirent(b)
			b = b[size:]
			switch {
			case d.name == "." || d.name == "..":
				continue
			case reserved(d.name):
				temps = append(temps, d.name)
				continue
			case kind == unix.DT_UNKNOWN:
				st, err := lstatAt(fd, d.name)
				if err == unix.ENOENT {
					continue
				}
				if err != nil {
					return nil, nil, err
				}
				d.mode = unixmode.From(st.Mode).Type()
			default:
				// A DT_ constant is the type's bits of st_mode, shifted.
				d.mode = unixmode.From(uint32(kind) << 12).Type()
			}
			entries = append(entries, d)
		}
	}
}

// Stat returns the entry of name; of a symbolic link the link's own.
func (s *Store) lstat(op, name string) (unix.Stat_t, error) {
	dir, base := split(name)
	fd, err := openBeneath(s.rootFD(), dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return unix.Stat_t{}, Wrap(op, name, err)
	}
	defer func() { _ = unix.Close(fd) }()
	st, err := lstatAt(fd, base)
	return st, Wrap(op, name, err)
}

// join returns the name of base in dir.
func join(dir, base string) string { return path.Join(dir, base) }

// asRoot reports whether files can be given to other users.
func asRoot() bool { return os.Geteuid() == 0 }
