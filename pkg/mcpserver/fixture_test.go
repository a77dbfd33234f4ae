package mcpserver

import (
	"context"
	"fmt"
	"os"

	"github.com/sallyport/sallyport/pkg/tool"
)

// fixture makes of this test binary a server on stdio, for clients that start
// their server themselves.
func fixture() bool {
	if len(os.Args) != 2 || os.Args[1] != "serve-stdio" {
		return false
	}
	s := New(Options{Name: "sallyport", Version: "test", Gateway: newSite()})
	if err := s.ServeStdio(context.Background(), tool.Caller{Subject: "me", Auth: "local"}, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}
