// Command bench compares Sallyport side by side with its peers in one run: a
// warm ssh_run through MCP against a bare session on a live connection, against
// OpenSSH with a control master and against a paramiko connection for each
// command; a first run on a new connection against a bare dial; a command on
// every host of a tag against ansible and parallel-ssh; the size and the start of
// the idle gateway; files down, up and from host to host against scp, on the spot
// and over a long way. Rounds are interleaved, medians and ratios are printed:
// absolute times are the machine's.
//
//	go run ./testdata/bench [-rounds 200] [-hosts 100] [-size 1024] [-far 1024]
//	go run ./testdata/bench -files [-size 1024] [-far 1024]
//	go run ./testdata/bench -replay 1000000 [-fresh 5]
//
// The second form moves files and does nothing else. The third compares sallyport
// replay with stock opa over the same inputs, on a log of so many decisions.
//
// The first two need sshd and ssh (apt-get install openssh-server openssh-client). What is
// not installed of python3-paramiko, ansible-core and pssh is left out.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/gcpace"
	"github.com/sallyport/sallyport/pkg/mcpserver/mcpclient"
	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
)

func main() {
	rounds := flag.Int("rounds", 200, "rounds of the warm comparison")
	hosts := flag.Int("hosts", 100, "hosts of the fan-out")
	decisions := flag.Int("replay", 0, "decisions to replay; nothing else is measured")
	fresh := flag.Int("fresh", 5, "of each hundred of them, those with a command of their own")
	size := flag.Int64("size", 1024, "MiB of the file that is moved")
	far := flag.Int64("far", 1024, "MiB of it over a long way")
	only := flag.Bool("files", false, "compare the moving of files and nothing else")
	to := flag.String("to", "", "address to forward to with -delay each way, and nothing else")
	delay := flag.Duration("delay", 0, "of -to")
	flag.Parse()
	b := &bench{}
	defer b.cleanUp()
	if *to != "" {
		b.delayed(*to, *delay)
	}
	b.build()
	if *decisions > 0 {
		b.replay(*decisions, *fresh)
		return
	}
	b.setUp()
	if !*only {
		b.warm(*rounds)
		b.cold(max(10, *rounds/10))
		b.fan(*hosts, 5)
		b.idle()
	}
	gcpace.Start() // as sallyport does
	b.files(*size*mib, *far*mib, 3)
}

// bench is the sshd, the gateway and what must be taken down at the end. It is
// the sshtest.TB of this program: a failure ends it.
type bench struct {
	dir     string
	sshd    *sshtest.OpenSSH
	binary  string
	gateway *exec.Cmd
	client  *mcpclient.Session
	bare    *ssh.Client
	undo    []func()
}

func (b *bench) Helper()             {}
func (b *bench) Logf(string, ...any) {}
func (b *bench) Cleanup(f func())    { b.undo = append(b.undo, f) }
func (b *bench) Fatalf(f string, args ...any) {
	b.cleanUp()
	fmt.Fprintf(os.Stderr, f+"\n", args...)
	os.Exit(1)
}

func (b *bench) cleanUp() {
	for _, f := range slices.Backward(b.undo) {
		f()
	}
	b.undo = nil
}

func (b *bench) must(err error, doing string) {
	if err != nil {
		b.Fatalf("%s: %v", doing, err)
	}
}

func (b *bench) build() {
	var err error
	b.dir, err = os.MkdirTemp("", "sallyport-bench-")
	b.must(err, "temporary folder")
	b.Cleanup(func() { os.RemoveAll(b.dir) })
	b.binary = filepath.Join(b.dir, "sallyport")
	out, err := exec.Command("go", "build", "-o", b.binary, "./cmd/sallyport").CombinedOutput()
	b.must(err, "build: "+string(out))
}

func (b *bench) setUp() {
	b.sshd = sshtest.StartOpenSSH(b, sshtest.OpenSSHOptions{MaxSessions: 10, Config: []string{"SetEnv HOME=" + b.dir}})
	b.writeConfig()
	b.gateway, b.client = b.serve()
	b.bare = b.dial()
	b.Cleanup(func() { b.bare.Close() })
	b.master()
}

func (b *bench) write(name, content string) {
	path := filepath.Join(b.dir, name)
	b.must(os.MkdirAll(filepath.Dir(path), 0o700), "folder")
	b.must(os.WriteFile(path, []byte(content), 0o600), "write "+name)
}

func (b *bench) writeConfig() {
	addr := b.sshd.Addr
	b.write("sallyport.yml", "logs: {decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}\n")
	b.write("servers.yml", fmt.Sprintf("hosts:\n  - {alias: web1, host: %s, port: %d, credentials: me}\n", addr.Addr(), addr.Port()))
	b.write("credentials.yml", "entries:\n  - {name: me, username: root, key_path: login}\n")
	b.write("policy.yml", "rules:\n  - {action: allow, profile: readonly}\n")
	b.write("keys/login", string(b.sshd.Key))
	b.write("keys/known_hosts", b.sshd.KnownLine+"\n")
}

