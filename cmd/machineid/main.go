// Command machineid is the off switch for fleets of agents: one binary for the authority, the edge, and both in one process for development.
package main

import (
	"os"

	"machineid/cmd/machineid/cli"
)

func main() {
	cli.OwnProcess()
	os.Exit(cli.Run(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}
