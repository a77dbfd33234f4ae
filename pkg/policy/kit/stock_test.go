package kit

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sallyport/sallyport/pkg/policy"
)

// Everything here runs the kit and the released opa on the same files and wants
// the same answers.

// opaBinary is the opa that go.mod names, built once.
var opaBinary = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "tool", "-n", "opa").Output()
	return strings.TrimSpace(string(out)), err
})

// opa runs stock opa and gives its exit status.
func opa(t testing.TB, args ...string) (stdout, stderr []byte, status int) {
	t.Helper()
	return opaIn(t, "", args...)
}

func opaIn(t testing.TB, dir string, args ...string) (stdout, stderr []byte, status int) {
	t.Helper()
	binary, err := opaBinary()
	if err != nil {
		t.Fatalf("go tool -n opa: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir = dir
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.Bytes(), problems.Bytes(), cmd.ProcessState.ExitCode()
}

// change changes a text in a file, which has to be there.
func change(t testing.TB, file, from, to string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), from) {
		t.Fatalf("%s has no %q", file, from)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), from, to, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// states are repositories in the states that they get into while somebody works
// on them.
var states = map[string]struct {
	file, from, to string
	code           string // that check finds; empty: nothing
	fails          bool   // tests fail
	covered        bool   // all rules are reached
}{
	"good": {covered: true},
	"misspelt path": {
		file: "night.rego", from: "input.host.source", to: "input.host.sauce", code: "rego_type_error", fails: true, covered: false,
	},
	"wrong type": {file: "night.rego", from: "hour >= 8", to: `input.version == "1"`, code: "rego_type_error", fails: true},
	"banned built-in": {
		file: "night.rego", from: "hour >= 8", to: "hour >= http.send({}).status_code", code: "rego_type_error", fails: true,
	},
	"unused variable":        {file: "night.rego", from: "hour >= 8", to: "hour >= 8\n\tunused := 1", code: "rego_compile_error", covered: true},
	"syntax error":           {file: "night.rego", from: "hour >= 8", to: "hour >= )", code: "rego_parse_error", fails: true},
	"recursion":              {file: "night.rego", from: "hour >= 8", to: "open", code: "rego_recursion_error", fails: true},
	"not formatted":          {file: "night.rego", from: "\thour >= 8", to: "   hour>=8", code: notFormatted, covered: true},
	"failing test":           {file: "night_test.rego", from: `{"night"}`, to: `{"day"}`, fails: true},
	"failing rule":           {file: "night.rego", from: "hour < 18", to: "hour < 10", fails: true},
	"missing coverage":       {file: "night_test.rego", from: "test_not_denied", to: "later_not_denied"},
	"a rule nobody tests":    {file: "night.rego", from: "open if {", to: "closed if not open\n\nopen if {"},
	"a test that prints":     {file: "night_test.rego", from: "test_denied[name] if {", to: "test_denied[name] if {\n\tprint(\"here\")", covered: true},
	"refers to shipped rule": {file: "night.rego", from: "not open", to: "not open\n\tnot data.sallyport.host.granted.readonly", covered: true},
}

func stateOf(t testing.TB, name string) string {
	dir := repository(t, Repository{Name: "night"})
	if s := states[name]; s.file != "" {
		change(t, filepath.Join(dir, "custom", "night", s.file), s.from, s.to)
	}
	return dir
}

func TestCheckIsStock(t *testing.T) {
	for name, s := range states {
		t.Run(name, func(t *testing.T) {
			dir := stateOf(t, name)
			problems, err := Check(t.Context(), []string{dir})
			if err != nil {
				t.Fatal(err)
			}
			found := slices.ContainsFunc(problems, func(p Problem) bool { return p.Code == s.code })
			if s.code != "" && !found || s.code == "" && len(problems) > 0 {
				t.Errorf("found %v, want %q", problems, s.code)
			}
			ours := slices.DeleteFunc(problems, func(p Problem) bool { return p.Code == notFormatted })
			if diff := gocmp.Diff(stockProblems(t, dir), ours, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("stock opa and the kit find other problems (-opa +kit):\n%s", diff)
			}
			listed, _, _ := opa(t, "fmt", "--list", "--fail", filepath.Join(dir, "custom"))
			files, err := Format([]string{dir}, false)
			if s.code == "rego_parse_error" {
				return // neither formats that
			}
			if err != nil || !slices.Equal(files, strings.Fields(string(listed))) {
				t.Errorf("opa fmt lists %s, the kit %v, %v", listed, files, err)
			}
		})
	}
}

func stockProblems(t testing.TB, dir string) []Problem {
	t.Helper()
	_, stderr, status := opa(t, "check", "--strict", "--bundle", "--format", "json", "--schema", filepath.Join(dir, "schemas", "input.json"),
		"--capabilities", filepath.Join(dir, "capabilities.json"), dir, filepath.Join(dir, "sallyport.tar.gz"))
	if status == 0 {
		return nil
	}
	var report struct {
		Errors []struct {
			Code, Message string
			Location      struct {
				File string
				Row  int
			}
		}
	}
	if err := json.Unmarshal(stderr, &report); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	var all []Problem
	for _, e := range report.Errors {
		all = append(all, Problem{File: e.Location.File, Line: e.Location.Row, Code: e.Code, Message: e.Message})
	}
	slices.SortStableFunc(all, func(a, b Problem) int { return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line)) })
	return all
}

