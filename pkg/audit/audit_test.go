package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/pkg/journal"
)

func mustOpen(t testing.TB, o Options) *Stream {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mustWrite(t testing.TB, s *Stream, events ...Event) {
	t.Helper()
	for _, e := range events {
		if err := s.Write(context.Background(), e); err != nil {
			t.Fatal(err)
		}
	}
}

func mustClose(t testing.TB, s *Stream) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// intact verifies files and returns how many lines they hold.
func intact(t *testing.T, paths ...string) Report {
	t.Helper()
	report, err := VerifyFiles(paths...)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	return report
}

// aRun is the two events of a run that ended well.
func aRun(call string) []Event {
	zero := 0
	started := Event{
		Type: Started, CallID: call, DecisionID: "d-" + call, Plan: "5fe1", Subject: "agent-7", Client: "claude-code",
		Tool: "ssh_run", Alias: "web1", TargetIP: "10.0.0.11", Hash: CommandHash("uptime"),
	}
	finished := started
	finished.Type = Finished
	finished.Ending = Ending{Outcome: "finished", ExitCode: &zero, BytesOut: 62, DurationMS: 12}
	return []Event{started, finished}
}

func TestLine(t *testing.T) {
	var out bytes.Buffer
	s := mustOpen(t, Options{Writer: &out, Now: func() time.Time { return time.Unix(1790000000, 5000).In(time.FixedZone("", 7200)) }})
	for _, e := range aRun("c1") {
		mustWrite(t, s, e)
	}
	mustWrite(t, s, Event{Type: Refused, CallID: "c2", Failure: "command_dynamic", Detail: "<$(id) & more>\n"})
	mustClose(t, s)

	const ts = `{"ts":"2026-09-21T14:13:20.000005Z",`
	id := regexp.MustCompile(`"stream":"[0-9A-Z]{26}"`)
	hash := regexp.MustCompile(`[0-9a-f]{64}`)
	got := hash.ReplaceAllString(id.ReplaceAllString(out.String(), `"stream":"ID"`), "HASH")
	about := `"stream":"ID","call_id":"c1","decision_id":"d-c1","plan":"5fe1","subject":"agent-7","client":"claude-code",` +
		`"tool":"ssh_run","alias":"web1","target_ip":"10.0.0.11","hash":"6f85aa44e1e3a1b3"`
	want := strings.Join([]string{
		ts + `"type":"start","seq":1,"prev":"","stream":"ID","chain":"HASH"}`,
		ts + `"type":"started","seq":2,"prev":"HASH",` + about + `,"chain":"HASH"}`,
		ts + `"type":"finished","seq":3,"prev":"HASH",` + about + `,"outcome":"finished","exit_code":0,"bytes_out":62,"bytes_err":0,` +
			`"truncated":false,"duration_ms":12,"cancelled":false,"timeout":false,"survivors":0,"chain":"HASH"}`,
		ts + `"type":"refused","seq":4,"prev":"HASH","stream":"ID","call_id":"c2","failure":"command_dynamic","detail":"<$(id) & more>\n","chain":"HASH"}`,
		ts + `"type":"stop","seq":5,"prev":"HASH","stream":"ID","chain":"HASH"}`,
		"",
	}, "\n")
	want = strings.ReplaceAll(want, "6f85aa44e1e3a1b3", CommandHash("uptime"))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// The chain hash is what the package comment's shell command prints.
func TestChainIsHashOfLineWithoutIt(t *testing.T) {
	var out bytes.Buffer
	mustClose(t, mustOpen(t, Options{Writer: &out}))
	prev := ""
	for line := range strings.Lines(out.String()) {
		body, chain, ok := strings.Cut(strings.TrimSuffix(line, "\"}\n"), `,"chain":"`)
		sum := sha256.Sum256([]byte(body + "}"))
		if !ok || chain != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: chain is not %x", line, sum)
		}
		if !strings.Contains(body, `"prev":"`+prev+`"`) {
			t.Errorf("%s: prev is not %q", line, prev)
		}
		prev = chain
	}
}

func TestEventDecodes(t *testing.T) {
	var out bytes.Buffer
	s := mustOpen(t, Options{Writer: &out})
	out.Reset()
	want := aRun("c1")[1]
	mustWrite(t, s, want)
	var got Event
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want.TS, want.Seq, want.Prev, want.Stream = got.TS, got.Seq, got.Prev, got.Stream
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

func TestCommandHash(t *testing.T) {
	for text, want := range map[string]string{
		"":       "e3b0c44298fc1c14",
		"uptime": fmt.Sprintf("%x", sha256.Sum256([]byte("uptime")))[:16],
	} {
		if got := CommandHash(text); got != want {
			t.Errorf("CommandHash(%q) = %s, want %s", text, got, want)
		}
	}
}

func TestChainGoesOn(t *testing.T) {
	between := map[string]struct {
		do    func(t *testing.T, path string)
		files []string
		last  uint64
		note  string
	}{
		"restart":                {func(*testing.T, string) {}, []string{""}, 8, ""},
		"rotation while stopped": {rename, []string{".1", ""}, 8, ""},
		"torn line": {func(t *testing.T, path string) {
			write(t, path, mustRead(t, path)+`{"ts":"2026`)
		}, []string{""}, 8, "unfinished line of 11 bytes"},
		"file gone": {func(t *testing.T, path string) {
			if err := os.Rename(path, path+".old"); err != nil {
				t.Fatal(err)
			}
		}, []string{".old", ""}, 4, "a new chain begins"},
	}
	for name, tc := range between {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.log")
			for range 2 {
				s := mustOpen(t, Options{File: path})
				mustWrite(t, s, aRun("c")...)
				mustClose(t, s)
				if _, err := os.Stat(path + ".done"); err != nil {
					tc.do(t, path)
					write(t, path+".done", "")
				}
			}
			var files []string
			for _, suffix := range tc.files {
				files = append(files, path+suffix)
			}
			report := intact(t, files...)
			if report.Lines != 8 || report.Last != tc.last {
				t.Errorf("%d lines, last record %d; want 8 and %d", report.Lines, report.Last, tc.last)
			}
			notes := strings.Join(report.Notes, "\n")
			if !strings.Contains(notes, tc.note) || tc.note == "" && notes != "" {
				t.Errorf("notes %q, want %q", notes, tc.note)
			}
		})
	}
}

