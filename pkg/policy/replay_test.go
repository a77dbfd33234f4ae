package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/pkg/tool"
)

// alike makes inputs that are often alike in some parts and rarely in all.
func alike(rnd *rand.Rand) Input {
	one := func(of ...string) string { return of[rnd.Intn(len(of))] }
	in := on(one("web1", "web2", "web9"), one("uptime", "id -u", "ls /var/log/*.log | sort", "cat $(x)"))
	in.Call.ID, in.Call.Tool, in.Call.Digest = one("a", "b", "c"), one("ssh_run", "ssh_plan"), one("d", "e")
	in.Subject.ID = one("agent-1", "agent-2")
	in.Subject.Groups = [][]string{{}, {"sre"}}[rnd.Intn(2)]
	in.Subject.Client.Name = one("x", "y")
	in.Host.Tags = [][]string{{}, {"production"}}[rnd.Intn(2)]
	in.Host.User = one("root", "ops")
	in.Usage.Running.Host = 4 * rnd.Intn(2)
	in.Usage.CallsLastMinute.Subject = 30 * rnd.Intn(2)
	in.Limits.Requested = tool.Limits{Seconds: rnd.Intn(3)}
	in.Now = one("2026-11-20T05:00:00Z", "2026-11-20T12:00:00Z", "2026-11-21T12:00:00Z")
	if rnd.Intn(8) == 0 {
		in.Ops = []tool.Op{tool.AskGateway(tool.GatewayRead, tool.AskHost, in.Host.Alias).Op}
	}
	return in
}

