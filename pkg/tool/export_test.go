package tool

import (
	"maps"
	"slices"
	"strings"
)

// Programs are the names of those that Derive knows.
func Programs() []string { return slices.Sorted(maps.Keys(programs)) }

// NamesFiles says that a program's entry names what it does with files.
func NamesFiles(name string) bool {
	p := programs[name]
	return strings.HasPrefix(string(p.action), "file.") || len(p.writes) > 0 || len(p.at) > 0
}