func TestFormatIsStock(t *testing.T) {
	dir := stateOf(t, "not formatted")
	file := filepath.Join(dir, "custom", "night", "night.rego")
	want, _, _ := opa(t, "fmt", file)
	if _, err := Format([]string{dir}, true); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v; opa writes\n%s\nand the kit\n%s", err, want, got)
	}
}

func TestTestsAreStock(t *testing.T) {
	for name, s := range states {
		t.Run(name, func(t *testing.T) {
			dir := stateOf(t, name)
			shipped := filepath.Join(dir, "sallyport.tar.gz")
			stdout, _, status := opa(t, "test", "--bundle", "--format", "json", "--schema", filepath.Join(dir, "schemas", "input.json"),
				"--capabilities", filepath.Join(dir, "capabilities.json"), dir, shipped)
			r, err := RunTests(t.Context(), []string{dir}, TestOptions{})
			if (status != 0) != s.fails || (err != nil || !r.OK()) != s.fails {
				t.Errorf("opa ends with %d, the kit with %+v, %v", status, r, err)
			}
			if err != nil {
				return
			}
			if diff := gocmp.Diff(stockOutcomes(t, stdout), outcomes(r)); diff != "" {
				t.Errorf("the same tests come out differently (-opa +kit):\n%s", diff)
			}
			for _, test := range r.Tests {
				if test.Outcome == Failed && (test.At == nil || test.At.Line == 0 || test.At.Text == "") {
					t.Errorf("%s does not say where it failed: %+v", test.Name, test.At)
				}
			}
		})
	}
}

// stockOutcomes are the outcomes of tests and of their cases.
func stockOutcomes(t testing.TB, report []byte) map[string]string {
	t.Helper()
	var results []struct {
		Package, Name string
		Fail          bool
		SubResults    map[string]struct{ Fail bool } `json:"sub_results"`
	}
	if err := json.Unmarshal(report, &results); err != nil {
		t.Fatalf("%v: %s", err, report)
	}
	word := map[bool]string{true: Failed, false: Passed}
	all := map[string]string{}
	for _, r := range results {
		name := r.Package + "." + r.Name
		all[name] = word[r.Fail]
		for sub, result := range r.SubResults {
			all[name+" "+sub] = word[result.Fail]
		}
	}
	return all
}

func outcomes(r TestReport) map[string]string {
	all := map[string]string{}
	for _, test := range r.Tests {
		all[test.Name] = test.Outcome
		for _, c := range test.Cases {
			all[test.Name+" "+c.Name] = map[bool]string{true: Passed, false: Failed}[c.Pass]
		}
	}
	return all
}

