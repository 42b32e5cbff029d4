package router_test

import (
	"context"
	"os"
	"testing"

	"github.com/agentfs/agentfs/backends"
	"github.com/agentfs/agentfs/backends/control"
	"github.com/agentfs/agentfs/backends/router"
)

// The control directory is a hidden route.
func TestControlDirectory(t *testing.T) {
	c, err := control.New(map[string]control.File{
		"help/agents": {Read: func(context.Context) ([]byte, error) { return []byte("text"), nil }},
	}, control.Config{})
	if err != nil {
		t.Fatal(err)
	}
	rt, err := router.New([]router.Route{{Path: "/", Store: newMemory(t)}, {Path: "/.agentfs", Store: c, Hidden: true}})
	if err != nil {
		t.Fatal(err)
	}
	f := rt.FileSystem()
	want(t, "root", list(t, f, f.Root()), "")
	want(t, "root", names(t, backends.Walk(ctx, rt, ".", "")), "")
	want(t, "control directory", list(t, f, walkTo(t, f, ".agentfs")), "help/")
	want(t, "control directory", names(t, backends.Walk(ctx, rt, ".agentfs", "")), ".agentfs/help/ .agentfs/help/agents")
	want(t, "content", get(t, rt, ".agentfs/help/agents"), "text")
	h, err := f.Open(ctx, walkTo(t, f, ".agentfs", "help", "agents"), os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 9)
	n, err := h.ReadAt(ctx, p, 0)
	if err != nil || string(p[:n]) != "text" {
		t.Errorf("read: %q %v", p[:n], err)
	}
	_, _, err = f.Mkdir(ctx, walkTo(t, f, ".agentfs"), "new", backends.CreateAttr{})
	wantErr(t, "mkdir", err, backends.ErrReadOnly)
}
