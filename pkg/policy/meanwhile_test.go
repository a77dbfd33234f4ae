package policy

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
)

// decidesBy is a main bundle that allows where a rule of the text has a value.
func decidesBy(t *testing.T, text string) string {
	return mainBundle(t, `package sallyport
import rego.v1

decision := granted if { granted } else := {"allow": false, "reasons": [{"code": "no", "title": "", "remedy": "", "detail": ""}], "limits": limits}
granted := {"allow": true, "reasons": [], "limits": limits} if { count(input.ops) > 0; held }
limits := {"seconds": 60, "output_bytes": 1000, "concurrent": 0}
bound := 3 if input.host.alias == "web1"
bound := 5 if input.host.alias == "web2"
within(limit, used) if used < limit
within(0, _)
`+text)
}

// What was left of a fact when what goes on was left open answers as OPA does, and
// where it cannot, OPA is asked.
func TestWhatGoesOnIsCompared(t *testing.T) {
	const first, compared = 1, 2 // known as a whole; known by comparing
	for name, c := range map[string]struct {
		rules string
		known int
	}{
		"count below a number":        {`held if input.usage.running.host < 4`, compared},
		"bound that the host has":     {`held if input.usage.running.subject < bound`, compared},
		"number first":                {`held if 2 >= input.usage.running.subject`, compared},
		"exactly":                     {`held if input.usage.calls_last_minute.subject == 3`, compared},
		"anything but":                {`held if input.usage.calls_last_minute.subject != 3`, compared},
		"one count above another":     {`held if input.usage.running.host > input.usage.running.subject`, compared},
		"a function's":                {`held if { within(bound, input.usage.running.host); within(0, input.usage.running.subject) }`, compared},
		"a count that has no bound":   {`held if { within(0, input.usage.running.host); within(bound, input.usage.running.subject) }`, compared},
		"a count as such":             {`held if input.usage.calls_last_minute.subject`, compared},
		"either of two":               {"held if input.usage.running.host < 2\nheld if input.usage.running.host > 4", compared},
		"one of several":              {`held if { some n in [1, 2, 5]; n == input.usage.running.host }`, compared},
		"in no case on another host":  {`held if { input.host.alias == "web3"; input.usage.running.host < 4 }`, compared},
		"in any case on this one":     {"held if input.host.alias == \"web1\"\nheld if input.usage.running.host < 4", compared},
		"another type":                {`held if input.usage.running.host < "4"`, compared},
		"sum of two":                  {`held if input.usage.running.host + input.usage.running.subject < 6`, first},
		"none of them":                {`held if not input.usage.running.host == 3`, first},
		"all of them":                 {`held if every n in [1, 2] { input.usage.running.host > n }`, compared},
		"the whole":                   {`held if input.usage.running == {"host": 1, "subject": 2}`, compared},
		"a value that is no constant": {"held if count(busy) == 0\nbusy contains 1 if input.usage.running.host > 2", first},
		"a set":                       {"held if not 1 in busy\nbusy contains 1 if input.usage.running.host > 2", first},
		"the time":                    {`held if { endswith(input.now, "Z"); input.usage.running.host < 4 }`, 0},
		"usage and ops":               {`held if { input.usage.running.host < count(input.ops[0].command.commands[0].argv) }`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, Options{Bundle: decidesBy(t, c.rules)})
			judgeAlike(t, e)
			known := e.active.Load().known
			if got := known.rules.first != nil; got != (c.known > 0) {
				t.Errorf("decisions are known as a whole: %v", got)
			}
			if got := comparing(known.survey); got != (c.known == compared) {
				t.Errorf("counts are compared: %v", got)
			}
		})
	}
}

// A decision is known by what the entry point takes over, and only where it takes
// over a value as it is.
func TestFirstChoice(t *testing.T) {
	const rest = `
granted := {"allow": true, "reasons": [], "limits": limits} if input.ops[0].command.commands[0].program == "uptime"
refused := {"allow": false, "reasons": [{"code": "no", "title": "", "remedy": "", "detail": ""}], "limits": limits}
limits := {"seconds": 60, "output_bytes": 1000, "concurrent": 0}
`
	for entry, known := range map[string]bool{
		`decision := granted if { granted } else := refused`: true,
		`decision := refused`:                                true,
		`decision := granted if { granted; input.host.alias != "web2" } else := refused`:                                                                    false,
		`decision := granted if { not limits.seconds == 1 } else := refused`:                                                                                false,
		`decision := granted if { granted; limits } else := refused`:                                                                                        false,
		`decision := object.union(granted, {"limits": {"seconds": 1, "output_bytes": 1, "concurrent": 1}}) if { granted } else := refused`:                  false,
		"default decision := {`allow`: false, `reasons`: [], `limits`: {`seconds`: 0, `output_bytes`: 0, `concurrent`: 0}}\ndecision := granted if granted": false,
		"decision := refused if input.host.alias == `web1`\ndecision := refused if input.host.alias != `web1`":                                              false,
		`decision := r if { r := refused with input.host.alias as "web1" }`:                                                                                 false,
	} {
		e := start(t, Options{Bundle: mainBundle(t, "package sallyport\nimport rego.v1\n"+entry+rest)})
		judgeAlike(t, e)
		if got := e.active.Load().known.rules.first != nil; got != known {
			t.Errorf("%s: known as a whole is %v", entry, got)
		}
	}
}

// judgeAlike has the engine decide about the same calls with much or little going
// on, and looks whether it says what policy says of each.
func judgeAlike(t *testing.T, e *Engine) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		in := on([]string{"web1", "web2", "web3"}[r.IntN(3)], []string{"uptime", "uptime -p"}[r.IntN(2)])
		in.Usage.Running = UsageRunning{r.IntN(7), r.IntN(7)}
		in.Usage.CallsLastMinute.Subject = r.IntN(7)
		text, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		d, err := ReadDocument(text)
		if err != nil {
			t.Fatal(err)
		}
		want, err := e.Ask(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Decide(t.Context(), in, Mark{}); got.Allow != want.Allow {
			t.Fatalf("allow is %v, and OPA says %v, on %s with %+v", got.Allow, want.Allow, in.Host.Alias, in.Usage)
		}
	}
}

// comparing says whether something was found out by comparing.
func comparing(s *survey) bool {
	for _, doc := range s.small {
		if doc.open == nil {
			continue
		}
		for _, k := range doc.open.left.young {
			if k.value != nil {
				return true
			}
		}
	}
	return false
}