func TestCoverageIsStock(t *testing.T) {
	for name, s := range states {
		if s.fails {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := stateOf(t, name)
			stdout, stderr, status := opa(t, "test", "--bundle", "--coverage", "--capabilities", filepath.Join(dir, "capabilities.json"),
				dir, filepath.Join(dir, "sallyport.tar.gz"))
			if status != 0 {
				t.Fatalf("%d: %s", status, stderr)
			}
			var stock struct {
				Files map[string]struct {
					NotCovered []struct {
						Start, End struct{ Row int }
						Kinds      []string
					} `json:"not_covered"`
				}
			}
			if err := json.Unmarshal(stdout, &stock); err != nil {
				t.Fatal(err)
			}
			r, err := RunTests(t.Context(), []string{dir}, TestOptions{Coverage: true})
			if err != nil {
				t.Fatal(err)
			}
			if all := r.Coverage.Percent == 100; all != s.covered {
				t.Errorf("coverage is %.1f %%", r.Coverage.Percent)
			}
			for _, f := range r.Coverage.Files {
				var want []Missed
				for file, report := range stock.Files {
					if !strings.HasSuffix(file, f.File) {
						continue
					}
					for _, m := range report.NotCovered {
						want = append(want, Missed{From: m.Start.Row, To: m.End.Row, Why: strings.Join(m.Kinds, " ")})
					}
				}
				got := slices.Clone(f.Missed)
				for i := range got {
					got[i].Text = ""
				}
				if diff := gocmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-opa +kit):\n%s", f.File, diff)
				}
			}
		})
	}
}

// entries are the files in a tarball.
func entries(t testing.TB, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for r := tar.NewReader(zipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(h.Name, "/")] = string(content)
	}
}

func TestBuildIsStock(t *testing.T) {
	dir := repository(t, Repository{Name: "night"})
	out := t.TempDir()
	ours, stock := filepath.Join(out, "ours.tar.gz"), filepath.Join(out, "stock.tar.gz")
	if _, err := Build(t.Context(), dir, "r7", ours); err != nil {
		t.Fatal(err)
	}
	if _, stderr, status := opaIn(t, dir, "build", "--bundle", ".", "--ignore", "*_test.rego", "--revision", "r7",
		"--capabilities", "capabilities.json", "--output", stock); status != 0 {
		t.Fatalf("%s", stderr)
	}
	if diff := gocmp.Diff(entries(t, stock), entries(t, ours)); diff != "" {
		t.Errorf("(-opa +kit):\n%s", diff)
	}
	names := slices.Sorted(maps.Keys(entries(t, ours)))
	if want := []string{".manifest", "custom/night/night.rego", "data.json"}; !slices.Equal(names, want) {
		t.Errorf("the bundle has %v, want %v", names, want)
	}
	if problems, err := Check(t.Context(), []string{ours}); err != nil || len(problems) > 0 {
		t.Errorf("what was built is not accepted: %v %v", problems, err)
	}
}

// keysFor are a key to sign with and one to verify by.
func keysFor(t testing.TB, algorithm string) (private, public string) {
	t.Helper()
	dir := t.TempDir()
	private, public = filepath.Join(dir, "key"), filepath.Join(dir, "key.pub")
	put := func(file, kind string, der []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	switch algorithm {
	case "RS256":
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		put(private, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), nil)
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		put(public, "PUBLIC KEY", der, err)
	case "ES256":
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalECPrivateKey(key)
		put(private, "EC PRIVATE KEY", der, err)
		der, err = x509.MarshalPKIXPublicKey(&key.PublicKey)
		put(public, "PUBLIC KEY", der, err)
	default:
		if err := os.WriteFile(private, []byte("a secret that nobody guesses"), 0o600); err != nil {
			t.Fatal(err)
		}
		public = private
	}
	return private, public
}

