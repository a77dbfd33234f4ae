package tool

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type sampleArgs struct {
	Alias   string   `json:"alias" arg:"required,max=10" doc:"a host"`
	Command string   `json:"command" arg:"required,text"`
	Lines   int      `json:"lines,omitempty" arg:"min=1,max=1000"`
	Order   string   `json:"order,omitempty" enum:"up,down"`
	Quiet   bool     `json:"quiet,omitempty"`
	Names   []string `json:"names,omitempty"`
}

func TestDecodeRefusesWhatADecoderWouldMend(t *testing.T) {
	for name, tc := range map[string]struct{ raw, argument, message, remedy string }{
		"not an object":     {`[1]`, "", "not a JSON object", "an object"},
		"torn":              {`{"alias":"web1"`, "", "not valid JSON", "well-formed"},
		"torn value":        {`{"alias":`, "", "not valid JSON", "well-formed"},
		"something behind":  {`{"alias":"a","command":"b"} {}`, "", "something follows", "one object"},
		"invalid UTF-8":     {"{\"alias\":\"\xff\"}", "", "not valid UTF-8", "UTF-8"},
		"missing":           {`{"alias":"web1"}`, "command", `"command" is required`, "a string"},
		"null is missing":   {`{"alias":null,"command":"id"}`, "alias", `"alias" is required`, "at most 10"},
		"empty":             {`{"alias":"  ","command":"id"}`, "alias", "is empty", "a string"},
		"unknown":           {`{"alias":"a","command":"b","host":"c"}`, "host", `unknown argument "host"`, "alias, command"},
		"case variant":      {`{"alias":"a","command":"ls","COMMAND":"rm"}`, "COMMAND", `unknown argument "COMMAND"`, `"command"`},
		"folded case":       {`{"aliaſ":"a","command":"ls"}`, "aliaſ", "unknown argument", `"alias"`},
		"duplicate":         {`{"alias":"a","command":"ls","command":"rm"}`, "command", "given twice", "once"},
		"number for string": {`{"alias":7,"command":"b"}`, "alias", "is the number 7", "a string"},
		"string for number": {`{"alias":"a","command":"b","lines":"7"}`, "lines", "is a string", "from 1 to 1000"},
		"fraction":          {`{"alias":"a","command":"b","lines":1.5}`, "lines", "is the number 1.5", "an integer"},
		"too small":         {`{"alias":"a","command":"b","lines":0}`, "lines", "is 0", "from 1 to 1000"},
		"too large":         {`{"alias":"a","command":"b","lines":1001}`, "lines", "is 1001", "from 1 to 1000"},
		"too long":          {`{"alias":"abcdefghijk","command":"b"}`, "alias", "has 11 characters", "at most 10"},
		"not in enum":       {`{"alias":"a","command":"b","order":"left"}`, "order", `is "left"`, "up, down"},
		"blank in name":     {`{"alias":"a b","command":"b"}`, "alias", `' '`, "letters"},
		"zero width":        {`{"alias":"a\u200b","command":"b"}`, "alias", "U+200B", "letters"},
		"NUL in name":       {`{"alias":"a\u0000","command":"b"}`, "alias", "U+0000", "letters"},
		"option as name":    {`{"alias":"-oProxyCommand=x","command":"b"}`, "alias", "begins with a dash", "letter or digit"},
		"half a surrogate":  {`{"alias":"a","command":"\ud800"}`, "command", "surrogate", "whole"},
	} {
		t.Run(name, func(t *testing.T) {
			var got sampleArgs
			err := Decode(json.RawMessage(tc.raw), &got)
			bad, ok := err.(*ArgumentError)
			if !ok {
				t.Fatalf("Decode(%s) = %v, want an *ArgumentError", tc.raw, err)
			}
			if bad.Argument != tc.argument || !strings.Contains(bad.Message, tc.message) || !strings.Contains(bad.Remedy, tc.remedy) {
				t.Errorf("Decode(%s): argument %q, message %q, remedy %q; want %q, …%q…, …%q…",
					tc.raw, bad.Argument, bad.Message, bad.Remedy, tc.argument, tc.message, tc.remedy)
			}
		})
	}
}

