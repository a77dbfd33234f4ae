package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/config"
)

// The exit codes; the help of the program says what they mean.
const (
	exitDone   = 0
	exitError1 = 1
	exitDenied = 2
	exitUsage  = 64
)

// exitError is an error with the exit code that it asks for. Without a cause
// everything has been said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usageError(err error) error { return &exitError{exitUsage, err} }

// usageOf is an error of usage that says where there is help.
func usageOf(c *cobra.Command, err error) error {
	return usageError(fmt.Errorf("%w; see %s --help", err, c.CommandPath()))
}

// ofFile says what is wrong with a file, without the call that found it.
func ofFile(err error) error {
	at, plain := err.(*fs.PathError)
	switch {
	case !plain:
		return err
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is not there", at.Path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not be read by this user", at.Path)
	}
	return fmt.Errorf("%s: %w", at.Path, at.Err)
}

// failure is an error as --output json gives it.
type failure struct {
	Code     string           `json:"code"` // usage or failed
	Message  string           `json:"message"`
	Problems []config.Problem `json:"problems,omitempty"`
}

// say tells of an error: as JSON on standard output, or as text beside it.
func (e *exitError) say(c *cobra.Command, inJSON bool) {
	if !inJSON {
		for line := range strings.Lines(e.err.Error()) {
			fmt.Fprintln(c.ErrOrStderr(), "sallyport: "+strings.TrimSuffix(line, "\n"))
		}
		return
	}
	f := failure{Code: "failed", Message: e.err.Error()}
	if e.code == exitUsage {
		f.Code = "usage"
	}
	var problems *config.Problems
	if errors.As(e.err, &problems) {
		f.Problems = problems.List
	}
	_ = printJSON(c, map[string]failure{"error": f})
}

// asksJSON looks for --output json in the words themselves, since what is wrong
// may be a flag before it.
func asksJSON(args []string) bool {
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	at := slices.Index(args, "--output")
	return slices.Contains(args, "--output=json") || at >= 0 && at+1 < len(args) && args[at+1] == "json"
}
