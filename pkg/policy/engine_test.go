package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/pkg/journal"
	"github.com/sallyport/sallyport/pkg/tool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a log in memory that can be full.
type memory struct {
	mu    sync.Mutex
	full  bool
	lines [][]byte
}

var errFull = errors.New("no space left on device")

func (m *memory) Append(line []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return errFull
	}
	m.lines = append(m.lines, slices.Clone(line))
	return nil
}

func (m *memory) setFull(full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.full = full
}

// records are the lines as JSON.
func (m *memory) records(t testing.TB) []map[string]any {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []map[string]any
	for _, line := range m.lines {
		if bytes.ContainsRune(line, '\n') {
			t.Errorf("a record is more than one line: %q", line)
		}
		var r map[string]any
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, r)
	}
	return all
}

// start gives an engine time: a test of what is decided must not fail on a busy
// machine.
func start(t testing.TB, o Options) *Engine {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	e, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return e
}

// on is an input of a command line on a host.
func on(alias, line string) Input {
	target := canaryTarget(alias)
	target.Via = nil
	return canary(target, tool.RunLine(line))
}

// fickle passes the gate, and breaks in another way on each of some hosts.
const fickle = `package sallyport
import rego.v1

limits := {"seconds": 60, "output_bytes": 1000, "concurrent": 0}
yes := {"allow": true, "reasons": [], "limits": limits}
no := {"allow": false, "reasons": [{"code": "no", "title": "", "remedy": "", "detail": ""}], "limits": limits}

odd := {"undefined", "conflict", "error", "slow", "malformed", "approval", "allow", "silent", "contradiction"}

decision := no if not input.host.alias in odd
decision := yes if input.host.alias in {"allow", "conflict"}
decision := no if input.host.alias == "conflict"
decision := {"allow": to_number(input.host.alias)} if input.host.alias == "error"
decision := {"allow": count([1 | some a in numbers.range(1, 9999); some b in numbers.range(1, 9999); a == b + 1])} if {
	input.host.alias == "slow"
}
decision := {"allow": "yes"} if input.host.alias == "malformed"
decision := object.union(yes, {"approval": {"by": "a person"}}) if input.host.alias == "approval"
decision := object.union(no, {"reasons": []}) if input.host.alias == "silent"
decision := object.union(no, {"allow": true}) if input.host.alias == "contradiction"
`

func codes(d tool.Decision) []string {
	var all []string
	for _, r := range d.Reasons {
		all = append(all, r.Code)
	}
	return all
}

// No answer is a refusal, and each way of not answering has its own code.
func TestFailClosed(t *testing.T) {
	log := &memory{}
	e := start(t, Options{Bundle: mainBundle(t, fickle), Log: log, Timeout: 20 * time.Millisecond})
	for alias, want := range map[string]string{
		"undefined": "policy_undefined", "conflict": "policy_conflict", "error": "policy_error", "slow": "policy_timeout",
		"malformed": "policy_malformed", "approval": "approval_required", "silent": "policy_undefined",
		"contradiction": "policy_malformed", "other": "no",
	} {
		d := e.Decide(t.Context(), on(alias, "uptime"), Mark{})
		if d.Allow || !slices.Equal(codes(d), []string{want}) {
			t.Errorf("%s: allow %v, reasons %v; want a refusal with %s", alias, d.Allow, codes(d), want)
		}
		records := log.records(t)
		last := records[len(records)-1]
		if last["decision_id"] != d.ID || d.ID == "" {
			t.Errorf("%s: decision %s is logged as %v", alias, d.ID, last["decision_id"])
		}
		failed, _ := last["error"].(map[string]any)
		if strings.HasPrefix(want, "policy_") && alias != "silent" && (failed["code"] != want || failed["message"] == "") {
			t.Errorf("%s: the record's error is %v", alias, failed)
		}
	}
	if d := e.Decide(t.Context(), on("allow", "uptime"), Mark{}); !d.Allow {
		t.Errorf("after all that, what is allowed is refused: %v", d.Reasons)
	}
}