func rename(t *testing.T, path string) {
	t.Helper()
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Two gateways on one file, with rotation by size and from outside: one chain.
func TestConcurrentStreams(t *testing.T) {
	const streams, writers, runs = 2, 4, 25
	path := filepath.Join(t.TempDir(), "audit.log")
	var open []*Stream
	for range streams {
		open = append(open, mustOpen(t, Options{File: path, Journal: journal.Options{MaxBytes: 20_000}}))
	}
	var wg sync.WaitGroup
	for n, s := range open {
		for w := range writers {
			wg.Go(func() {
				for r := range runs {
					for _, e := range aRun(fmt.Sprintf("%d-%d-%d", n, w, r)) {
						if err := s.Write(context.Background(), e); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
	}
	wg.Wait()
	for _, s := range open {
		mustClose(t, s)
	}
	report := intact(t, rotatedFiles(path)...)
	want := map[Type]int{Start: streams, Stop: streams, Started: streams * writers * runs, Finished: streams * writers * runs}
	if diff := cmp.Diff(want, report.Types); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if len(report.Unfinished) > 0 || len(report.Notes) > 0 {
		t.Errorf("unfinished %v, notes %v", report.Unfinished, report.Notes)
	}
}

// rotatedFiles lists path and the files before it, oldest first.
func rotatedFiles(path string) []string {
	files := []string{path}
	for n := 1; ; n++ {
		old := fmt.Sprintf("%s.%d", path, n)
		if _, err := os.Stat(old); err != nil {
			return files
		}
		files = append([]string{old}, files...)
	}
}

func TestWriteIgnoresCancellation(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	path := filepath.Join(t.TempDir(), "audit.log")
	s := mustOpen(t, Options{File: path})
	if err := s.Write(ctx, aRun("c")[1]); err != nil {
		t.Fatal(err)
	}
	if got := intact(t, path).Types[Finished]; got != 1 {
		t.Errorf("%d finished records, want 1", got)
	}
}

func TestUnwritableThenWritableAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "logs", "audit.log")
	s := mustOpen(t, Options{File: path})
	logs := filepath.Dir(path)
	if err := os.Rename(logs, logs+".away"); err != nil {
		t.Fatal(err)
	}
	write(t, logs, "in the way")
	err := s.Write(context.Background(), Event{Type: Started})
	if !errors.Is(err, journal.ErrUnwritable) || !errors.Is(err, syscall.ENOTDIR) {
		t.Fatalf("write says %v", err)
	}
	if err := os.Remove(logs); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, aRun("c")...)
	if report := intact(t, filepath.Join(logs+".away", "audit.log"), path); report.Lines != 3 {
		t.Errorf("%d lines, want 3", report.Lines)
	}
}

type broken struct{ err error }

func (b *broken) Write(p []byte) (int, error) { return len(p), b.err }

// With two sinks each must take the event, and the chain of the file does not
// suffer from the other's failure.
func TestBothSinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	w := &broken{}
	s := mustOpen(t, Options{File: path, Writer: w})
	w.err = syscall.EPIPE
	if err := s.Write(context.Background(), Event{Type: Started}); !errors.Is(err, journal.ErrUnwritable) || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write says %v", err)
	}
	w.err = nil
	mustWrite(t, s, aRun("c")...)
	mustClose(t, s)
	if report := intact(t, path); report.Lines != 5 {
		t.Errorf("%d lines, want 5", report.Lines)
	}
	if err := s.Write(context.Background(), Event{Type: Started}); !errors.Is(err, errClosed) {
		t.Errorf("write after close says %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "decisions.log")
	write(t, foreign, `{"decision_id":"1"}`+"\n")
	for name, tc := range map[string]struct {
		o    Options
		want error
	}{
		"nothing":         {Options{}, errNowhere},
		"foreign file":    {Options{File: foreign}, errForeign},
		"unwritable file": {Options{File: dir}, journal.ErrUnwritable},
		"full device":     {Options{File: "/dev/full"}, syscall.ENOSPC},
		"broken writer":   {Options{Writer: &broken{syscall.EPIPE}}, syscall.EPIPE},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Open(tc.o); !errors.Is(err, tc.want) {
				t.Errorf("open says %v, want %v", err, tc.want)
			}
		})
	}
	if got := mustRead(t, foreign); got != `{"decision_id":"1"}`+"\n" {
		t.Errorf("foreign file now holds %q", got)
	}
}

// Somebody who cuts records off the end while the gateway runs is found out by
// its next record.
func TestTamperingBehindARunningStream(t *testing.T) {
	for name, tamper := range map[string]func(lines []string) []string{
		"cut":       func(l []string) []string { return l[:3] },
		"rewritten": func(l []string) []string { return append(l[:4], rechain(t, l[4], `"web1"`, `"web2"`)) },
		"foreign":   func(l []string) []string { return append(l, "hello\n") },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.log")
			s := mustOpen(t, Options{File: path})
			mustWrite(t, s, append(aRun("c1"), aRun("c2")...)...)
			write(t, path, strings.Join(tamper(linesOf(mustRead(t, path))), ""))
			mustWrite(t, s, aRun("c3")...)
			var fault *Fault
			if _, err := VerifyFiles(path); !errors.As(err, &fault) {
				t.Errorf("verify says %v", err)
			}
		})
	}
}

func BenchmarkWrite(b *testing.B) {
	s := mustOpen(b, Options{File: filepath.Join(b.TempDir(), "audit.log")})
	e := aRun("01JD0000000000000000000000")[1]
	b.ReportAllocs()
	for b.Loop() {
		mustWrite(b, s, e)
	}
}
