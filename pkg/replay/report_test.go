package replay_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/replay"
	"github.com/sallyport/sallyport/pkg/tool"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Rules that nobody has made use of for some days are told, and those that were
// of use are not.
func TestUnused(t *testing.T) {
	log := &memory{}
	now := day
	rules := `deny contains {"code": "slept"} if input.ops[0].command.text == "sleep 1"
deny contains "moon" if input.host.alias == "the moon"
`
	e := engine(t, policy.Options{Log: log, FullRecords: true, Now: func() time.Time { return now }, Custom: []string{custom(t, rules)}})
	rnd := rand.New(rand.NewSource(1))
	say := func(days int, line string, groups ...string) {
		now = day.AddDate(0, 0, days)
		in := call(rnd, 0)
		facts := policy.NewInput(policy.Facts{Plan: tool.Plan{Steps: []tool.Step{tool.RunLine(line)}}})
		in.Ops, in.Host.Alias, in.Subject.Groups = facts.Ops, "web1", groups
		e.Decide(t.Context(), in, policy.Mark{})
	}
	say(0, "sudo -n systemctl restart app-web", "sre")
	say(1, "sleep 1")
	say(10, "nonsense")
	say(40, "uptime")
	judge, err := e.Replay(t.Context(), policy.ReplayOptions{Uses: true})
	if err != nil {
		t.Fatal(err)
	}
	restarts, slept, never := "rules[1] 2026-11-01", "data.custom.team.deny 2026-11-02", "data.custom.team.deny never"
	for days, want := range map[int][]string{1000: {never}, 39: {restarts, never}, 30: {restarts, slept, never}} {
		r, err := replay.Run(t.Context(), judge, replay.Options{Logs: []string{log.file(t)}, UnusedDays: days})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, rule := range r.Unused.Rules {
			last := "never"
			if rule.Last != nil {
				last = rule.Last.Format(time.DateOnly)
			}
			if rule.Kind != policy.KindReason {
				got = append(got, rule.Name+" "+last)
			} else if unknown := rule.Name == "command_program"; unknown && days > 30 {
				t.Errorf("%d days: %s was given", days, rule.Name)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || r.Unused.Days != days || !r.Unused.Since.Equal(day.AddDate(0, 0, 40-days)) {
			t.Errorf("%d days, since %v (-want +got):\n%s", days, r.Unused.Since, diff)
		}
	}
}

// Where any of some rules would do, one that is of use anyway is enough, and if none
// is, all are taken to be: all rules of no use may go at once.
func TestUnusedOfSeveral(t *testing.T) {
	type said struct {
		day  int
		does string
	}
	connects, runs := "connects", "runs"
	for name, tc := range map[string]struct {
		said []said
		want []string
	}{
		"nobody runs anything":     {[]said{{40, connects}}, nil},
		"one is of use":            {[]said{{35, runs}, {40, connects}}, []string{"rules[1]"}},
		"one is of use afterwards": {[]said{{35, connects}, {40, runs}}, []string{"rules[1]"}},
		"one was of use":           {[]said{{0, runs}, {40, connects}}, nil},
		"long ago":                 {[]said{{0, connects}, {40, "asks"}}, []string{"rules[0]", "rules[1]"}},
	} {
		log := &memory{}
		now := day
		e := engine(t, policy.Options{Log: log, FullRecords: true, Now: func() time.Time { return now }})
		steps := map[string]tool.Step{
			connects: {Op: tool.Op{Action: tool.ConnOpen, Effect: tool.Link}}, runs: tool.RunLine("uptime"),
			"asks": tool.AskGateway(tool.GatewayRead, tool.AskHost, "web1"),
		}
		for _, c := range tc.said {
			now = day.AddDate(0, 0, c.day)
			in := policy.NewInput(policy.Facts{Plan: tool.Plan{Steps: []tool.Step{steps[c.does]}}})
			in.Host, in.Network = call(rand.New(rand.NewSource(1)), 0).Host, call(rand.New(rand.NewSource(1)), 0).Network
			in.Host.Alias = "web1"
			if c.does == connects {
				in.Subject.Groups = []string{"sre"}
			}
			if d := e.Decide(t.Context(), in, policy.Mark{}); !d.Allow {
				t.Fatalf("%s: %+v", c.does, d.Reasons)
			}
		}
		judge, err := e.Replay(t.Context(), policy.ReplayOptions{Uses: true})
		if err != nil {
			t.Fatal(err)
		}
		r, err := replay.Run(t.Context(), judge, replay.Options{Logs: []string{log.file(t)}, UnusedDays: 30})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, rule := range r.Unused.Rules {
			if rule.Kind == policy.KindSite {
				got = append(got, rule.Name)
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// hostile is what an agent may call things.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `</pre></details><h1>owned`, `{{.Report}} ${x}`, `javascript:alert(1)`,
	"\x1b[2J\x1b]0;owned\a", "a\u202egpj.exe", "line\nbreak\ttab", "</title><script>", "é ☃ 日本", "x\xff\xfey", "'; alert(1); '", "]]>", "<!--",
}

// hostileReport is a report with hostile words in every place that a log can put
// words into.
func hostileReport(t *testing.T) *replay.Report {
	t.Helper()
	log, _, _ := recorded(t, policy.Options{FullRecords: true}, 1)
	var text bytes.Buffer
	for _, words := range hostile {
		var event map[string]any
		if err := json.Unmarshal(log.lines[0], &event); err != nil {
			t.Fatal(err)
		}
		event["decision_id"] = words
		event["bundles"] = map[string]any{words: map[string]any{"revision": words}}
		input := event["input"].(map[string]any)
		input["subject"].(map[string]any)["id"] = words
		input["host"].(map[string]any)["alias"] = words
		input["host"].(map[string]any)["hostname"] = words
		input["call"].(map[string]any)["tool"] = words
		input["ops"] = []any{map[string]any{"action": words, "command": map[string]any{"text": words, "cwd": words}}, map[string]any{"action": words, "path": words, "names": []string{words}}, map[string]any{"action": "conn.open"}}
		event["result"] = map[string]any{
			"allow": false, "redact": []any{}, "record": "full", "approval": nil,
			"limits":  map[string]any{"seconds": 1, "output_bytes": 1, "concurrent": 1},
			"reasons": []any{map[string]any{"code": words, "title": words, "remedy": words, "detail": words}},
		}
		line, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		event["path"] = words
		other, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%s\n%s\n%s\n", line, other, strings.ReplaceAll(words, "\n", " "))
	}
	e := engine(t, policy.Options{})
	r := run(t, e, replay.Options{Logs: []string{"-"}, Stdin: &text, Examples: 100})
	if r.Changed.All != len(hostile) || len(r.NotJudged) < len(hostile) || len(r.Problems) != len(hostile) {
		t.Fatalf("%d changed, %d not judged, %d problems", r.Changed.All, len(r.NotJudged), len(r.Problems))
	}
	return r
}

// The page is made of what it is made of, whatever a log says, and asks for
// nothing.
func TestHostileHTML(t *testing.T) {
	var page bytes.Buffer
	if err := hostileReport(t).WriteHTML(&page, 100); err != nil {
		t.Fatal(err)
	}
	for _, words := range hostile {
		if strings.ContainsAny(words, `<>"`) && bytes.Contains(page.Bytes(), []byte(words)) && words != "]]>" {
			t.Errorf("the page has %q in it", words)
		}
	}
	if i := bytes.IndexFunc(page.Bytes(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("the page has what cannot be seen in it: %q", page.Bytes()[i:i+20])
	}
	elements := strings.Fields("html head meta title style body h1 h2 p div b svg rect text table tr th td details summary span pre br")
	attributes := strings.Fields("lang charset http-equiv content name class viewBox role aria-label x y width height text-anchor")
	d := xml.NewDecoder(bytes.NewReader(page.Bytes()))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if !slices.Contains(elements, e.Name.Local) {
			t.Errorf("the page has an element %s", e.Name.Local)
		}
		for _, a := range e.Attr {
			if !slices.Contains(attributes, a.Name.Local) || strings.Contains(a.Value, "//") || strings.Contains(a.Value, "script:") {
				t.Errorf("%s has the attribute %s=%q", e.Name.Local, a.Name.Local, a.Value)
			}
		}
	}
}

// What is printed cannot take over a terminal, and a line is a line.
func TestHostileText(t *testing.T) {
	var out bytes.Buffer
	if err := hostileReport(t).WriteText(&out, 100); err != nil {
		t.Fatal(err)
	}
	if i := bytes.IndexFunc(out.Bytes(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("%q is printed", out.Bytes()[i:i+20])
	}
	for _, want := range []string{`$ \x1b[2J\x1b]0;owned\a (in \x1b[2J`, `a\u202egpj.exe`, `line\nbreak\ttab`, "é ☃ 日本", `<script>alert(1)</script>`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not printed:\n%s", want, out.String())
		}
	}
}

// sample is a report with something of everything in it.
func sample() *replay.Report {
	at := func(hours int) time.Time { return day.Add(time.Duration(hours) * time.Hour) }
	from, to, since := at(0), at(30), at(30).AddDate(0, 0, -7)
	late := tool.Reason{Code: "late", Title: "Restarts wait", Remedy: "call again after 06:00 UTC", Detail: "nginx"}
	denied := replay.Example{
		Change: policy.NewlyDenied, DecisionID: "01JD0000000000000000000002", Time: at(3), Log: "decisions.jsonl", Line: 2,
		Subject: "agent-7", Host: "web1", Tool: "ssh_run", Does: "sudo -n systemctl restart nginx", Rules: []string{"late"},
		Then: policy.Verdict{Allow: true, Reasons: []tool.Reason{}, Limits: tool.Limits{Seconds: 60, OutputBytes: 1 << 20}},
		Now:  policy.Verdict{Reasons: []tool.Reason{late}},
	}
	slower := denied
	slower.Change, slower.DecisionID, slower.Line, slower.Time, slower.Does = policy.LimitsChange, "01JD0000000000000000000009", 9, at(30), "uptime"
	slower.Rules, slower.Now = []string{"limits.seconds"}, policy.Verdict{Allow: true, Reasons: []tool.Reason{}, Limits: tool.Limits{Seconds: 30, OutputBytes: 1 << 20}}
	both := replay.Counts{All: 5, NewlyDenied: 4, Limits: 1}
	one, four := replay.Counts{All: 1, Limits: 1}, replay.Counts{All: 4, NewlyDenied: 4}
	return &replay.Report{
		Version: replay.ReportVersion,
		Bundles: []replay.Bundle{
			{Name: "night", Now: "r2", Then: []replay.Revision{}},
			{Name: "sallyport", Now: "r7", Then: []replay.Revision{{Revision: "r7", Decisions: 1234}}},
			{Name: "site", Now: "sha256:2", Then: []replay.Revision{{Revision: "sha256:1", Decisions: 1200}, {Revision: "sha256:2", Decisions: 34}}},
		},
		Logs: []replay.Log{{Name: "decisions.jsonl.1", Lines: 1000}, {Name: "decisions.jsonl", Lines: 235}},
		From: &from, To: &to, Decisions: 1235, Judged: 1200, Unchanged: 1195, JudgedInPart: 7, Changed: both,
		NotJudged: []replay.NotJudged{
			{Status: policy.Withheld, Cause: "/input/ops/0", Decisions: 33},
			{Status: policy.Unanswered, Cause: "policy_timeout", Decisions: 1},
			{Status: policy.Unreadable, Cause: "is no JSON, or was cut off", Decisions: 1},
		},
		Examples: []replay.Example{denied, slower},
		Rules: []replay.Group{
			{Name: "late", Judged: 4, Changed: four, Examples: []replay.Example{denied}},
			{Name: "limits.seconds", Judged: 1, Changed: one, Examples: []replay.Example{slower}},
		},
		Hosts:    []replay.Group{{Name: "web1", Judged: 1000, Changed: four, Examples: []replay.Example{denied}}, {Name: "", Judged: 200, Changed: one, Examples: []replay.Example{}}},
		Subjects: []replay.Group{{Name: "agent-7", Judged: 1200, Changed: both, Examples: []replay.Example{denied}}},
		Tools:    []replay.Group{{Name: "ssh_run", Judged: 1200, Changed: both, Examples: []replay.Example{denied}}},
		Timeline: replay.Timeline{StepSeconds: 3600, Steps: []replay.Step{
			{From: at(0), Judged: 700}, {From: at(3), Judged: 300, Changed: four}, {From: at(30), Judged: 200, Changed: one},
		}},
		Problems: []replay.Problem{{Log: "decisions.jsonl", Line: 235, Problem: "is no JSON, or was cut off"}},
		Unused: &replay.Unused{Days: 7, Since: &since, Of: 40, Rules: []replay.UnusedRule{
			{Rule: policy.Rule{Kind: policy.KindSite, Name: "rules[2]", Where: "policy.yml:14", Title: "allow ops for group sre"}, Last: &from},
			{Rule: policy.Rule{Kind: policy.KindCustom, Name: "data.custom.night.deny", Where: "night/custom/night/night.rego:4", Title: "Nobody sleeps"}},
		}},
	}
}

// The JSON has the documented shape, and text and page are what people see.
func TestReportGoldens(t *testing.T) {
	var shape, text, page bytes.Buffer
	enc := json.NewEncoder(&shape)
	enc.SetIndent("", "  ")
	if err := errors.Join(enc.Encode(sample()), sample().WriteText(&text, 10), sample().WriteHTML(&page, 10)); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/report.json", shape.Bytes())
	golden(t, "testdata/report.txt", text.Bytes())
	golden(t, "testdata/report.html", page.Bytes())
}

// A report of nothing has the same shape: no list is null.
func TestEmptyReport(t *testing.T) {
	r := run(t, engine(t, policy.Options{}), replay.Options{Logs: []string{"-"}, Stdin: strings.NewReader("")})
	got, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var keys, want map[string]any
	full, err := json.Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(json.Unmarshal(got, &keys), json.Unmarshal(full, &want)); err != nil {
		t.Fatal(err)
	}
	for name, value := range want {
		if _, there := keys[name]; !there {
			t.Errorf("%s is missing", name)
		}
		if _, isList := value.([]any); isList && keys[name] == nil {
			t.Errorf("%s is null", name)
		}
	}
	var text, page bytes.Buffer
	if err := errors.Join(r.WriteText(&text, 10), r.WriteHTML(&page, 10)); err != nil || !strings.HasPrefix(text.String(), "no decisions\n") {
		t.Errorf("%v: %s", err, text.String())
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
