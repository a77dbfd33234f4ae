package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/pkg/gateway"
	"github.com/sallyport/sallyport/pkg/tool"
)

// The directory that a connection keeps, on a real host: each has its own, it is
// the one that a link leads to, and it is still there when the connection was lost.
func TestSSHMCPWorkingDirectory(t *testing.T) {
	h := newHarbour(t, true)
	s := h.session(t)
	dir := h.scratch(t)
	for _, name := range []string{"a", "q$(echo X>&2)", "a/b"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "a"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := s.connect(callArgs{"host": "bastion"}); got.Cwd != "/" { // the home of the user
		t.Errorf("a login begins in %q", got.Cwd)
	}
	s.connect(callArgs{"host": "inner"})
	for line, want := range map[string]string{
		"cd " + dir + "/link":                "a",
		"cd '" + dir + "/q$(echo X>&2)'":     "q$(echo X>&2)",
		"cd -- " + dir + "/a/../a/./b/../b/": "a/b",
	} {
		want = filepath.Join(dir, want)
		if got := s.run(line); got.IsError || got.Cwd != want || got.ExitCode != 0 {
			t.Errorf("%s: %+v", line, got)
		}
		if got := s.run("pwd"); got.Stdout != want+"\n" || got.Stderr != "" {
			t.Errorf("after %s: %+v", line, got)
		}
	}
	for line, code := range map[string]string{
		"cd " + dir + "/gone": "not_found", "cd " + dir + "/file": "not_a_directory", "cd /root": "no_directory",
	} {
		before := s.run("pwd").Stdout
		if got := s.run(line); !got.IsError || got.Error.Code != code {
			t.Errorf("%s: %+v", line, got)
		}
		if after := s.run("pwd").Stdout; after != before {
			t.Errorf("%s: from %q to %q", line, before, after)
		}
	}
	s.run("cd " + dir + "/a")
	if got := s.run("cd b"); got.Cwd != dir+"/a/b" {
		t.Errorf("%+v", got)
	}
	if got := s.run("cd .."); got.Cwd != dir+"/a" {
		t.Errorf("%+v", got)
	}
	if got := s.run("pwd", "target", "inner"); got.Stdout != "/\n" {
		t.Errorf("the other connection works in %q", got.Stdout)
	}
	h.hangUp(t)
	if got := s.run("pwd"); got.Stdout != dir+"/a\n" {
		t.Errorf("after the connection was lost: %+v", got)
	}
	if got := s.run("cd"); got.Cwd != "/" {
		t.Errorf("%+v", got)
	}
	if err := os.RemoveAll(dir + "/a"); err != nil {
		t.Fatal(err)
	}
}

// Many subjects do the same at once, under the same names, on one host: each works
// on its own connection, in its own directory.
func TestSSHMCPSubjectsNeverMeet(t *testing.T) {
	subjects := long(25, 1000)
	h := newHarbour(t, true)
	dir := h.scratch(t)
	call := func(subject, name, args string) (told, gateway.Result) {
		caller := tool.Caller{Subject: subject, Session: "same", Auth: "token", Transport: "http"}
		result := h.stack.gateway.Call(t.Context(), caller, name, json.RawMessage(args), nil)
		var got told
		b, err := json.Marshal(result.Structured)
		if err == nil {
			err = json.Unmarshal(b, &got)
		}
		if err != nil {
			t.Error(err)
		}
		got.Text = result.Text
		return got, result
	}
	var all sync.WaitGroup
	turns := make(chan struct{}, 8) // or some would wait too long for the host
	each := func(do func(i int)) {
		for i := range subjects {
			all.Go(func() {
				turns <- struct{}{}
				defer func() { <-turns }()
				do(i)
			})
		}
		all.Wait()
	}
	each(func(i int) {
		subject := fmt.Sprintf("subject-%d", i)
		own := filepath.Join(dir, subject)
		if err := os.Mkdir(own, 0o777); err != nil {
			t.Error(err)
		}
		for _, step := range [][3]string{
			{"connect", `{"host":"bastion","alias":"mine"}`, ""},
			{"run", `{"command":"cd ` + own + `"}`, ""},
			{"run", `{"command":"pwd"}`, own + "\n"},
		} {
			if got, result := call(subject, step[0], step[1]); result.IsError || got.Stdout != step[2] {
				t.Errorf("%s: %s: %s", subject, step[0], got.Text)
			}
		}
	})
	stats := h.stack.runner.Stats()
	if stats.Connections != subjects {
		t.Errorf("%d connections", stats.Connections)
	}
	each(func(i int) {
		subject := fmt.Sprintf("subject-%d", i)
		if got, _ := call(subject, "run", `{"command":"pwd"}`); got.Stdout != filepath.Join(dir, subject)+"\n" {
			t.Errorf("%s works in %q", subject, got.Stdout)
		}
		if got, _ := call(subject, "disconnect", `{}`); len(got.Closed) != 1 {
			t.Errorf("%s: %s", subject, got.Text)
		}
	})
	if n := h.stack.runner.Stats().Connections; n != 0 {
		t.Errorf("%d connections are left", n)
	}
}