func TestSignaturesAreStock(t *testing.T) {
	for _, algorithm := range []string{"RS256", "ES256", "HS256"} {
		t.Run(algorithm, func(t *testing.T) {
			dir, out := repository(t, Repository{Name: "night"}), t.TempDir()
			private, public := keysFor(t, algorithm)
			built, signed, stock := filepath.Join(out, "built.tar.gz"), filepath.Join(out, "signed.tar.gz"), filepath.Join(out, "stock.tar.gz")
			if _, err := Build(t.Context(), dir, "r7", built); err != nil {
				t.Fatal(err)
			}
			if b, err := Sign(built, signed, Key{private, algorithm, "default"}); err != nil || !b.Signed {
				t.Fatalf("%+v %v", b, err)
			}
			verify := []string{"build", "--verification-key", public, "--signing-alg", algorithm, "--output", filepath.Join(out, "x.tar.gz"), "--bundle"}
			if _, stderr, status := opa(t, append(verify, signed)...); status != 0 {
				t.Errorf("opa does not verify what the kit signed: %s", stderr)
			}
			if _, stderr, status := opa(t, "build", "--bundle", built, "--signing-key", private, "--signing-alg", algorithm, "--output", stock); status != 0 {
				t.Fatalf("%s", stderr)
			}
			for _, file := range []string{signed, stock} {
				if b, err := Verify(file, Key{public, algorithm, "default"}); err != nil || b.Revision != "r7" || !b.Signed {
					t.Errorf("the kit does not verify %s: %+v %v", filepath.Base(file), b, err)
				}
			}
			inside, packed := filepath.Join(out, "inside"), filepath.Join(out, "packed.tar.gz")
			unpack(t, built, inside)
			signInside(t, inside, private, algorithm)
			pack(t, inside, packed)
			for _, path := range []string{signed, stock, packed} {
				if err := loads(t, path, policy.Key{Algorithm: algorithm, Text: textOf(public)}); err != nil {
					t.Errorf("the gateway does not load %s: %v", filepath.Base(path), err)
				}
				if _, stderr, status := opa(t, "run", "--verification-key", public, "--signing-alg", algorithm, "--bundle", path); status != 0 {
					t.Errorf("opa does not run %s: %s", filepath.Base(path), stderr)
				}
			}
			if err := loads(t, inside, policy.Key{Algorithm: algorithm, Text: textOf(public)}); err != nil {
				t.Errorf("the gateway does not load the signed directory: %v", err)
			}
			tampered := filepath.Join(out, "tampered.tar.gz")
			tamper(t, signed, tampered)
			_, other := keysFor(t, "ES256")
			for what, bad := range map[string]struct {
				file string
				key  Key
			}{
				"unsigned":    {built, Key{public, algorithm, "default"}},
				"tampered":    {tampered, Key{public, algorithm, "default"}},
				"another key": {signed, Key{other, "ES256", "default"}},
			} {
				if b, err := Verify(bad.file, bad.key); err == nil {
					t.Errorf("%s is verified: %+v", what, b)
				}
				if err := loads(t, bad.file, policy.Key{Algorithm: bad.key.Algorithm, Text: textOf(bad.key.File)}); err == nil {
					t.Errorf("the gateway loads %s", what)
				}
				if _, _, status := opa(t, "build", "--verification-key", bad.key.File, "--signing-alg", bad.key.Algorithm,
					"--output", filepath.Join(out, "y.tar.gz"), "--bundle", bad.file); status == 0 {
					t.Errorf("opa verifies %s", what)
				}
			}
		})
	}
}

