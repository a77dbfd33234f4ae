package kit

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/pkg/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fresh are repositories as they were written, by what was asked for: tests
// change copies of them.
var fresh sync.Map

// repository is a copy of a fresh one.
func repository(t testing.TB, r Repository) string {
	t.Helper()
	key := r.Name + " " + r.Recipe
	if _, written := fresh.Load(key); !written {
		r.Dir = filepath.Join(t.TempDir(), "repository")
		if _, err := Init(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		files := fstest.MapFS{}
		for _, file := range filesIn(t, r.Dir) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(r.Dir, file)
			if err != nil {
				t.Fatal(err)
			}
			files[filepath.ToSlash(name)] = &fstest.MapFile{Data: text, Mode: 0o644}
		}
		fresh.Store(key, files)
	}
	files, _ := fresh.Load(key)
	dir := filepath.Join(t.TempDir(), "repository")
	if err := os.CopyFS(dir, files.(fs.FS)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A repository works as it was written, for the kit and for stock opa alone.
func TestRecipes(t *testing.T) {
	for _, recipe := range Recipes() {
		t.Run(recipe, func(t *testing.T) {
			dir := repository(t, Repository{Recipe: recipe})
			checkKit(t, dir)
			checkCI(t, dir, "", "wrote bundle.tar.gz")
			checkKit(t, repository(t, Repository{Name: "other_name", Recipe: recipe}))
		})
	}
}

func checkKit(t testing.TB, dir string) {
	t.Helper()
	if problems, err := Check(t.Context(), []string{dir}); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	r, err := RunTests(t.Context(), []string{dir}, TestOptions{Coverage: true})
	if err != nil || !r.OK() || r.Coverage.Percent != 100 {
		t.Errorf("%+v %+v %v", r, r.Coverage, err)
	}
}

// checkCI runs a repository's own CI with stock opa; without a complaint it has
// to pass.
func checkCI(t testing.TB, dir, complaint, says string) {
	t.Helper()
	binary, err := opaBinary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "ci.sh")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "OPA="+binary, "REVISION=r1")
	out, err := cmd.CombinedOutput()
	if (err == nil) != (complaint == "") || !strings.Contains(string(out), complaint) || !strings.Contains(string(out), says) {
		t.Errorf("ci.sh: %v\n%s", err, out)
	}
}

// CI fails where it should.
func TestCIRefuses(t *testing.T) {
	for name, complaint := range map[string]string{
		"misspelt path": "sauce", "not formatted": "night.rego", "failing test": "test_denied", "missing coverage": "is not reached",
		"failing rule": "FAIL", "banned built-in": "http.send",
	} {
		t.Run(name, func(t *testing.T) { checkCI(t, stateOf(t, name), complaint, "") })
	}
	dir := stateOf(t, "good")
	change(t, filepath.Join(dir, "expected.json"), `"allow": true`, `"allow": false`)
	checkCI(t, dir, "fixtures/look.json: decided", `"allow":true`)
}

