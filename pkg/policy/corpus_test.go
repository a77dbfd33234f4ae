package policy_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

// corpusCase is a line of a command corpus; testdata/corpus/README.md describes
// it.
type corpusCase struct {
	ID      string `json:"id"`
	Class   string `json:"class"`
	Command string `json:"command"`
	Context string `json:"policy_context"`
	Expect  string `json:"expect"`
	Why     string `json:"why"`
}

// corpora are the one that the project was given and two of its own, written
// from the description alone, by different hands. The last goes through the
// forms that each option, value, path, wrapper and redirection can take.
var corpora = []string{
	filepath.Join("..", "..", "testdata", "corpus", "commands-dev.jsonl"),
	filepath.Join("testdata", "commands.jsonl"),
	filepath.Join("testdata", "forms.jsonl"),
}

func readCorpus(t testing.TB, path string) []corpusCase {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var cases []corpusCase
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c corpusCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		cases = append(cases, c)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return cases
}

// profileSite has one host for each profile, called like it.
func profileSite(profiles ...string) policy.Site {
	s := policy.Site{
		Version: policy.SiteVersion,
		Hosts:   map[string]policy.SiteHost{},
		Classes: map[string]policy.SiteClass{},
		Limits:  policy.SiteLimits{Seconds: 60, OutputBytes: 1 << 20, Concurrent: 4},
	}
	for i, p := range profiles {
		s.Hosts[p] = policy.SiteHost{Class: p, Limits: s.Limits}
		s.Classes[p] = policy.SiteClass{Allow: policy.SiteGrants{
			Any: map[string]policy.SiteGrant{p: {Rule: "rules[" + strconv.Itoa(i) + "]", Line: i + 1}},
		}}
	}
	return s
}

// runFacts is a command line on a host.
func runFacts(alias, line string) policy.Facts {
	address := netip.MustParseAddr("10.0.0.11")
	return policy.Facts{
		CallID: "01JD0000000000000000000000",
		Tool:   &tool.Tool{Name: "ssh_run", Set: "fleet", Effect: tool.Execute},
		Caller: tool.Caller{
			Subject: "agent-7", Groups: []string{"aiops"}, Auth: "local", Transport: "stdio",
			Client: tool.Client{Name: "claude-code", Version: "2.1.329"},
		},
		Plan: tool.Plan{Scope: tool.Scope{Alias: alias}, Steps: []tool.Step{tool.RunLine(line)}},
		Target: tool.Target{
			Alias: alias, Hostname: alias + ".internal", Port: 22, User: "ops", Kind: "posix", Source: "inventory",
			Auth: "key", Tags: []string{"production"}, Addresses: []netip.Addr{address}, Address: address,
		},
		Digest: "digest",
		Now:    time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC),
	}
}

// newEngine has time: a test of what is decided must not fail on a busy machine.
func newEngine(t testing.TB, o policy.Options) *policy.Engine {
	t.Helper()
	o.Timeout = cmp.Or(o.Timeout, 30*time.Second)
	e, err := policy.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return e
}

// recordedEngine is one whose decisions are judged again when the test is over, as
// a replay does it, with and without an eye on the rules at work. All of them have
// to come out as they did.
func recordedEngine(t testing.TB, o policy.Options) *policy.Engine {
	t.Helper()
	log := &recording{}
	o.Log, o.FullRecords = log, true
	e := newEngine(t, o)
	t.Cleanup(func() {
		for _, uses := range []bool{false, true} {
			r, err := e.Replay(context.Background(), policy.ReplayOptions{Uses: uses})
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range log.lines {
				got, err := r.Judge(context.Background(), line)
				if err != nil || got.Status != policy.Judged || got.Change != "" {
					t.Errorf("%v: %s %s: %s of %s on %s\nthen %+v\nnow  %+v", err, got.Status, got.Cause, got.Change, got.Does, got.Host, got.Then, got.Now)
				}
			}
		}
	})
	return e
}

// recording is a decision log in memory.
type recording struct {
	mu    sync.Mutex
	lines [][]byte
}

func (r *recording) Append(line []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, bytes.Clone(line))
	return nil
}

