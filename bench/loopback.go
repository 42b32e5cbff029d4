package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// loopbackMain is "bench loopback [--no-passthrough] SRC MOUNTPOINT": go-fuse's
// own loopback file system with the settings of its example program, the
// measure of what the library costs by itself.
func loopbackMain(args []string) int {
	fl := flag.NewFlagSet("loopback", flag.ContinueOnError)
	noPassthrough := fl.Bool("no-passthrough", false, "every read and write comes to the server")
	if err := fl.Parse(args); err != nil || fl.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: bench loopback [--no-passthrough] SRC MOUNTPOINT")
		return 2
	}
	src, dir := fl.Arg(0), fl.Arg(1)
	mo := fuse.MountOptions{FsName: src, Name: "loopback", DirectMount: true}
	if *noPassthrough {
		// A depth that the kernel refuses: it then offers no passthrough.
		mo.MaxStackDepth = -1
	}
	syscall.Umask(0)
	root, err := fs.NewLoopbackRoot(src)
	if err != nil {
		fmt.Fprintf(os.Stderr, "loopback: %s: %v\n", src, err)
		return 1
	}
	second := time.Second
	srv, err := fs.Mount(dir, root, &fs.Options{
		AttrTimeout:     &second,
		EntryTimeout:    &second,
		NullPermissions: true,
		MountOptions:    mo,
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "loopback: mount at %s: %v\n", dir, err)
		return 1
	}
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, os.Interrupt, syscall.SIGTERM)
	go func() {
		for range sigs {
			err := srv.Unmount()
			if err != nil {
				// In use: whoever uses it may be about to end, and nobody asks again.
				err = detach(dir)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "loopback:", err)
			}
		}
	}()
	srv.Wait()
	return 0
}
