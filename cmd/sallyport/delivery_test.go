package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/gcpace"
	"github.com/sallyport/sallyport/pkg/journal/ownmounts"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// Every decision that a caller got reaches the collector, and every other one was
// refused for want of a record: while the gateway is killed with -9 twice, and the
// collector is away until the disk is full. Delivery is at least once: what was
// under way at a kill or a hang-up comes again, and decision_id tells.
//
// With SALLYPORT_LONG=1 that is 10,000 decisions a second for a minute.
func TestDelivery(t *testing.T) {
	megabytes, rate, part := long(1, 64), long(3000, 10_000), long(200, 100_000)
	if !inOwnMounts(t) {
		return
	}
	d := newDelivery(t, megabytes, rate)

	d.start(t)
	d.answers(t, part)
	d.kill(t)

	d.start(t)
	d.answers(t, part)
	d.collector.down()
	d.until(t, "the disk is full", func() bool { return d.refused > 0 })
	d.answers(t, part)
	d.collector.up(t)
	d.until(t, "decisions are kept again", func() bool { return d.last != refusal })
	d.answers(t, part)
	d.kill(t)

	d.start(t)
	d.answers(t, 2*part)
	d.end(t)

	arrived, twice := d.collector.has(d.kept)
	if arrived != len(d.kept) {
		t.Errorf("of %d decisions on record %d arrived", len(d.kept), arrived)
	}
	// Of each gateway that was killed, the callers did not hear of a few decisions.
	if unheard := d.collector.count() - arrived; unheard > 2*deciders {
		t.Errorf("%d decisions arrived that nobody got", unheard)
	}
	t.Logf("%d decisions in %v of deciding, %.0f a second: %d on record, all arrived, %d of them twice; %d refused while the disk was full",
		d.asked(), d.took.Round(time.Millisecond), float64(d.asked())/d.took.Seconds(), len(d.kept), twice, d.refused)
}

// inOwnMounts runs the test once more, as a process with mounts of its own, and is
// true there.
func inOwnMounts(t *testing.T) bool {
	t.Helper()
	const variable = "SALLYPORT_TEST_MOUNTS"
	if os.Getenv(variable) != "" {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=10m")
	cmd.Env = append(os.Environ(), variable+"=1")
	cmd.SysProcAttr = ownmounts.Attributes()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v; %s", err, ownmounts.Hint)
	}
	t.Logf("%s", out)
	return false
}

// delivery is a gateway that decides, one process after the other, a small disk
// where its decisions wait, and the collector.
type delivery struct {
	dir       string
	rate      int // decisions a second
	collector *logCollector

	gateway *exec.Cmd
	said    *bufio.Scanner
	began   time.Time
	took    time.Duration

	kept    []string // ids of decisions that are on record, as the caller was told
	refused int      // those that were not put on record
	last    string
}

func newDelivery(t *testing.T, megabytes, rate int) *delivery {
	t.Helper()
	d := &delivery{dir: t.TempDir(), rate: rate, collector: &logCollector{times: map[string]int{}}}
	d.collector.up(t)
	t.Cleanup(d.collector.down)
	disk := filepath.Join(d.dir, "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		t.Fatalf("mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	s := site{dir: d.dir}
	s.write(t, "sallyport.yml", fmt.Sprintf(`log_level: error
policy: {timeout: 1s, services: {collector: {url: "http://%s"}}}
logs:
  audit: {file: audit.jsonl}
  upload:
    service: collector
    buffer: disk/decisions
    reporting: {min_delay_seconds: 1, max_delay_seconds: 1, upload_size_limit_bytes: 1048576}
`, d.collector.address), 0o600)
	s.write(t, "servers.yml", "hosts:\n  - {alias: web1, host: 127.0.0.1, credentials: ops}\n", 0o600)
	s.write(t, "credentials.yml", "entries:\n  - {name: ops, username: ops, key_path: login}\n", 0o600)
	s.write(t, "policy.yml", "rules:\n  - {action: allow, profile: readonly}\n", 0o600)
	key, _, err := sshtest.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "keys/login", string(key), 0o600)
	return d
}

// start has a gateway decide, and go on where the last one ended.
func (d *delivery) start(t *testing.T) {
	t.Helper()
	d.gateway = programAs(t, "decide", d.dir, strconv.Itoa(d.rate))
	d.gateway.Stderr = os.Stderr
	out, err := d.gateway.StdoutPipe()
	if err == nil {
		err = d.gateway.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	gateway := d.gateway
	t.Cleanup(func() { _ = gateway.Process.Kill() })
	d.said = bufio.NewScanner(out)
	d.answers(t, 1)
	d.began = time.Now()
}

// answers takes what the gateway says of so many decisions.
func (d *delivery) answers(t *testing.T, n int) {
	t.Helper()
	for range n {
		if !d.said.Scan() {
			t.Fatalf("the gateway says nothing more: %v", d.said.Err())
		}
		d.hear()
	}
}

func (d *delivery) hear() {
	d.last = d.said.Text()
	if d.last == refusal {
		d.refused++
	} else {
		d.kept = append(d.kept, d.last)
	}
}

func (d *delivery) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); d.answers(t, 1) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func (d *delivery) asked() int { return len(d.kept) + d.refused }