// serve starts a gateway and a client session with it.
func (b *bench) serve() (*exec.Cmd, *mcpclient.Session) { return b.serveFrom(b.dir) }

func (b *bench) serveFrom(dir string) (*exec.Cmd, *mcpclient.Session) {
	cmd := exec.Command(b.binary, "serve", "--config", dir, "--transport", "http", "--listen", "127.0.0.1:0")
	stderr, err := cmd.StderrPipe()
	b.must(err, "pipe")
	b.must(cmd.Start(), "start the gateway")
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		var record struct{ Msg, URL string }
		if json.Unmarshal(lines.Bytes(), &record) == nil && record.Msg == "serving" {
			client, err := mcpclient.Connect(context.Background(), mcpclient.Options{URL: record.URL, Name: "bench", Version: "1"})
			b.must(err, "connect")
			b.Cleanup(func() { client.Close() })
			return cmd, client
		}
	}
	b.Fatalf("the gateway ended before it served")
	return nil, nil
}

func (b *bench) dial() *ssh.Client { return b.dialTo(b.sshd.Addr.String(), b.sshd.Key, b.sshd.HostKey) }

func (b *bench) dialTo(addr string, login []byte, hostKey ssh.PublicKey) *ssh.Client {
	key, err := ssh.ParsePrivateKey(login)
	b.must(err, "key")
	client, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(hostKey),
	})
	b.must(err, "dial")
	return client
}

// sshArgs reach the same sshd with the same key through the ssh program.
func (b *bench) sshArgs(more ...string) []string {
	return append([]string{
		"-F", "none", "-i", filepath.Join(b.dir, "keys/login"), "-o", "UserKnownHostsFile=" + filepath.Join(b.dir, "keys/known_hosts"),
		"-o", "ControlPath=" + filepath.Join(b.dir, "control"), "-o", "BatchMode=yes", "-p", fmt.Sprint(b.sshd.Addr.Port()),
	}, append(more, "root@"+b.sshd.Addr.Addr().String())...)
}