func TestDecodeTakesWhatIsMeant(t *testing.T) {
	var got sampleArgs
	raw := `{"alias":" web.1 ","command":"  echo \ufffd é\n","lines":7,"order":"up","quiet":true,"names":["a","b"]}`
	if err := Decode(json.RawMessage(raw), &got); err != nil {
		t.Fatal(err)
	}
	want := sampleArgs{Alias: "web.1", Command: "  echo \ufffd é\n", Lines: 7, Order: "up", Quiet: true, Names: []string{"a", "b"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, empty := range []string{"", "null", "{}", " "} {
		var none struct{}
		if err := Decode(json.RawMessage(empty), &none); err != nil {
			t.Errorf("Decode(%q) = %v", empty, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(`{"alias":"a","command":"b"}`)
	f.Add(`{"alias":"a","Alias":"b","command":"c","lines":1e3}`)
	f.Fuzz(func(t *testing.T, raw string) {
		var got sampleArgs
		if Decode(json.RawMessage(raw), &got) != nil {
			return
		}
		if got.Alias == "" || got.Command == "" || len(got.Alias) > 10 {
			t.Errorf("Decode(%q) let %+v pass", raw, got)
		}
	})
}

func spec() Spec[sampleArgs, Status] {
	return Spec[sampleArgs, Status]{
		Name: "sample", Set: "test", Doc: "A sample.", Effect: Observe,
		Plan: func(a sampleArgs) (Plan, error) {
			return Plan{Scope: Scope{Alias: a.Alias}, Steps: []Step{RunLine(a.Command)}}, nil
		},
		Format: func(_ sampleArgs, runs []Run) Status { return StatusOf(runs[0]) },
	}
}

func TestNewRefusesAnIncompleteDefinition(t *testing.T) {
	for name, spoil := range map[string]func(*Spec[sampleArgs, Status]){
		"name":       func(s *Spec[sampleArgs, Status]) { s.Name = "Sample" },
		"long name":  func(s *Spec[sampleArgs, Status]) { s.Name = strings.Repeat("a", 25) },
		"set":        func(s *Spec[sampleArgs, Status]) { s.Set = "" },
		"doc":        func(s *Spec[sampleArgs, Status]) { s.Doc = "" },
		"effect":     func(s *Spec[sampleArgs, Status]) { s.Effect = "" },
		"odd effect": func(s *Spec[sampleArgs, Status]) { s.Effect = "look" },
		"plan":       func(s *Spec[sampleArgs, Status]) { s.Plan = nil },
		"format":     func(s *Spec[sampleArgs, Status]) { s.Format = nil },
	} {
		t.Run(name, func(t *testing.T) {
			s := spec()
			spoil(&s)
			defer func() {
				if recover() == nil {
					t.Error("New made a tool of it")
				}
			}()
			New(s)
		})
	}
}

func TestPlanRefusesAStepWithoutMeaningOrDeed(t *testing.T) {
	for name, steps := range map[string][]Step{
		"no steps": nil,
		"no op":    {{Do: Exec{Argv: []string{"id"}}}},
		"no deed":  {{Op: Op{Action: HostRead, Effect: Observe}}},
		"odd op":   {{Op: Op{Action: "moon.read"}, Do: Exec{}}},
	} {
		s := spec()
		s.Plan = func(sampleArgs) (Plan, error) { return Plan{Steps: steps}, nil }
		if _, err := New(s).Plan(json.RawMessage(`{"alias":"a","command":"b"}`)); err == nil {
			t.Errorf("%s: the plan passed", name)
		}
	}
}

func TestSchemaIsClosedAndSaysWhatDecodeChecks(t *testing.T) {
	got := string(New(spec()).Input)
	want := `{"additionalProperties":false,"properties":{` +
		`"alias":{"description":"a host","maxLength":10,"type":"string"},"command":{"type":"string"},` +
		`"lines":{"maximum":1000,"minimum":1,"type":"integer"},"names":{"items":{"type":"string"},"type":"array"},` +
		`"order":{"enum":["up","down"],"type":"string"},"quiet":{"type":"boolean"}},` +
		`"required":["alias","command"],"type":"object"}`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestDigestBindsHostAddressAndSteps(t *testing.T) {
	target := Target{Alias: "web1", Hostname: "web1.internal", Port: 22, User: "ops"}
	base := Digest(target, []Step{RunLine("uptime")})
	if again := Digest(target, []Step{RunLine("uptime")}); again != base {
		t.Errorf("the same plan has digests %s and %s", base, again)
	}
	other := target
	other.Port = 2222
	for name, digest := range map[string]string{
		"command": Digest(target, []Step{RunLine("id")}),
		"port":    Digest(other, []Step{RunLine("uptime")}),
		"steps":   Digest(target, []Step{RunLine("uptime"), RunLine("uptime")}),
		"deed":    Digest(target, []Step{{Op: Op{Action: ShellRun}, Do: Exec{Argv: []string{"uptime"}}}}),
	} {
		if digest == base {
			t.Errorf("another %s has the same digest", name)
		}
	}
}

// Clients check a result against the schema, so what marshals must be in it.
func TestSchemaHoldsWhatMarshals(t *testing.T) {
	type result struct {
		Status
		Alias string `json:"alias"`
	}
	b, err := json.Marshal(result{Status: Status{StatusOK, Grounds{"x", []Reason{{}}, &Problem{}}}})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	schema := Schema(reflect.TypeFor[result]())
	for key := range got {
		if _, ok := schema["properties"].(map[string]any)[key]; !ok {
			t.Errorf("%q is not in the schema", key)
		}
	}
	if diff := cmp.Diff([]string{"status"}, schema["required"]); diff != "" {
		t.Error(diff)
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 hosts", 1: "1 host", 2: "2 hosts"} {
		if got := Count(n, "host"); got != want {
			t.Errorf("Count(%d) = %s", n, got)
		}
	}
}