// judge runs a line through parser, input and policy under a profile.
func judge(t testing.TB, e *policy.Engine, profile, line string) tool.Decision {
	t.Helper()
	d := e.Decide(t.Context(), policy.NewInput(runFacts(profile, line)), policy.Mark{Mode: "run"})
	for _, r := range d.Reasons {
		// Policy explains a refusal itself; it neither breaks nor is at a loss.
		if strings.HasPrefix(r.Code, "policy_") || r.Code == "not_permitted" {
			t.Errorf("%s in %s: %+v", line, profile, r)
		}
	}
	return d
}

func TestCorpora(t *testing.T) {
	e := recordedEngine(t, policy.Options{Site: profileSite("readonly", "diagnose", "ops")})
	for _, file := range corpora {
		t.Run(filepath.Base(file), func(t *testing.T) {
			allowed := 0
			for _, c := range readCorpus(t, file) {
				d := judge(t, e, c.Context, c.Command)
				switch {
				case d.Allow && c.Expect == "deny":
					t.Errorf("%s: allowed in %s: %q (%s)", c.ID, c.Context, c.Command, c.Why)
				case !d.Allow && c.Expect == "allow":
					t.Errorf("%s: denied in %s: %q (%s): %v", c.ID, c.Context, c.Command, c.Why, d.Reasons)
				}
				if d.Allow {
					allowed++
				}
			}
			if allowed < 50 {
				t.Errorf("only %d cases are allowed; this cannot be the whole corpus", allowed)
			}
		})
	}
}

// Two judges that share no code agree on random command lines: some of what is
// permitted, in random spelling, and much that is almost permitted.
func TestOracle(t *testing.T) {
	o := readOracle(t)
	e := newEngine(t, policy.Options{Site: profileSite("readonly", "diagnose", "ops")})
	rnd := rand.New(rand.NewPCG(1, 2))
	g := newGenerator(o, rnd)
	lines, allowed := 6000, 0
	if raceDetector || testing.Short() {
		lines = 600
	}
	for range lines {
		profile := g.pick("readonly", "diagnose", "ops")
		line := g.line(profile)
		want := o.permits(profile, line)
		if got := judge(t, e, profile, line); got.Allow != want {
			t.Errorf("in %s: %q: allowed %v, want %v: %v", profile, line, got.Allow, want, got.Reasons)
		}
		if want {
			allowed++
		}
	}
	t.Logf("%d of %d allowed", allowed, lines)
	if allowed < lines/10 || allowed > lines*9/10 {
		t.Errorf("%d of %d lines are allowed; the test does not look at both sides", allowed, lines)
	}
}

// generator makes command lines near the border of what is permitted.
type generator struct {
	*rand.Rand
	oracle   *oracle
	values   map[string][]string // by type
	programs map[string][]string // by profile
}

func newGenerator(o *oracle, rnd *rand.Rand) *generator {
	g := &generator{Rand: rnd, oracle: o, programs: map[string][]string{}}
	for name, c := range o.Contexts {
		for _, table := range c.Commands {
			commands := map[string]map[string]*grammar{"commands": o.Commands, "diagnose_commands": o.Diagnose}[table]
			g.programs[name] = append(g.programs[name], slices.Sorted(maps.Keys(commands))...)
		}
	}
	g.values = map[string][]string{
		"text": {"x", "a b", "$HOME", "'", "a*b", "", "-x", "é", "a;b", "\n"}, "count": {"5", "+5", "-5", "12345678"},
		"num": {"0", "7", "1234567", "-1"}, "word": {"ext4", "a.b-c", ".x"}, "user": {"root", "www-data", "Root"},
		"unit": {"nginx", "a@b.service", "-x", "a b"}, "own_unit": {"app", "app-web.service", "apps"},
		"prio": {"err", "0..3", "ERR"}, "logfmt": {"cat", "json", "xml"}, "time": {"yesterday", "2 hours ago", "$x"},
		"tail_count": {"all", "10", "some"}, "container": {"web-1", "a_b", "-a"}, "image": {"debian:13", "a/b", "A"},
		"columns": {"pid,comm,%mem", "PID"}, "sortkeys": {"-%mem", "A"}, "dateformat": {"+%F", "%F"},
		"color": {"auto", "red"}, "time_style": {"iso", "x"}, "ls_sort": {"size", "x"}, "char": {":", " ", "ab", ""},
		"keydef": {"1", "2,3nr", "x"}, "ranges": {"1,3-5", "a"}, "sed_print": {"5p", "1,5p", "5d", "p\n"},
		"awk_print": {"{print $1}", "{ print $1, $NF }", "{print}", "{system(\"id\")}"},
		"local_url": {"http://localhost:8080/x", "http://127.0.0.1", "http://example.org"},
		"HEAD":      {"HEAD", "HEAD~1"}, "[fdl]": {"f", "x"}, "[+-]?[0-9]{1,7}[ckMG]?": {"+5M", "5", "x"},
		"log_path":  {"/var/log/syslog", "/var/log", "/var/log/", "/etc/hosts", "/etc/passwd", "/var/logs", "x", "/var/log/../x"},
		"list_path": {"/etc", "/srv/a b", "/opt/", "/root", "/srv/./x", "/"}, "any_path": {"/", "/x", "x"},
		"repo_path": {"/srv/app", "/opt/x", "/etc"},
	}
	return g
}

