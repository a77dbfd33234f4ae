package kit

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/policies"
)

// recipes are packages to begin with, each with its tests; skeleton is what is
// around them.
//
//go:embed recipes skeleton
var templates embed.FS

// DefaultRecipe is what a repository begins with when none is named.
const DefaultRecipe = "business_hours"

// Recipes are the names of the packages that a repository can begin with.
func Recipes() []string {
	var names []string
	entries, err := templates.ReadDir("recipes")
	if err != nil {
		panic("kit: the recipes are not embedded: " + err.Error())
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".rego"); ok && !isTest(e.Name(), nil, 0) {
			names = append(names, name)
		}
	}
	return names
}

// Repository is what to write.
type Repository struct {
	Dir    string
	Name   string // of the package below custom; default the name of the recipe
	Recipe string // default DefaultRecipe
	// Records are what the fixtures are made of, judged with Site. Without any
	// there are some samples, with a site of their own.
	Records []NamedDocument
	Site    any
}

// Created is what was written.
type Created struct {
	Dir      string    `json:"dir"`
	Package  string    `json:"package"`
	Files    []string  `json:"files"`
	Fixtures []Fixture `json:"fixtures"`
}

// Fixture is a call and what is decided on it.
type Fixture struct {
	Name  string   `json:"name"`
	Allow bool     `json:"allow"`
	Codes []string `json:"codes"`
	// Was: the record says that it was decided otherwise, by other policies or by
	// another site.
	Was string `json:"was,omitempty"`
}

var packageName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// Init writes a repository of policies that works at once. It overwrites nothing:
// when one of its files exists, the error names it and nothing is written.
func Init(ctx context.Context, r Repository) (c Created, err error) {
	if err := r.complete(); err != nil {
		return c, err
	}
	files, err := r.files()
	if err != nil {
		return c, err
	}
	if err := absent(r.Dir, files); err != nil {
		return c, err
	}
	c = Created{Dir: r.Dir, Package: "custom." + r.Name}
	defer func() {
		if err != nil {
			err = errors.Join(err, remove(r.Dir, c.Files))
		}
	}()
	if c.Files, err = write(r.Dir, files); err != nil {
		return c, err
	}
	if _, err = BuildShipped(ctx, filepath.Join(r.Dir, "sallyport.tar.gz")); err != nil {
		return c, err
	}
	c.Files = append(c.Files, "sallyport.tar.gz")
	if c.Fixtures, err = r.judge(ctx); err != nil {
		return c, err
	}
	expected, err := write(r.Dir, map[string][]byte{"expected.json": expectations(c.Fixtures)})
	c.Files = append(c.Files, expected...)
	slices.Sort(c.Files)
	return c, err
}

// complete fills in what was left out, and refuses what cannot be.
func (r *Repository) complete() error {
	if r.Recipe == "" {
		r.Recipe = DefaultRecipe
	}
	if !slices.Contains(Recipes(), r.Recipe) {
		return fmt.Errorf("there is no recipe %q, only %s", r.Recipe, strings.Join(Recipes(), ", "))
	}
	if r.Name == "" {
		r.Name = r.Recipe
	}
	if !packageName.MatchString(r.Name) || strings.HasSuffix(r.Name, "_test") || !usable(r.Name) {
		return fmt.Errorf("%q is no name for a package: lower case, digits and underscores, no word of Rego, and not _test at its end", r.Name)
	}
	switch {
	case len(r.Records) == 0:
		r.Records, r.Site = samples()
	case r.Site == nil:
		return errNoSite
	default:
		r.Records = numbered(r.Records)
	}
	site, err := policy.CompleteSite(r.Site)
	r.Site = site
	return err
}

// numbered are documents with names for files: a number and what each is about.
func numbered(documents []NamedDocument) []NamedDocument {
	all := make([]NamedDocument, len(documents))
	for i, d := range documents {
		all[i] = NamedDocument{fmt.Sprintf("%02d_%s", i+1, d.Document.About()), d.Document}
	}
	return all
}

var errNoSite = errors.New("records are judged by the hosts and grants that there are: give the site, or the configuration")

// usable says that a name can stand for a package in Rego.
func usable(name string) bool {
	_, err := ast.ParseModule("", "package custom."+name+"\n\nimport data.custom."+name+"\n\nx := "+name+".deny")
	return err == nil && name != "input" && name != "data"
}

