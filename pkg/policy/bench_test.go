package policy_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

// sizedSite has many hosts in a few classes, and on each class as many rules as
// asked for. The caller of [runFacts] holds a profile by its group, behind all
// the rules that are about others.
func sizedSite(hosts, rules int) policy.Site {
	limits := policy.SiteLimits{
		Seconds: 60, OutputBytes: 1 << 20, Concurrent: 4, CallsPerMinute: 600,
		DenySubstrings: []string{"rm -rf /", ":(){", "mkfs", "dd if=", "shutdown", "reboot", "userdel", "passwd"},
	}
	s := policy.Site{
		Version: policy.SiteVersion, Limits: limits,
		Hosts: map[string]policy.SiteHost{}, Classes: map[string]policy.SiteClass{},
		Network: policy.SiteNetwork{
			Closed: true,
			Allow:  policy.SiteNetworks{"4": {"8": {"00001010": "10.0.0.0/8"}, "16": {"1100000010101000": "192.168.0.0/16"}}},
			Block:  policy.SiteNetworks{"4": {"32": {"00001010000000000000000000000001": "10.0.0.1/32"}}},
		},
	}
	for i := range hosts {
		s.Hosts[fmt.Sprintf("web%d", i)] = policy.SiteHost{Class: fmt.Sprintf("c%d", i%10), Limits: limits}
	}
	for i := range 10 {
		grants := policy.SiteGrants{
			Groups:   map[string]map[string]policy.SiteGrant{"aiops": {"readonly": {Rule: "last", Line: rules}}},
			Subjects: map[string]map[string]policy.SiteGrant{},
		}
		for r := range rules - 1 {
			grants.Subjects[fmt.Sprintf("agent-%d", 100+r)] = map[string]policy.SiteGrant{
				"diagnose": {Rule: fmt.Sprintf("rules[%d]", r), Line: r},
			}
		}
		s.Classes[fmt.Sprintf("c%d", i)] = policy.SiteClass{Allow: grants}
	}
	return s
}

var sizes = []struct{ hosts, rules int }{{10, 10}, {1000, 100}, {10_000, 1000}}

// decide is everything from a command line to a decision: parse, build the
// input, judge.
func decide(tb testing.TB, e *policy.Engine, line string) {
	tb.Helper()
	d := e.Decide(tb.Context(), policy.NewInput(runFacts("web3", line)), policy.Mark{Mode: "run", Digest: "digest"})
	if !d.Allow {
		tb.Fatalf("%s: %v", line, d.Reasons)
	}
}

var measured = map[string]string{
	"command":  "systemctl status nginx",
	"options":  "journalctl -u nginx --no-pager -n 100",
	"pipeline": "ps aux | grep -v grep | grep nginx | wc -l",
	"file":     "tail -n 100 /var/log/nginx/error.log",
}

// another is a measured line that was not decided before: part of a decision is
// known from an earlier one that is alike.
func another(line string) func() string {
	n := 0
	return func() string {
		n++
		return strings.ReplaceAll(line, "nginx", fmt.Sprintf("nginx%d", n))
	}
}

// same is a line again and again.
func same(line string) func() string { return func() string { return line } }

var repeats = map[string]func(line string) func() string{"new": another, "again": same}

// writer is a log that keeps its lines nowhere.
type writer struct{ io.Writer }

func (w writer) Append(line []byte) error {
	_, err := w.Write(line)
	return err
}

func BenchmarkDecide(b *testing.B) {
	for _, size := range sizes {
		for _, log := range []policy.Log{nil, writer{io.Discard}} {
			e := newEngine(b, policy.Options{Site: sizedSite(size.hosts, size.rules), Log: log})
			for name, line := range measured {
				for repeat, lines := range repeats {
					b.Run(fmt.Sprintf("%s/%s/hosts=%d/rules=%d/log=%v", name, repeat, size.hosts, size.rules, log != nil), func(b *testing.B) {
						b.ReportAllocs()
						next := lines(line)
						var took []time.Duration
						for b.Loop() {
							began := time.Now()
							decide(b, e, next())
							took = append(took, time.Since(began))
						}
						slices.Sort(took)
						b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "p50-µs")
						b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "p99-µs")
					})
				}
			}
		}
	}
}

func BenchmarkDecideByRules(b *testing.B) {
	for _, rules := range []int{10, 2000} {
		e := newEngine(b, policy.Options{Site: ruledSite(rules)})
		for name, line := range measured {
			b.Run(fmt.Sprintf("%s/rules=%d", name, 2*rules), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					decide(b, e, line)
				}
			})
		}
	}
}

func BenchmarkRefuse(b *testing.B) {
	e := newEngine(b, policy.Options{Site: sizedSite(10, 10)})
	b.ReportAllocs()
	for b.Loop() {
		in := policy.NewInput(runFacts("web3", "systemctl --host x restart nginx"))
		if d := e.Decide(b.Context(), in, policy.Mark{}); d.Allow {
			b.Fatal("allowed")
		}
	}
}

