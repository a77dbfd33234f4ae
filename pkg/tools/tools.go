// Package tools holds the definitions of all tools, one file per toolset.
//
// A definition is a literal: its argument struct is its schema, its Plan is
// pure, and so is its Format. Of this module the package imports nothing but the
// vocabulary and a checker of texts, so no tool can reach a host, a policy or a
// client on a road of its own.
package tools

import (
	"slices"

	"github.com/sallyport/sallyport/pkg/tool"
)

// All is the table of contents: every tool, by toolset.
func All() []*tool.Tool {
	return slices.Concat(fleet(), core(), files())
}

// Sets are the names of the toolsets, in the order of the table, and all.
func Sets() []string {
	sets := []string{}
	for _, t := range All() {
		if !slices.Contains(sets, t.Set) {
			sets = append(sets, t.Set)
		}
	}
	return append(sets, "all")
}

// In is the tools of the given toolsets, and the names that are no toolset.
func In(sets []string) (in []*tool.Tool, unknown []string) {
	bySet := map[string][]*tool.Tool{}
	for _, t := range All() {
		bySet[t.Set] = append(bySet[t.Set], t)
	}
	for _, s := range sets {
		switch {
		case s == "all":
			return All(), nil
		case bySet[s] == nil:
			unknown = append(unknown, s)
		default:
			in = append(in, bySet[s]...)
		}
	}
	return in, unknown
}
