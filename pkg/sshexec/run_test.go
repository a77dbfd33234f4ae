package sshexec

import (
	"bytes"
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

func TestRun(t *testing.T) {
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	for _, tc := range []struct {
		name           string
		step           tool.Step
		stdout, stderr string
		exit           int
		signal         string
	}{
		{name: "streams and status", step: line("echo out; echo err >&2; exit 7"), stdout: "out\n", stderr: "err\n", exit: 7},
		{name: "no output", step: line("true")},
		{name: "not found", step: line("no-such-program 2>/dev/null"), exit: 127},
		{name: "no input", step: line("cat; echo end"), stdout: "end\n"},
		{name: "signal", step: line("kill -KILL $$"), signal: "KILL"},
		{name: "signal without a name in the RFC", step: line("kill -BUS $$"), signal: "unknown"},
		{name: "words", step: tool.Step{Do: tool.Exec{Argv: []string{"printf", "%s|", "a b", "", "'$x'", "!", "\\"}}}, stdout: "a b||'$x'|!|\\|"},
		{name: "words with input", step: tool.Step{Do: tool.Exec{Argv: []string{"wc", "-c"}, Stdin: make([]byte, 300_000)}}, stdout: "300000\n"},
		{name: "input that nobody reads", step: tool.Step{Do: tool.Exec{Argv: []string{"true"}, Stdin: make([]byte, 8<<20)}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := l.Run(t.Context(), job(host, tc.step))
			if r.Outcome != tool.Finished || r.Err != nil {
				t.Fatal(describe(r))
			}
			out := r.Outputs[0]
			if string(out.Stdout.Kept) != tc.stdout || string(out.Stderr.Kept) != tc.stderr || out.Signal != tc.signal {
				t.Errorf("got %s", describe(r))
			}
			if tc.signal == "" && (out.Exit == nil || *out.Exit != tc.exit) || tc.signal != "" && out.Exit != nil {
				t.Errorf("want exit %d, signal %q; got %s", tc.exit, tc.signal, describe(r))
			}
			if r.Address != "127.0.0.1" || r.Duration <= 0 || r.Stop != "" {
				t.Errorf("address %q, duration %v, stop %q", r.Address, r.Duration, r.Stop)
			}
		})
	}
	if s := l.Stats(); s.Connections != 1 {
		t.Errorf("%d connections for jobs one after the other", s.Connections)
	}
}

func TestRunSteps(t *testing.T) {
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	r := l.Run(t.Context(), job(host, line("echo one; exit 3"), line("echo two")))
	if out := finished(t, r, 0); len(r.Outputs) != 2 || string(out.Stdout.Kept) != "two\n" {
		t.Errorf("got %s", describe(r))
	}
}

// Nothing may be sent that was not judged, or that the host would not take.
func TestRunRefusesUnfitSteps(t *testing.T) {
	l, s, host := faulty(t, sshtest.Faults{})
	for _, tc := range []struct {
		name string
		do   tool.Do
		code tool.FailureCode
	}{
		{"no document", tool.Shell{}, tool.FailInternal},
		{"no canonical form", tool.Shell{Command: &shell.Document{Text: "echo $x", Certainty: shell.Dynamic}}, tool.FailInternal},
		{"no program", tool.Exec{}, tool.FailInternal},
		{"an option as program", tool.Exec{Argv: []string{"-a", "x"}}, tool.FailInternal},
		{"a null byte", tool.Exec{Argv: []string{"echo", "a\x00b"}}, tool.FailInternal},
		{"a question to the gateway", tool.Ask{Question: tool.AskPing}, tool.FailInternal},
		{"too long", tool.Exec{Argv: []string{"echo", strings.Repeat("x", maxLine)}}, tool.FailTooLong},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := l.Run(t.Context(), job(host, line("echo first"), tool.Step{Do: tc.do}))
			failed(t, r, tool.NotStarted, tc.code)
			if len(r.Outputs) > 0 || l.Stats().Connections > 0 {
				t.Error("something was sent")
			}
		})
	}
	_ = s
}

func TestRunLongestLine(t *testing.T) {
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	long := strings.Repeat("x", maxLine-200)
	out := finished(t, l.Run(t.Context(), job(host, tool.Step{Do: tool.Exec{Argv: []string{"echo", long}}})), 0)
	if string(out.Stdout.Kept) != long+"\n" {
		t.Errorf("%d bytes came back", len(out.Stdout.Kept))
	}
}

// A background child that holds the streams, silent or not, does not delay the
// result of the command.
func TestRunDoesNotWaitForBackground(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	t.Run("silent", func(t *testing.T) {
		r := l.Run(t.Context(), job(host, line("sleep 30.271 & echo ok")))
		if out := finished(t, r, 0); string(out.Stdout.Kept) != "ok\n" || out.Stdout.Truncated {
			t.Errorf("got %s", describe(r))
		}
		if r.Duration > 10*time.Second {
			t.Errorf("it took %v", r.Duration)
		}
	})
	t.Run("talking a little", func(t *testing.T) {
		r := l.Run(t.Context(), job(host, line("(for i in $(seq 1500); do echo $i; sleep 0.02; done) & echo ok")))
		finished(t, r, 0)
		if r.Duration > 20*time.Second {
			t.Errorf("it took %v", r.Duration)
		}
	})
	t.Run("talking a lot", func(t *testing.T) {
		r := l.Run(t.Context(), job(host, line("while echo 0123456789abcdef0123456789abcdef; do :; done & echo ok")))
		if out := finished(t, r, 0); !out.Stdout.Truncated {
			t.Errorf("output that was still coming is not marked: %s", describe(r))
		}
	})
	t.Run("and the session is free again", func(t *testing.T) {
		eventually(t, "no session in use", func() bool { return l.Stats().Sessions == 0 })
	})
}