func BenchmarkReload(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("hosts=%d", size.hosts), func(b *testing.B) {
			e := newEngine(b, policy.Options{})
			site := sizedSite(size.hosts, size.rules)
			for b.Loop() {
				if err := e.Reload(b.Context(), site); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		e, err := policy.New(b.Context(), policy.Options{Site: sizedSite(10, 10)})
		if err != nil {
			b.Fatal(err)
		}
		e.Close(b.Context())
	}
}

// Allocations are what a decision's time goes by, and are the same on every
// machine. They are bounded, and do not grow with hosts and rules.
func TestAllocations(t *testing.T) {
	bounds := map[string]map[string]float64{
		"new":   {"command": 1250, "options": 1420, "pipeline": 2060, "file": 1340},
		"again": {"command": 105, "options": 115, "pipeline": 160, "file": 115},
	}
	small := newEngine(t, policy.Options{Site: sizedSite(10, 10)})
	large := newEngine(t, policy.Options{Site: sizedSite(10_000, 1000)})
	for repeat, lines := range repeats {
		for name, line := range measured {
			few, many := allocations(t, small, lines(line)), allocations(t, large, lines(line))
			t.Logf("%s, %s: %.0f allocations with 10 hosts and 10 rules, %.0f with 10,000 and 1,000", name, repeat, few, many)
			if few > bounds[repeat][name] && !raceDetector { // it keeps pools empty
				t.Errorf("%s, %s: %.0f allocations, more than %.0f", name, repeat, few, bounds[repeat][name])
			}
			if many > 1.4*few {
				t.Errorf("%s, %s: %.0f allocations with many hosts are more than 1.4 times the %.0f with few", name, repeat, many, few)
			}
		}
	}
}

// What goes on meanwhile is another with each call, and costs no more for that.
func TestAllocationsOfUsage(t *testing.T) {
	unbounded := sizedSite(10, 10)
	for alias, host := range unbounded.Hosts {
		host.Limits.Concurrent, host.Limits.CallsPerMinute = 0, 0
		unbounded.Hosts[alias] = host
	}
	for name, site := range map[string]policy.Site{"with bounds": sizedSite(10, 10), "without": unbounded} {
		e := newEngine(t, policy.Options{Site: site})
		calls := 0
		allocs := func(more int) float64 {
			return testing.AllocsPerRun(100, func() {
				calls += more
				facts := runFacts("web3", measured["command"])
				facts.Usage.CallsLastMinute.Subject = calls
				if d := e.Decide(t.Context(), policy.NewInput(facts), policy.Mark{}); !d.Allow {
					t.Fatal(d.Reasons)
				}
			})
		}
		alike, other := allocs(0), allocs(1)
		t.Logf("%s: %.0f allocations for the same usage, %.0f for another each time", name, alike, other)
		if other > 1.05*alike {
			t.Errorf("%s: %.0f allocations for another usage are more than 1.05 times the %.0f for the same", name, other, alike)
		}
	}
}

// A fleet that is asked the same again is known host by host.
func TestAllocationsOfFleet(t *testing.T) {
	const hosts = 1000
	e := newEngine(t, policy.Options{Site: sizedSite(hosts, 100)})
	perHost := testing.AllocsPerRun(1, func() {
		for i := range hosts {
			in := policy.NewInput(runFacts(fmt.Sprintf("web%d", i), measured["command"]))
			if d := e.Decide(t.Context(), in, policy.Mark{}); !d.Allow {
				t.Fatal(d.Reasons)
			}
		}
	}) / hosts
	t.Logf("%.0f allocations for each of %d hosts", perHost, hosts)
	if perHost > 110 && !raceDetector {
		t.Errorf("%.0f allocations for each of %d hosts, more than 110", perHost, hosts)
	}
}

func allocations(t *testing.T, e *policy.Engine, next func() string) float64 {
	t.Helper()
	decide(t, e, next()) // fills the caches of compiled expressions
	return testing.AllocsPerRun(100, func() { decide(t, e, next()) })
}

// ruledSite has one host and rules on commands, most of which are about other
// programs than those that are called.
func ruledSite(rules int) policy.Site {
	const rule = "0.0"
	s := profileSite()
	s.Rules = map[string]policy.SiteRule{}
	allow, deny := map[string][]string{}, map[string][]string{}
	for i := range rules {
		for effect, list := range map[string]map[string][]string{"allow": allow, "deny": deny} {
			id, program := fmt.Sprintf("%s%d", effect, i), fmt.Sprintf("program%d", i)
			s.Rules[id] = policy.SiteRule{Kind: "simple", Programs: []string{program}, Most: -1}
			list[program] = append(list[program], id)
		}
	}
	s.Rules[rule] = policy.SiteRule{Kind: "structured", Programs: []string{"systemctl"}, Most: -1, Prefix: []string{"status"}, Fixed: 1}
	s.Rules["0.1"] = policy.SiteRule{Kind: "simple", Programs: []string{"ps", "grep", "wc", "journalctl", "tail"}, Most: 6}
	s.Rules["0.2"] = policy.SiteRule{Kind: "structured", Programs: []string{"systemctl"}, Most: -1, Parts: []string{"restart", "sshd"}}
	allow["systemctl"], deny["systemctl"] = []string{rule}, []string{"0.2"}
	for _, program := range s.Rules["0.1"].Programs {
		allow[program] = []string{"0.1"}
	}
	s.Hosts["web3"] = policy.SiteHost{Class: "c0", Limits: s.Limits}
	s.Classes["c0"] = policy.SiteClass{
		Allow: policy.SiteGrants{Commands: policy.SiteCommands{Any: allow}},
		Deny:  policy.SiteGrants{Commands: policy.SiteCommands{Any: deny}},
	}
	return s
}

// Rules are found by the program, so that it costs nothing to have many.
func TestAllocationsOfRules(t *testing.T) {
	bounds := map[string]float64{"command": 1660, "options": 1400, "pipeline": 2200, "file": 1400}
	few, many := newEngine(t, policy.Options{Site: ruledSite(10)}), newEngine(t, policy.Options{Site: ruledSite(2000)})
	for name, line := range measured {
		small, large := allocations(t, few, another(line)), allocations(t, many, another(line))
		t.Logf("%s: %.0f allocations with 20 rules, %.0f with 4,000", name, small, large)
		if small > bounds[name] && !raceDetector {
			t.Errorf("%s: %.0f allocations, more than %.0f", name, small, bounds[name])
		}
		if large > 1.1*small {
			t.Errorf("%s: %.0f allocations with many rules are more than 1.1 times the %.0f with few", name, large, small)
		}
	}
}

// filesSite has rules on files, most of which are about other paths than those
// that are read.
func filesSite(rules int) policy.Site {
	s := profileSite("readonly")
	s.Files = map[string]policy.SiteFile{}
	paths := policy.SitePaths{
		Exact: map[string][]string{}, Under: map[string][]string{"/var/log": {"0"}},
		Globs: map[string][]policy.SitePathGlob{}, Above: map[string][]string{},
	}
	for i := range rules {
		id, dir := fmt.Sprint(i), fmt.Sprintf("/srv/%d", i)
		s.Files[id] = policy.SiteFile{Rule: id, Read: []string{dir + "/**"}}
		paths.Rules = append(paths.Rules, id)
		paths.Exact[dir+"/a"], paths.Under[dir] = []string{id}, []string{id}
		paths.Globs[dir] = []policy.SitePathGlob{{Rule: id, Text: dir + "/*", Expression: "^" + dir + "/[^/]+$", Reach: "^" + dir + "$"}}
		paths.Above[dir] = []string{id}
	}
	denied := paths
	denied.Under = map[string][]string{"/var/log/secret": {"0"}}
	c := s.Classes["readonly"]
	c.Files.Allow.Any = map[string]policy.SitePaths{"read": paths}
	c.Files.Deny.Any = map[string]policy.SitePaths{"read": denied}
	s.Classes["readonly"] = c
	return s
}

// Rules on files are found by the path, so that it costs nothing to have many.
func TestAllocationsOfFiles(t *testing.T) {
	few, many := newEngine(t, policy.Options{Site: filesSite(10)}), newEngine(t, policy.Options{Site: filesSite(5000)})
	allocs := func(e *policy.Engine) float64 {
		next := another(measured["file"])
		judge := func() {
			if d := e.Decide(t.Context(), policy.NewInput(runFacts("readonly", next())), policy.Mark{}); !d.Allow {
				t.Fatal(d.Reasons)
			}
		}
		judge()
		return testing.AllocsPerRun(100, judge)
	}
	small, large := allocs(few), allocs(many)
	t.Logf("%.0f allocations with 10 rules, %.0f with 5,000", small, large)
	if small > 1630 && !raceDetector {
		t.Errorf("%.0f allocations, more than 1630", small)
	}
	if large > 1.05*small {
		t.Errorf("%.0f allocations with many rules are more than 1.05 times the %.0f with few", large, small)
	}
}

// The largest lines that the parser lets through are decided in time, permitted
// and refused ones.
func TestLargestLines(t *testing.T) {
	e := newEngine(t, policy.Options{Site: profileSite("readonly", "diagnose", "ops"), Timeout: 2 * time.Second})
	repeat := func(n int, first, each string) string {
		line := []byte(first)
		for range n {
			line = append(line, each...)
		}
		return string(line)
	}
	for name, tc := range map[string]struct {
		line  string
		allow bool
	}{
		"many operands":         {repeat(900, "cat", " /var/log/a"), true},
		"many bad operands":     {repeat(900, "cat", " /etc/passwd"), false},
		"many options":          {repeat(900, "ls", " -l"), true},
		"many unknown options":  {repeat(900, "ls", " -Z"), false},
		"many values":           {repeat(400, "grep", " -e x"), true},
		"many bad values":       {repeat(400, "head", " -n x"), false},
		"many commands":         {repeat(60, "uptime", ";tail -n 5 /var/log/a|grep -c x")[:len("uptime")+31*31], true},
		"many unknown commands": {repeat(60, "id", ";id -u x"), false},
		"many tests":            {repeat(400, "find /srv", " -name x"), true},
		"many bad tests":        {repeat(400, "find /srv", " -exec x"), false},
		"one long word":         {"echo " + repeat(16_000, "", "x"), true},
		"one long bad word":     {"cat " + repeat(16_000, "", "x"), false},
		"a deep path":           {"cat /var/log" + repeat(100, "", "/x"), true},
	} {
		profile := "diagnose"
		began := time.Now()
		d := judge(t, e, profile, tc.line)
		t.Logf("%s: %v, %d reasons", name, time.Since(began), len(d.Reasons))
		if d.Allow != tc.allow {
			t.Errorf("%s: allow %v, want %v: %.300v", name, d.Allow, tc.allow, d.Reasons)
		}
		if n := size(d.Reasons); n > 16<<10 {
			t.Errorf("%s: the reasons have %d bytes", name, n)
		}
	}
}

// So are they by rules on files.
func TestLargestLinesByFiles(t *testing.T) {
	e := newEngine(t, policy.Options{Site: filesSite(1000)})
	for line, allow := range map[string]bool{
		"cat" + strings.Repeat(" /var/log/a", 900):         true,
		"cat" + strings.Repeat(" /var/log/a/b/c/d/e", 800): true,
		"cat" + strings.Repeat(" /var/log/secret", 900):    false,
		"ls" + strings.Repeat(" /etc", 900):                false,
		"cat" + strings.Repeat(" a", 900):                  false,
		"cat /var/log" + strings.Repeat("/x", 100):         true,
	} {
		began := time.Now()
		d := judge(t, e, "readonly", line)
		t.Logf("%.20s: %v, %d reasons", line, time.Since(began), len(d.Reasons))
		if d.Allow != allow {
			t.Errorf("%.20s: allow %v, want %v: %.300v", line, d.Allow, allow, d.Reasons)
		}
		if n := size(d.Reasons); n > 16<<10 {
			t.Errorf("%.20s: the reasons have %d bytes", line, n)
		}
	}
}

// So are they by rules, however many of them deny.
func TestLargestLinesByRules(t *testing.T) {
	r := newRuled(t, `version: 3
rules:
  - {action: deny, binary: cat, path_args: {indices: [1], patterns: ["/etc/shadow*", "/root/*", "/srv/x*"]}}
  - {action: deny, commands: ["*shadow*", "*passwd*"]}
  - {action: allow, simple_binaries: [cat, rm]}
  - {action: allow, commands: ["grep * /var/log/*", "tail * * * /var/log/*"]}
  - {action: allow, binary: ls, arg_prefix: [-l], path_args: {indices: [2], patterns: ["/var/log/*"]}}
`)
	for line, allow := range map[string]bool{
		"cat" + strings.Repeat(" /var/log/a", 900): true, "cat" + strings.Repeat(" -abcdefghij", 900): true, "cat " + strings.Repeat("x", 16_000): true,
		"cat" + strings.Repeat(" --abcdef=/x/y", 900): true, "tail " + strings.Repeat("a ", 1000) + "/var/log/x/": false, "rm" + strings.Repeat(" -r", 900): true,
		"ls -l" + strings.Repeat(" /var/log/a", 900): true, "ls -l" + strings.Repeat(" /etc/a", 900): false, "id" + strings.Repeat(";id x", 60): false,
		"grep " + strings.Repeat("a ", 1000) + "/var/log/x": true,
	} {
		began := time.Now()
		d := r.decide(t, r.facts("web-1", line))
		t.Logf("%.20s: %v, %d reasons", line, time.Since(began), len(d.Reasons))
		if d.Allow != allow {
			t.Errorf("%.20s: allow %v, want %v: %.300v", line, d.Allow, allow, d.Reasons)
		}
		if n := size(d.Reasons); n > 16<<10 {
			t.Errorf("%.20s: the reasons have %d bytes", line, n)
		}
	}
}

func size(reasons []tool.Reason) int {
	n := 0
	for _, r := range reasons {
		n += len(r.Code) + len(r.Title) + len(r.Remedy) + len(r.Detail)
	}
	return n
}