func (b *bench) master() {
	cmd := exec.Command("ssh", b.sshArgs("-M", "-N")...)
	b.must(cmd.Start(), "ssh control master")
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 100 {
		if c, err := net.Dial("unix", filepath.Join(b.dir, "control")); err == nil {
			c.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.Fatalf("the ssh control master never listened")
}

// contender is one way to run true on the host.
type contender struct {
	name string
	run  func() error
	took []time.Duration
}

func (c *contender) round(b *bench) {
	began := time.Now()
	b.must(c.run(), c.name)
	c.took = append(c.took, time.Since(began))
}

func (c *contender) median() time.Duration {
	slices.Sort(c.took)
	return c.took[len(c.took)/2]
}

func (b *bench) warm(rounds int) {
	ours := &contender{name: "ssh_run through MCP, stdio", run: b.pipe().call}
	all := []*contender{
		ours,
		{name: "the same over HTTP", run: func() error { return b.call(b.client) }},
		{name: "bare session, live connection", run: func() error { return b.session(b.bare) }},
		{name: "ssh with a control master", run: func() error { return exec.Command("ssh", append(b.sshArgs(), "true")...).Run() }},
	}
	for range 10 {
		b.must(ours.run(), "warm up")
	}
	for range rounds {
		for _, i := range rand.Perm(len(all)) { // each leaves something for the next to wait for
			all[i].round(b)
		}
	}
	report("warm: `true` on a live connection", ours, all[1:]...)
	b.paramiko(ours)
}

// pythonWithParamiko is the interpreter that python3-paramiko belongs to, or
// another that has it.
func pythonWithParamiko() string {
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(python, "-c", "import paramiko").Run() == nil {
			return python
		}
	}
	return ""
}

// paramiko takes its own time in one Python process: starting Python is not
// what is compared.
func (b *bench) paramiko(ours *contender) {
	python := pythonWithParamiko()
	if python == "" {
		fmt.Println("  paramiko, a connection each    not measured: apt-get install python3-paramiko")
		return
	}
	script := fmt.Sprintf(`
import paramiko, time
took = []
for _ in range(10):
    t = time.time()
    c = paramiko.SSHClient()
    c.load_host_keys(%q)
    c.connect(%q, port=%d, username="root", key_filename=%q, allow_agent=False, look_for_keys=False)
    c.exec_command("true")[1].channel.recv_exit_status()
    c.close()
    took.append(time.time() - t)
took.sort()
print(took[len(took)//2])
`, filepath.Join(b.dir, "keys/known_hosts"), b.sshd.Addr.Addr().String(), b.sshd.Addr.Port(), filepath.Join(b.dir, "keys/login"))
	out, err := exec.Command(python, "-c", script).Output()
	b.must(err, "paramiko")
	var seconds float64
	_, err = fmt.Sscan(string(out), &seconds)
	b.must(err, "paramiko's answer")
	took := time.Duration(seconds * float64(time.Second))
	report("", ours, &contender{name: "paramiko, a connection each", took: []time.Duration{took}})
}

func (b *bench) call(c *mcpclient.Session) error {
	answer, err := c.Call(context.Background(), "ssh_run", map[string]any{"alias": "web1", "command": "true"})
	if err == nil && answer.IsError {
		err = fmt.Errorf("%s", answer.Text)
	}
	return err
}

func (b *bench) session(c *ssh.Client) error {
	s, err := c.NewSession()
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Run("exec /bin/sh -c true")
}

// cold compares the first run of a fresh gateway with a bare dial and run.
func (b *bench) cold(rounds int) {
	ours := &contender{name: "ssh_run, new connection"}
	bare := &contender{name: "bare dial and session", run: func() error {
		c := b.dial()
		defer c.Close()
		return b.session(c)
	}}
	for range rounds {
		cmd, client := b.serve()
		ours.run = func() error { return b.call(client) }
		ours.round(b)
		client.Close()
		_ = cmd.Process.Kill()
		bare.round(b)
	}
	report("cold: the first `true` on a new connection", ours, bare)
}

func report(title string, ours *contender, others ...*contender) {
	if title != "" {
		fmt.Printf("\n%s\n  %-30s %8.2f ms\n", title, ours.name, ms(ours.median()))
	}
	for _, c := range others {
		fmt.Printf("  %-30s %8.2f ms   ours takes %.3f of it (%.1f times faster)\n", c.name, ms(c.median()),
			float64(ours.median())/float64(c.median()), float64(c.median())/float64(ours.median()))
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// idle tells the size of a gateway that has nothing to do, and how long one
// takes from its start to its first answer over stdio.
func (b *bench) idle() {
	cmd, client := b.serve()
	_, err := client.Tools(context.Background())
	b.must(err, "tools")
	time.Sleep(settling) // it is idle once what the start has left is given back
	fmt.Printf("\nidle gateway: %s resident\n", rss(cmd.Process.Pid))
	first := &contender{name: "start to first answer, stdio", run: b.firstAnswer}
	for range 10 {
		first.round(b)
	}
	fmt.Printf("%s: %.0f ms\n", first.name, ms(first.median()))
}

func rss(pid int) string {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "unknown"
	}
	for _, line := range strings.Split(string(status), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.TrimSpace(rest)
		}
	}
	return "unknown"
}

// pipe is a gateway over stdio, spoken to without a client library, since the
// library's own time is not what is compared.
type pipe struct {
	in  io.Writer
	out *bufio.Reader
	id  int
}

func (b *bench) pipe() *pipe {
	cmd := exec.Command(b.binary, "serve", "--config", b.dir)
	// Gateways that write the same logs read what the other one wrote.
	cmd.Env = append(os.Environ(), "SALLYPORT_LOGS_DECISION_FILE=piped.jsonl", "SALLYPORT_LOGS_AUDIT_FILE=piped-audit.jsonl")
	in, err := cmd.StdinPipe()
	b.must(err, "pipe")
	out, err := cmd.StdoutPipe()
	b.must(err, "pipe")
	b.must(cmd.Start(), "start the gateway")
	b.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	p := &pipe{in: in, out: bufio.NewReaderSize(out, 64<<10), id: 1}
	_, err = p.ask(handshake)
	b.must(err, "handshake")
	_, err = io.WriteString(in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n")
	b.must(err, "handshake")
	return p
}

func (p *pipe) ask(line string) ([]byte, error) {
	if _, err := io.WriteString(p.in, line); err != nil {
		return nil, err
	}
	return p.out.ReadSlice('\n')
}

func (p *pipe) call() error {
	p.id++
	answer, err := p.ask(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"ssh_run","arguments":{"alias":"web1","command":"true"}}}`+"\n", p.id))
	if err == nil && !bytes.Contains(answer, []byte(`"exit_code":0`)) {
		err = fmt.Errorf("%s", answer)
	}
	return err
}

const handshake = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}` + "\n"

func (b *bench) firstAnswer() error {
	cmd := exec.Command(b.binary, "serve", "--config", b.dir)
	cmd.Stdin = strings.NewReader(handshake)
	out, err := cmd.Output()
	if err == nil && !bytes.Contains(out, []byte(`"protocolVersion"`)) {
		err = fmt.Errorf("no answer: %s", out)
	}
	return err
}
