package backends

import "context"

// Caller is who asked for an operation: the process and the user that called
// the kernel, or those of the agentfs command.
type Caller struct {
	PID uint32 // thread id as FUSE reports it; 0 if not known
	UID uint32
	GID uint32
}

type callerKey struct{}

// CallerKey is the context key under which [CallerFrom] finds a Caller, for
// context types that implement Value themselves.
var CallerKey any = callerKey{}

// WithCaller returns a context that carries c.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, CallerKey, c)
}

// CallerFrom returns the caller that ctx carries, if any.
func CallerFrom(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(CallerKey).(Caller)
	return c, ok
}
