package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/mcpserver/mcpclient"
)

// talker says many lines on both streams, with pauses, in the place of df.
const talker = `#!/bin/sh
i=0
while [ $i -lt 300 ]; do
	echo "line $i"
	i=$((i+1))
	echo "line $i" >&2
	i=$((i+1))
	case $i in *00) /bin/sleep 0.1 ;; esac
done
`

// sleepers leaves its process id and that of a child, and sleeps, in the place of
// du.
const sleepers = `#!/bin/sh
/bin/sleep 1000 &
echo $$ $! >%s
/bin/sleep 1000
`

func newTaskSite(t *testing.T) (s site, pids string) {
	s = newSite(t)
	pids = filepath.Join(s.dir, "pids")
	s.write(t, "bin/df", talker, 0o755)
	s.write(t, "bin/du", fmt.Sprintf(sleepers, pids), 0o755)
	return s, pids
}

// callFor makes a call that must not fail, and gives its result.
func callFor(t *testing.T, client *mcpclient.Session, name string, args map[string]any) map[string]any {
	t.Helper()
	answer, err := client.Call(t.Context(), name, args)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(answer.Structured, &m); err != nil {
		t.Fatalf("%s: %v in %s", name, err, answer.Structured)
	}
	return m
}

// Sixty-four tasks at once against a real sshd, their output read by cursor
// while they run: every line of each stream once, in its order. When their time
// is over, nothing is left of them.
func TestTaskOutputOnARealHost(t *testing.T) {
	s, _ := newTaskSite(t)
	s.write(t, "sallyport.yml", "log_level: error\npolicy: {timeout: 1s}\nssh: {idle_close: 1s}\n"+
		"logs: {decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}\n", 0o600)
	s.write(t, "policy.yml", "limits: {task_result_ttl: 10}\nrules: [{action: allow, profile: readonly}]\n", 0o600)
	client := s.serveHTTP(t)
	callFor(t, client, "ssh_ping", nil)
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	var ids sync.Map
	for range 64 {
		wg.Go(func() {
			id := callFor(t, client, "ssh_run_async", map[string]any{"alias": "readonly", "command": "df -h"})["task_id"]
			ids.Store(id, nil)
			var lines []string
			for cursor := any(0); ; {
				m := callFor(t, client, "ssh_get_task_output", map[string]any{"task_id": id, "cursor": cursor, "max_lines": 100, "wait_seconds": 30})
				for _, l := range m["output_lines"].([]any) {
					lines = append(lines, l.(string))
				}
				if cursor = m["next_cursor"]; m["has_more"] != true {
					break
				}
			}
			if result := callFor(t, client, "ssh_get_task_result", map[string]any{"task_id": id}); result["status"] != "completed" || result["exit_code"] != 0.0 {
				t.Errorf("result %v", result)
			}
			var even, odd, wantEven, wantOdd []string
			for _, l := range lines {
				if n := l[len(l)-1] - '0'; n%2 == 0 {
					even = append(even, l)
				} else {
					odd = append(odd, l)
				}
			}
			for i := 0; i < 300; i += 2 {
				wantEven, wantOdd = append(wantEven, fmt.Sprint("line ", i)), append(wantOdd, fmt.Sprint("line ", i+1))
			}
			if !slices.Equal(even, wantEven) || !slices.Equal(odd, wantOdd) {
				t.Errorf("stdout %d lines, stderr %d lines", len(even), len(odd))
			}
		})
	}
	wg.Wait()
	ids.Range(func(id, _ any) bool {
		eventually(t, "the task is forgotten", func() bool {
			m := callFor(t, client, "ssh_get_task_status", map[string]any{"task_id": id})
			return strings.Contains(fmt.Sprint(m["error"]), "unknown_task")
		})
		return true
	})
	const kept = 8 // goroutines of HTTP connections that may be used again
	eventually(t, "the process is idle again", func() bool { return runtime.NumGoroutine() <= before+kept })
}