// oddRules look at inputs in ways that are hard to see, or make others look.
var oddRules = map[string]struct{ rego, reads string }{
	"nothing more":   {`deny contains 1 if input.host.alias == "moon"`, ""},
	"the clock":      {`deny contains "night" if time.clock(time.parse_rfc3339_ns(input.now))[0] < 6`, "input.now"},
	"the client":     {`deny contains "x" if input.subject.client.name == "x"`, "input.subject.client.name"},
	"brackets":       {`deny contains "b" if input["call"]["id"] == "b"`, "input.call.id"},
	"a computed key": {`deny contains "b" if { some k in ["id", "tool"]; input.call[k] == "b" }`, "input.call"},
	"computed root":  {`deny contains "x" if { some k in ["call", "limits"]; input[k].id == "a" }`, "input"},
	"the whole":      {`deny contains "c" if walk(input, [["call", "id"], "c"])`, "input"},
	"renamed":        {`deny contains "c" if { i := input; i.call.id == "c" }`, "input"},
	"an argument":    {"deny contains \"c\" if odd(input.call)\nodd(x) if x.id == \"c\"", "input.call"},
	"imported":       {"import input.limits as wishes\ndeny contains \"one\" if wishes.requested.seconds == 1", "input.limits.requested.seconds"},
	"object.get":     {`deny contains "plan" if object.get(input, ["call", "tool"], "") == "ssh_plan"`, "input"},
	"mocked input": {
		"deny contains \"mock\" if { not moon; moon with input.call.id as \"b\" }\nmoon if { input.call.id == \"b\"; input.host.user == \"root\" }",
		"input.call.id input.host.user",
	},
	"mocked shipped rules": {
		`deny contains "mock" if { not data.sallyport.host.permit; data.sallyport.host.permit with input.host.alias as "web1" }`, "",
	},
	"mocked site": {`deny contains "mock" if { not data.sallyport.limit.permit; data.sallyport.limit.permit with data.site.hosts as {"web9": data.site.hosts.web1} }`, ""},
	"a comprehension": {
		`deny contains concat(",", names) if { names := {n | some n in input.host.tags}; count(names) == 1 }`, "input.host.tags",
	},
	"every":          {`deny contains "all" if { every g in input.subject.groups { g == "sre" }; input.call.digest == "d" }`, "input.call.digest"},
	"an else":        {"deny contains word if word := a\na := 1 if input.host.user == \"ops\" else := 2 if input.call.id == \"a\"", "input.call.id input.host.user"},
	"a default":      {"default quiet := false\nquiet if input.limits.requested.seconds == 2\ndeny contains \"loud\" if not quiet", "input.limits.requested.seconds"},
	"a partial rule": {"by[k] := v if some k, v in input.call\ndeny contains \"b\" if by.id == \"b\"", "input.call"},
	"two values":     {"two := input.call.id if input.call.id != \"c\"\ntwo := input.host.user if input.call.digest == \"d\"\ndeny contains \"a\" if two == \"a\"", "input.call.digest input.call.id input.host.user"},
	"other packages": {`deny contains other if { some other in data.custom[_].redact; input.call.id == other }`, "input.call.id"},
	"limits":         {`limits := {"seconds": input.limits.requested.seconds + 5} if input.call.id == "a"`, "input.call.id input.limits.requested.seconds"},
	"redact":         {`redact contains input.subject.client.name if input.call.id == "a"`, "input.call.id input.subject.client.name"},
	"permit":         {`permit contains op if { some op in input.ops; input.host.user == "root" }`, "input.host.user"},
	"a small document": {
		"deny contains \"early\" if { some op in input.ops; op.effect == \"execute\"; early }\nearly if time.clock(time.parse_rfc3339_ns(input.now))[0] < 6", "input.now",
	},
	"a mocked small document": {
		"deny contains \"now\" if { some op in input.ops; op.effect == \"execute\"; not early; early with input.now as \"2026-11-20T05:00:00Z\" }\n" +
			"early if { time.clock(time.parse_rfc3339_ns(input.now))[0] < 6; input.call.id != \"a\" }",
		"input.now input.call.id",
	},
	"a key of a small document": {
		"deny contains word if { some op in input.ops; word := about[op.effect] }\nabout[effect] := input.call.id if { some effect in [\"execute\", \"observe\"]; input.host.user == \"ops\" }",
		"input.call.id input.host.user",
	},
	"all small documents": {
		"deny contains name if { some op in input.ops; op.effect == \"execute\"; some name, word in data.custom.team.about; word == \"b\" }\nabout.id := input.call.id\nabout.user := input.host.user",
		"input.call.id input.host.user",
	},
	"a small document in a function": {
		"deny contains \"x\" if { some op in input.ops; odd(op.effect) }\nodd(effect) if { effect == \"execute\"; quiet }\ndefault quiet := false\nquiet if input.subject.client.name == \"y\"",
		"input.subject.client.name",
	},
	"a small document that breaks": {
		"deny contains \"x\" if { some op in input.ops; op.effect == \"execute\"; fragile == 1 }\nfragile := 1 if input.call.id != \"c\"\nfragile := 2 if { input.call.id == \"b\"; input.host.user == \"ops\" }",
		"input.call.id input.host.user",
	},
	"a small document that nobody asks": {
		"deny contains \"x\" if { some op in input.ops; op.effect == \"moon\"; fragile == 1 }\nfragile := to_number(input.call.id)", "input.call.id",
	},
	"a token": {
		`deny contains "early" if { [ok, _, _] := io.jwt.decode_verify("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE4MDAwMDAwMDB9.fPjlurvORC2tJWpofnfTidC2_8f3kAinoJlzbuEduPY", {"secret": "s"}); ok }`,
		"input",
	},
}

// shippedReads is what the rules look at that are always there.
const shippedReads = "input.host.alias input.host.kind input.host.source input.host.via input.ops input.usage.running.host input.version"

// expiry is when the token of "a token" expires.
var expiry = time.Unix(1_800_000_000, 0)

