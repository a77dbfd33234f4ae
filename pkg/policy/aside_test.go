package policy

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/tool"
)

// While an explanation is made, bundles are activated and calls are decided: what
// it asks holds no lock of the engine's store. And it asks what decided when it
// began.
func TestAsideHoldsNobodyUp(t *testing.T) {
	site := func(profile string) Site {
		return Site{
			Version: SiteVersion, Hosts: map[string]SiteHost{"web1": {Class: "c0"}},
			Classes: map[string]SiteClass{"c0": {Allow: SiteGrants{Any: map[string]SiteGrant{profile: {Rule: "rules[0]", Line: 1}}}}},
		}
	}
	e := start(t, Options{Site: site("readonly"), Timeout: time.Minute})
	q, err := e.aside(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer q.store.Abort(t.Context(), q.txn)
	reloaded := make(chan error, 1)
	go func() { reloaded <- e.Reload(t.Context(), site("diagnose")) }()
	select {
	case err := <-reloaded:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("a reload waits for an explanation")
	}
	sorting := on("web1", "sort -n /var/log/syslog")
	if d := e.Decide(t.Context(), sorting, Mark{}); !d.Allow {
		t.Errorf("the engine does not decide by what was loaded: %v", d.Reasons)
	}
	if a := e.ask(t.Context(), q, sorting.Document()); a.Allow {
		t.Error("the explanation is about other grants than it began with")
	}
	if x, err := e.Explain(t.Context(), sorting.Document(), []tool.Target{}); err != nil || len(x.Failed) > 0 {
		t.Errorf("a new explanation is about the old grants: %+v %v", x, err)
	}
}
