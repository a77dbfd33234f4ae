package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policies"
)

// The shipped bundle's revision is a digest of what is in it, so that a
// decision names the very rules that it was made by.
func TestRevision(t *testing.T) {
	var manifest map[string]any
	text, err := fs.ReadFile(policies.Files, ".manifest")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	manifest["revision"] = digestOf(t, policies.Files)
	generated(t, ".manifest", indented(t, manifest))
}

func digestOf(t *testing.T, files fs.FS) string {
	t.Helper()
	h := sha256.New()
	err := fs.WalkDir(files, "sallyport", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || notTests(path, nil, 0) {
			return err
		}
		text, err := fs.ReadFile(files, path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(text), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)[:8])
}

// Every rule that gives a reason carries its own words, and no two rules the
// same code: an agent is told which rule refused.
func TestReasonsAreAnnotated(t *testing.T) {
	b, err := loadMain("")
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]string{}
	for _, m := range b.Modules {
		annotated := map[int]*ast.Annotations{} // by the row that follows
		for _, a := range m.Parsed.Annotations {
			annotated[a.EndLoc().Row+1] = a
		}
		for _, r := range m.Parsed.Rules {
			if !strings.Contains(r.String(), "rego.metadata.rule") {
				continue
			}
			where := fmt.Sprintf("%s:%d", m.Path, r.Loc().Row)
			a := annotated[r.Loc().Row]
			if a == nil {
				t.Errorf("%s: gives a reason and has no METADATA of its own", where)
				continue
			}
			code, _ := a.Custom["code"].(string)
			remedy, _ := a.Custom["remedy"].(string)
			if a.Title == "" || code == "" || remedy == "" {
				t.Errorf("%s: METADATA lacks one of title, custom.code and custom.remedy", where)
			}
			if other := codes[code]; other != "" {
				t.Errorf("%s: code %s is that of %s, too", where, code, other)
			}
			codes[code] = where
		}
	}
	for _, f := range failures {
		if other := codes[f.Code]; other != "" {
			t.Errorf("code %s of the engine is that of %s, too", f.Code, other)
		}
	}
	if len(codes) < 30 {
		t.Errorf("found %d codes; the search for them must be broken: %v", len(codes), slices.Sorted(maps.Keys(codes)))
	}
}

// The shipped profiles are those of the corpus, in its language and word for
// word; only the layout is made for reading.
func TestProfilesAreTheCorpus(t *testing.T) {
	var want struct {
		Types    map[string]any `json:"types"`
		Paths    any            `json:"paths"`
		Common   any            `json:"commands"`
		Diagnose any            `json:"diagnose_commands"`
		Contexts map[string]struct {
			Commands     []string `json:"commands"`
			Glob         bool     `json:"glob"`
			Wrappers     []string `json:"wrappers"`
			RestartUnits string   `json:"restart_units,omitempty"`
		} `json:"contexts"`
	}
	text, err := os.ReadFile("../../testdata/corpus/contexts.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	for name, expression := range want.Types {
		if expression == "(path)" { // says only that there is a path type of that name
			delete(want.Types, name)
		}
	}
	tables := map[string]string{"commands": "common", "diagnose_commands": "diagnose"}
	for _, c := range want.Contexts {
		for i, table := range c.Commands {
			c.Commands[i] = tables[table]
		}
	}
	b, err := loadMain("")
	if err != nil {
		t.Fatal(err)
	}
	got := b.Data["sallyport"].(map[string]any)["profiles"]
	wanted := map[string]any{
		"types": want.Types, "paths": want.Paths, "named": want.Contexts,
		"commands": map[string]any{"common": want.Common, "diagnose": want.Diagnose},
	}
	if diff := cmp.Diff(plain(t, wanted), plain(t, got)); diff != "" {
		t.Errorf("profiles differ from the corpus (-corpus +shipped):\n%s", diff)
	}
}

// plain is a value by way of JSON.
func plain(t *testing.T, v any) any {
	t.Helper()
	out, err := native(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A letter is either a flag or takes a value. Grammars rely on it: what is left
// of a word behind its flags begins with a letter that takes one.
func TestFlagsTakeNoValue(t *testing.T) {
	b, err := loadMain("")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		spec, ok := v.(map[string]any)
		if !ok {
			return
		}
		flags, _ := spec["flags"].(string)
		if valued, ok := spec["valued"].(map[string]any); ok {
			for letter := range valued {
				if strings.Contains(flags, letter) {
					t.Errorf("%s: -%s is both", path, letter)
				}
			}
		}
		for name, inner := range spec {
			walk(path+"/"+name, inner)
		}
	}
	walk("", b.Data)
}