func (g *generator) pick(items ...string) string { return items[g.IntN(len(items))] }

// often is true n times in ten.
func (g *generator) often(n int) bool { return g.IntN(10) < n }

func (g *generator) line(profile string) string {
	line := g.command(profile)
	for g.often(3) {
		line += g.pick(" | ", "|", " && ", " || ", "; ", "\n", " |\n", " & ") + g.command(profile)
	}
	if g.often(1) {
		line += g.pick(" 2>/dev/null", " >/dev/null", " 2>&1", " > /tmp/x", " # done", " ;", " >> /dev/null", " 2>&2")
	}
	return line
}

func (g *generator) command(profile string) string {
	words := g.wrapper(profile)
	program := g.pick(g.programs[profile]...)
	if g.IntN(30) == 0 {
		program = g.pick("id", "sort", "git", "sh", "tee")
	}
	spec := g.oracle.grammar(profile, program)
	if spec == nil {
		spec = &grammar{}
	}
	if g.IntN(20) == 0 {
		program = g.pick("/bin/", "/usr/bin/", "./", "/sbin/") + program
	}
	words = append(words, g.spell(program))
	words = append(words, g.words(spec, program)...)
	return strings.Join(words, g.pick(" ", " ", " ", "  ", "\t", " \\\n "))
}

func (g *generator) wrapper(profile string) []string {
	if profile != "ops" && g.IntN(20) > 0 || g.often(6) {
		return nil
	}
	forms := [][]string{
		{"sudo", "-n"},
		{"timeout", "10"},
		{"nice", "-n", "5"},
		{"sudo", "--non-interactive", "--"},
		{"timeout", "5s"},
		{"sudo"},
		{"timeout", "5m"},
		{"nice", "-n5"},
		{"env"},
		{"sudo", "-n", "-u", "root"},
	}
	var words []string
	for range 1 + g.IntN(2) {
		words = append(words, forms[g.IntN(min(len(forms), 1+g.IntN(len(forms))))]...)
	}
	return words
}

// words are those behind the program's name.
func (g *generator) words(spec *grammar, program string) []string {
	switch {
	case spec.Raw:
		return g.operands([]string{"text*"}, g.IntN(4))
	case spec.FileTest:
		words := []string{g.pick("-e", "-f", "-d", "-s", "-r", "-v"), g.value(g.pick("log_path", "list_path"))}
		if (program == "[") != (g.IntN(20) == 0) {
			words = append(words, "]")
		}
		return words
	case spec.Tokens != nil:
		return g.list(spec.Tokens, spec.Pairs, "--sort=")
	case spec.Find != nil:
		return append(g.operands([]string{spec.Find.Starts + "*"}, 1+g.IntN(2)), g.list(spec.Find.Unary, spec.Find.Valued, "-exec")...)
	case spec.Git:
		verb := g.pick(slices.Sorted(maps.Keys(spec.Sub))...)
		return append([]string{"-C", g.value("repo_path"), g.spell(verb)}, g.plain(spec.Sub[verb])...)
	case spec.SubFirst:
		verb := g.pick(slices.Sorted(maps.Keys(spec.Sub))...)
		return append([]string{g.spell(verb)}, g.plain(spec.Sub[verb])...)
	case spec.Sub != nil:
		verb := g.pick(append(slices.Sorted(maps.Keys(spec.Sub)), "restart", "reload", "show")...)
		sub := spec.Sub[verb]
		if sub == nil {
			sub = &grammar{Operands: []string{"own_unit"}}
		}
		words := g.options(spec)
		return g.mix(words, append([]string{g.spell(verb)}, g.operands(sub.Operands, g.amount(sub))...))
	}
	return g.plain(spec)
}

