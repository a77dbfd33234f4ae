package policy

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// quarantine refuses what the shipped policy allows on web2, and shortens what it
// allows on web3.
const quarantine = `package custom.team

deny contains {"code": "quarantine", "title": "Nothing runs there", "remedy": "use another", "detail": input.host.alias} if {
	input.host.alias == "web2"
}

limits := {"seconds": 5, "output_bytes": 1048576, "concurrent": 4} if input.host.alias == "web3"
`

func shadowOf(t *testing.T, live *Engine, o Options) *Shadow {
	t.Helper()
	o.Timeout = 30 * time.Second
	s, err := NewShadow(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	live.Cast(s)
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func await(t *testing.T, s *Shadow, seen int64) ShadowStats {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if st := s.Stats(); st.Judged+st.Unseen == seen {
			return st
		} else if time.Now().After(deadline) {
			t.Fatalf("of %d decisions %+v", seen, st)
		}
	}
}

// A shadow tells what its policy would change, on the log of the live one, within
// its masks, and changes nothing.
func TestShadow(t *testing.T) {
	log, site := &memory{}, granting("readonly", "web1", "web2", "web3", "quiet")
	live := start(t, Options{Site: site, Log: log, Custom: []string{logBundle(t, masking)}, FullRecords: true})
	s := shadowOf(t, live, Options{Site: site, Custom: []string{customBundle(t, quarantine)}})
	allowed := 0
	for _, alias := range []string{"web1", "web2", "web3", "quiet"} {
		if live.Decide(t.Context(), on(alias, "uptime"), Mark{Mode: "run", Digest: "d-" + alias}).Allow {
			allowed++
		}
	}
	if allowed != 4 {
		t.Errorf("with a shadow %d of 4 are allowed", allowed)
	}
	if st := await(t, s, 4); st != (ShadowStats{Judged: 4, Differ: 2}) {
		t.Errorf("stats %+v", st)
	}
	if got := live.Stats(); got.Decisions != 4 || got.Dropped != 1 {
		t.Errorf("the live engine counts %+v", got)
	}
	changes := map[string]map[string]any{}
	decided := map[string]map[string]any{} // by id
	for _, r := range log.records(t) {
		if r["path"] == shadowPath {
			changes[valueIn(r, "input", "host", "alias").(string)] = r
		} else {
			decided[r["decision_id"].(string)] = r
		}
	}
	if len(changes) != 2 || len(decided) != 3 {
		t.Fatalf("%d differences and %d decisions are on the log", len(changes), len(decided))
	}
	for alias, want := range map[string]string{"web2": string(NewlyDenied), "web3": string(LimitsChange)} {
		r := changes[alias]
		then := decided[valueIn(r, "custom", "live", "decision_id").(string)]
		switch {
		case valueIn(r, "custom", "change") != want || valueIn(r, "custom", "mode") != modeShadow || valueIn(r, "custom", "digest") != "d-"+alias:
			t.Errorf("%s is on the log as %v", alias, r["custom"])
		case then == nil || valueIn(then, "input", "host", "alias") != alias:
			t.Errorf("%s is not of its decision: %v", alias, r["custom"])
		case valueIn(r, "input", "host", "user") != "***":
			t.Errorf("%s is not masked: %v", alias, r["input"])
		case valueIn(r, "custom", "live", "result", "allow") != true:
			t.Errorf("%s lacks the live result: %v", alias, r["custom"])
		}
	}
	if reasons := valueIn(changes["web2"], "result", "reasons").([]any); valueIn(reasons[0], "code") != "quarantine" || !slices.Contains(valueIn(changes["web2"], "custom", "rules").([]any), "quarantine") {
		t.Errorf("web2 is refused with %v", reasons)
	}
	if names := valueIn(changes["web2"], "bundles").(map[string]any); len(names) != len(s.Revisions()) {
		t.Errorf("the bundles are %v", names)
	}
}

func valueIn(node any, path ...string) any { return placeIn(node, path) }

// Without leave to show words a difference has none either.
func TestShadowShowsNoWords(t *testing.T) {
	log, site := &memory{}, granting("readonly", "web2")
	live := start(t, Options{Site: site, Log: log})
	s := shadowOf(t, live, Options{Site: site, Custom: []string{customBundle(t, strings.ReplaceAll(quarantine, "input.host.alias}", "input.ops[0].command.text}"))}, FullRecords: true})
	live.Decide(t.Context(), on("web2", "echo plover"), Mark{})
	if st := await(t, s, 1); st.Differ != 1 {
		t.Fatalf("stats %+v", st)
	}
	for _, line := range log.lines {
		if strings.Contains(string(line), "plover") {
			t.Errorf("a word is on the log: %s", line)
		}
	}
}

// Calls do not wait for a shadow; those that it cannot follow are counted.
func TestShadowIsBounded(t *testing.T) {
	site := granting("readonly", "web1")
	live := start(t, Options{Site: site})
	idle := &Shadow{engine: start(t, Options{Site: site}), queue: make(chan cue, 2)}
	live.Cast(idle)
	for range 5 {
		if !live.Decide(t.Context(), on("web1", "uptime"), Mark{}).Allow {
			t.Fatal("refused")
		}
	}
	if st := idle.Stats(); st != (ShadowStats{Unseen: 3}) {
		t.Errorf("stats %+v", st)
	}
}

// A shadow with a new policy that does not pass the gate keeps the last one.
func TestShadowReload(t *testing.T) {
	site := granting("readonly", "web1")
	dir := customBundle(t, quarantine)
	live := start(t, Options{Site: site})
	s := shadowOf(t, live, Options{Site: site, Custom: []string{dir}})
	before := s.Revisions()
	if err := os.WriteFile(filepath.Join(dir, "custom/team/team.rego"), []byte("package custom.team\n\ndeny contains x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(t.Context(), site); err == nil {
		t.Error("a broken bundle was taken")
	}
	if after := s.Revisions(); len(after) != len(before) {
		t.Errorf("revisions %v, before %v", after, before)
	}
}

// Bundles of a shadow come from servers as those of the live policy do. Until they
// are there it has no answer, and waits for nobody.
func TestShadowFromServer(t *testing.T) {
	team, site, shelf := newSigner(t), granting("readonly", "web1", "web2"), newShelf(t, (*httptest.Server).Start)
	live := start(t, Options{Site: site, Log: &memory{}})
	o := Options{
		Site: site, Bundles: []Source{shelf.from("team")}, KeepDir: t.TempDir(),
		Keys: map[string]Key{"team": team.key()}, RequireSigned: true,
	}
	s := shadowOf(t, live, o)
	ask := func() bool { return live.Decide(t.Context(), on("web2", "uptime"), Mark{Mode: "run"}).Allow }
	if !ask() || await(t, s, 1) != (ShadowStats{Judged: 1, Unanswered: 1}) || s.Behind()["team"] != string(Unreachable) {
		t.Errorf("without its bundle: %+v, behind %v", s.Stats(), s.Behind())
	}
	shelf.put("team.tar.gz", team.release(t, "team", 1, `deny contains "x" if input.host.alias == "web2"`))
	eventually(t, "the bundle judges, and is kept", func() bool { return s.Revisions()["team"] == "team-1" && len(s.Behind()) == 0 })
	if !ask() || await(t, s, 2) != (ShadowStats{Judged: 2, Differ: 1, Unanswered: 1}) {
		t.Errorf("with its bundle: %+v", s.Stats())
	}
	shelf.Close()
	if again := shadowOf(t, live, o); again.Revisions()["team"] != "team-1" {
		t.Errorf("after a restart without the server: %v", again.Revisions())
	}
}