// Replay finds what judging each input whole finds, whatever rules look at, and
// what it leaves out makes no difference.
func TestReplayIsSound(t *testing.T) {
	site := granting("diagnose", "web1", "web2")
	site.Limits.CallsPerMinute = 30
	for alias, h := range site.Hosts {
		h.Limits.CallsPerMinute = 30
		site.Hosts[alias] = h
	}
	for name, odd := range oddRules {
		t.Run(name, func(t *testing.T) {
			log := &memory{}
			custom := customBundle(t, "package custom.team\n"+odd.rego)
			rnd := rand.New(rand.NewSource(7))
			e := start(t, Options{
				Site: site, Log: log, FullRecords: true, Custom: []string{custom}, Timeout: time.Minute,
				Now: func() time.Time { return expiry.Add(time.Duration(rnd.Intn(3)-1) * time.Hour) },
			})
			for range 80 {
				e.Decide(t.Context(), alike(rnd), Mark{})
			}
			r, brute := replayOf(t, e), bruteForce(t, e)
			checkReads(t, r, odd.reads)
			for _, line := range log.lines {
				rec, err := readRecorded(line)
				if err != nil {
					t.Fatal(err)
				}
				got, want := answered(t, r, rec), answered(t, brute, rec)
				if !bytes.Equal(got.full, want.full) {
					t.Fatalf("%s\nremembered %s\nanew       %s", rec.input, got.full, want.full)
				}
				unchanged(t, r, line)
			}
			if len(r.rules.values.young) == 0 {
				t.Error("no rule was remembered")
			}
		})
	}
}

func checkReads(t *testing.T, r *Replay, more string) {
	t.Helper()
	if more == "input" {
		if !r.reads.whole || r.answers != nil {
			t.Errorf("looks at %s, and answers are remembered: %v; want the whole input and none", r.reads, r.answers != nil)
		}
		return
	}
	for _, place := range strings.Fields(shippedReads + " " + more) {
		if !r.reads.touches(strings.Split(place, ".")[1:]) {
			t.Errorf("looks at %s, and not at %s", r.reads, place)
		}
	}
	if r.reads.whole || r.reads.touches([]string{"subject", "client", "version"}) {
		t.Errorf("looks at %s, which is too much to find inputs alike", r.reads)
	}
}

