package kit

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const readme = "../../../policies/README.md"

// blocks are the pieces of Rego in the README of policies.
func blocks(t testing.TB) []string {
	t.Helper()
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile("(?s)```rego\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		all = append(all, m[1])
	}
	return all
}

// The recipes in the README are those that are tested, word for word.
func TestReadmeHasTheRecipes(t *testing.T) {
	in := blocks(t)
	for _, recipe := range Recipes() {
		text, err := templates.ReadFile("recipes/" + recipe + ".rego")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(in, string(text)) {
			t.Errorf("the README does not have the recipe %s as it is:\n%s", recipe, text)
		}
	}
}

var packageClause = regexp.MustCompile(`(?m)^package (\S+)$`)

// All the Rego in the README is what a gateway would load.
func TestReadmeRego(t *testing.T) {
	files := map[string]string{}
	for _, text := range blocks(t) {
		m := packageClause.FindStringSubmatch(text)
		if m == nil {
			t.Errorf("a piece of Rego names no package:\n%s", text)
			continue
		}
		path := strings.ReplaceAll(m[1], ".", "/")
		if files[path] != "" {
			t.Errorf("package %s is there twice", m[1])
		}
		files[path] = text
	}
	dir := t.TempDir()
	roots := slices.Sorted(maps.Keys(files))
	manifest := indented(map[string]any{"revision": "1", "rego_version": 1, "roots": roots})
	if err := os.WriteFile(filepath.Join(dir, ".manifest"), manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, text := range files {
		file := filepath.Join(dir, path, "x.rego")
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	problems, err := Check(t.Context(), []string{dir})
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	if len(files) < len(Recipes())+3 {
		t.Errorf("only %d pieces were found: %v", len(files), roots)
	}
}
