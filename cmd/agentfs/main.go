// Command agentfs mounts S3 buckets, memory and host directories as one tree.
package main

import (
	"os"

	"github.com/agentfs/agentfs/cmd/agentfs/cli"
)

func main() { os.Exit(cli.Main(cli.Backends())) }
