package policy

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Fault is one thing that is wrong with bundles that were refused.
type Fault struct {
	// Name is the bundle's, and Bundle where it is, as [Options] name it; empty
	// where no single one is to blame.
	Name, Bundle string
	// File is the one of it that is to blame, on disk, if any is; Line and
	// Column count from 1.
	File         string
	Line, Column int
	Message      string
	Remedy       string
}

// Faults is the error of [New] and [Engine.Reload] where bundles are refused:
// everything that is wrong with them that can be seen in one go.
type Faults []Fault

func (f Fault) Error() string {
	at := f.File
	switch {
	case f.Line > 0:
		at = fmt.Sprintf("%s:%d", f.File, f.Line)
	case at == "":
		at = "bundle " + f.Bundle
	}
	if at == "bundle " {
		at = "bundles"
	}
	if f.Remedy == "" {
		return at + ": " + f.Message
	}
	return fmt.Sprintf("%s: %s (%s)", at, f.Message, f.Remedy)
}

func (all Faults) Error() string {
	text := make([]string, len(all))
	for i, f := range all {
		text[i] = f.Error()
	}
	return strings.Join(text, "\n")
}

// orNil is the error that faults are, nil if there are none.
func (all Faults) orNil() error {
	if len(all) == 0 {
		return nil
	}
	return all
}

// faultsOf are what an error of reading or activating bundles says: as faults
// when it is some, one for each error of a compiler, or else itself.
func faultsOf(err error, otherwise string) Faults {
	var faults Faults
	var rego ast.Errors
	var file *fs.PathError
	switch {
	case err == nil || errors.As(err, &faults):
	case errors.As(err, &rego):
		for _, e := range rego {
			faults = append(faults, regoFault(e))
		}
	case errors.As(err, &file):
		faults = Faults{{Message: file.Err.Error(), Remedy: otherwise}}
	default:
		faults = Faults{{Message: message(err), Remedy: otherwise}}
	}
	return faults
}

// message is what an error of reading a bundle says, without how OPA came upon it.
func message(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "bundle read failed: "), "archive read failed: ")
}

func regoFault(e *ast.Error) Fault {
	f := Fault{Message: e.Code + ": " + e.Message, Remedy: regoRemedy(e)}
	if e.Location != nil {
		f.File, f.Line, f.Column = e.Location.File, e.Location.Row, e.Location.Col
	}
	return f
}

func regoRemedy(e *ast.Error) string {
	var ref *ast.RefErrInvalidDetail
	switch d, is := e.Details.(*ast.RefErrInvalidDetail); {
	case is:
		ref = d
	case strings.HasPrefix(e.Message, "undefined function"):
		return "use the built-ins that policies/capabilities.json lists, or write the function"
	}
	if ref == nil || len(ref.OneOf) == 0 {
		return "correct the rule"
	}
	known := make([]string, len(ref.OneOf))
	for i, v := range ref.OneOf {
		known[i] = strings.Trim(v.String(), `"`)
	}
	return "there it can be " + strings.Join(known, ", ")
}

// blame says of faults which bundle they are in, and puts them in order.
func (e *Engine) blame(err error) error {
	var faults Faults
	if !errors.As(err, &faults) {
		return err
	}
	for i := range faults {
		if faults[i].Bundle == "" {
			of := e.sourceOf(faults[i])
			faults[i].Name, faults[i].Bundle = of.Name, of.where()
		}
	}
	slices.SortStableFunc(faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Bundle, b.Bundle), cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return faults
}

// sourceOf is where the bundle comes from that a fault names, or has the file of.
func (e *Engine) sourceOf(f Fault) Source {
	for _, s := range e.set.sources {
		if f.Name == s.Name || s.where() != "" && strings.HasPrefix(f.File, filepath.Clean(s.where())+"/") {
			return s
		}
	}
	return Source{Name: f.Name}
}
