package config

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGlob(t *testing.T) {
	for _, tc := range []struct {
		pattern   string
		yes, no   []string
		malformed bool
	}{
		{pattern: "web1", yes: []string{"web1"}, no: []string{"web", "web11", "WEB1"}},
		{pattern: "web-*", yes: []string{"web-", "web-1", "web-1.b"}, no: []string{"web", "db-1", "a-web-1"}},
		{pattern: "*", yes: []string{"a", "a.b-c_d"}},
		{pattern: "*-db", yes: []string{"-db", "a-db"}, no: []string{"db", "a-db1"}},
		{pattern: "a*a", yes: []string{"aa", "aba"}, no: []string{"a", "ab"}},
		{pattern: "a*b*c", yes: []string{"abc", "axbxc"}, no: []string{"ac", "acb"}},
		{pattern: "web?", yes: []string{"web1"}, no: []string{"web", "web12"}},
		{pattern: "web[12]", yes: []string{"web1", "web2"}, no: []string{"web3", "web", "web12"}},
		{pattern: "web[0-9]x", yes: []string{"web7x"}, no: []string{"webax", "web7"}},
		{pattern: "web[!0-9]", yes: []string{"weba"}, no: []string{"web1", "web"}},
		{pattern: "web[^0-9]", yes: []string{"weba"}, no: []string{"web1"}},
		{pattern: "a.b", yes: []string{"a.b"}, no: []string{"axb"}},
		{pattern: "web[", malformed: true},
		{pattern: "web[]", malformed: true},
		{pattern: "web[a-]", malformed: true},
		{pattern: `web\*`, malformed: true},
		{pattern: "a/b", malformed: true},
		{pattern: "", malformed: true},
		{pattern: "we b", malformed: true},
	} {
		g, f := newGlob(tc.pattern)
		if (f != nil) != tc.malformed {
			t.Errorf("newGlob(%q): %v", tc.pattern, f)
			continue
		}
		for _, name := range tc.yes {
			if !g.match(name) {
				t.Errorf("%q does not match %q", tc.pattern, name)
			}
		}
		for _, name := range tc.no {
			if g.match(name) {
				t.Errorf("%q matches %q", tc.pattern, name)
			}
		}
	}
}

// TestMatcher compares the matcher with the obvious loop over all rules.
func TestMatcher(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	words := []string{"web", "db", "cache", "prod", "eu", "a"}
	word := func() string { return words[random.IntN(len(words))] }
	patterns := func() (list []glob) {
		for range random.IntN(3) {
			shape := []string{"%s", "%s*", "*%s", "%s?", "[wdc]*%s*", "%s-[0-9]"}[random.IntN(6)]
			g, f := newGlob(fmt.Sprintf(shape, word()))
			if f != nil {
				t.Fatal(f)
			}
			list = append(list, g)
		}
		return list
	}
	var rules []rule
	for range 150 {
		rules = append(rules, rule{aliases: patterns(), tags: patterns()})
	}
	m := newMatcher(rules)
	for range 300 {
		h := Host{Alias: fmt.Sprintf("%s-%d", word(), random.IntN(20)), Tags: []string{word(), word()}[:random.IntN(3)]}
		var want []int
		for i, r := range rules {
			if matchesOne(r.aliases, []string{h.Alias}) && matchesOne(r.tags, h.Tags) {
				want = append(want, i)
			}
		}
		if diff := cmp.Diff(want, slices.Collect(m.match(h).all())); diff != "" {
			t.Fatalf("%+v (-want +got):\n%s", h, diff)
		}
	}
}

func matchesOne(globs []glob, names []string) bool {
	if len(globs) == 0 {
		return true
	}
	return slices.ContainsFunc(globs, func(g glob) bool {
		return slices.ContainsFunc(names, func(name string) bool {
			ok, _ := path.Match(g.pattern, name)
			return ok
		})
	})
}

// TestNetworkIndex looks addresses up as a policy does.
func TestNetworkIndex(t *testing.T) {
	c := mustLoad(t, Options{Dir: write(t, map[string]string{policyFile: `network:
  allow_ips: ["::ffff:192.0.2.2", "2001:db8::1"]
  allow_cidrs: [10.0.0.0/8, 172.16.5.4/12, "::ffff:198.51.100.0/120", "fd00::/8", "::/127"]
`})})
	allow := c.Site().Network.Allow
	find := func(family, bits string) string {
		for length, networks := range allow[family] {
			var n int
			fmt.Sscan(length, &n)
			if written, ok := networks[bits[:n]]; ok {
				return written
			}
		}
		return ""
	}
	bits := func(bytes ...byte) string {
		var b strings.Builder
		for _, x := range bytes {
			fmt.Fprintf(&b, "%08b", x)
		}
		return b.String()
	}
	six := func(first, second, last byte) string {
		b := make([]byte, 16)
		b[0], b[1], b[15] = first, second, last
		return bits(b...)
	}
	for _, tc := range []struct{ family, bits, want string }{
		{"4", bits(10, 255, 255, 255), "10.0.0.0/8"},
		{"4", bits(11, 0, 0, 0), ""},
		{"4", bits(172, 31, 0, 1), "172.16.5.4/12"},
		{"4", bits(172, 32, 0, 1), ""},
		{"4", bits(192, 0, 2, 2), "::ffff:192.0.2.2"},
		{"4", bits(198, 51, 100, 7), "::ffff:198.51.100.0/120"},
		{"6", six(0xfd, 1, 1), "fd00::/8"},
		{"6", six(0, 0, 1), "::/127"},
		{"6", six(0, 0, 2), ""},
	} {
		if got := find(tc.family, tc.bits); got != tc.want {
			t.Errorf("%s is in %q, want %q", tc.bits, got, tc.want)
		}
	}
}

