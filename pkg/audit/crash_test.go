package audit

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The tests run this program again as a gateway that is killed: the variable
// names its file.
const childVariable = "AUDIT_TEST_FILE"

func TestMain(m *testing.M) {
	if path := os.Getenv(childVariable); path != "" {
		writeForEver(path)
	}
	os.Exit(m.Run())
}

// writeForEver tells on stdout of every call that is on record.
func writeForEver(path string) {
	s, err := Open(Options{File: path})
	for n := 0; err == nil; n++ {
		call := fmt.Sprintf("%d-%d", os.Getpid(), n)
		for _, e := range aRun(call) {
			if err = s.Write(context.Background(), e); err != nil {
				break
			}
			fmt.Println(call, e.Type)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Gateways on one file are killed in the middle of their work, again and
// again: the chain holds, and every event that Write took is in it.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var acked []string
	for round := range 6 {
		var gateways []*exec.Cmd
		for range 2 {
			cmd := exec.CommandContext(t.Context(), exe)
			cmd.Env = append(os.Environ(), childVariable+"="+path)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			for n := 0; n < 40+13*round && lines.Scan(); n++ {
				acked = append(acked, lines.Text())
			}
			gateways = append(gateways, cmd)
		}
		for _, cmd := range gateways {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		for _, cmd := range gateways {
			cmd.Wait() // its status is that it was killed
		}
	}
	mustClose(t, mustOpen(t, Options{File: path}))
	report := intact(t, path)
	if report.Types[Start] != 13 || report.Types[Stop] != 1 {
		t.Errorf("records %v, want 13 starts and 1 stop", report.Types)
	}
	text := mustRead(t, path)
	for _, record := range acked {
		call, kind, _ := strings.Cut(record, " ")
		if !hasRecord(text, call, kind) {
			t.Errorf("no %s record of call %s", kind, call)
		}
	}
}

func hasRecord(text, call, kind string) bool {
	for line := range strings.Lines(text) {
		if strings.Contains(line, `"call_id":"`+call+`"`) && strings.Contains(line, `"type":"`+kind+`"`) {
			return true
		}
	}
	return false
}
