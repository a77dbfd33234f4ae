package config

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A log that this account may not write is told of, the file or else what it
// would have to be made in; where the check is made elsewhere, it is not.
func TestUnwritableLogs(t *testing.T) {
	dir := write(t, map[string]string{settingsFile: "logs: {decision: {file: there.jsonl}, audit: {file: logs/new.jsonl}}\n"})
	must(t, os.WriteFile(filepath.Join(dir, "there.jsonl"), nil, 0o444))
	must(t, os.Chmod(dir, 0o555))
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	asNobody(t)
	all := strings.Join(warningsOf(mustLoad(t, Options{Dir: dir})), "\n")
	for _, want := range []string{
		"sallyport.yml:1: warning: logs.decision.file: this account may not write " + filepath.Join(dir, "there.jsonl"),
		"sallyport.yml:1: warning: logs.audit.file: this account may not write " + dir + " (",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning %q in\n%s", want, all)
		}
	}
	if all := warningsOf(mustLoad(t, Options{Dir: dir, WithoutSecrets: true})); strings.Contains(strings.Join(all, ""), "logs.") {
		t.Errorf("a check elsewhere looks for logs: %q", all)
	}
}

// asNobody has the rest of a test that runs as root ask for access as nobody
// would: what may be done goes by the real user, and only this thread has another.
func asNobody(t *testing.T) {
	if os.Getuid() != 0 {
		return
	}
	const same = ^uintptr(0)
	runtime.LockOSThread()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, same, same); errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() {
		unix.RawSyscall(unix.SYS_SETRESUID, 0, same, same)
		runtime.UnlockOSThread()
	})
}

// What does not load still says which policies it names, without those that are
// not there, and where; a warning is not part of why it does not load.
func TestProblemsHaveSettings(t *testing.T) {
	dir := write(t, map[string]string{
		settingsFile:    "nonsense: 1\npolicy:\n  bundle: nowhere\n  custom: [keys, nowhere]\n",
		credentialsFile: "entries: [{name: a, username: u, password: hunter2}]\n",
	})
	_, err := Load(Options{Dir: dir, Env: noEnv})
	var problems *Problems
	if !errors.As(err, &problems) || problems.Settings == nil {
		t.Fatalf("Load gives %v", err)
	}
	if p := problems.Settings.Policy; p.Bundle != "" || len(p.Custom) != 1 || p.Custom[0] != filepath.Join(dir, "keys") {
		t.Errorf("policy = %+v", p)
	}
	want := Problem{File: filepath.Join(dir, settingsFile), Line: 4, Column: 11, Severity: Error, Message: "policy.custom: m", Remedy: "r"}
	if got := problems.Origins.Problem("policy.custom", "m", "r"); got != want {
		t.Errorf("Problem = %+v, want %+v", got, want)
	}
	if got := problems.Origins.Problem("policy.timeout", "m", "r").String(); got != filepath.Join(dir, settingsFile)+": policy.timeout: m (r)" {
		t.Errorf("of a default: %s", got)
	}
	if text := err.Error(); len(problems.List) < 4 || strings.Contains(text, "warning") || !strings.Contains(text, "nonsense") {
		t.Errorf("%d problems, as an error:\n%s", len(problems.List), text)
	}
}