// unpack puts the files of a bundle into a directory.
func unpack(t testing.TB, file, dir string) {
	t.Helper()
	for name, content := range entries(t, file) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// signInside has opa sign a directory as the README says: from inside.
func signInside(t testing.TB, dir, key, algorithm string) {
	t.Helper()
	if _, stderr, status := opaIn(t, dir, "sign", "--signing-key", key, "--signing-alg", algorithm, "--bundle", "."); status != 0 {
		t.Fatalf("opa sign: %s", stderr)
	}
}

// loads says whether a gateway takes a bundle that has to be signed.
func loads(t testing.TB, path string, key policy.Key) error {
	t.Helper()
	e, err := policy.New(t.Context(), policy.Options{
		Bundles: []policy.Source{{Name: "night", Path: path, Signing: &policy.Signing{KeyID: "default"}}},
		Keys:    map[string]policy.Key{"default": key}, RequireSigned: true,
	})
	if err != nil {
		return err
	}
	defer e.Close(t.Context())
	if r := e.Revisions()["night"]; r != "r7" {
		t.Errorf("%s decides at %q", filepath.Base(path), r)
	}
	return nil
}

func textOf(file string) func() (string, error) {
	return func() (string, error) {
		text, err := os.ReadFile(file)
		return string(text), err
	}
}

// pack makes an archive of a directory. What is signed are names without "./".
func pack(t testing.TB, dir, file string) {
	t.Helper()
	args := []string{"-C", dir, "-czf", file}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		args = append(args, f.Name())
	}
	if out, err := exec.CommandContext(t.Context(), "tar", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// tamper writes a bundle with another rule and the same signature.
func tamper(t testing.TB, from, to string) {
	t.Helper()
	dir := t.TempDir()
	unpack(t, from, dir)
	change(t, filepath.Join(dir, "custom", "night", "night.rego"), "hour < 18", "hour < 99")
	pack(t, dir, to)
}

// What is on the decision log is judged alike by the gateway's engine, by the
// kit, and by stock opa.
func TestDecisionsAreStock(t *testing.T) {
	samples, site := samples()
	for _, recipe := range Recipes() {
		t.Run(recipe, func(t *testing.T) {
			dir := repository(t, Repository{Recipe: recipe})
			var log records
			e, err := policy.New(t.Context(), policy.Options{Custom: []string{dir}, Site: site, Log: &log, FullRecords: true})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close(t.Context())
			var inputs, results []json.RawMessage
			for i, s := range sampleCalls {
				e.Decide(t.Context(), s.input(), policy.Mark{Mode: "run"})
				var record struct{ Input, Result json.RawMessage }
				if err := json.Unmarshal(log[i], &record); err != nil {
					t.Fatal(err)
				}
				inputs, results = append(inputs, record.Input), append(results, record.Result)
			}
			for i, stock := range stockDecisions(t, dir, inputs) {
				d, err := policy.ReadDocument(log[i])
				if err != nil {
					t.Fatal(err)
				}
				a, err := e.Ask(t.Context(), d)
				if err != nil {
					t.Fatal(err)
				}
				want := comparable(t, stock)
				if diff := gocmp.Diff(want, comparable(t, results[i])); diff != "" {
					t.Errorf("%s: the gateway decides otherwise than opa (-opa +gateway):\n%s", samples[i].Name, diff)
				}
				if diff := gocmp.Diff(want, comparable(t, []byte(asText(t, a)))); diff != "" {
					t.Errorf("%s: the kit decides otherwise than opa (-opa +kit):\n%s", samples[i].Name, diff)
				}
			}
		})
	}
}

type records [][]byte

func (r *records) Append(line []byte) error {
	*r = append(*r, slices.Clone(line))
	return nil
}

// stockDecisions has opa judge several inputs at once.
func stockDecisions(t testing.TB, dir string, inputs []json.RawMessage) []json.RawMessage {
	t.Helper()
	file := filepath.Join(t.TempDir(), "inputs.json")
	if err := os.WriteFile(file, []byte(asText(t, inputs)), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, status := opa(t, "eval", "--strict-builtin-errors", "--capabilities", filepath.Join(dir, "capabilities.json"),
		"--bundle", dir, "--bundle", filepath.Join(dir, "sallyport.tar.gz"), "--data", "site:"+filepath.Join(dir, "site.json"),
		"--input", file, "--format", "raw", "[decision | some call in input; decision := data.sallyport.decision with input as call]")
	var all []json.RawMessage
	if err := json.Unmarshal(stdout, &all); err != nil || len(all) != len(inputs) {
		t.Fatalf("%d: %v: %s %s", status, err, stdout, stderr)
	}
	return all
}

// comparable is a decision whose lists, sets in Rego, are in order.
func comparable(t testing.TB, text []byte) any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, name := range []string{"reasons", "redact"} {
		list, _ := v[name].([]any)
		slices.SortFunc(list, func(a, b any) int { return cmp.Compare(asText(t, a), asText(t, b)) })
	}
	return v
}

func asText(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