func (g *generator) plain(spec *grammar) []string {
	options := g.options(spec)
	for _, needed := range spec.Require {
		if g.often(8) {
			options = append(options, g.option(spec, g.pick(needed...))...)
		}
	}
	return g.mix(options, g.operands(spec.Operands, g.amount(spec)))
}

func (g *generator) amount(spec *grammar) int {
	if g.often(7) {
		return max(spec.Min, min(len(spec.Operands), 1))
	}
	return g.IntN(4)
}

// mix puts options and operands into any order, each option with its value.
func (g *generator) mix(options, operands []string) []string {
	switch g.IntN(4) {
	case 0:
		return append(operands, options...)
	case 1:
		return append(append(options, g.pick("--", "-", "--")), operands...)
	}
	return append(options, operands...)
}

func (g *generator) options(spec *grammar) []string {
	var words []string
	for range g.IntN(3) {
		var names []string
		for _, letter := range spec.Flags {
			names = append(names, string(letter))
		}
		names = append(names, slices.Sorted(maps.Keys(spec.Valued))...)
		names = append(append(names, spec.Long...), slices.Sorted(maps.Keys(spec.LongValued))...)
		if g.IntN(15) == 0 || len(names) == 0 {
			names = []string{"Z", "output", "5"}
			if len(names) == 0 || g.often(7) {
				continue
			}
		}
		words = append(words, g.option(spec, g.pick(names...))...)
	}
	if spec.Number && g.often(2) {
		words = append(words, "-"+g.pick("5", "50", "5x"))
	}
	return words
}

// option spells an option in one of its forms.
func (g *generator) option(spec *grammar, name string) []string {
	if len([]rune(name)) == 1 {
		letters := "-"
		for spec.Flags != "" && g.often(3) {
			letters += string(spec.Flags[g.IntN(len(spec.Flags))])
		}
		kind, takes := spec.Valued[name]
		if !takes {
			return []string{letters + name}
		}
		if g.often(5) {
			return []string{letters + name + g.value(kind)}
		}
		return []string{letters + name, g.value(kind)}
	}
	if g.IntN(20) == 0 {
		name = name[:len(name)-1]
	}
	kind, takes := spec.LongValued[name]
	switch {
	case !takes && g.IntN(20) > 0:
		return []string{"--" + name}
	case g.often(5):
		return []string{"--" + name + "=" + g.value(kind)}
	}
	return []string{"--" + name, g.value(kind)}
}

func (g *generator) list(tokens []string, pairs map[string]string, odd string) []string {
	var words []string
	for range g.IntN(3) {
		key := g.pick(append(slices.Sorted(maps.Keys(pairs)), tokens...)...)
		if g.IntN(15) == 0 {
			key = odd + g.value("sortkeys")
		}
		words = append(words, key)
		if kind, ok := pairs[key]; ok && g.IntN(20) > 0 {
			words = append(words, g.value(kind))
		}
	}
	return words
}

func (g *generator) operands(kinds []string, n int) []string {
	var words []string
	for i := range n {
		kind := "text"
		if len(kinds) > 0 {
			kind = strings.TrimSuffix(kinds[min(i, len(kinds)-1)], "*")
		}
		words = append(words, g.value(kind))
	}
	return words
}

// value is a word of a type, mostly; sometimes a pattern.
func (g *generator) value(kind string) string {
	if strings.HasSuffix(kind, "_path") && g.IntN(8) == 0 {
		return g.pick("/var/log/*.log", "/srv/*", "/var/*/x", "/var/log/a?/b", "/var/log/.*", "*", "/var/log/[ab]")
	}
	values := g.values[kind]
	if len(values) == 0 {
		values = g.values["text"]
	}
	if g.often(8) {
		return g.spell(values[g.IntN(max(1, len(values)/2))])
	}
	return g.spell(g.pick(values...))
}

// spell writes a word in one of the ways that a shell reads as the same word.
func (g *generator) spell(w string) string {
	plain := w != "" && !strings.ContainsFunc(w, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+:,./-", r)
	})
	if plain && g.often(7) {
		return w
	}
	if strings.ContainsAny(w, "\\!\n") || g.often(5) {
		return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	if plain && g.often(5) {
		at := g.IntN(len(w))
		return w[:at] + g.pick("''", `""`, `\`) + w[at:]
	}
	return `"` + strings.NewReplacer(`"`, `\"`, "$", `\$`, "`", "\\`").Replace(w) + `"`
}
