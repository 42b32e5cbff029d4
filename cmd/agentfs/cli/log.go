package cli

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// logFlags are the flags that say what is logged and where.
type logFlags struct {
	level, format, file string
}

func (l *logFlags) register(f *pflag.FlagSet) {
	f.StringVar(&l.level, "log-level", "info", "log from this level on: debug, info, warn or error")
	f.StringVar(&l.format, "log-format", "text", "log as text or as json")
	f.StringVar(&l.file, "log-file", "", "log to this file instead of standard error")
}

// open returns the logger. The file stays open until the process ends.
func (l *logFlags) open(stderr io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.level)); err != nil {
		return nil, usagef("--log-level %s: it is debug, info, warn or error", l.level)
	}
	w := stderr
	if l.file != "" {
		f, err := os.OpenFile(l.file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, fmt.Errorf("--log-file %s: %w", l.file, pathless(err))
		}
		w = f
	}
	o := &slog.HandlerOptions{Level: level}
	switch strings.ToLower(l.format) {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, usagef("--log-format %s: it is text or json", l.format)
}
