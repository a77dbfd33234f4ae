package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

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
