package policy

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policies"
)

var update = flag.Bool("update", false, "write the files that are generated from Go types")

const shippedDir = "../../policies"

// generated compares a shipped file with what the code says it has to be.
func generated(t *testing.T, name string, want []byte) {
	t.Helper()
	path := filepath.Join(shippedDir, filepath.FromSlash(name))
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is stale; write it with: go test ./pkg/policy -run 'Schema|Capabilities|Revision' -update", path)
	}
}

func indented(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

func TestInputSchema(t *testing.T) {
	generated(t, policies.InputSchema, indented(t, document("Input of a decision", schemaOf(reflect.TypeFor[Input]()))))
}

func TestSiteSchema(t *testing.T) {
	generated(t, policies.SiteSchema, indented(t, document("data.site", schemaOf(reflect.TypeFor[Site]()))))
}

// The records that rules of system.log see are events whose input and result
// have a type of their own.
func TestDecisionLogSchema(t *testing.T) {
	event := schemaOf(reflect.TypeFor[event]())
	parts := event["properties"].(map[string]any)
	parts["input"] = schemaOf(reflect.TypeFor[Input]())
	parts["result"] = schemaOf(reflect.TypeFor[result]())
	generated(t, policies.DecisionLogSchema, indented(t, document("Record of a decision, as system.log sees it", event)))
}

func document(title string, schema map[string]any) map[string]any {
	schema["$schema"] = "http://json-schema.org/draft-07/schema#"
	schema["title"] = title
	return schema
}

// schemaOf is the closed schema of what a type marshals to.
func schemaOf(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[json.RawMessage]():
		return map[string]any{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Interface:
		return map[string]any{}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Struct:
		if t.Implements(reflect.TypeFor[json.Marshaler]()) { // a time
			return map[string]any{"type": "string"}
		}
		return structSchema(t)
	}
	panic("no schema for " + t.String())
}

func structSchema(t reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		properties[name] = schemaOf(f.Type)
		if options != "omitempty" {
			required = append(required, name)
		}
	}
	slices.Sort(required)
	return map[string]any{
		"type": "object", "additionalProperties": false, "properties": properties, "required": required,
	}
}

// takenAway are the built-ins that no policy may use: a decision depends on its
// input and the bundles alone, so that it can be made again.
var takenAway = []string{
	"http.send", "net.lookup_ip_addr", "opa.runtime", "rego.parse_module", "trace",
	"time.now_ns", "rand.intn", "uuid.rfc4122", "io.jwt.encode_sign", "io.jwt.encode_sign_raw",
}

func TestCapabilities(t *testing.T) {
	all := ast.CapabilitiesForThisVersion()
	for _, name := range takenAway {
		if !slices.ContainsFunc(all.Builtins, func(b *ast.Builtin) bool { return b.Name == name }) {
			t.Errorf("%s is no built-in of this OPA; the list is stale", name)
		}
	}
	all.Builtins = slices.DeleteFunc(all.Builtins, func(b *ast.Builtin) bool { return slices.Contains(takenAway, b.Name) })
	generated(t, policies.Capabilities, indented(t, struct {
		*ast.Capabilities
		AllowNet []string `json:"allow_net"` // an empty list is no host, a missing one any
	}{all, []string{}}))
}
