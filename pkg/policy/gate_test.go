package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/sallyport/sallyport/pkg/tool"
)

const (
	goodManifest   = `{"revision": "r1", "roots": ["sallyport"], "rego_version": 1}`
	customManifest = `{"revision": "c1", "roots": ["custom/team"], "rego_version": 1}`
	logManifest    = `{"revision": "l1", "roots": ["system/log"], "rego_version": 1}`

	// refusing is the smallest policy of the documented shape.
	refusing = `package sallyport
decision := {"allow": false, "reasons": [], "limits": {"seconds": 0, "output_bytes": 0, "concurrent": 0}}
`
)

// files makes a bundle's directory.
func files(t testing.TB, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func mainBundle(t testing.TB, rego string) string {
	return files(t, map[string]string{".manifest": goodManifest, "sallyport/main.rego": rego})
}

func customBundle(t testing.TB, rego string) string {
	return files(t, map[string]string{".manifest": customManifest, "custom/team/team.rego": rego})
}

func logBundle(t testing.TB, rego string) string {
	return files(t, map[string]string{".manifest": logManifest, "system/log/log.rego": rego})
}

// loadMain reads a bundle to decide with, the shipped one if the path is empty.
func loadMain(path string) (*bundle.Bundle, error) {
	e := newEngine(Options{Bundle: path})
	img, err := imageOf(path)
	if err != nil {
		return nil, err
	}
	return e.readImage(e.set.sources[0], img)
}

// fromDisk reads an engine's bundles as a start does.
func fromDisk(e *Engine) (map[string]*bundle.Bundle, Faults) {
	images, faults := e.images()
	bundles, more := e.bundles(images)
	return bundles, append(faults, more...)
}

// badBundles are bundles that must not decide, and what the refusal has to
// name.
func badBundles(t testing.TB) map[string]struct {
	o    Options
	want string
} {
	decision := func(body string) string { return "package sallyport\n" + body }
	type bad = struct {
		o    Options
		want string
	}
	return map[string]bad{
		"asks the network": {
			Options{Bundle: mainBundle(t, decision(`decision := http.send({"method": "get", "url": "http://localhost"}).body`))},
			"undefined function http.send",
		},
		"asks the clock":           {Options{Bundle: mainBundle(t, decision(`decision := time.now_ns()`))}, "undefined function time.now_ns"},
		"asks the environment":     {Options{Bundle: mainBundle(t, decision(`decision := opa.runtime().env`))}, "undefined function opa.runtime"},
		"a misspelt input path":    {Options{Bundle: mainBundle(t, refusing+`x if input.host.alais == "x"`)}, "undefined ref: input.host.alais"},
		"an input of another type": {Options{Bundle: mainBundle(t, refusing+`x if input.host.port == "22"`)}, "match error"},
		"a misspelt word path":     {Options{Bundle: mainBundle(t, refusing+`x if input.ops[_].command.commands[_].args[_].pat.clean`)}, "undefined ref"},
		"no decision":              {Options{Bundle: mainBundle(t, "package sallyport\nallow := true")}, "the rule has no value"},
		"undefined for some input": {Options{Bundle: mainBundle(t, decision(`decision := {"allow": false} if input.host.alias == "x"`))}, "the rule has no value"},
		"allow is not boolean":     {Options{Bundle: mainBundle(t, strings.Replace(refusing, "false", `"no"`, 1))}, "decision.allow is not a boolean"},
		"an unknown field":         {Options{Bundle: mainBundle(t, strings.Replace(refusing, `"allow"`, `"extra": 1, "allow"`, 1))}, `unknown field "extra"`},
		"no limits":                {Options{Bundle: mainBundle(t, decision(`decision := {"allow": false, "reasons": []}`))}, "lacks one of"},
		"not an object":            {Options{Bundle: mainBundle(t, decision(`decision := true`))}, "decision is boolean"},
		"a reason without a code":  {Options{Bundle: mainBundle(t, strings.Replace(refusing, `[]`, `[{"title": "x"}]`, 1))}, "without a code"},
		"a reason of text":         {Options{Bundle: mainBundle(t, strings.Replace(refusing, `[]`, `["x"]`, 1))}, "list of objects"},
		"a negative limit":         {Options{Bundle: mainBundle(t, strings.Replace(refusing, `"seconds": 0`, `"seconds": -1`, 1))}, "not a whole number"},
		"an unknown limit":         {Options{Bundle: mainBundle(t, strings.Replace(refusing, `"seconds": 0`, `"seconds": 0, "bytes": 1`, 1))}, "unknown limit"},
		"a pattern that is none":   {Options{Bundle: mainBundle(t, strings.Replace(refusing, `"allow"`, `"redact": ["("], "allow"`, 1))}, "error parsing regexp"},
		"another kind of record":   {Options{Bundle: mainBundle(t, strings.Replace(refusing, `"allow"`, `"record": "all", "allow"`, 1))}, `"meta" or "full"`},
		"two decisions":            {Options{Bundle: mainBundle(t, refusing+`decision := {"allow": true} if input.version == 1`)}, "conflicting values"},
		"a built-in that breaks":   {Options{Bundle: mainBundle(t, refusing+`decision := x if x := to_number(input.call.id)`)}, "to_number"},
		"runs away":                {Options{Bundle: mainBundle(t, refusing+`decision := x if x := count([1 | some a in numbers.range(1, 100000); some b in numbers.range(1, 100000); a == b])`)}, "no answer in time"},
		"recursion":                {Options{Bundle: mainBundle(t, refusing+"a if b\nb if a")}, "recursive"},
		"does not parse":           {Options{Bundle: mainBundle(t, "package sallyport\ndecision := {")}, "rego_parse_error"},
		"a package outside of it":  {Options{Bundle: mainBundle(t, "package other\nx := 1")}, "do not permit"},
		"nothing in it":            {Options{Bundle: files(t, map[string]string{".manifest": goodManifest})}, "neither rules nor data"},
		"no revision":              {Options{Bundle: files(t, map[string]string{".manifest": `{"roots": ["sallyport"]}`, "sallyport/main.rego": refusing})}, "names no revision"},
		"a team's in its place":    {Options{Bundle: files(t, map[string]string{".manifest": `{"revision": "1"}`, "custom/t/t.rego": "package custom.t\n"})}, "has no package sallyport"},
		"no manifest":              {Options{Bundle: files(t, map[string]string{"sallyport/main.rego": refusing})}, "names no revision"},
		"it is not there":          {Options{Bundle: filepath.Join(t.TempDir(), "none")}, "no such file"},
		"a broken archive":         {Options{Bundle: filepath.Join(files(t, map[string]string{"b.tar.gz": "\x1f\x8b not really"}), "b.tar.gz")}, "gzip"},
		"the site's root":          {Options{Bundle: files(t, map[string]string{".manifest": `{"revision": "r", "roots": ["sallyport", "site"]}`, "sallyport/main.rego": refusing})}, "overlap"},
		"custom: never asked":      {Options{Custom: []string{customBundle(t, "package custom.team.night\nimport rego.v1\ndeny contains 1")}}, "never asked"},
		"custom: not a set":        {Options{Custom: []string{customBundle(t, "package custom.team\ndeny if input.host.alias == \"x\"")}}, "is to be a set"},
		"custom: a misspelt name":  {Options{Custom: []string{customBundle(t, "package custom.team\ndenny contains 1")}}, "deny if that was meant"},
		"custom: misspelt limits":  {Options{Custom: []string{customBundle(t, "package custom.team\nlimits := {\"secs\": 5}")}}, `custom.team says {"secs":5}`},
		"custom: a misspelt path":  {Options{Custom: []string{customBundle(t, "package custom.team\ndeny contains 1 if input.host.alais")}}, "undefined ref"},
		"custom: asks the network": {Options{Custom: []string{customBundle(t, "package custom.team\ndeny contains 1 if http.send({})")}}, "http.send"},
		"custom: the shipped root": {Options{Custom: []string{mainBundle(t, refusing)}}, "not its to own"},
		"custom: called like another": {Options{Custom: []string{
			filepath.Join(files(t, map[string]string{"a/.manifest": customManifest, "a/custom/team/x.rego": "package custom.team"}), "a"),
			filepath.Join(files(t, map[string]string{"a/.manifest": customManifest, "a/custom/team/x.rego": "package custom.team"}), "a"),
		}}, `another bundle is called "a"`},
		"custom: the same root twice": {Options{Custom: []string{
			customBundle(t, "package custom.team\nx := 1"), customBundle(t, "package custom.team\ny := 1"),
		}}, "overlap"},
		"mask: no such part": {Options{Custom: []string{logBundle(t, "package system.log\nmask contains \"/custom/x\"")}}, "does not point into"},
		"mask: unknown operation": {Options{Custom: []string{logBundle(t, `package system.log
mask contains {"op": "hide", "path": "/input/x"}`)}}, "neither remove nor upsert"},
		"mask: a number":  {Options{Custom: []string{logBundle(t, "package system.log\nmask contains 5")}}, "neither a pointer nor an object"},
		"drop: no answer": {Options{Custom: []string{logBundle(t, "package system.log\ndrop := 5")}}, "not a boolean"},
	}
}

// Each bad bundle is refused at the start, and as a later revision it changes
// nothing: the last good one goes on.
func TestGate(t *testing.T) {
	good, err := New(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close(t.Context())
	before := good.Revisions()
	for name, bad := range badBundles(t) {
		t.Run(name, func(t *testing.T) {
			e, err := New(t.Context(), bad.o)
			if err == nil {
				e.Close(t.Context())
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), bad.want) {
				t.Errorf("error is %q; want it to say %q", err, bad.want)
			}
			var said Faults
			if !errors.As(err, &said) || slices.ContainsFunc(said, func(f Fault) bool { return f.Message == "" || f.Remedy == "" }) {
				t.Errorf("%q are not faults, or one is without a remedy", err)
			}
			bundles, faults := fromDisk(newEngine(bad.o))
			if faults != nil {
				return // it does not even load
			}
			if bad.o.Bundle == "" {
				delete(bundles, mainBundleName)
			}
			if err := good.activate(t.Context(), bundles, nil); err == nil {
				t.Error("accepted as a later revision")
			}
			if !maps.Equal(good.Revisions(), before) {
				t.Errorf("revisions changed from %v to %v", before, good.Revisions())
			}
			in := canary(tool.Target{}, tool.AskGateway(tool.GatewayList, tool.AskHosts, ""))
			if d := good.Decide(t.Context(), in, Mark{}); !d.Allow {
				t.Errorf("the last good policy does not decide any more: %v", d.Reasons)
			}
		})
	}
}

// Whatever in this process activates a bundle comes through the gate.
func TestGateIsTheOnlyDoor(t *testing.T) {
	e, err := New(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(t.Context())
	b, err := loadMain(mainBundle(t, "package sallyport\nallow := true"))
	if err != nil {
		t.Fatal(err)
	}
	err = storage.Txn(t.Context(), e.store, storage.WriteParams, func(txn storage.Transaction) error {
		return bundle.Activate(&bundle.ActivateOpts{
			Ctx: t.Context(), Store: e.store, Txn: txn, TxnCtx: storage.NewContext(), Compiler: ast.NewCompiler(),
			Metrics: metrics.NoOp(), Bundles: map[string]*bundle.Bundle{mainBundleName: b}, ParserOptions: parserOptions(),
		})
	})
	if err == nil {
		t.Error("a bundle without a decision was activated past the gate")
	}
}

// An old release does not come back, even though it was good once.
func TestGateRefusesAnOlderSerial(t *testing.T) {
	at := func(serial string) string {
		return files(t, map[string]string{
			".manifest":           `{"revision": "` + serial + `", "roots": ["sallyport"], "metadata": {"serial": ` + serial + `}}`,
			"sallyport/main.rego": refusing,
		})
	}
	e, err := New(t.Context(), Options{Bundle: at("7")})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(t.Context())
	for _, step := range []struct{ serial, want string }{{"6", "7"}, {"7", "7"}, {"10", "10"}} {
		serial, want := step.serial, step.want
		b, err := loadMain(at(serial))
		if err != nil {
			t.Fatal(err)
		}
		err = e.activate(t.Context(), map[string]*bundle.Bundle{mainBundleName: b}, nil)
		if older := serial == "6"; (err != nil) != older {
			t.Errorf("serial %s: %v", serial, err)
		}
		if got := e.Revisions()[mainBundleName]; err == nil && got != serial || err != nil && got == serial {
			t.Errorf("after serial %s: revision %s is active, want %s", serial, got, want)
		}
	}
}

// A replaced bundle may come as an archive, as `opa build` makes it.
func TestBundleArchive(t *testing.T) {
	var archive bytes.Buffer
	z := gzip.NewWriter(&archive)
	w := tar.NewWriter(z)
	for name, text := range map[string]string{"/.manifest": goodManifest, "/sallyport/main.rego": refusing} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	z.Close()
	path := filepath.Join(files(t, map[string]string{"b.tar.gz": archive.String()}), "b.tar.gz")
	e, err := New(t.Context(), Options{Bundle: path})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(t.Context())
	if got := e.Revisions()[mainBundleName]; got != "r1" {
		t.Errorf("revision %q", got)
	}
	d := e.Decide(t.Context(), canary(tool.Target{}, tool.AskGateway(tool.GatewayList, tool.AskHosts, "")), Mark{})
	if d.Allow || len(d.Reasons) != 1 || d.Reasons[0].Code != "policy_undefined" {
		t.Errorf("a refusal without a reason became %+v", d)
	}
}

// The packages that policies/README.md shows pass the gate.
func TestExamples(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(shippedDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	examples := strings.Split(string(text), "```rego\n")[1:]
	if len(examples) < 2 {
		t.Fatalf("%d examples", len(examples))
	}
	for _, example := range examples {
		rego, _, _ := strings.Cut(example, "```")
		manifest := logManifest
		if strings.Contains(rego, "package custom.") {
			manifest = strings.Replace(customManifest, "custom/team", "custom", 1)
		}
		dir := files(t, map[string]string{".manifest": manifest, "example.rego": rego})
		start(t, Options{Custom: []string{dir}})
	}
}
