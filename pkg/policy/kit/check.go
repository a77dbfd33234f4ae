package kit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/loader"

	"github.com/sallyport/sallyport/pkg/policy"
)

// Problem is something wrong with a bundle. Code is that of stock opa, or
// not_formatted, or gate for what only the gateway minds.
type Problem struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (p Problem) String() string {
	switch {
	case p.File == "":
		return fmt.Sprintf("%s: %s", p.Code, p.Message)
	case p.Line == 0:
		return fmt.Sprintf("%s: %s: %s", p.File, p.Code, p.Message)
	}
	return fmt.Sprintf("%s:%d: %s: %s", p.File, p.Line, p.Code, p.Message)
}

const (
	notFormatted = "not_formatted"
	notLoaded    = "load_error"
	refused      = "gate"
)

// Check says what is wrong with bundles: what `opa check --strict` with our
// schemas and capabilities says, what is not formatted as `opa fmt` does, and,
// when nothing of that is wrong, what the gateway's gate would refuse.
func Check(ctx context.Context, paths []string) ([]Problem, error) {
	if err := exist(paths); err != nil {
		return nil, err
	}
	l, err := load(paths)
	if err != nil {
		return problemsOf(err, notLoaded), nil
	}
	c := l.compiler().WithStrict(true).WithPathConflictsCheck(conflicts(l.all.Data))
	c.Compile(l.modules())
	problems := problemsOf(failure(c), notLoaded)
	unformatted, err := unformatted(l)
	if problems = append(problems, unformatted...); err != nil || len(problems) > 0 {
		return problems, err
	}
	return problemsOf(passGate(ctx, paths, l), refused), nil
}

// exist says that a path is not there, which is no problem of a bundle.
func exist(paths []string) error {
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			return err
		}
	}
	return nil
}

func failure(c *ast.Compiler) error {
	if c.Failed() {
		return c.Errors
	}
	return nil
}

// problemsOf takes OPA's lists of errors apart; others have a code of ours.
func problemsOf(err error, code string) []Problem {
	var compiled ast.Errors
	var files loader.Errors
	switch {
	case err == nil:
		return nil
	case errors.As(err, &compiled):
		var all []Problem
		for _, e := range compiled {
			p := Problem{Code: e.Code, Message: e.Message}
			if e.Location != nil {
				p.File, p.Line = e.Location.File, e.Location.Row
			}
			all = append(all, p)
		}
		slices.SortStableFunc(all, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
		})
		return all
	case errors.As(err, &files):
		var all []Problem
		for _, e := range files {
			all = append(all, problemsOf(e, code)...)
		}
		return all
	}
	return []Problem{{Code: code, Message: err.Error()}}
}

// conflicts says that a rule stands where data does.
func conflicts(data map[string]any) func([]string) (bool, error) {
	return func(path []string) (bool, error) {
		var node any = data
		for _, key := range path {
			object, ok := node.(map[string]any)
			if !ok {
				return true, nil
			}
			if node, ok = object[key]; !ok {
				return false, nil
			}
		}
		return len(path) > 0, nil
	}
}

func unformatted(l *loaded) ([]Problem, error) {
	var all []Problem
	for _, m := range l.ofTeam() {
		formatted, err := formatted(m.Path, m.Raw)
		if err != nil {
			return all, err
		}
		if !bytes.Equal(formatted, m.Raw) {
			all = append(all, Problem{File: m.Path, Code: notFormatted, Message: "is not as opa fmt writes it; sallyport policy fmt --write does"})
		}
	}
	return all, nil
}

func formatted(path string, raw []byte) ([]byte, error) {
	return format.SourceWithOpts(path, raw, format.Opts{RegoVersion: ast.RegoV1})
}

// Format lists the files of bundles that are not formatted, and with write set
// formats them.
func Format(paths []string, write bool) ([]string, error) {
	var changed []string
	for _, path := range paths {
		files, err := regoFiles(path)
		if err != nil {
			return changed, err
		}
		for _, file := range files {
			did, err := formatFile(file, write)
			if err != nil {
				return changed, err
			}
			if did {
				changed = append(changed, file)
			}
		}
	}
	return changed, nil
}

// regoFiles are the Rego files in a directory, or a file itself; none of a
// tarball.
func regoFiles(path string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == ".git":
			return filepath.SkipDir
		case !d.IsDir() && filepath.Ext(file) == ".rego":
			files = append(files, file)
		}
		return nil
	})
	return files, err
}

func formatFile(file string, write bool) (changed bool, err error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	text, err := formatted(file, raw)
	if err != nil || bytes.Equal(text, raw) {
		return false, err
	}
	if write {
		err = os.WriteFile(file, text, 0o644)
	}
	return true, err
}

// passGate has an engine load the bundles as the gateway would.
func passGate(ctx context.Context, paths []string, l *loaded) error {
	e, err := policy.New(ctx, l.options(paths))
	if err != nil {
		return err
	}
	return e.Close(ctx)
}
