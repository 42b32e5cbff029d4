package tree

import (
	"io/fs"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// permBits are the bits of a mode that chmod(2) sets.
const permBits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// SetAttr changes mode, owner and times; the size is the owner's business. A
// change of owner or group of anything but a directory clears the set-id bits
// (chown(2)), unless the mode is set in the same step.
func (t *Tree) SetAttr(n *Node, c backends.AttrChange) backends.Attr {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.Set&(backends.SetUID|backends.SetGID) != 0 && !n.IsDir() && !c.Has(backends.SetMode) {
		n.dropSetID()
	}
	if c.Has(backends.SetMode) {
		n.perm = c.Mode & permBits
	}
	if c.Has(backends.SetUID) {
		n.uid = c.UID
	}
	if c.Has(backends.SetGID) {
		n.gid = c.GID
	}
	if c.Has(backends.SetAtime) {
		n.atime.Store(toNano(c.Atime))
	}
	if c.Has(backends.SetMtime) {
		n.mtime.Store(toNano(c.Mtime))
	}
	if c.Set != 0 {
		n.ctime.Store(time.Now().UnixNano())
	}
	return n.attr()
}

// dropSetID clears set-uid, and set-gid where the group may execute: without
// that right the bit means something else (mandatory locking).
func (n *Node) dropSetID() {
	n.perm &^= fs.ModeSetuid
	if n.perm&0o010 != 0 {
		n.perm &^= fs.ModeSetgid
	}
}

// Limits of extended attributes, those of <linux/limits.h>.
const (
	maxXattrName  = 255
	maxXattrValue = 64 << 10
	maxXattrList  = 64 << 10
)

// GetXattr returns the value of an extended attribute.
func (t *Tree) GetXattr(n *Node, name string) ([]byte, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if n.extra != nil {
		if v, ok := n.extra.xattrs[name]; ok {
			return v, nil
		}
	}
	return nil, backends.ErrNoXattr
}

// SetXattr sets an extended attribute and returns by how many bytes the
// attributes of n have grown.
func (t *Tree) SetXattr(n *Node, name string, value []byte, flags backends.XattrFlags) (grown int64, err error) {
	switch {
	case name == "":
		return 0, fs.ErrInvalid
	case len(name) > maxXattrName:
		return 0, backends.ErrNameTooLong
	case len(value) > maxXattrValue:
		return 0, backends.ErrNoSpace
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.extra == nil {
		n.extra = &extra{}
	}
	old, exists := n.extra.xattrs[name]
	switch {
	case exists && flags&backends.XattrCreate != 0:
		return 0, fs.ErrExist
	case !exists && flags&backends.XattrReplace != 0:
		return 0, backends.ErrNoXattr
	}
	if !exists {
		list := len(name) + 1
		for k := range n.extra.xattrs {
			list += len(k) + 1
		}
		if list > maxXattrList {
			return 0, backends.ErrNoSpace
		}
		grown = int64(len(name))
	}
	if n.extra.xattrs == nil {
		n.extra.xattrs = make(map[string][]byte)
	}
	n.extra.xattrs[name] = append([]byte(nil), value...)
	n.ctime.Store(time.Now().UnixNano())
	return grown + int64(len(value)-len(old)), nil
}

// ListXattr returns the names of n's extended attributes, in no order.
func (t *Tree) ListXattr(n *Node) []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if n.extra == nil || len(n.extra.xattrs) == 0 {
		return nil
	}
	names := make([]string, 0, len(n.extra.xattrs))
	for k := range n.extra.xattrs {
		names = append(names, k)
	}
	return names
}

// RemoveXattr removes an extended attribute and returns how many bytes became
// free.
func (t *Tree) RemoveXattr(n *Node, name string) (freed int64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.extra != nil {
		if v, ok := n.extra.xattrs[name]; ok {
			delete(n.extra.xattrs, name)
			n.ctime.Store(time.Now().UnixNano())
			return int64(len(name) + len(v)), nil
		}
	}
	return 0, backends.ErrNoXattr
}

// XattrBytes returns the space that n's extended attributes take.
func (t *Tree) XattrBytes(n *Node) (sum int64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if n.extra != nil {
		for k, v := range n.extra.xattrs {
			sum += int64(len(k) + len(v))
		}
	}
	return sum
}
