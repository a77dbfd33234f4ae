// Command sallyport is a policy-as-code SSH gateway for AI agents.
//
// Each subcommand is a file of its own; stack.go puts the parts together,
// usage.go refuses what a command line cannot mean, and failure.go has the exit
// codes.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/sallyport/sallyport/pkg/gcpace"
)

func main() {
	gcpace.Start()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// run is main without the process around it.
func run(ctx context.Context, args []string) int {
	cmd := rootCommand()
	cmd.SetArgs(args)
	ran, err := cmd.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{code: exitError1, err: err}
	}
	if exit.err != nil {
		exit.say(ran, asksJSON(args))
	}
	return exit.code
}
