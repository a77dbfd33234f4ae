package policy_test

import (
	"fmt"
	"io"
	"slices"
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
				b.Run(fmt.Sprintf("%s/hosts=%d/rules=%d/log=%v", name, size.hosts, size.rules, log != nil), func(b *testing.B) {
					b.ReportAllocs()
					var took []time.Duration
					for b.Loop() {
						began := time.Now()
						decide(b, e, line)
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
	bounds := map[string]float64{"command": 1170, "options": 1340, "pipeline": 1960, "file": 1265}
	small := newEngine(t, policy.Options{Site: sizedSite(10, 10)})
	large := newEngine(t, policy.Options{Site: sizedSite(10_000, 1000)})
	for name, line := range measured {
		allocs := func(e *policy.Engine) float64 {
			decide(t, e, line) // fills the caches of compiled expressions
			return testing.AllocsPerRun(100, func() { decide(t, e, line) })
		}
		few, many := allocs(small), allocs(large)
		t.Logf("%s: %.0f allocations with 10 hosts and 10 rules, %.0f with 10,000 and 1,000", name, few, many)
		if few > bounds[name] && !raceDetector { // it keeps pools empty
			t.Errorf("%s: %.0f allocations, more than %.0f", name, few, bounds[name])
		}
		if many > 1.4*few {
			t.Errorf("%s: %.0f allocations with many hosts are more than 1.4 times the %.0f with few", name, many, few)
		}
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

func size(reasons []tool.Reason) int {
	n := 0
	for _, r := range reasons {
		n += len(r.Code) + len(r.Title) + len(r.Remedy) + len(r.Detail)
	}
	return n
}
