// Command agentfs-log is agentfs with one more backend: backend: log.
package main

import (
	"os"

	"github.com/agentfs/agentfs/cmd/agentfs/cli"
	"github.com/agentfs/agentfs/examples/go-backend/logstore"
)

func main() {
	all := cli.Backends()
	all["log"] = logstore.Open
	os.Exit(cli.Main(all))
}