func (d *delivery) kill(t *testing.T) {
	t.Helper()
	d.stop(t, syscall.SIGKILL)
}

// end lets the gateway hand over what waits.
func (d *delivery) end(t *testing.T) {
	t.Helper()
	if err := d.stop(t, syscall.SIGTERM); err != nil {
		t.Errorf("the gateway ends with %v", err)
	}
}

func (d *delivery) stop(t *testing.T, signal os.Signal) error {
	t.Helper()
	if err := d.gateway.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	d.took += time.Since(d.began)
	for d.said.Scan() {
		d.hear()
	}
	return d.gateway.Wait()
}

// logCollector takes batches of decisions at an address, and knows each id.
type logCollector struct {
	address string
	server  *http.Server

	mu    sync.Mutex
	times map[string]int
}

func (c *logCollector) up(t *testing.T) {
	t.Helper()
	if c.address == "" {
		c.address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", c.address)
	if err != nil {
		t.Fatal(err)
	}
	c.address, c.server = l.Addr().String(), &http.Server{Handler: c}
	go c.server.Serve(l) //nolint:errcheck // it ends when it is closed
}

// down cuts off whoever is being answered.
func (c *logCollector) down() { _ = c.server.Close() }

func (c *logCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ids, err := decisionsIn(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		c.times[id]++
	}
}

// decisionsIn finds the ids in a batch, without taking all of it apart.
func decisionsIn(body io.Reader) (ids []string, err error) {
	z, err := gzip.NewReader(body)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	mark := []byte(`"decision_id":"`)
	for {
		_, rest, found := bytes.Cut(text, mark)
		if !found {
			return ids, nil
		}
		id, rest, _ := bytes.Cut(rest, []byte{'"'})
		ids, text = append(ids, string(id)), rest
	}
}

// has counts which of some decisions arrived, and which of them more than once.
func (c *logCollector) has(ids []string) (arrived, twice int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if c.times[id] > 0 {
			arrived++
		}
		if c.times[id] > 1 {
			twice++
		}
	}
	return arrived, twice
}

func (c *logCollector) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.times)
}

const (
	deciders = 4         // goroutines that decide
	refusal  = "refused" // said in place of an id
)

// decide is decideForEver as a program.
func decide() {
	gcpace.Start()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := decideForEver(ctx, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// decideForEver is a gateway that is asked so many times a second, and says the id
// of each decision that it has put on record.
func decideForEver(ctx context.Context, dir, rate string) error {
	perSecond, err := strconv.Atoi(rate)
	if err != nil {
		return err
	}
	st, err := assemble(ctx, stackOptions{
		load:   func() (*config.Config, error) { return config.Load(config.Options{Dir: dir, Env: noEnv}) },
		stderr: io.Discard,
	})
	if err != nil {
		return err
	}
	address := netip.MustParseAddr("127.0.0.1")
	input := policy.NewInput(policy.Facts{
		CallID: "call", Tool: &tool.Tool{Name: "ssh_run", Set: "fleet", Effect: tool.Execute}, Caller: localCaller("agent"),
		Plan: tool.Plan{Scope: tool.Scope{Alias: "web1"}, Steps: []tool.Step{tool.RunLine("systemctl status nginx")}},
		Target: tool.Target{
			Alias: "web1", Hostname: "127.0.0.1", Port: 22, User: "ops", Kind: "posix", Source: "inventory", Auth: "key",
			Addresses: []netip.Addr{address}, Address: address,
		},
		Digest: "digest", Now: time.Now(),
	})
	var n atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for range deciders {
		all.Go(func() {
			for ctx.Err() == nil {
				time.Sleep(time.Until(began.Add(time.Duration(n.Add(1)) * time.Second / time.Duration(perSecond))))
				decideOnce(st.engine, input)
			}
		})
	}
	all.Wait()
	ending, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return st.close(ending)
}

func decideOnce(e *policy.Engine, input policy.Input) {
	d := e.Decide(context.Background(), input, policy.Mark{Mode: "run"})
	said := d.ID
	if !d.Allow {
		said = refusal
		if last := d.Reasons[len(d.Reasons)-1]; last.Code != "log_unwritable" {
			said = "not allowed: " + last.Code
		}
	}
	_, _ = os.Stdout.WriteString(said + "\n")
}
