package shell

import (
	"path"
	"slices"
	"strings"
)

// In is a document of a line that runs in a directory, which is absolute and
// clean. The operands that are relative paths get the facts of where they lead
// from there, unless the line itself goes elsewhere. Nothing of the text changes.
func (d Document) In(dir string) Document {
	if !path.IsAbs(dir) || path.Clean(dir) != dir {
		return d
	}
	d.Cwd = dir
	if d.moves() {
		return d
	}
	d.Commands = slices.Clone(d.Commands)
	for i := range d.Commands {
		d.Commands[i].Args = d.Commands[i].argsIn(dir)
	}
	return d
}

// Resolve is a path of the line, seen from the root; empty where that is not
// known.
func (d Document) Resolve(name string) string {
	switch {
	case path.IsAbs(name):
		return path.Clean(name)
	case name == "" || d.Cwd == "" || d.moves():
		return ""
	}
	return path.Join(d.Cwd, name)
}

var movers = []string{"cd", "chdir", "pushd", "popd"}

// moves says that where a command of the line runs is not known: one before it
// changes the working directory. Of wrappers that do, none is looked through.
func (d Document) moves() bool {
	return d.Canonical == "" || slices.ContainsFunc(d.Commands, func(c Command) bool {
		return slices.Contains(movers, c.Program)
	})
}

func (c *Command) argsIn(dir string) []Arg {
	args := slices.Clone(c.Args)
	for i := range args {
		a := &args[i]
		if a.Kind != Operand || a.Path != nil || a.Pattern || a.Text == "" || a.Text == "-" {
			continue
		}
		a.locate(strings.TrimSuffix(dir, "/")+"/"+a.Text, nil)
	}
	return args
}
