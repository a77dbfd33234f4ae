package config

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// unknownFault says that a word is not one of the known, and which one was
// probably meant. kind is what the word should be ("key"), list introduces all
// of them ("keys here").
func unknownFault(word, kind, list string, known []string) *fault {
	remedy := list + ": " + strings.Join(known, ", ")
	switch near := Nearest(word, known); {
	case near != "":
		remedy = `did you mean "` + near + `"?`
	case len(known) == 0:
		remedy = "there is none yet"
	case len(known) > 30:
		remedy = "look at the " + list
	}
	return faultf(remedy, "unknown %s %q", kind, word)
}

// ofOPA are keys of OPA's own configuration that whoever knows it may write into
// sallyport.yml, and what there is instead.
var ofOPA = map[string]string{
	"discovery":             "name services and bundles under policy:; what a gateway is to do does not come from a server",
	"policy.discovery":      "name services and bundles here; what a gateway is to do does not come from a server",
	"services":              "write it under policy:",
	"bundles":               "write it under policy:",
	"keys":                  "write it under policy:",
	"decision_logs":         "write logs.upload, which has the same keys",
	"status":                "ask /readyz and /metrics of the HTTP transport",
	"persistence_directory": "write state_dir",
}

// unknownKey is about a key of the configuration.
func unknownKey(key string, at place, known []string) *fault {
	if remedy, ok := ofOPA[at.path]; ok && filepath.Base(at.file) == settingsFile {
		return faultf(remedy, "%s is a key of OPA's configuration, not of this one", key)
	}
	return unknownFault(key, "key", "keys here", known)
}

// tooManyNear is how many words are compared for a suggestion: a large
// inventory with many dangling names should still be reported quickly.
const tooManyNear = 2000

// Nearest is the known word that differs by a letter or two, or only in case or
// dashes; empty when there is none.
func Nearest(word string, known []string) string {
	if len(known) > tooManyNear || len(word) > 100 {
		return ""
	}
	best, least := "", 1+min(2, len(word)/2)
	for _, k := range known {
		if d := distance(folded(word), folded(k), least); d < least {
			best, least = k, d
		}
	}
	return best
}

func folded(s string) string {
	return strings.ReplaceAll(strings.ToLower(s), "-", "_")
}

// distance is how many bytes must be inserted, removed, replaced or swapped
// with their neighbour to turn a into b; limit or more is given as limit.
func distance(a, b string, limit int) int {
	if max(len(a)-len(b), len(b)-len(a)) >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+differ(a[i-1], b[j-1]))
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit)
}

func differ(a, b byte) int {
	if a == b {
		return 0
	}
	return 1
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