// TestSiteDocument: the document has the shape that the policies were written
// for.
func TestSiteDocument(t *testing.T) {
	c := mustLoad(t, Options{Dir: write(t, map[string]string{
		serversFile:     "hosts: [{alias: web1, host: web1.internal, credentials: ops, tags: [web]}]",
		credentialsFile: "entries: [{name: ops, username: ops, agent: true}]",
		policyFile: `
network: {allow_cidrs: [10.0.0.0/8]}
rules:
  - {action: allow, tags: [web], profile: readonly}
  - {name: fix, action: allow, groups: [sre], profile: ops}
reload: {groups: [admins]}
`,
	})})
	b, err := json.Marshal(c.Site())
	must(t, err)
	const limits = `{"seconds":60,"output_bytes":1048576,"concurrent":32,"calls_per_minute":0,"deny_substrings":[]}`
	const commands = `"commands":{"any":{},"groups":{},"subjects":{}}`
	const want = `{"version":1,` +
		`"hosts":{"web1":{"class":"c0","limits":` + limits + `}},` +
		`"classes":{"c0":{"allow":{"any":{"readonly":{"rule":"rules[0]","line":4}},"groups":{"sre":{"ops":{"rule":"fix","line":5}}},"subjects":{},` + commands + `},"deny":{"any":{},"groups":{},"subjects":{},` + commands + `},` +
		`"files":{"allow":{"any":{},"groups":{},"subjects":{}},"deny":{"any":{},"groups":{},"subjects":{}}}}},` +
		`"rules":{},"texts":{"meaning":{},"programs":{},"spellings":{}},` +
		`"files":{},"adhoc":[],"connect":{"allow":{"any":[],"groups":{},"subjects":{}},"deny":{"any":[],"groups":{},"subjects":{}}},"names":{},` +
		`"network":{"closed":true,"allow":{"4":{"8":{"00001010":"10.0.0.0/8"}},"6":{}},"block":{"4":{},"6":{}}},` +
		`"limits":` + limits + `,` +
		`"gateway":{"reload":{"local":true,"groups":{"admins":true},"subjects":{}}}}`
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// fleet is a configuration of many hosts, in a few kinds as fleets are, and
// rules that name some of them by alias, pattern and tag.
func fleet(hosts, rules int) (servers, policy string) {
	var s, p strings.Builder
	s.WriteString("hosts:\n")
	roles := []string{"web", "db", "cache", "queue", "build"}
	places := []string{"eu", "us", "ap"}
	for i := range hosts {
		role, site := roles[i%len(roles)], places[i%len(places)]
		fmt.Fprintf(&s, "  - {alias: %s-%s-%d, host: h%d.internal, credentials: ops, tags: [%s, %s, rack%d]}\n", role, site, i, i, role, site, i%50)
	}
	p.WriteString("rules:\n")
	for i := range rules {
		where := []string{
			fmt.Sprintf("tags: [rack%d]", i%50),
			fmt.Sprintf("aliases: [%s-*-%d*]", roles[i%len(roles)], i%97),
			fmt.Sprintf("aliases: ['*-%d']", i),
			fmt.Sprintf("tags: [%s], aliases: ['?*%d']", places[i%len(places)], i%10),
		}[i%4]
		fmt.Fprintf(&p, "  - {action: allow, %s, groups: [team%d], profile: readonly}\n", where, i%20)
	}
	return s.String(), p.String()
}

const oneEntry = "entries: [{name: ops, username: ops, agent: true}]\n"

func BenchmarkSite(b *testing.B) {
	for _, size := range []struct{ hosts, rules int }{{10, 10}, {1000, 100}, {10_000, 1000}} {
		b.Run(fmt.Sprintf("hosts=%d/rules=%d", size.hosts, size.rules), func(b *testing.B) {
			servers, policy := fleet(size.hosts, size.rules)
			c := mustLoad(b, Options{Dir: write(b, map[string]string{serversFile: servers, credentialsFile: oneEntry, policyFile: policy})})
			b.ReportAllocs()
			for b.Loop() {
				newSite(c.Hosts, c.policy)
			}
			b.ReportMetric(float64(len(c.site.Classes)), "classes")
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	servers, policy := fleet(10_000, 1000)
	dir := write(b, map[string]string{serversFile: servers, credentialsFile: oneEntry, policyFile: policy})
	b.ReportAllocs()
	for b.Loop() {
		mustLoad(b, Options{Dir: dir})
	}
}