func replayOf(t testing.TB, e *Engine) *Replay {
	t.Helper()
	r, err := e.Replay(t.Context(), ReplayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// bruteForce judges every input whole, and remembers nothing.
func bruteForce(t testing.TB, e *Engine) *Replay {
	t.Helper()
	whole := &reads{whole: true}
	return &Replay{engine: e, revision: e.active.Load(), reads: whole, looks: looks{at: whole}, survey: &survey{}, rules: &ruleMemo{}}
}

func answered(t testing.TB, r *Replay, rec *recorded) *answer {
	t.Helper()
	a, err := r.answer(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// unchanged judges a line and wants nothing to have changed.
func unchanged(t testing.TB, r *Replay, line []byte) {
	t.Helper()
	out, err := r.Judge(t.Context(), line)
	if err != nil || out.Status != Judged || out.Change != "" {
		t.Fatalf("%v: %s %s; changed: %s %v -> %v\n%s", err, out.Status, out.Cause, out.Change, out.Then, out.Now, line)
	}
}

// Calls that differ where no rule looks are judged once.
func TestReplayRemembers(t *testing.T) {
	log := &memory{}
	e := start(t, Options{Site: granting("readonly", "web1"), Log: log, FullRecords: true})
	for i := range 20 {
		in := on("web1", []string{"uptime", "id"}[i%2])
		in.Call.ID, in.Call.Digest, in.Now, in.Subject.Client.Version = fmt.Sprint(i), fmt.Sprint(i), fmt.Sprint(i), fmt.Sprint(i)
		e.Decide(t.Context(), in, Mark{})
	}
	r := replayOf(t, e)
	for _, line := range log.lines {
		unchanged(t, r, line)
	}
	if n := len(r.answers.young); n != 2 {
		t.Errorf("%d answers to two inputs", n)
	}
}

// A record that was written anew by some other program is still the same one.
func TestReplayOfOtherSpelling(t *testing.T) {
	log := &memory{}
	e := start(t, Options{Site: granting("readonly", "web1"), Log: log, FullRecords: true})
	for _, line := range []string{"uptime", "grep -c '<é\u0001\"\\\\>' /var/log/syslog", "id -u"} {
		e.Decide(t.Context(), on("web1", line), Mark{Mode: "run"})
	}
	r := replayOf(t, e)
	for i, line := range log.lines {
		var v map[string]any
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		v["type"], v["msg"] = "openpolicyagent.org/decision_logs", "Decision Log"
		spread, err := json.MarshalIndent(v, " ", "\t")
		if err != nil {
			t.Fatal(err)
		}
		unchanged(t, r, spread)
		out, _ := r.Judge(t.Context(), line)
		again, _ := r.Judge(t.Context(), spread)
		if diff := cmp.Diff(out, again); diff != "" || out.Host != "web1" || out.Tool != "canary" || out.Subject != "sallyport-canary" {
			t.Errorf("line %d: %+v (-line +spread):\n%s", i, out, diff)
		}
	}
}

// What cannot be judged again is told apart, and what is missing where no rule
// looks makes no difference.
func TestReplayStatus(t *testing.T) {
	r := replayOf(t, start(t, Options{Site: granting("readonly", "web1")}))
	log := &memory{}
	e := start(t, Options{Site: granting("readonly", "web1"), Log: log, FullRecords: true})
	e.Decide(t.Context(), on("web1", "uptime"), Mark{})
	whole := string(log.lines[0])
	with := func(fields string) string { return "{" + fields + "," + whole[1:] }
	for name, tc := range map[string]struct {
		line, cause string
		status      Status
		inPart      bool
	}{
		"whole":                 {whole, "", Judged, false},
		"from the console":      {with(`"type":"openpolicyagent.org/decision_logs","level":"info"`), "", Judged, false},
		"masked, not looked at": {with(`"masked":["/input/subject/client"]`), "", Judged, true},
		"erased, not looked at": {with(`"erased":["/input/host/tags/0","/input/call"]`), "", Judged, true},
		"masked":                {with(`"masked":["/input/subject/id"]`), "/input/subject/id", Masked, true},
		"masked around":         {with(`"masked":["/input/subject"]`), "/input/subject", Masked, true},
		"masked below":          {with(`"masked":["/input/ops/0/command/text"]`), "/input/ops/0/command/text", Masked, true},
		"masked in a list":      {with(`"masked":["/input/ops/0"]`), "/input/ops/0", Masked, true},
		"erased":                {with(`"erased":["/input/ops/0/command/text"]`), "/input/ops/0/command/text", Erased, true},
		"erased all":            {with(`"erased":["/input"]`), "/input", Erased, true},
		"erased the verdict":    {with(`"erased":["/result/allow"]`), "/result/allow", Erased, false},
		"masked the verdict":    {with(`"masked":["/result"]`), "/result", Masked, false},
		"odd mask":              {with(`"masked":["/elsewhere"]`), "/elsewhere", Masked, false},
		"withheld":              {strings.Replace(with(`"masked":["/input/ops/0"]`), `"record":"full"`, `"record":"meta"`, 1), "/input/ops/0", Withheld, true},
		"timeout":               {with(`"error":{"code":"policy_timeout","message":"no answer in time"}`), "policy_timeout", Unanswered, false},
		"not ready":             {with(`"error":{"code":"policy_not_ready","message":"x"}`), "policy_not_ready", Unanswered, false},
		"newer":                 {strings.Replace(whole, `"version":1`, `"version":2`, 1), "input.version is 2; this program reads 1", OtherVersion, false},
		"without a version":     {strings.Replace(whole, `"version":1,`, ``, 1), "input.version is missing; this program reads 1", OtherVersion, false},
		"other query":           {strings.Replace(whole, `"path":"sallyport/decision"`, `"path":"system/main"`, 1), "system/main", OtherQuery, false},
		"newer result": {
			strings.Replace(whole, `"approval":null`, `"approval":null,"quota":5`, 1),
			`result is of another version: json: unknown field "quota"`, OtherVersion, false,
		},
		"no verdict":    {strings.Replace(whole, `"allow":true,`, ``, 1), "result.allow is no boolean", Unreadable, false},
		"cut off":       {whole[:len(whole)/2], "is no JSON, or was cut off", Unreadable, false},
		"empty":         {"", "is no JSON, or was cut off", Unreadable, false},
		"a list":        {"[" + whole + "]", "is no object", Unreadable, false},
		"no input":      {strings.Replace(whole, `"input":`, `"output":`, 1), "has no input that is an object", Unreadable, false},
		"no result":     {strings.Replace(whole, `"result":`, `"answer":`, 1), "has no result that is an object", Unreadable, false},
		"no id":         {strings.Replace(whole, `"decision_id":`, `"id":`, 1), "has no decision_id", Unreadable, false},
		"no time":       {strings.Replace(whole, `"timestamp":`, `"time":`, 1), "has no timestamp", Unreadable, false},
		"null input":    {strings.Replace(whole, `"input":{`, `"input":null,"output":{`, 1), "input: is no object", Unreadable, false},
		"masks no list": {with(`"masked":"/input"`), "masked: json: cannot unmarshal string into Go value of type []string", Unreadable, false},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := r.Judge(t.Context(), []byte(tc.line))
			if err != nil || out.Status != tc.status || out.Cause != tc.cause || out.InPart != tc.inPart || out.Change != "" {
				t.Errorf("%v: %s, %q, in part %v, change %q; want %s, %q, in part %v",
					err, out.Status, out.Cause, out.InPart, out.Change, tc.status, tc.cause, tc.inPart)
			}
		})
	}
}

// A log that this engine wrote says that nothing changed, however it was masked
// and whatever it shows, and refusals without an answer are the same again.
func TestReplayOwnLog(t *testing.T) {
	const masks = `# METADATA
# scope: package
# schemas:
#   - input: schema.decision_log
package system.log

mask contains "/input/subject/client"
mask contains "/result/reasons/0" if input.input.host.alias == "web1"
mask contains {"op": "upsert", "path": "/result/reasons/0/detail", "value": "***"} if input.input.host.alias == "web2"
mask contains {"op": "upsert", "path": "/result/limits", "value": {"seconds": 0}} if input.input.host.alias == "web2"
`
	for _, full := range []bool{true, false} {
		log := &memory{}
		o := Options{Log: log, FullRecords: full, Custom: []string{logBundle(t, masks)}, Site: granting("readonly", "web1", "web2")}
		e := start(t, o)
		odd := start(t, Options{Bundle: mainBundle(t, fickle), Log: log, FullRecords: full, Timeout: time.Minute})
		for _, alias := range []string{"web1", "web2", "web9"} {
			for _, line := range []string{"uptime", "id", "$(x)", "df --x; id -u"} {
				e.Decide(t.Context(), on(alias, line), Mark{})
			}
			in := aboutHost(alias)
			in.Host.Kind = "posix"
			for _, op := range []tool.Op{
				in.Ops[0],
				{Action: tool.ConnOpen, Effect: tool.Link},
				{Action: tool.FileRead, Effect: tool.Observe, Place: "host", Path: "/var/log/a", Under: []string{"/", "/var", "/var/log", "/var/log/a"}},
			} {
				in.Ops = []tool.Op{op}
				e.Decide(t.Context(), in, Mark{})
			}
		}
		judged := replayAll(t, replayOf(t, e), log.lines)
		if want := map[bool]int{true: 21, false: 6}[full]; judged != want {
			t.Errorf("full %v: %d judged", full, judged)
		}
		log.lines = nil
		for _, alias := range []string{"undefined", "conflict", "error", "malformed", "approval", "allow", "silent", "contradiction", "other"} {
			in := aboutHost(alias)
			odd.Decide(t.Context(), in, Mark{})
		}
		if judged := replayAll(t, replayOf(t, odd), log.lines); judged != len(log.lines) {
			t.Errorf("full %v: %d of %d odd decisions judged", full, judged, len(log.lines))
		}
	}
}

// replayAll counts the lines that could be judged, in none of which anything
// changed.
func replayAll(t *testing.T, r *Replay, lines [][]byte) (judged int) {
	t.Helper()
	for _, line := range lines {
		out, err := r.Judge(t.Context(), line)
		if err != nil || out.Change != "" {
			t.Errorf("%v: changed: %s %v\nthen %v\nnow  %v\n%s", err, out.Change, out.Rules, out.Then, out.Now, line)
		}
		if out.Status == Judged {
			judged++
		}
	}
	return judged
}

// Each kind of change is told, with the rules at work.
func TestReplayChanges(t *testing.T) {
	const rules = `package sallyport
limits := {"seconds": 60, "output_bytes": 1000, "concurrent": 0}
yes := {"allow": true, "reasons": [], "limits": limits}
no(code, detail) := {"allow": false, "reasons": [{"code": code, "title": "No", "remedy": "wait", "detail": detail}], "limits": limits}
`
	for name, tc := range map[string]struct {
		then, now string
		change    Change
		rules     []string
	}{
		"nothing":          {`yes`, `object.union(yes, {"redact": []})`, "", nil},
		"newly denied":     {`yes`, `no("late", "x")`, NewlyDenied, []string{"late"}},
		"newly allowed":    {`no("late", "x")`, `yes`, NewlyAllowed, []string{"late"}},
		"no answer":        {`yes`, `{"allow": to_number(input.host.alias)}`, NewlyDenied, []string{"policy_error"}},
		"an answer":        {`{"allow": "yes"}`, `yes`, NewlyAllowed, []string{"policy_malformed"}},
		"approval":         {`yes`, `object.union(yes, {"approval": {"by": "sre"}})`, NewlyDenied, []string{"approval_required"}},
		"approved":         {`object.union(yes, {"approval": {"by": "sre"}})`, `yes`, NewlyAllowed, []string{"approval_required"}},
		"limits":           {`yes`, `object.union(yes, {"limits": {"seconds": 30, "output_bytes": 1000, "concurrent": 1}})`, LimitsChange, []string{"limits.concurrent", "limits.seconds"}},
		"bytes":            {`yes`, `object.union(yes, {"limits": {"output_bytes": 10}})`, LimitsChange, []string{"limits.output_bytes"}},
		"another reason":   {`no("late", "x")`, `no("early", "x")`, ReasonChange, []string{"early", "late"}},
		"another detail":   {`no("late", "x")`, `no("late", "y")`, ReasonChange, []string{"late"}},
		"what is hidden":   {`yes`, `object.union(yes, {"redact": ["x"]})`, OtherChange, []string{"redact"}},
		"what is shown":    {`yes`, `object.union(yes, {"redact": ["x"], "record": "meta"})`, OtherChange, []string{"record", "redact"}},
		"who has to agree": {`object.union(yes, {"approval": {"by": "a"}})`, `object.union(yes, {"approval": {"by": "b"}})`, OtherChange, []string{"approval"}},
	} {
		t.Run(name, func(t *testing.T) {
			log := &memory{}
			then := start(t, Options{Bundle: mainBundle(t, gated(rules, tc.then)), Log: log, FullRecords: true})
			now := start(t, Options{Bundle: mainBundle(t, gated(rules, tc.now))})
			in := on("web1", "uptime")
			in.Ops = append(in.Ops, tool.AskGateway(tool.GatewayControl, tool.AskReload, "").Op)
			then.Decide(t.Context(), in, Mark{})
			out, err := replayOf(t, now).Judge(t.Context(), log.lines[0])
			if err != nil || out.Status != Judged || out.Change != tc.change || !slices.Equal(out.Rules, tc.rules) {
				t.Fatalf("%v: %s %s: %q, %q; want %q, %q", err, out.Status, out.Cause, out.Change, out.Rules, tc.change, tc.rules)
			}
			if out.Change != "" && (out.Does != "uptime; gateway.control reload" || reflect.DeepEqual(out.Then, out.Now) != (tc.change == OtherChange)) {
				t.Errorf("%q: then %v, now %v", out.Does, out.Then, out.Now)
			}
		})
	}
}

// gated is a policy that says something of web1 alone, so that the canaries
// find nothing odd.
func gated(rules, decision string) string {
	return rules + "default decision := {\"allow\": false, \"reasons\": [], \"limits\": {\"seconds\": 0, \"output_bytes\": 0, \"concurrent\": 0}}\n" +
		"decision := " + decision + " if input.host.alias == \"web1\"\n"
}

// A value that is read from a record by hand is what OPA reads.
func TestValueOf(t *testing.T) {
	for _, text := range []string{
		`{}`, `[]`, `""`, `0`, `-1.5e3`, `true`, `false`, `null`, ` { "a" : [ 1 , { "b" : null } , [ ] ] , "c\u00e9" : "\ud83d\ude00\n\\" } `,
		"\"\xff\"", "\"\xc3\xa9\"", `{"a":1,"a":{"b":2}}`, `"a\\"`, `["\"]","{"]`, `12345678901234567890`, "\t[1,\r\n2]",
	} {
		sameValue(t, []byte(text))
	}
	rnd := rand.New(rand.NewSource(1))
	for range 100 {
		v, _ := quick.Value(reflect.TypeFor[Input](), rnd)
		text, err := json.Marshal(v.Interface())
		if err != nil {
			t.Fatal(err)
		}
		sameValue(t, text)
	}
}

func sameValue(t *testing.T, text []byte) {
	t.Helper()
	want, err := ast.ValueFromReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := valueOf(bytes.TrimSpace(text)); got.Value.Compare(want) != 0 {
		t.Errorf("%s\ngot  %v\nwant %v", text, got, want)
	}
}

// What a call was is told in a line, of every kind of op.
func TestReplayedDoes(t *testing.T) {
	const host = `"host":{"user":"ops","hostname":"box.lab.example","port":22}`
	for ops, want := range map[string]string{
		`{"action":"shell.run","command":{"text":"df -h"}}`:                                                    "df -h",
		`{"action":"shell.run","command":{"text":"df -h","cwd":"/srv"}}`:                                       "df -h (in /srv)",
		`{"action":"shell.run","command":{"text":"cat /x"}},{"action":"file.read","derived":true,"path":"/x"}`: "cat /x",
		`{"action":"file.read","path":"/x"},{"action":"file.write","path":"/y"}`:                               "file.read /x; file.write /y",
		`{"action":"file.read","path":"/x","flow":{"alias":"db1","path":"/y","to":true}}`:                      "file.read /x to db1:/y",
		`{"action":"file.write","path":"/y","flow":{"alias":"web1","path":"/x","to":false}}`:                   "file.write /y from web1:/x",
		`{"action":"conn.open"}`:                                                       "conn.open ops@box.lab.example:22",
		`{"action":"gateway.control","operation":"reload"}`:                            "gateway.control reload",
		`{"action":"host.read","facet":"os","argv":["uname","-snrm"]}`:                 "host.read os uname -snrm",
		`{"action":"container.control","operation":"stop","names":["a","b"]}`:          "container.control stop a b",
		`{"action":"db.read","path":5,"unit":"u"}`:                                     "db.read u",
		`{"action":"shell.run","command":{"text":"` + strings.Repeat("x", 400) + `"}}`: strings.Repeat("x", 300) + "…",
	} {
		r := &recorded{input: []byte(`{` + host + `,"ops":[` + ops + `]}`)}
		if got := r.does(); got != want {
			t.Errorf("%s: %q, want %q", ops, got, want)
		}
	}
}
