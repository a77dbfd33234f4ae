package policy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"math/rand"
	"os"
	"reflect"
	"testing"
	"testing/quick"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// An input evaluates as what it is logged as: the value built by hand is that
// of the JSON, whatever is in it.
func TestValueIsJSON(t *testing.T) {
	rnd := rand.New(rand.NewSource(1))
	for range 300 {
		v, ok := quick.Value(reflect.TypeFor[Input](), rnd)
		if !ok {
			t.Fatal("no random input")
		}
		in := v.Interface().(Input)
		fillLists(reflect.ValueOf(&in).Elem())
		sameAsJSON(t, in)
	}
	for _, line := range lines(t) {
		sameAsJSON(t, on("web1", line))
	}
}

func sameAsJSON(t *testing.T, in Input) {
	t.Helper()
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	want, err := ast.ValueFromReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := in.Value(); got.Compare(want) != 0 {
		t.Fatalf("got  %v\nwant %v", got, want)
	}
}

// fillLists makes nil lists empty, which they are in every input.
func fillLists(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fillLists(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fillLists(v.Field(i))
		}
	case reflect.Slice:
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		for i := range v.Len() {
			fillLists(v.Index(i))
		}
	}
}

// lines are the command lines of both corpora.
func lines(t testing.TB) []string {
	t.Helper()
	var all []string
	for _, path := range []string{"../../testdata/corpus/commands-dev.jsonl", "testdata/commands.jsonl"} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		s := bufio.NewScanner(f)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			var c struct {
				Command string `json:"command"`
			}
			if err := json.Unmarshal(s.Bytes(), &c); err != nil {
				t.Fatal(err)
			}
			all = append(all, c.Command)
		}
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// The caches for rules and data change how fast a decision is, not what it is.
func TestCachesChangeNothing(t *testing.T) {
	custom := customBundle(t, `package custom.team

# Rules under with are evaluated in a frame of their own.
odd contains input.host.alias if count(input.ops) > 1

deny contains "mocked" if {
	not "web9" in odd
	"web9" in odd with input.host.alias as "web9" with input.ops as [{}, {}]
	not "web9" in odd
	level == "low"
	level == "high" with data.site.version as 2
	level == "low"
	input.ops[0].command.text == "uptime"
}

level := "low" if data.site.version == 1

level := "high" if data.site.version == 2
`)
	e := start(t, Options{Site: granting("diagnose", "web1"), Custom: []string{custom}})
	txn, err := e.store.NewTransaction(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer e.store.Abort(t.Context(), txn)
	r := e.active.Load()
	denied := 0
	for _, line := range lines(t) {
		input := on("web1", line).Value()
		v := evaluation{query: &r.decide, data: r.data, txn: txn, input: input, now: time.Now(), timeout: time.Minute}
		got, err := v.run(t.Context())
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		want, err := r.decide.Eval(t.Context(), rego.EvalParsedInput(input), rego.EvalTransaction(txn))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if !want[0].Expressions[0].Value.(*ast.Term).Equal(got) {
			t.Errorf("%q: got %v, want %v", line, got, want[0].Expressions[0].Value)
		}
		if line == "uptime" {
			denied++
			if d := e.Decide(t.Context(), on("web1", line), Mark{}); d.Allow {
				t.Error("the rule that mocks its input did not speak")
			}
		}
	}
	if denied == 0 {
		t.Error("uptime is in no corpus")
	}
}

func TestRuleCache(t *testing.T) {
	c := newRuleCache(nil)
	a, b := ast.MustParseRef("data.x.a"), ast.MustParseRef("data.x.b")
	value := ast.StringTerm("v")
	c.Put(a, value)
	c.Put(b, nil)
	if got, undefined := c.Get(a); got != value || undefined {
		t.Errorf("a is %v, %v", got, undefined)
	}
	if got, undefined := c.Get(b); got != nil || !undefined {
		t.Errorf("b is %v, %v", got, undefined)
	}
	if got, undefined := c.Get(ast.MustParseRef("data.x.c")); got != nil || undefined {
		t.Errorf("c is %v, %v", got, undefined)
	}
	a[2] = ast.StringTerm("overwritten") // as OPA does
	if got, _ := c.Get(ast.MustParseRef("data.x.a")); got != value {
		t.Errorf("a is %v", got)
	}
	c.Push()
	if got, undefined := c.Get(ast.MustParseRef("data.x.a")); got != nil || undefined {
		t.Errorf("a is %v, %v in a new frame", got, undefined)
	}
	c.Pop()
	c.Put(ast.MustParseRef("data.x.a"), ast.StringTerm("w"))
	if keys := c.Keys(); len(keys) != 1 || !keys[0].Equal(ast.MustParseRef("data.x.a")) {
		t.Errorf("keys %v", keys)
	}
	call := ast.Ref{ast.NewTerm(ast.MustParseRef("data.x.f")), value}
	c.Put(call, value)
	if got, undefined := c.Get(call); got != nil || undefined {
		t.Errorf("a call is kept: %v, %v", got, undefined)
	}
}

// Lists are never null, neither in an input nor in its record.
func TestNoNulls(t *testing.T) {
	for _, line := range lines(t) {
		text, err := json.Marshal(on("web1", line))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte(":null")) {
			t.Errorf("%q has a null in it: %s", line, text)
		}
	}
}
