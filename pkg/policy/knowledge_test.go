package policy

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/pkg/tool"
)

// What is known is known by all that rules look at, and of inputs that their text
// does not tell apart nothing is.
func TestKnowledgeOfBytes(t *testing.T) {
	e := start(t, Options{Site: granting("readonly", "web1")})
	k := e.active.Load().known
	named := func(path string) Input {
		in := on("web1", "uptime")
		in.Ops = []tool.Op{tool.FileOp(tool.FileRead, path)}
		return in
	}
	for path, known := range map[string]bool{
		"/srv/a":        true,
		"/srv/\ufffd":   true,
		"/srv/\xff":     false,
		"/srv/\xfe\xff": false,
	} {
		if got := k.of(t.Context(), evaluation{}, &record{input: named(path)}) != nil; got != known {
			t.Errorf("%q: is known is %v", path, got)
		}
	}
}

// A decision that is known is the decision, its record its own, and with another
// policy it is forgotten.
func TestKnowledgeIsOfARevision(t *testing.T) {
	log := &memory{}
	e := start(t, Options{Site: granting("readonly", "web1"), Log: log})
	decide := func() bool { return e.Decide(t.Context(), on("web1", "uptime"), Mark{}).Allow }
	for range 3 {
		if !decide() {
			t.Fatal("refused")
		}
	}
	if err := e.Reload(t.Context(), granting("readonly", "web2")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if decide() {
			t.Fatal("allowed by a policy that is gone")
		}
	}
	ids := map[any]bool{}
	for _, r := range log.records(t) {
		ids[r["decision_id"]] = true
	}
	if len(ids) != 6 {
		t.Errorf("%d decisions are on the log, of 6", len(ids))
	}
}

// However many different calls there are, what is known of them has its bound.
func TestKnowledgeIsBounded(t *testing.T) {
	e := start(t, Options{Site: granting("readonly", "web1")})
	k := e.active.Load().known
	k.rules.values.room = 10_000
	for range 300 {
		e.Decide(t.Context(), on("web1", "grep "+strings.Repeat("x", 1+len(k.rules.values.young))+" /etc/hosts"), Mark{})
	}
	if k.rules.values.bytes > k.rules.values.room || len(k.rules.values.old) == 0 {
		t.Errorf("%d bytes are known, and %d rules before them", k.rules.values.bytes, len(k.rules.values.old))
	}
}