// The status may come before the output that was written before it; that output
// must not be lost, however slow it comes.
func TestRunKeepsOutputBehindTheStatus(t *testing.T) {
	t.Parallel()
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	p := sshtest.StartProxy(t, s.Addr, 120*time.Millisecond)
	l := newLab(t, s.Key, []string{known(p.Addr(), s)})
	j := job(target(login(t), p.Addr()), line("head -c 3000000 /dev/zero"))
	j.Limits.OutputBytes = 4 << 20
	r := l.Run(t.Context(), j)
	if out := finished(t, r, 0); out.Stdout.Bytes != 3_000_000 || out.Stdout.Truncated {
		t.Errorf("%d bytes, truncated %v", out.Stdout.Bytes, out.Stdout.Truncated)
	}
}

func TestRunCapsOutput(t *testing.T) {
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	j := job(host, line("head -c 20000000 /dev/zero | tr '\\0' 'é'; echo end; echo err >&2"))
	j.Limits.OutputBytes = 1000
	r := l.Run(t.Context(), j)
	out := finished(t, r, 0)
	kept := out.Stdout.Kept
	if out.Stdout.Bytes < 20_000_000 || !out.Stdout.Truncated || len(kept) > 1000 || !bytes.HasSuffix(kept, []byte("end\n")) {
		t.Errorf("%d bytes, truncated %v, kept %q", out.Stdout.Bytes, out.Stdout.Truncated, kept)
	}
	if !bytes.Contains(kept, []byte("bytes left out")) {
		t.Error("no notice of what was left out")
	}
	if string(out.Stderr.Kept) != "err\n" || out.Stderr.Truncated {
		t.Errorf("stderr %+v", out.Stderr)
	}
}

func TestRunStopsAFlood(t *testing.T) {
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	j := job(host, line("yes 0123456789abcdef0123456789abcdef"))
	j.Limits.OutputBytes = 1000
	r := l.Run(t.Context(), j)
	if r.Stop != tool.StopOutput || !r.Stopped || !r.Outputs[0].Stdout.Truncated {
		t.Errorf("got %s", describe(r))
	}
}

func TestRunProgress(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	var told []tool.Progress
	j := job(host, line("echo 12345; sleep 1.2; echo 67890"))
	began := time.Now()
	j.Progress = func(p tool.Progress) { told = append(told, p) }
	finished(t, l.Run(t.Context(), j), 0)
	if most := 2 + int(time.Since(began)/progressEvery); len(told) > most {
		t.Errorf("%d reports, want at most %d: %+v", len(told), most, told)
	}
	if len(told) < 2 || told[0].Phase != "connecting" {
		t.Fatalf("told %+v", told)
	}
	if last := told[len(told)-1]; last.Phase != "running" || last.Bytes < 6 {
		t.Errorf("last told %+v", last)
	}
}

func TestRunIPv6(t *testing.T) {
	l, _, host := sshd(t, sshtest.OpenSSHOptions{Host: "::1"})
	r := l.Run(t.Context(), job(host, line("echo $SSH_CONNECTION")))
	if out := finished(t, r, 0); !strings.HasPrefix(string(out.Stdout.Kept), "::1 ") || r.Address != "::1" {
		t.Errorf("got %s at %s", describe(r), r.Address)
	}
}

func TestRunAddressIsJudged(t *testing.T) {
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	t.Run("a name is never resolved", func(t *testing.T) {
		host := host
		host.Address = netip.Addr{}
		failed(t, l.Run(t.Context(), job(host, line("true"))), tool.NotStarted, tool.FailUnresolved)
	})
	t.Run("IPv4 in IPv6 is that IPv4", func(t *testing.T) {
		host := host
		host.Address = netip.AddrFrom16(host.Address.As16())
		if r := l.Run(t.Context(), job(host, line("true"))); r.Address != "127.0.0.1" {
			t.Errorf("address %q: %s", r.Address, describe(r))
		}
	})
	t.Run("another address is refused below the dialler", func(t *testing.T) {
		check := only(netip.MustParseAddrPort("10.0.0.1:22"))
		if check("tcp4", "10.0.0.1:22", nil) != nil || check("tcp6", "[::ffff:10.0.0.1]:22", nil) != nil {
			t.Error("the judged address is refused")
		}
		for _, other := range []string{"10.0.0.2:22", "10.0.0.1:23", "[::1]:22", "web1:22"} {
			if check("tcp4", other, nil) == nil {
				t.Errorf("%s is let through", other)
			}
		}
	})
}

func TestRunAfterClose(t *testing.T) {
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
	if err := l.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	failed(t, l.Run(t.Context(), job(host, line("true"))), tool.NotStarted, tool.FailShutdown)
}
