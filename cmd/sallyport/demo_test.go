package main

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/pkg/mcpserver/mcpclient"
)

// demo --serve leaves a gateway up that a client reaches with the printed
// configuration, and takes everything down when it is told to stop.
func TestDemoServes(t *testing.T) {
	demo := gatewayProcess(t, "demo", "--serve")
	temp := t.TempDir()
	demo.Env = append(os.Environ(), "TMPDIR="+temp)
	stdout, err := demo.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = demo.Process.Kill() })
	var printed strings.Builder
	for lines := bufio.NewScanner(stdout); !strings.Contains(printed.String(), "\n}\n") && lines.Scan(); {
		printed.WriteString(lines.Text() + "\n")
	}
	text := printed.String()
	var clients struct {
		MCPServers map[string]struct{ URL string }
	}
	if err := json.Unmarshal([]byte(text[strings.Index(text, "{"):]), &clients); err != nil {
		t.Fatalf("the client configuration: %v\n%s", err, text)
	}
	client, err := mcpclient.Connect(t.Context(), mcpclient.Options{URL: clients.MCPServers["sallyport"].URL, Name: "test", Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if answer, err := client.Call(t.Context(), "ssh_run", map[string]any{"alias": "demo", "command": "echo hello"}); err != nil || answer.IsError {
		t.Errorf("ssh_run: %v %s", err, answer.Text)
	}
	if err := demo.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := demo.Wait(); err != nil {
		t.Errorf("the demo ended with %v", err)
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("the demo left %v", left)
	}
}
