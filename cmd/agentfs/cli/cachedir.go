package cli

import (
	"fmt"
	"os"
	"path/filepath"
)

// cacheDir returns the cache directory: the flag's, else the configuration's,
// else the user's own. It makes it, readable by nobody else, because it holds
// the contents of files.
func cacheDir(flag string, c *config) (string, error) {
	dir := flag
	switch {
	case dir != "":
		var err error
		if dir, err = absolute(dir, "."); err != nil {
			return "", usagef("--cache-dir: %w", err)
		}
	case c != nil && c.cacheDir != "":
		dir = c.cacheDir
	default:
		dir = defaultCacheDir()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("cache directory: %w (choose another with --cache-dir)", err)
	}
	return dir, nil
}

// defaultCacheDir follows the XDG base directories; for a mount from fstab,
// where there is no HOME, it is below /var.
func defaultCacheDir() string {
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "agentfs")
	}
	return "/var/cache/agentfs"
}
