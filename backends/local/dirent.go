package local

import (
	"bytes"
	"encoding/binary"
)

// parseDirent takes the first struct linux_dirent64 off b: inode number (8
// bytes), offset (8), length of the record (2), type (1), name up to a NUL.
func parseDirent(b []byte) (d dirent, size int, kind byte) {
	const header = 19
	size = int(binary.NativeEndian.Uint16(b[16:]))
	name := b[header:size]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	return dirent{name: string(name), ino: binary.NativeEndian.Uint64(b)}, size, b[18]
}