// files are those of the repository, but for what is made when they are there.
func (r Repository) files() (map[string][]byte, error) {
	files := map[string][]byte{
		".manifest": indented(map[string]any{
			"revision": "dev", "rego_version": 1, "roots": []string{"custom/" + r.Name, "custom/" + r.Name + "_test"},
		}),
		".gitignore":       []byte("bundle.tar.gz\n" + r.Name + ".tar.gz\n"),
		"site.json":        indented(r.Site),
		"expected.json":    nil,
		"sallyport.tar.gz": nil,
	}
	for to, from := range map[string]string{
		path.Join("custom", r.Name, r.Name+".rego"):      path.Join("recipes", r.Recipe+".rego"),
		path.Join("custom", r.Name, r.Name+"_test.rego"): path.Join("recipes", r.Recipe+"_test.rego"),
		"README.md": "skeleton/README.md",
		"ci.sh":     "skeleton/ci.sh",
	} {
		text, err := templates.ReadFile(from)
		if err != nil {
			return nil, err
		}
		files[to] = r.named(to, text)
	}
	for _, name := range []string{policies.Capabilities, policies.InputSchema, policies.SiteSchema, policies.DecisionLogSchema} {
		text, err := fs.ReadFile(policies.Files, name)
		if err != nil {
			return nil, err
		}
		files[name] = text
	}
	for _, d := range r.Records {
		text, err := d.Document.JSON()
		if err != nil {
			return nil, err
		}
		files[path.Join("fixtures", d.Name+".json")] = append(text, '\n')
	}
	return files, nil
}

// named has a template speak of the package by its name.
func (r Repository) named(to string, text []byte) []byte {
	if path.Ext(to) == ".rego" {
		return renamed(text, r.Recipe, r.Name)
	}
	return bytes.ReplaceAll(text, []byte("NAME"), []byte(r.Name))
}

// renamed has a package called by another name: in references to it and in the
// code of its reasons, too.
func renamed(text []byte, from, to string) []byte {
	text = regexp.MustCompile(`\b`+from+`\b`).ReplaceAll(text, []byte(to))
	return bytes.ReplaceAll(text, []byte(from+"_test"), []byte(to+"_test"))
}

// judge has the fixtures judged, with the repository as it is now.
func (r Repository) judge(ctx context.Context) ([]Fixture, error) {
	e, err := policy.New(ctx, policy.Options{Custom: []string{r.Dir}, Site: r.Site})
	if err != nil {
		return nil, err
	}
	defer e.Close(ctx)
	var all []Fixture
	for _, d := range r.Records {
		a, err := e.Ask(ctx, d.Document)
		if err != nil {
			return nil, err
		}
		f := Fixture{Name: d.Name, Allow: a.Allow, Codes: a.Codes()}
		if was := d.Document.Decided; was != nil && !a.Same(*was) {
			f.Was = strings.TrimSpace(map[bool]string{true: "allowed", false: "denied"}[was.Allow] + " " + strings.Join(was.Codes(), " "))
		}
		all = append(all, f)
	}
	return all, nil
}

func expectations(fixtures []Fixture) []byte {
	expected := map[string]any{}
	for _, f := range fixtures {
		expected[f.Name] = map[string]any{"allow": f.Allow, "codes": f.Codes}
	}
	return indented(expected)
}

func indented(v any) []byte {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic("kit: a value that cannot be marshalled: " + err.Error())
	}
	return append(text, '\n')
}

// absent names every file that is there already.
func absent(dir string, files map[string][]byte) error {
	var there []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			there = append(there, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if there == nil {
		return nil
	}
	return fmt.Errorf("%s: already there in %s, and nothing is overwritten (name an empty directory)", strings.Join(there, ", "), dir)
}

// write writes files that are not there, those with something in them.
func write(dir string, files map[string][]byte) (written []string, err error) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if files[name] == nil {
			continue
		}
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return written, err
		}
		mode := fs.FileMode(0o644)
		if path.Ext(name) == ".sh" {
			mode = 0o755
		}
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return written, err
		}
		written = append(written, name)
		_, err = f.Write(files[name])
		if err = errors.Join(err, f.Close()); err != nil {
			return written, err
		}
	}
	return written, nil
}

func remove(dir string, files []string) error {
	var problems []error
	for _, name := range files {
		problems = append(problems, os.Remove(filepath.Join(dir, name)))
	}
	return errors.Join(problems...)
}
