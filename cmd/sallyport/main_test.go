package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the stories run this very program as a command.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sallyport": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			os.Exit(run(ctx, os.Args[1:]))
		},
		"decide": decide,
	})
}

// TestStories drives the program as a user does, one archive a story.
func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("..", "..", "testdata", "stories"),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			corpus, err := filepath.Abs(filepath.Join("..", "..", "testdata", "corpus"))
			env.Setenv("CORPUS", corpus)
			env.Setenv("HOME", env.WorkDir)
			return err
		},
	})
}
