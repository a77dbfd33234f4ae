// Package syntax says whether a text is well formed for the type of file that it
// is meant to be, and if not, in which lines it is not.
//
// It is a safety net before a configuration file is written, not a validator of
// what the file means. A type is told by the file's name only where the name
// leaves no doubt: *.conf is anything, so it is checked only when somebody names
// the type. Templates of well-formed files may be ill-formed; who knows better
// can leave the check out.
package syntax

import (
	"path"
	"slices"
	"strings"
)

// Type is a kind of text that can be checked.
type Type string

const (
	JSON       Type = "json"
	YAML       Type = "yaml"
	TOML       Type = "toml"
	XML        Type = "xml"
	INI        Type = "ini"
	Env        Type = "env"
	Dockerfile Type = "dockerfile"
)

// Problem is something that is wrong with a text.
type Problem struct {
	Line    int    `json:"line" doc:"from 1; 0 for the text as a whole"`
	Message string `json:"message"`
}

// kind is what is known of a type.
type kind struct {
	endings []string // of base names, in lower case
	begins  []string
	check   func(text string) []Problem
}

var kinds = map[Type]kind{
	JSON:       {endings: []string{".json"}, check: checkJSON},
	YAML:       {endings: []string{".yaml", ".yml"}, check: checkYAML},
	TOML:       {endings: []string{".toml"}, check: checkTOML},
	XML:        {endings: []string{".xml", ".xsl", ".xslt", ".svg", ".xhtml", ".plist"}, check: checkXML},
	INI:        {endings: []string{".ini", ".cfg"}, check: checkINI},
	Env:        {endings: []string{".env"}, begins: []string{".env"}, check: checkEnv},
	Dockerfile: {endings: []string{".dockerfile"}, begins: []string{"dockerfile"}, check: checkDockerfile},
}

// Types are all that can be checked, sorted.
func Types() []Type {
	var types []Type
	for t := range kinds {
		types = append(types, t)
	}
	slices.Sort(types)
	return types
}

// Of tells the type of a file by its name; empty where the name does not tell.
func Of(name string) Type {
	base := strings.ToLower(path.Base(name))
	for _, t := range Types() {
		k := kinds[t]
		if hasAny(base, k.endings, strings.HasSuffix) || hasAny(base, k.begins, strings.HasPrefix) {
			return t
		}
	}
	return ""
}

func hasAny(s string, parts []string, has func(s, part string) bool) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return has(s, part) })
}

// mostProblems is enough to mend a file by.
const mostProblems = 20

// Check is what is wrong with a text of a type; nil for a well-formed one, and
// for a type that is not known.
func Check(t Type, text string) []Problem {
	k, ok := kinds[t]
	if !ok {
		return nil
	}
	problems := k.check(text)
	return problems[:min(len(problems), mostProblems)]
}
