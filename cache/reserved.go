package cache

import "strings"

// reservedPrefix begins the names that agentfs keeps for itself, at every
// level.
const reservedPrefix = ".agentfs"

func reserved(name string) bool { return strings.HasPrefix(name, reservedPrefix) }
