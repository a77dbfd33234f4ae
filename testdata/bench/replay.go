package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
	"github.com/sallyport/sallyport/policies"
)

// sampled is how many of the inputs the stock opa judges; at its rate all of
// them would take too long.
const sampled = 3000

// repeats is how often each decision stands in the log: agents do the same things
// over and over, at other times and with other numbers of calls before.
const repeats = 20

// replay has an engine make decisions on all cores, as it does behind the
// gateway, and lets sallyport replay judge its log again: by the same bundles,
// and by a change of which is known what it changes. Stock opa judges a sample of
// the same inputs, in as many processes as there are cores, once as files and
// once as one document.
func (b *bench) replay(decisions, fresh int) {
	l := b.record(decisions, fresh)
	fmt.Printf("\nsallyport replay, %d cores\n", runtime.GOMAXPROCS(0))
	ours := b.judgeAgain("the same bundles", l, 0, 0)
	b.judgeAgain("an injected change", l, l.allowed, l.hit-l.allowed, "--custom", filepath.Join(b.dir, "change"))
	fmt.Printf("\nstock opa on %d of the inputs, %d processes, starting left out\n", min(sampled, decisions), runtime.GOMAXPROCS(0))
	for _, c := range []struct {
		name  string
		judge func(*record) cost
	}{{"opa exec, a file each", b.opaExec}, {"opa eval, one document", b.opaEval}} {
		opa := c.judge(l)
		fmt.Printf("  %-24s %s   sallyport replay takes %.3f of the processor time (%.1f times less)\n",
			c.name, opa, float64(ours.cpu)/float64(opa.cpu), float64(opa.cpu)/float64(ours.cpu))
	}
}

// cost is what a decision takes: on the clock, which others on the machine hold
// up, and of a processor's time.
type cost struct{ wall, cpu time.Duration }

func costOf(wall, cpu time.Duration, decisions int) cost {
	return cost{wall / time.Duration(decisions), cpu / time.Duration(decisions)}
}

func (c cost) String() string {
	return fmt.Sprintf("%8.0f a second, %7.1f µs of a processor each", float64(time.Second)/float64(c.wall), float64(c.cpu)/float64(time.Microsecond))
}

// record is a log, and what is known of it.
type record struct {
	path    string
	config  string // the directory of the configuration
	events  int
	hit     int // decisions that the injected change is about
	allowed int // those among them that were allowed
}

type sample struct{ Input, Result json.RawMessage }

const (
	hosts, subjects = 100, 20

	hitHost = "h7" // what the injected change is about
)

// record makes the decisions of a log. Of each hundred, fresh have a command that
// no other has; the rest are from some hundreds of commands.
func (b *bench) record(decisions, fresh int) *record {
	made := max(1, decisions/repeats)
	l := &record{path: filepath.Join(b.dir, "decisions.jsonl"), config: filepath.Join(b.dir, "site"), events: made * repeats}
	b.writeSite()
	began := time.Now()
	out, err := os.Create(l.path)
	b.must(err, "log")
	log := &repeater{out: bufio.NewWriterSize(out, 1<<20), rnd: rand.New(rand.NewSource(1))}
	e, err := policy.New(context.Background(), policy.Options{
		Site: b.siteData(), Log: log, FullRecords: true, Timeout: 10 * time.Second,
	})
	b.must(err, "engine")
	defer e.Close(context.Background())
	var working sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	results := make([]record, workers)
	for w := range workers {
		working.Go(func() {
			rnd := rand.New(rand.NewSource(int64(w)))
			for i := w; i < made; i += workers {
				in := someCall(rnd, i, fresh)
				results[w].count(in, e.Decide(context.Background(), in, policy.Mark{Mode: "run", Digest: fmt.Sprint(i)}))
			}
		})
	}
	working.Wait()
	for _, r := range results {
		l.hit += r.hit
		l.allowed += r.allowed
	}
	b.must(errors.Join(log.out.Flush(), out.Close()), "log")
	if s := e.Stats(); s.Lost > 0 || s.Decisions != int64(made) {
		b.Fatalf("%+v", s)
	}
	st, err := os.Stat(l.path)
	b.must(err, "log")
	fmt.Printf("log: %d decisions, %d MiB; %d made by the engine in %s, %d %% of them with a command of their own\n",
		l.events, st.Size()>>20, made, time.Since(began).Round(time.Second), fresh)
	return l
}

