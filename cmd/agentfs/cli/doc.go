// Package cli is the agentfs command line: flags, configuration, wiring and
// signals. It is the only place that knows every concrete type.
//
// A program with a backend of its own has the whole command line in ten lines:
//
//	func main() {
//		all := cli.Backends()
//		all["mine"] = mine.Open
//		os.Exit(cli.Main(all))
//	}
package cli