// Nothing is overwritten, and what could not be finished is not left behind.
func TestInitOverwritesNothing(t *testing.T) {
	dir := repository(t, Repository{Name: "night"})
	before := filesIn(t, dir)
	_, err := Init(t.Context(), Repository{Dir: dir, Name: "night"})
	if err == nil || !strings.Contains(err.Error(), "ci.sh") {
		t.Errorf("a second init: %v", err)
	}
	if after := filesIn(t, dir); !slices.Equal(after, before) {
		t.Errorf("it changed %v to %v", before, after)
	}
	broken := filepath.Join(t.TempDir(), "broken")
	samples, _ := samples()
	if _, err := Init(t.Context(), Repository{Dir: broken, Records: samples, Site: map[string]any{"version": 1, "hots": 1}}); err == nil {
		t.Error("a site with a field that there is not is accepted")
	}
	if left := filesIn(t, broken); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func filesIn(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(file string, d os.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		if !d.IsDir() {
			all = append(all, file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestInitRefusesNames(t *testing.T) {
	for _, r := range []Repository{
		{Name: "Night"},
		{Name: "night-shift"},
		{Name: "1st"},
		{Name: "x_test"},
		{Name: "default"},
		{Name: "input"},
		{Name: "../x"},
		{Recipe: "moon"},
		{Recipe: "../skeleton/ci"},
	} {
		r.Dir = filepath.Join(t.TempDir(), "x")
		if _, err := Init(t.Context(), r); err == nil {
			t.Errorf("%+v is accepted", r)
		}
		if _, err := os.Stat(r.Dir); err == nil {
			t.Errorf("%+v left something behind", r)
		}
	}
}

// Records of a decision log become fixtures, expected to be judged as they were.
func TestInitFromRecords(t *testing.T) {
	_, site := samples()
	var log records
	e, err := policy.New(t.Context(), policy.Options{Site: site, Log: &log, FullRecords: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(t.Context())
	var from []NamedDocument
	for _, s := range sampleCalls {
		e.Decide(t.Context(), s.input(), policy.Mark{Mode: "run"})
		d, err := policy.ReadDocument(log[len(log)-1])
		if err != nil {
			t.Fatal(err)
		}
		from = append(from, NamedDocument{"decisions.jsonl", d})
	}
	dir := filepath.Join(t.TempDir(), "x")
	c, err := Init(t.Context(), Repository{Dir: dir, Name: "night", Records: from, Site: site})
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range c.Fixtures {
		restart := sampleCalls[i].name == "restart_at_night" // the package has something to say to it
		if (f.Was != "") != restart || restart && (f.Allow || f.Was != "allowed") {
			t.Errorf("%s: %+v", sampleCalls[i].name, f)
		}
	}
	if names := filesIn(t, filepath.Join(dir, "fixtures")); len(names) != len(sampleCalls) || filepath.Base(names[0]) != "01_df.json" {
		t.Errorf("fixtures are %v", names)
	}
	checkCI(t, dir, "", "wrote")
	if _, err := Init(t.Context(), Repository{Dir: filepath.Join(t.TempDir(), "y"), Records: from}); err == nil {
		t.Error("records are judged without a site")
	}
}

// The gate's own objections are found, too; stock opa has none of them.
func TestCheckAsksTheGate(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"no set":     {"deny contains {", "deny := {", "is to be a set"},
		"a slip":     {"deny contains {", "deni contains {", "is never asked"},
		"no answer":  {"open if {", "open if {\n\tcount(numbers.range(1, 999999999)) > 0", "canary"},
		"no limits":  {"open if {", "limits := {\"seconds\": \"many\"}\n\nopen if {", "seconds"},
		"two values": {"open if {", "limits := {\"seconds\": 1} if input.version == 1\n\nlimits := {\"seconds\": 2} if input.version == 1\n\nopen if {", "conflict"},
	} {
		dir := repository(t, Repository{Name: "night"})
		change(t, filepath.Join(dir, "custom", "night", "night.rego"), c.from, c.to)
		if err := os.Remove(filepath.Join(dir, "custom", "night", "night_test.rego")); err != nil {
			t.Fatal(err)
		}
		problems, err := Check(t.Context(), []string{dir})
		if err != nil || len(problems) != 1 || problems[0].Code != refused || !strings.Contains(problems[0].Message, c.want) {
			t.Errorf("%s: %v %v, want %q from the gate", name, problems, err, c.want)
		}
	}
	dir := repository(t, Repository{Name: "night"})
	change(t, filepath.Join(dir, ".manifest"), `"revision": "dev"`, `"revision": ""`)
	problems, err := Check(t.Context(), []string{dir})
	if err != nil || len(problems) != 1 || !strings.Contains(problems[0].Message, "revision") {
		t.Errorf("no revision: %v %v", problems, err)
	}
	if _, err := Build(t.Context(), dir, "", filepath.Join(t.TempDir(), "x.tar.gz")); err == nil {
		t.Error("a bundle without a revision is built")
	}
}

// What is not there is an error, not a problem of a bundle; what cannot be read
// is a problem.
func TestBadPaths(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	if _, err := Check(t.Context(), []string{nowhere}); err == nil {
		t.Error("a directory that is not there passes")
	}
	if _, err := RunTests(t.Context(), []string{nowhere}, TestOptions{}); err == nil {
		t.Error("tests that are not there pass")
	}
	empty := t.TempDir()
	problems, err := Check(t.Context(), []string{empty})
	if err != nil || len(problems) != 1 || !strings.Contains(problems[0].Message, "roots") {
		t.Errorf("a directory without a manifest: %v %v", problems, err)
	}
	if _, err := Sign(empty, empty, Key{File: nowhere, Algorithm: "RS256"}); err == nil {
		t.Error("signed without a key")
	}
	for _, algorithm := range []string{"", "none", "RS1"} {
		if _, err := Verify(empty, Key{File: nowhere, Algorithm: algorithm}); err == nil || !strings.Contains(err.Error(), "algorithm") {
			t.Errorf("algorithm %q: %v", algorithm, err)
		}
	}
}

// Several teams' bundles are loaded together, and may not own the same.
func TestSeveralBundles(t *testing.T) {
	a, b := filepath.Join(t.TempDir(), "a"), repository(t, Repository{Name: "b", Recipe: "capture_group"})
	if _, err := Init(t.Context(), Repository{Dir: a, Name: "a"}); err != nil {
		t.Fatal(err)
	}
	if problems, err := Check(t.Context(), []string{a, b}); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	r, err := RunTests(t.Context(), []string{a, b}, TestOptions{Run: `custom\.b_test\.test_others`})
	if err != nil || len(r.Tests) != 1 || !r.OK() {
		t.Errorf("%+v %v", r, err)
	}
	again := repository(t, Repository{Name: "a"})
	if problems, err := Check(t.Context(), []string{a, again}); err != nil || len(problems) == 0 {
		t.Errorf("two bundles that own the same: %v %v", problems, err)
	}
}

// A whole bundle in the place of the shipped one is checked as that.
func TestReplacement(t *testing.T) {
	shipped := filepath.Join(t.TempDir(), "sallyport.tar.gz")
	if _, err := BuildShipped(t.Context(), shipped); err != nil {
		t.Fatal(err)
	}
	team := repository(t, Repository{Name: "night"})
	if problems, err := Check(t.Context(), []string{team, shipped}); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	o, err := Options([]string{team, shipped})
	if err != nil || o.Bundle != shipped || !slices.Equal(o.Custom, []string{team}) {
		t.Errorf("%+v %v", o, err)
	}
}

// A test that fails says at which condition, and with what.
func TestFailuresAreLocated(t *testing.T) {
	r, err := RunTests(t.Context(), []string{stateOf(t, "failing rule")}, TestOptions{})
	if err != nil || r.Failed == 0 {
		t.Fatalf("%+v %v", r, err)
	}
	for _, test := range r.Tests {
		if test.Outcome == Failed && (test.At == nil || !strings.HasSuffix(test.At.File, "_test.rego") && !strings.HasSuffix(test.At.File, ".rego")) {
			t.Errorf("%+v", test)
		}
	}
}

func TestBench(t *testing.T) {
	dir := repository(t, Repository{Name: "night"})
	samples, site := samples()
	all, err := Bench(t.Context(), policy.Options{Custom: []string{dir}, Site: site}, samples[:2], 5)
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v %v", all, err)
	}
	for _, m := range all {
		if m.P50 <= 0 || m.P99 < m.P50 || m.Alone <= 0 || m.Allocs == 0 || m.Rounds != 5 {
			t.Errorf("%+v", m)
		}
	}
	if _, err := Bench(t.Context(), policy.Options{}, nil, 5); err == nil {
		t.Error("nothing is measured, and nothing said")
	}
}