// repeater writes each record several times, each time as of another call.
type repeater struct {
	mu  sync.Mutex
	out *bufio.Writer
	rnd *rand.Rand
	n   int
}

// Append makes no decision another one: it changes what no rule looks at, and
// the number of calls where it stays within the limit.
func (r *repeater) Append(line []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range repeats {
		r.n++
		at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(r.n) * time.Second).Format(time.RFC3339Nano)
		next := line
		for _, change := range [][2]string{
			{`"decision_id":"`, fmt.Sprintf("01JD%022d", r.n)},
			{`"timestamp":"`, at},
			{`"now":"`, at},
			{`"call":{"id":"`, fmt.Sprintf("01JC%022d", r.n)},
		} {
			next = replaced(next, change[0], `"`, change[1])
		}
		const calls = `"calls_last_minute":{"subject":`
		if used := valueAfter(line, calls); used < 60 {
			next = replaced(next, calls, "}", fmt.Sprint(r.rnd.Intn(60)))
		}
		if _, err := r.out.Write(append(next, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// replaced puts text between the words before and after it.
func replaced(line []byte, before, after, text string) []byte {
	head, tail, _ := bytes.Cut(line, []byte(before))
	_, tail, _ = bytes.Cut(tail, []byte(after))
	return slices.Concat(head, []byte(before+text+after), tail)
}

func valueAfter(line []byte, before string) (n int) {
	_, tail, _ := bytes.Cut(line, []byte(before))
	fmt.Sscan(string(tail[:min(len(tail), 10)]), &n) //nolint:errcheck // none is zero
	return n
}

func (l *record) count(in policy.Input, d tool.Decision) {
	if in.Host.Alias == hitHost {
		l.hit += repeats
		if d.Allow {
			l.allowed += repeats
		}
	}
}

// ordinary are commands as monitoring agents repeat them, and some that are
// refused.
func ordinary(rnd *rand.Rand) string {
	n, name := rnd.Intn(20), []string{"nginx", "app-web", "postgresql", "redis"}[rnd.Intn(4)]
	return []string{
		"uptime", "df -h", "free -m", "df -h | tail -n 1", "ps aux | grep -v grep | grep " + name + " | wc -l",
		"systemctl status " + name, fmt.Sprintf("journalctl -u %s --no-pager -n %d", name, 10*n),
		fmt.Sprintf("tail -n %d /var/log/%s/error.log", 10*n, name), "sudo -n systemctl restart " + name, "cat /etc/shadow", "id",
		"ls -la /var/log/" + name, fmt.Sprintf("grep -c 'status=5%02d' /var/log/%s/access.log", n, name), "echo $HOME",
	}[rnd.Intn(14)]
}

// single is a command that no other call has.
func single(rnd *rand.Rand, i int) string {
	return fmt.Sprintf("grep -c 'request-%d' /var/log/app/%d.log | head -n %d", i, i%97, 1+rnd.Intn(50))
}

var judgedAddress = netip.MustParseAddr("10.0.0.11")

func someCall(rnd *rand.Rand, i, fresh int) policy.Input {
	line := ordinary(rnd)
	if rnd.Intn(100) < fresh {
		line = single(rnd, i)
	}
	alias := fmt.Sprintf("h%d", rnd.Intn(hosts))
	in := policy.NewInput(policy.Facts{
		CallID: fmt.Sprintf("01JD%022d", i), Digest: fmt.Sprintf("%064x", i),
		Tool: &tool.Tool{Name: "ssh_run", Set: "fleet", Effect: tool.Execute},
		Caller: tool.Caller{
			Subject: fmt.Sprintf("agent-%d", rnd.Intn(subjects)), Groups: []string{"aiops"}, Auth: "token", Transport: "http",
			Client: tool.Client{Name: "claude-code", Version: "2.1.329"},
		},
		Plan: tool.Plan{Scope: tool.Scope{Alias: alias}, Steps: []tool.Step{tool.RunLine(line)}},
		Target: tool.Target{
			Alias: alias, Hostname: alias + ".internal", Port: 22, User: "ops", Kind: "posix", Source: "inventory", Auth: "key",
			Tags: []string{"production"}, Addresses: []netip.Addr{judgedAddress}, Address: judgedAddress,
		},
		Now: time.Now(),
	})
	in.Usage.Running.Host, in.Usage.Running.Subject = rnd.Intn(4), rnd.Intn(8)
	in.Usage.CallsLastMinute.Subject = rnd.Intn(65) // 60 are permitted
	return in
}

// writeSite writes the configuration of the hosts, with and without the change.
func (b *bench) writeSite() {
	var servers strings.Builder
	for i := range hosts {
		fmt.Fprintf(&servers, "  - {alias: h%d, host: 10.0.0.11, credentials: me}\n", i)
	}
	b.write("site/sallyport.yml", "log_level: error\n")
	b.write("site/servers.yml", "hosts:\n"+servers.String())
	b.write("site/credentials.yml", "entries:\n  - {name: me, username: ops, agent: true}\n")
	b.write("site/policy.yml", "rules:\n  - {action: allow, profile: diagnose}\nlimits: {max_seconds: 60, max_output_bytes: 1048576, max_concurrent: 4, calls_per_minute: 60}\n")
	b.write("change/.manifest", `{"revision": "change", "roots": ["custom/change"], "rego_version": 1}`)
	b.write("change/custom/change/change.rego", fmt.Sprintf(`package custom.change

deny contains {"code": "injected"} if input.host.alias == %q
`, hitHost))
}

// siteData is what policy sees of the configuration.
func (b *bench) siteData() config.Site {
	conf, err := config.Load(config.Options{Dir: filepath.Join(b.dir, "site"), WithoutSecrets: true, Profiles: policies.Profiles()})
	b.must(err, "configuration")
	return conf.Site()
}

// sampleOf takes lines of a log that are spread over it.
func (b *bench) sampleOf(l *record) []sample {
	f, err := os.Open(l.path)
	b.must(err, "log")
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	var all []sample
	for n := 0; lines.Scan(); n++ {
		if n%max(1, l.events/sampled) == 0 && len(all) < sampled {
			var s sample
			b.must(json.Unmarshal(lines.Bytes(), &s), "log")
			all = append(all, s)
		}
	}
	b.must(lines.Err(), "log")
	return all
}

// found is what is needed of a report.
type found struct {
	Decisions, Judged, Unchanged int
	Changed                      struct {
		All, Reasons int
		NewlyDenied  int `json:"newly_denied"`
	}
}

// judgeAgain runs sallyport replay, holds what it finds against what is known,
// and tells what a decision costs, with the time that starting takes.
func (b *bench) judgeAgain(name string, l *record, denied, reasons int, args ...string) cost {
	cmd := exec.Command(b.binary, append([]string{"replay", "--config", l.config, "--output", "json", "--log", l.path}, args...)...)
	began := time.Now()
	out, err := cmd.Output()
	took := time.Since(began)
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 2) {
		b.Fatalf("replay: %v", err)
	}
	var r found
	b.must(json.Unmarshal(out, &r), "report")
	if r.Judged != l.events || r.Changed.NewlyDenied != denied || r.Changed.Reasons != reasons || r.Changed.All != denied+reasons {
		b.Fatalf("replay, %s: %+v; of %d decisions %d would be denied and %d for another reason", name, r, l.events, denied, reasons)
	}
	c := costOf(took, processorTime(cmd), r.Judged)
	usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	fmt.Printf("  %-24s %s   %d changed, as known; at most %d MiB resident\n", name, c, r.Changed.All, usage.Maxrss>>10)
	return c
}

func processorTime(cmd *exec.Cmd) time.Duration {
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// opa makes the stock program and a bundle of the site for it.
func (b *bench) opa() (program string, bundles []string) {
	program = filepath.Join(b.dir, "opa")
	out, err := exec.Command("go", "build", "-o", program, "github.com/open-policy-agent/opa").CombinedOutput()
	b.must(err, "build opa: "+string(out))
	site, err := json.Marshal(b.siteData())
	b.must(err, "site")
	b.write("opasite/.manifest", `{"revision": "site", "roots": ["site"]}`)
	b.write("opasite/site/data.json", string(site))
	return program, []string{"--bundle", "policies", "--bundle", filepath.Join(b.dir, "opasite")}
}

// opaExec has opa exec judge each input from a file of its own.
func (b *bench) opaExec(l *record) cost {
	program, bundles := b.opa()
	return b.stock(l, func(part []sample, dir string) (*exec.Cmd, []json.RawMessage) {
		for i, s := range part {
			b.write(filepath.Join(dir, fmt.Sprintf("%06d.json", i)), string(s.Input))
		}
		args := append([]string{"exec", "--decision", "sallyport/decision"}, bundles...)
		cmd := exec.Command(program, append(args, filepath.Join(b.dir, dir))...)
		out, err := cmd.Output()
		b.must(err, "opa exec")
		var answer struct {
			Result []struct{ Result json.RawMessage }
		}
		b.must(json.Unmarshal(out, &answer), "opa exec")
		var results []json.RawMessage
		for _, r := range answer.Result {
			results = append(results, r.Result)
		}
		return cmd, results
	})
}

// opaEval has opa eval judge all inputs in one query.
func (b *bench) opaEval(l *record) cost {
	program, bundles := b.opa()
	return b.stock(l, func(part []sample, dir string) (*exec.Cmd, []json.RawMessage) {
		var inputs []json.RawMessage
		for _, s := range part {
			inputs = append(inputs, s.Input)
		}
		text, err := json.Marshal(map[string]any{"inputs": inputs})
		b.must(err, "inputs")
		b.write(filepath.Join(dir, "inputs.json"), string(text))
		args := append([]string{"eval", "--format", "raw", "--data", filepath.Join(b.dir, dir, "inputs.json")}, bundles...)
		cmd := exec.Command(program, append(args, "[d | some x in data.inputs; d := data.sallyport.decision with input as x]")...)
		out, err := cmd.Output()
		b.must(err, "opa eval")
		var results []json.RawMessage
		b.must(json.Unmarshal(out, &results), "opa eval")
		return cmd, results
	})
}

// stockJudge judges a part of the sample in one process.
type stockJudge func(part []sample, dir string) (*exec.Cmd, []json.RawMessage)

// stock has the sample judged in parts, one for each core, holds the results
// against those on record, and tells what a decision costs without the time that
// starting takes.
func (b *bench) stock(l *record, judge stockJudge) cost {
	whole := b.sampleOf(l)
	n := runtime.GOMAXPROCS(0)
	one, all := b.inParts(whole[:n], "one", judge), b.inParts(whole, "all", judge)
	return costOf(all.wall-one.wall, all.cpu-one.cpu, len(whole)-n)
}

// inParts tells what the whole costs.
func (b *bench) inParts(whole []sample, name string, judge stockJudge) cost {
	var parts sync.WaitGroup
	n := runtime.GOMAXPROCS(0)
	spent := make([]time.Duration, n)
	began := time.Now()
	for i := range n {
		part := whole[i*len(whole)/n : (i+1)*len(whole)/n]
		parts.Go(func() {
			cmd, results := judge(part, fmt.Sprintf("inputs/%s/%d", name, i))
			spent[i] = processorTime(cmd)
			b.sameResults(part, results)
		})
	}
	parts.Wait()
	c := cost{wall: time.Since(began)}
	for _, s := range spent {
		c.cpu += s
	}
	return c
}

func (b *bench) sameResults(part []sample, results []json.RawMessage) {
	if len(results) != len(part) {
		b.Fatalf("opa gave %d answers to %d inputs", len(results), len(part))
	}
	for i, s := range part {
		var was, is any
		b.must(errors.Join(json.Unmarshal(s.Result, &was), json.Unmarshal(results[i], &is)), "results")
		if !reflect.DeepEqual(was, is) {
			b.Fatalf("opa says %s\nwhere    %s is on record", results[i], s.Result)
		}
	}
}
