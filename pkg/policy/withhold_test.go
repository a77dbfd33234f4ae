package policy

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/pkg/tool"
)

// Without leave to show them, no word of a call is in its record, whatever
// becomes of the call; what kind of thing it was, is.
func TestWithheld(t *testing.T) {
	// words are in every line below; the policy quotes what it refuses.
	words := []string{"plover", "xyzzy"}
	lines := map[string]string{
		"allowed":        "grep plover /var/log/xyzzy",
		"refused":        "plover --xyzzy",
		"refused option": "df --plover=xyzzy",
		"redirected":     "echo plover > /tmp/xyzzy",
		"derived ops":    "systemctl restart plover && apt-get install xyzzy",
		"dynamic":        "cat $plover $(xyzzy)",
		"no shell text":  "echo 'plover xyzzy",
		"bad text":       "echo plover xyzzy\x00",
	}
	log := &memory{}
	e := start(t, Options{Site: granting("readonly", "web1"), Log: log})
	for name, line := range lines {
		t.Run(name, func(t *testing.T) {
			log.lines = nil
			in := on("web1", line)
			d := e.Decide(t.Context(), in, Mark{Custom: map[string]any{"hash": "0123456789abcdef"}})
			if d.Record != "meta" || in.Ops[0].Command.Text == "" {
				t.Errorf("decision says %q; the caller's own input has %q", d.Record, in.Ops[0].Command.Text)
			}
			record := string(log.lines[0])
			for _, word := range words {
				if strings.Contains(record, word) {
					t.Errorf("the record shows %q: %s", word, record)
				}
			}
			for _, kind := range []string{`"action":"shell.run"`, `"certainty":"`, `"hash":"0123456789abcdef"`, `"masked":["/input/ops/0"`, d.ID} {
				if !strings.Contains(record, kind) {
					t.Errorf("the record lacks %s: %s", kind, record)
				}
			}
		})
	}
}

func lineOf(t *testing.T, r *record) []byte {
	t.Helper()
	shown, err := r.shown(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(shown)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// An error of the policy may quote what it was about.
func TestWithheldError(t *testing.T) {
	r := record{input: on("web1", "echo plover")}
	r.fail(failEvaluation, errors.New("to_number: plover"))
	line := lineOf(t, &r)
	if strings.Contains(string(line), "plover") || !strings.Contains(string(line), `"error":{"code":"policy_error"`) {
		t.Error(string(line))
	}
}

// The gateway's own operations are words of ours.
func TestWithheldGateway(t *testing.T) {
	in := on("web1", "uptime")
	in.Ops = []tool.Op{tool.AskGateway(tool.GatewayControl, tool.AskReload, "").Op}
	r := record{input: in}
	line := lineOf(t, &r)
	if !strings.Contains(string(line), `"operation":"reload"`) || strings.Contains(string(line), `"masked"`) {
		t.Error(string(line))
	}
}

// The words need the leave of both, the operator and the policy.
func TestFullRecord(t *testing.T) {
	const asking = `package sallyport
decision := {"allow": false, "reasons": [{"code": "no", "title": "no", "remedy": "no", "detail": "echo plover"}], "record": "RECORD",
	"limits": {"seconds": 0, "output_bytes": 0, "concurrent": 0}}
`
	for _, tc := range []struct {
		operator bool
		policy   string
		want     string
	}{
		{true, "full", "full"}, {true, "meta", "meta"}, {false, "full", "meta"}, {false, "meta", "meta"},
	} {
		log := &memory{}
		bundle := mainBundle(t, strings.Replace(asking, "RECORD", tc.policy, 1))
		e := start(t, Options{Bundle: bundle, Log: log, FullRecords: tc.operator})
		d := e.Decide(t.Context(), on("web1", "echo plover"), Mark{})
		if shown := strings.Contains(string(log.lines[0]), "plover"); d.Record != tc.want || shown != (tc.want == "full") {
			t.Errorf("operator %v, policy %s: %s, shown %v", tc.operator, tc.policy, d.Record, shown)
		}
	}
}