// A task outlives the connection that started it, is cancelled over another one,
// and takes its processes with it.
func TestTaskOutlivesItsConnection(t *testing.T) {
	s, pids := newTaskSite(t)
	client := s.serveHTTP(t)
	id := callFor(t, client, "ssh_run_async", map[string]any{"alias": "readonly", "command": "du -sh /srv"})["task_id"]
	client.Close()
	started := processesIn(t, pids)
	other, err := mcpclient.Connect(t.Context(), mcpclient.Options{URL: client.URL, Name: "other", Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if m := callFor(t, other, "ssh_get_task_status", map[string]any{"task_id": id}); m["status"] != "running" {
		t.Errorf("after the connection: %v", m)
	}
	if m := callFor(t, other, "ssh_cancel_async_task", map[string]any{"task_id": id}); m["cancelled"] != true {
		t.Errorf("cancel: %v", m)
	}
	if m := callFor(t, other, "ssh_get_task_result", map[string]any{"task_id": id, "wait_seconds": 30}); m["status"] != "cancelled" {
		t.Errorf("result: %v", m)
	}
	for _, pid := range started {
		if runs(pid) {
			t.Errorf("process %d lives on", pid)
		}
	}
}

// processesIn waits for a file of process ids.
func processesIn(t *testing.T, path string) []int {
	t.Helper()
	waitForLines(t, path, 1)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(path)
	var shell, child int
	if _, err := fmt.Fscan(bytes.NewReader(b), &shell, &child); err != nil {
		t.Fatal(err)
	}
	return []int{shell, child}
}

// runs reports whether a process does, and is not only waiting to be reaped.
func runs(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && !strings.Contains(string(status), "State:\tZ")
}

// Over stdio a synchronous call is cancelled by ssh_cancel with the id of its
// first progress notification, and a task goes on telling its progress after
// the call that started it was answered.
func TestProgressNamesTheTask(t *testing.T) {
	s, pids := newTaskSite(t)
	s.write(t, "policy.yml", "limits: {task_progress_interval: 1}\nrules: [{action: allow, profile: readonly}]\n", 0o600)
	p := startStdio(t, s.dir)
	p.send(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	p.until(`"id":1`)
	p.send(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	p.send(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"ssh_run","arguments":{"alias":"readonly","command":"du -sh /srv"},"_meta":{"progressToken":"two"}}}`)
	first := p.until(`"progressToken":"two"`)
	_, rest, _ := strings.Cut(first, "task ")
	id, _, found := strings.Cut(rest, ":")
	if !found {
		t.Fatalf("the first progress names no task: %s", first)
	}
	started := processesIn(t, pids)
	p.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"ssh_cancel","arguments":{"task_id":%q}}}`, id))
	if answer := p.until(`"id":2`); !strings.Contains(answer, `"status":"stopped"`) || !strings.Contains(answer, id) {
		t.Errorf("the call that was cancelled: %s", answer)
	}
	for _, pid := range started {
		if runs(pid) {
			t.Errorf("process %d lives on", pid)
		}
	}
	p.send(`{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"ssh_run_async","arguments":{"alias":"readonly","command":"du -sh /srv"},"_meta":{"progressToken":"four"}}}`)
	answer := p.until(`"id":4`)
	if _, rest, found = strings.Cut(answer, `"task_id":"`); !found {
		t.Fatalf("no task: %s", answer)
	}
	id, _, _ = strings.Cut(rest, `"`)
	if live := p.until(`"progressToken":"four"`); !strings.Contains(live, "running") {
		t.Errorf("progress after the answer: %s", live)
	}
	p.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"ssh_cancel_async_task","arguments":{"task_id":%q}}}`, id))
	if last := p.until("cancelled"); !strings.Contains(last, "four") && !strings.Contains(p.until(`"progressToken":"four"`), "cancelled") {
		t.Errorf("the last progress: %s", last)
	}
}

// A tag of many hosts, each a judged address of its own.
func TestRunOnTagOnRealHosts(t *testing.T) {
	var more []string
	for i := range 11 {
		more = append(more, fmt.Sprint("127.0.0.", i+2))
	}
	s := newSite(t, more...)
	var servers strings.Builder
	var known strings.Builder
	for i := range 12 {
		fmt.Fprintf(&servers, "  - {alias: h%d, host: 127.0.0.%d, port: %d, credentials: test, tags: [all]}\n", i, i+1, s.sshd.Addr.Port())
		fmt.Fprintln(&known, strings.Replace(s.sshd.KnownLine, "127.0.0.1", fmt.Sprint("127.0.0.", i+1), 1))
	}
	s.write(t, "servers.yml", "hosts:\n"+servers.String(), 0o600)
	s.write(t, "keys/known_hosts", known.String(), 0o600)
	s.write(t, "policy.yml", "network: {block_ips: [127.0.0.7]}\nrules: [{action: allow, profile: readonly}]\n", 0o600)
	client := s.serveHTTP(t)
	m := callFor(t, client, "ssh_run_on_tag", map[string]any{"tag": "all", "command": "echo hello"})
	if sum := m["summary"].(map[string]any); sum["succeeded"] != 11.0 || sum["denied"] != 1.0 || sum["hosts"] != 12.0 {
		t.Errorf("summary %v", sum)
	}
	for i, e := range m["results"].([]any) {
		e := e.(map[string]any)
		if e["alias"] != fmt.Sprint("h", i) {
			t.Errorf("entry %d is of %v", i, e["alias"])
		}
		if i == 6 && (e["denied"] != true || e["reason"] != "network") || i != 6 && (e["output"] != "hello" || e["target_ip"] != fmt.Sprint("127.0.0.", i+1)) {
			t.Errorf("entry %d: %v", i, e)
		}
	}
}

// stdio is a gateway served over its pipes.
type stdio struct {
	t     *testing.T
	in    io.Writer
	lines <-chan string
}

func startStdio(t *testing.T, dir string) stdio {
	t.Helper()
	gateway := gatewayProcess(t, "serve", "--config", dir)
	in, err := gateway.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := gateway.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	gateway.Stderr = os.Stderr
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	t.Cleanup(func() {
		in.Close()
		for range lines {
		}
		_ = gateway.Wait()
	})
	return stdio{t, in, lines}
}

func (p stdio) send(message string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, message+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

// until is the next message that holds a text.
func (p stdio) until(text string) string {
	p.t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-p.lines:
			switch {
			case !ok:
				p.t.Fatalf("the gateway ended without %q", text)
			case strings.Contains(line, text):
				return line
			}
		case <-late:
			p.t.Fatalf("no %q in half a minute", text)
		}
	}
}