func TestCancelled(t *testing.T) {
	e := start(t, Options{Bundle: mainBundle(t, fickle), Timeout: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	timer := time.AfterFunc(50*time.Millisecond, cancel)
	defer timer.Stop()
	d := e.Decide(ctx, on("slow", "uptime"), Mark{})
	if d.Allow || !slices.Equal(codes(d), []string{"policy_cancelled"}) {
		t.Errorf("allow %v, reasons %v", d.Allow, codes(d))
	}
}

func TestClosed(t *testing.T) {
	log := &memory{}
	e := start(t, Options{Log: log})
	if err := e.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	e.Close(t.Context())
	if e.Ready() == nil {
		t.Error("ready although it is closed")
	}
	d := e.Decide(t.Context(), on("x", "uptime"), Mark{})
	if d.Allow || !slices.Equal(codes(d), []string{"policy_not_ready"}) {
		t.Errorf("allow %v, reasons %v", d.Allow, codes(d))
	}
	if len(log.records(t)) != 1 {
		t.Error("the refusal is not on the log")
	}
}

// What has no record does not happen; when the log can be written again, it
// does.
func TestLogUnwritable(t *testing.T) {
	log, other := &memory{}, &memory{}
	e := start(t, Options{Bundle: mainBundle(t, fickle), Log: journal.Tee(log, other)})
	log.setFull(true)
	for alias, want := range map[string][]string{"allow": {"log_unwritable"}, "other": {"no", "log_unwritable"}} {
		d := e.Decide(t.Context(), on(alias, "uptime"), Mark{})
		if d.Allow || !slices.Equal(codes(d), want) {
			t.Errorf("%s: allow %v, reasons %v; want %v", alias, d.Allow, codes(d), want)
		}
	}
	if s := e.Stats(); s.Decisions != 2 || s.Lost != 2 {
		t.Errorf("%+v", s)
	}
	if n := len(other.records(t)); n != 2 {
		t.Errorf("the other log has %d records; one full disk cost it some", n)
	}
	log.setFull(false)
	if d := e.Decide(t.Context(), on("allow", "uptime"), Mark{}); !d.Allow {
		t.Errorf("refused although the log can be written again: %v", d.Reasons)
	}
}

// Effective is the smaller of wish and decision, kind by kind.
func TestLimits(t *testing.T) {
	e := start(t, Options{Bundle: mainBundle(t, fickle)})
	for _, tc := range []struct{ wish, want tool.Limits }{
		{tool.Limits{}, tool.Limits{Seconds: 60, OutputBytes: 1000}},
		{tool.Limits{Seconds: 5, OutputBytes: 5, Concurrent: 5}, tool.Limits{Seconds: 5, OutputBytes: 5, Concurrent: 5}},
		{tool.Limits{Seconds: 500, OutputBytes: 5000}, tool.Limits{Seconds: 60, OutputBytes: 1000}},
	} {
		in := on("allow", "uptime")
		in.Limits.Requested = tc.wish
		if d := e.Decide(t.Context(), in, Mark{}); d.Limits != tc.want {
			t.Errorf("wish %+v gives %+v, want %+v", tc.wish, d.Limits, tc.want)
		}
	}
}

// granting is a site with hosts on which everybody has a profile.
func granting(profile string, aliases ...string) Site {
	limits := SiteLimits{Seconds: 60, OutputBytes: 1 << 20, Concurrent: 4}
	s := Site{
		Version: SiteVersion, Hosts: map[string]SiteHost{}, Limits: limits,
		Classes: map[string]SiteClass{"c0": {Allow: SiteGrants{Any: map[string]SiteGrant{profile: {"rules[0]", 1}}}}},
	}
	for _, alias := range aliases {
		s.Hosts[alias] = SiteHost{Class: "c0", Limits: limits}
	}
	return s
}

func TestRecord(t *testing.T) {
	log := &memory{}
	now := time.Date(2026, 11, 20, 12, 0, 0, 5, time.FixedZone("CET", 3600))
	e := start(t, Options{
		Site: granting("readonly", "web1"), Log: log, Now: func() time.Time { return now },
		Labels: map[string]string{"site": "lab"}, FullRecords: true,
	})
	in := on("web1", "grep -c '<x>' /var/log/syslog")
	d := e.Decide(t.Context(), in, Mark{Mode: "plan", Digest: "d1", Custom: map[string]any{"session": "s1"}})
	if !d.Allow {
		t.Fatal(d.Reasons)
	}
	r := log.records(t)[0]
	labels := r["labels"].(map[string]any)
	if labels["site"] != "lab" || labels["id"] == "" || labels["version"] == "" {
		t.Errorf("labels %v", labels)
	}
	if ns := r["metrics"].(map[string]any)["timer_rego_query_eval_ns"].(float64); ns <= 0 {
		t.Errorf("the evaluation took %v ns", ns)
	}
	delete(r, "labels")
	delete(r, "metrics")
	want := map[string]any{
		"decision_id": d.ID, "path": "sallyport/decision", "timestamp": "2026-11-20T11:00:00.000000005Z",
		"bundles": map[string]any{
			"sallyport": map[string]any{"revision": d.Bundles["sallyport"]},
			"site":      map[string]any{"revision": d.Bundles["site"]},
		},
		"custom": map[string]any{"mode": "plan", "digest": "d1", "session": "s1"},
		"input":  plain(t, in),
		"result": map[string]any{
			"allow": true, "reasons": []any{}, "redact": []any{}, "record": "full", "approval": nil,
			"limits": map[string]any{"seconds": 60.0, "output_bytes": 1048576.0, "concurrent": 4.0},
		},
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if !maps.Equal(d.Bundles, e.Revisions()) {
		t.Errorf("decided by %v, active are %v", d.Bundles, e.Revisions())
	}
}

// A logged input, read back, gives the same decision: nothing else matters.
func TestReplay(t *testing.T) {
	log := &memory{}
	e := start(t, Options{Site: granting("diagnose", "web1"), Log: log, FullRecords: true})
	for _, line := range []string{"uptime", "ls /var/log/*.log | sort", "id", "$(x)", "cat <<E\nE", "sh -c uptime", "x=1 true > /tmp/x", ""} {
		e.Decide(t.Context(), on("web1", line), Mark{})
	}
	txn, err := e.store.NewTransaction(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer e.store.Abort(t.Context(), txn)
	for _, line := range log.lines {
		var r struct {
			Input  json.RawMessage `json:"input"`
			Result json.RawMessage `json:"result"`
		}
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		input, err := ast.ValueFromReader(bytes.NewReader(r.Input))
		if err != nil {
			t.Fatal(err)
		}
		active := e.active.Load()
		v := evaluation{query: &active.decide, data: active.data, txn: txn, input: input, now: time.Now(), timeout: time.Minute}
		term, err := v.run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		decided, err := readResult(term.Value)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(plain(t, r.Result), plain(t, decided)); diff != "" {
			t.Errorf("%s decided anew (-then +now):\n%s", r.Input, diff)
		}
	}
}

const masking = `# METADATA
# scope: package
# schemas:
#   - input: schema.decision_log
package system.log

mask contains "/input/subject/client"
mask contains "/input/nosuch/thing"
mask contains "/result/reasons/0/detail" if not input.result.allow
mask contains {"op": "upsert", "path": "/input/host/user", "value": "***"}
mask contains {"op": "upsert", "path": "/input/ops/0/command/text", "value": {"cut": true}} if input.input.host.alias == "web1"
drop if input.input.host.alias == "quiet"
`

// Masks change the record and nothing else.
func TestMask(t *testing.T) {
	log := &memory{}
	e := start(t, Options{Site: granting("readonly", "web1", "quiet"), Log: log, Custom: []string{logBundle(t, masking)}, FullRecords: true})
	in := on("web1", "id")
	d := e.Decide(t.Context(), in, Mark{})
	if d.Allow || d.Reasons[0].Detail == "" {
		t.Errorf("the caller's own copy is masked: %+v", d)
	}
	if in.Host.User != "canary" {
		t.Error("the input itself is masked")
	}
	if allowed := e.Decide(t.Context(), on("quiet", "uptime"), Mark{}); !allowed.Allow {
		t.Errorf("refused: %v", allowed.Reasons)
	}
	records := log.records(t)
	if len(records) != 1 || e.Stats().Dropped != 1 || e.Stats().Lost != 0 {
		t.Fatalf("%d records, %+v", len(records), e.Stats())
	}
	r := records[0]
	input, result := r["input"].(map[string]any), r["result"].(map[string]any)
	if _, there := input["subject"].(map[string]any)["client"]; there {
		t.Error("client is still there")
	}
	if user := input["host"].(map[string]any)["user"]; user != "***" {
		t.Errorf("user is %v", user)
	}
	if _, there := result["reasons"].([]any)[0].(map[string]any)["detail"]; there {
		t.Error("detail is still there")
	}
	command := input["ops"].([]any)[0].(map[string]any)["command"].(map[string]any)
	if diff := cmp.Diff(map[string]any{"cut": true}, command["text"]); diff != "" {
		t.Error(diff)
	}
	wantErased := []any{"/input/subject/client", "/result/reasons/0/detail"}
	wantMasked := []any{"/input/host/user", "/input/ops/0/command/text"}
	if diff := cmp.Diff([]any{wantErased, wantMasked}, []any{r["erased"], r["masked"]}); diff != "" {
		t.Error(diff)
	}
}

// A mask that breaks costs the record, and so the call.
func TestMaskBreaks(t *testing.T) {
	log := &memory{}
	custom := logBundle(t, `package system.log
# METADATA
# schemas:
#   - input: schema.decision_log
mask contains "/input/x" if to_number(input.input.host.user) == 1
`)
	_, err := New(t.Context(), Options{Custom: []string{custom}, Log: log})
	if err == nil {
		t.Fatal("a mask that breaks on a canary is accepted")
	}
	sly := logBundle(t, `package system.log
# METADATA
# schemas:
#   - input: schema.decision_log
mask contains "/input/x" if {
	input.input.subject.id == "odd"
	to_number(input.input.host.user) == 1
}
`)
	e := start(t, Options{Site: granting("readonly", "web1"), Custom: []string{sly}, Log: log})
	in := on("web1", "uptime")
	if d := e.Decide(t.Context(), in, Mark{}); !d.Allow {
		t.Errorf("refused: %v", d.Reasons)
	}
	in.Subject.ID = "odd"
	d := e.Decide(t.Context(), in, Mark{})
	if d.Allow || !slices.Equal(codes(d), []string{"log_unwritable"}) {
		t.Errorf("allow %v, reasons %v", d.Allow, codes(d))
	}
}

func TestMaskPlaces(t *testing.T) {
	for _, tc := range []struct {
		mask any
		want string // the document afterwards, or empty if unchanged
	}{
		{"/input/a", `{"b":[1,[2,3]]}`},
		{"/input/b/0", `{"a":{"x":1},"b":[[2,3]]}`},
		{"/input/b/1/1", `{"a":{"x":1},"b":[1,[2]]}`},
		{"/input/b/9", ""},
		{"/input/b/x", ""},
		{"/input/b/0/x", ""},
		{"/input/c/d", ""},
		{"/input/a%2Fb", ""},
		{map[string]any{"op": "remove", "path": "/input/a/x"}, `{"a":{},"b":[1,[2,3]]}`},
		{map[string]any{"op": "upsert", "path": "/input/a/y", "value": 2}, `{"a":{"x":1,"y":2},"b":[1,[2,3]]}`},
		{map[string]any{"op": "upsert", "path": "/input/c/d", "value": 2}, `{"a":{"x":1},"b":[1,[2,3]],"c":{"d":2}}`},
		{map[string]any{"op": "upsert", "path": "/input/b/1/0", "value": 9}, `{"a":{"x":1},"b":[1,[9,3]]}`},
		{map[string]any{"op": "upsert", "path": "/input/b/5", "value": 9}, ""},
		{map[string]any{"op": "upsert", "path": "/input/b/0/x", "value": 9}, ""},
		{map[string]any{"op": "upsert", "path": "/input", "value": 9}, `9`},
	} {
		const before = `{"a":{"x":1},"b":[1,[2,3]]}`
		m, err := readMask(tc.mask)
		if err != nil {
			t.Errorf("%v: %v", tc.mask, err)
			continue
		}
		e := &event{Input: json.RawMessage(before), Result: map[string]any{}}
		if err := e.apply([]mask{m}); err != nil {
			t.Fatal(err)
		}
		want := tc.want
		if want == "" {
			want = before
		}
		got, err := json.Marshal(e.Input)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%v: %s, want %s", tc.mask, got, want)
		}
		if changed := len(e.Erased)+len(e.Masked) > 0; changed != (tc.want != "") {
			t.Errorf("%v: erased %v, masked %v", tc.mask, e.Erased, e.Masked)
		}
	}
}

func TestReload(t *testing.T) {
	e := start(t, Options{})
	if d := e.Decide(t.Context(), on("web1", "uptime"), Mark{}); d.Allow {
		t.Error("an empty site allows a host")
	}
	if err := e.Reload(t.Context(), granting("readonly", "web1")); err != nil {
		t.Fatal(err)
	}
	before := e.Revisions()
	bad := granting("readonly", "web1")
	bad.Hosts["web2"] = SiteHost{Class: "nosuch"}
	if err := e.Reload(t.Context(), bad); err == nil {
		t.Error("a site with a dangling class is accepted")
	}
	if !maps.Equal(before, e.Revisions()) {
		t.Errorf("revisions changed from %v to %v", before, e.Revisions())
	}
	if d := e.Decide(t.Context(), on("web1", "uptime"), Mark{}); !d.Allow {
		t.Errorf("refused: %v", d.Reasons)
	}
	if err := e.Reload(t.Context(), granting("readonly", "web1")); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(before, e.Revisions()) {
		t.Errorf("the same site has another revision: %v and %v", before, e.Revisions())
	}
}

func TestBadSites(t *testing.T) {
	for name, tc := range map[string]struct{ site, want string }{
		"another version":  {`{"version": 2}`, "version is 2"},
		"an unknown field": {`{"version": 1, "host": {}}`, "unknown field"},
		"an unknown limit": {`{"version": 1, "limits": {"second": 1}}`, "unknown field"},
		"another type":     {`{"version": 1, "limits": {"seconds": "60"}}`, "seconds"},
		"a negative limit": {`{"version": 1, "limits": {"seconds": -1}}`, "from 0 to"},
		"an empty denied":  {`{"version": 1, "limits": {"deny_substrings": [""]}}`, "in every command"},
		"no class":         {`{"version": 1, "hosts": {"a": {"class": "c"}}}`, `"c", which is not there`},
		"a host's limit":   {`{"version": 1, "hosts": {"a": {"class": "c", "limits": {"concurrent": -1}}}, "classes": {"c": {}}}`, "hosts.a.limits"},
		"no network":       {`{"version": 1, "network": {"block": {"4": {"8": {"00001010": "10.0.0.0/33"}}}}}`, "10.0.0.0/33"},
		"other bits":       {`{"version": 1, "network": {"block": {"4": {"8": {"00001011": "10.0.0.0/8"}}}}}`, "is filed as"},
		"another length":   {`{"version": 1, "network": {"allow": {"4": {"9": {"00001010": "10.0.0.0/8"}}}}}`, "is filed as"},
		"another family":   {`{"version": 1, "network": {"allow": {"6": {"8": {"00001010": "10.0.0.0/8"}}}}}`, "is filed as"},
	} {
		_, err := New(t.Context(), Options{Site: json.RawMessage(tc.site)})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error is %v; want it to say %q", name, err, tc.want)
		}
	}
	good := `{"version": 1, "network": {"closed": true, "allow": {
		"4": {"0": {"": "0.0.0.0/0"}, "32": {"00001010000000000000000000000001": "10.0.0.1"}},
		"6": {"3": {"001": "2001::/3"}}}}}`
	start(t, Options{Site: json.RawMessage(good)})
}

// Decisions and swaps of the site at the same time: each decision is of one
// revision, the one that it names.
func TestConcurrentSites(t *testing.T) {
	sites := map[string]int{} // revision -> seconds
	e := start(t, Options{Site: granting("readonly", "web1")})
	var mu sync.Mutex
	note := func(seconds int) {
		mu.Lock()
		defer mu.Unlock()
		sites[e.Revisions()[siteBundleName]] = seconds
	}
	note(60)
	stop := make(chan struct{})
	type seen struct {
		revision string
		seconds  int
	}
	results := make(chan map[seen]int, 4)
	for range cap(results) {
		go func() {
			all := map[seen]int{}
			for {
				select {
				case <-stop:
					results <- all
					return
				default:
				}
				d := e.Decide(context.Background(), on("web1", "uptime"), Mark{})
				if !d.Allow {
					all[seen{fmt.Sprint(codes(d)), -1}]++
					continue
				}
				all[seen{d.Bundles[siteBundleName], d.Limits.Seconds}]++
			}
		}()
	}
	for seconds := 1; seconds <= 12; seconds++ {
		s := granting("readonly", "web1")
		h := s.Hosts["web1"]
		h.Limits.Seconds = seconds
		s.Hosts["web1"] = h
		if err := e.Reload(t.Context(), s); err != nil {
			t.Error(err)
		}
		note(seconds)
	}
	close(stop)
	decisions := 0
	for range cap(results) {
		for s, n := range <-results {
			if want, ok := sites[s.revision]; !ok || s.seconds != want {
				t.Errorf("%d decisions name revision %s and allow %d s; it says %d", n, s.revision, s.seconds, want)
			}
			decisions += n
		}
	}
	if decisions == 0 {
		t.Error("no decision was made meanwhile")
	}
}

func TestNewInput(t *testing.T) {
	mapped := netip.MustParseAddr("::ffff:10.0.0.1")
	v6 := netip.MustParseAddr("fe80::1%eth0")
	in := NewInput(Facts{
		CallID: "c1", Digest: "d1",
		Tool:   &tool.Tool{Name: "ssh_plan", Set: "fleet", Effect: tool.Execute},
		Caller: tool.Caller{Subject: "a", Session: "never"},
		Plan:   tool.Plan{As: "ssh_run", Wish: tool.Limits{Seconds: 5}, Steps: []tool.Step{tool.RunLine("uptime")}},
		Target: tool.Target{
			Alias: "web1", Hostname: "web1.internal", Port: 2222, User: "ops", Kind: "posix", Source: "inventory", Auth: "key",
			Credentials: "never", Description: "never", Addresses: []netip.Addr{mapped, v6, {}}, Address: mapped,
			Via: []tool.Target{{Alias: "hop", Hostname: "hop.internal", Port: 22, Addresses: []netip.Addr{mapped}}},
		},
		Usage: Usage{Running: UsageRunning{Subject: 3, Host: 2}},
		Now:   time.Date(2026, 11, 20, 13, 0, 0, 0, time.FixedZone("", 3600)),
	})
	ten := Address{IP: "10.0.0.1", Family: 4, Scope: "private", Bits: "00001010000000000000000000000001"}
	want := Input{
		Version: 1,
		Call:    Call{ID: "c1", Tool: "ssh_run", Toolset: "fleet", Effect: tool.Execute, Digest: "d1"},
		Subject: Subject{ID: "a", Groups: []string{}},
		Host: Host{
			Alias: "web1", Hostname: "web1.internal", Port: 2222, User: "ops", Kind: "posix", Tags: []string{},
			Source: "inventory", Auth: "key",
			Via: []Hop{{Alias: "hop", Hostname: "hop.internal", Port: 22, Addresses: []Address{ten}}},
		},
		Network: Network{Address: "10.0.0.1", Addresses: []Address{ten, {
			IP: "fe80::1%eth0", Family: 6, Scope: "link_local", Bits: "1111111010" + strings.Repeat("0", 117) + "1",
		}}},
		Limits: InputLimits{Requested: tool.Limits{Seconds: 5}},
		Usage:  Usage{Running: UsageRunning{Subject: 3, Host: 2}},
		Now:    "2026-11-20T12:00:00Z",
	}
	want.Ops = in.Ops
	if diff := cmp.Diff(want, in); diff != "" {
		t.Error(diff)
	}
	if text, err := json.Marshal(in); err != nil || bytes.Contains(text, []byte("never")) {
		t.Errorf("what must not be in an input is: %s", text)
	}
	if len(in.Ops) == 0 || in.Ops[0].Action != tool.ShellRun {
		t.Errorf("ops %v", in.Ops)
	}
	gateway := NewInput(Facts{Plan: tool.Plan{Steps: []tool.Step{tool.AskGateway(tool.GatewayRead, tool.AskPing, "")}}})
	if gateway.Host.Source != "gateway" || gateway.Network.Address != "" {
		t.Errorf("%+v", gateway)
	}
}

// What a translator makes of an address is judged, too.
func TestEmbeddedAddress(t *testing.T) {
	for text, want := range map[string]string{
		"64:ff9b::a9fe:a9fe": "169.254.169.254", "64:ff9b:1::a9fe:a9fe": "169.254.169.254", "2002:a9fe:a9fe::1": "169.254.169.254",
		"2001:0:1:2:3:4:5601:5601": "169.254.169.254", "::169.254.169.254": "169.254.169.254",
		"::1": "", "::": "", "2001:db8::1": "", "fe80::1": "", "10.0.0.1": "", "::ffff:10.0.0.1": "",
	} {
		got := newAddress(netip.MustParseAddr(text).Unmap()).Embedded
		if want != "" {
			want = bits(netip.MustParseAddr(want).AsSlice())
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestScope(t *testing.T) {
	for text, want := range map[string]string{
		"0.0.0.0": "unspecified", "::": "unspecified", "127.9.9.9": "loopback", "::1": "loopback", "10.1.1.1": "private",
		"fd00::1": "private", "169.254.169.254": "link_local", "fe80::1": "link_local", "224.0.0.1": "multicast",
		"ff02::1": "multicast", "8.8.8.8": "global", "2001:4860::1": "global",
	} {
		if got := scope(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
}

// The shipped site of an operator who configured nothing allows no host, and
// the gateway answers about itself.
func TestEmptySite(t *testing.T) {
	e := start(t, Options{})
	if d := e.Decide(t.Context(), on("web1", "uptime"), Mark{}); d.Allow || !slices.Contains(codes(d), "host_unknown") {
		t.Errorf("allow %v, reasons %v", d.Allow, codes(d))
	}
	list := canary(tool.Target{}, tool.AskGateway(tool.GatewayList, tool.AskHosts, ""))
	if d := e.Decide(t.Context(), list, Mark{}); !d.Allow {
		t.Errorf("refused: %v", d.Reasons)
	}
	reload := canary(tool.Target{}, tool.AskGateway(tool.GatewayControl, tool.AskReload, ""))
	if d := e.Decide(t.Context(), reload, Mark{}); d.Allow {
		t.Error("anybody may reload")
	}
}

// A custom package is heard without being registered anywhere.
func TestCustom(t *testing.T) {
	dir := files(t, map[string]string{
		".manifest": `{"revision": "c1", "roots": ["custom"], "rego_version": 1}`,
		"custom/night/night.rego": `package custom.night

deny contains {"code": "night", "detail": "web1 sleeps"} if {
	input.host.alias == "web1"
	time.clock(time.parse_rfc3339_ns(input.now))[0] < 6
}

limits := {"seconds": 7}

redact contains "pass(word|phrase)"
`,
		"custom/tools/tools.rego": `package custom.tools

permit contains command if {
	some op in input.ops
	some command in op.command.commands
	command.argv == ["nproc"]
	command.wrappers == []
	command.dir == ""
	command.scope == []
}
`,
	})
	e := start(t, Options{Site: granting("readonly", "web1"), Custom: []string{dir}})
	name := filepath.Base(dir)
	if got := e.Revisions()[name]; got != "c1" {
		t.Errorf("revisions %v lack %s", e.Revisions(), name)
	}
	day := on("web1", "nproc | grep 8")
	day.Now = "2026-11-20T12:00:00Z"
	d := e.Decide(t.Context(), day, Mark{})
	if !d.Allow || d.Limits.Seconds != 7 || !slices.Equal(d.Redact, []string{"pass(word|phrase)"}) {
		t.Errorf("%+v", d)
	}
	night := day
	night.Now = "2026-11-20T04:00:00Z"
	d = e.Decide(t.Context(), night, Mark{})
	want := tool.Reason{
		Code: "night", Title: "A policy of this site forbids it",
		Remedy: "ask the team that owns the policy", Detail: "web1 sleeps",
	}
	if d.Allow || !slices.Equal(d.Reasons, []tool.Reason{want}) {
		t.Errorf("%+v", d)
	}
}
