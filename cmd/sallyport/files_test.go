package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/pkg/mcpserver/mcpclient"
)

// fileSite is a real host on which one directory may be read and written, and
// one beside it may not.
type fileSite struct {
	site
	client *mcpclient.Session
	root   string // may be read and written
	other  string // may not
}

func newFileSite(t *testing.T) *fileSite {
	t.Helper()
	s := &fileSite{site: newSite(t)}
	dir, err := filepath.EvalSymlinks(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	s.root, s.other = filepath.Join(dir, "a"), filepath.Join(dir, "ab")
	for _, d := range []string{s.root, s.other} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.write(t, "bin/ls", "#!/bin/sh\nexec /bin/ls \"$@\"\n", 0o755) // by which the host tells of other names
	s.write(t, "sallyport.yml", "log_level: error\ntoolsets: [all]\npolicy: {timeout: 1s}\nlogs: {decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}\n", 0o600)
	s.write(t, "policy.yml", fmt.Sprintf("limits: {max_output_bytes: 16777216}\nrules:\n  - {action: allow, profile: readonly}\n"+
		"files:\n  - {action: allow, read: [%[1]s/**], write: [%[1]s/**]}\n", s.root), 0o600)
	s.client = s.serveHTTP(t)
	return s
}

// fileReply is the part of the results of tools for files that the tests look at.
type fileReply struct {
	mcpclient.Answer
	Status   string
	Path     string
	Content  string
	Encoding string
	Bytes    int64
	Size     int64
	More     bool
	Next     int64
	SHA256   string `json:"sha256"`
	Before   string `json:"sha256_before"`
	Created  bool
	Changed  bool
	Matches  int
	Mode     string
	Diff     string
	Valid    bool
	Total    int
	Entries  []struct {
		Name, Type, Permissions string
		Size                    int64
		LinkTarget              string `json:"link_target"`
	}
	Reasons []struct{ Code, Detail string }
	Error   *struct{ Code, Message string }
}

func (r fileReply) code() string {
	switch {
	case r.Error != nil:
		return r.Error.Code
	case len(r.Reasons) > 0:
		return r.Reasons[0].Code
	}
	return ""
}

func (s *fileSite) do(t *testing.T, tool, path string, more ...any) fileReply {
	t.Helper()
	args := map[string]any{"target": "readonly", "path": path}
	for i := 0; i < len(more); i += 2 {
		args[more[i].(string)] = more[i+1]
	}
	answer, err := s.client.Call(t.Context(), tool, args)
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	r := fileReply{Answer: answer}
	if err := json.Unmarshal(answer.Structured, &r); err != nil {
		t.Fatalf("%s: %v: %s", tool, err, answer.Structured)
	}
	return r
}

func (s *fileSite) put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
}

func contentOf(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFilesOnARealHost(t *testing.T) {
	s := newFileSite(t)
	path := filepath.Join(s.root, "app.conf")
	w := s.do(t, "write", path, "content", "debug = 1\nport = 80\n", "mode", "0640", "expect", "absent")
	if w.IsError || !w.Created || w.Mode != "0640" || contentOf(t, path) != "debug = 1\nport = 80\n" {
		t.Fatalf("write: %s", w.Structured)
	}
	if again := s.do(t, "write", path, "content", "x", "expect", "absent"); again.code() != "exists" && again.code() != "not_as_expected" || contentOf(t, path) == "x" {
		t.Errorf("write over what should not be there: %s", again.Structured)
	}
	r := s.do(t, "read", path)
	if r.IsError || r.Content != "debug = 1\nport = 80\n" || r.SHA256 != w.SHA256 || r.More {
		t.Errorf("read: %s", r.Structured)
	}
	preview := s.do(t, "edit", path, "old_text", "debug = 1", "new_text", "debug = 0", "preview", true)
	if preview.IsError || preview.Changed || !strings.Contains(preview.Diff, "+debug = 0") || !strings.Contains(contentOf(t, path), "debug = 1") {
		t.Errorf("preview: %s", preview.Structured)
	}
	e := s.do(t, "edit", path, "old_text", "debug = 1", "new_text", "debug = 0", "expect", r.SHA256)
	if e.IsError || !e.Changed || e.Matches != 1 || e.Before != r.SHA256 || contentOf(t, path) != "debug = 0\nport = 80\n" {
		t.Errorf("edit: %s", e.Structured)
	}
	if stale := s.do(t, "write", path, "content", "x", "expect", r.SHA256); stale.code() != "not_as_expected" || contentOf(t, path) == "x" {
		t.Errorf("write with a stale digest: %s", stale.Structured)
	}
	if err := os.Symlink("/etc", filepath.Join(s.root, "link")); err != nil {
		t.Fatal(err)
	}
	l := s.do(t, "list_dir", s.root)
	if l.IsError || l.Total != 2 || l.Entries[0].Name != "app.conf" || l.Entries[0].Permissions != "-rw-r-----" || l.Entries[1].Type != "link" || l.Entries[1].LinkTarget != "/etc" {
		t.Errorf("list: %s", l.Structured)
	}
	if v := s.do(t, "validate", path, "type", "ini"); v.IsError || !v.Valid {
		t.Errorf("validate: %s", v.Structured)
	}
	if v := s.do(t, "validate", path, "type", "json"); v.IsError || v.Valid {
		t.Errorf("validate as another type: %s", v.Structured)
	}
}

// What is not permitted is not touched, by whichever name it is asked for.
func TestFilesOutsideAreRefused(t *testing.T) {
	s := newFileSite(t)
	secret := filepath.Join(s.other, "secret")
	s.put(t, secret, "secret")
	for name, target := range map[string]string{"file": secret, "dir": s.other, "proc": "/proc/self/root"} {
		if err := os.Symlink(target, filepath.Join(s.root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{
		secret, s.root + "/../ab/secret", s.root + "/file", s.root + "/dir/secret", s.root + "/proc" + secret,
		"/proc/self/root" + secret, s.root + "b/secret", "ab/secret", "//" + secret,
	} {
		if r := s.do(t, "read", path); !r.IsError || r.Status != "denied" || strings.Contains(string(r.Structured), `"secret"`) {
			t.Errorf("read %s: %s", path, r.Structured)
		}
		if r := s.do(t, "write", path, "content", "changed"); !r.IsError || contentOf(t, secret) != "secret" {
			t.Errorf("write %s: %s", path, r.Structured)
		}
		if r := s.do(t, "edit", path, "old_text", "secret", "new_text", "changed"); !r.IsError || contentOf(t, secret) != "secret" {
			t.Errorf("edit %s: %s", path, r.Structured)
		}
	}
	if r := s.do(t, "list_dir", s.root+"/dir"); !r.IsError || r.Status != "denied" {
		t.Errorf("list: %s", r.Structured)
	}
	if err := os.Link(secret, filepath.Join(s.root, "hard")); err != nil {
		t.Fatal(err)
	}
	if r := s.do(t, "read", s.root+"/hard"); !r.IsError || r.Status != "denied" {
		t.Errorf("read of a file that has another name: %s", r.Structured)
	}
	if r := s.do(t, "write", s.root+"/hard", "content", "changed"); !r.IsError || contentOf(t, secret) != "secret" {
		t.Errorf("write to a file that has another name: %s", r.Structured)
	}
}

// TestSSHMCPFiles has what SSH-MCP did wrong with files, by the numbers of its
// weaknesses.
func TestSSHMCPFiles(t *testing.T) {
	s := newFileSite(t)
	path := filepath.Join(s.root, "f")
	t.Run("W7 quotes are literal", func(t *testing.T) {
		s.put(t, path, "it's\n")
		marker := filepath.Join(s.root, "marker")
		r := s.do(t, "edit", path, "old_text", "it's", "new_text", "x'; touch "+marker+"; echo 'y")
		if _, err := os.Stat(marker); r.IsError || err == nil || contentOf(t, path) != "x'; touch "+marker+"; echo 'y\n" {
			t.Errorf("%s: %q", r.Structured, contentOf(t, path))
		}
	})
	t.Run("W12 an edit that matches nothing is no success", func(t *testing.T) {
		s.put(t, path, "a\n")
		if r := s.do(t, "edit", path, "old_text", "b", "new_text", "c"); !r.IsError || r.code() != "edit_no_match" {
			t.Errorf("%s", r.Structured)
		}
	})
	t.Run("W12 replace_line replaces the line, back-references work, several lines match", func(t *testing.T) {
		s.put(t, path, "one two\nab\n")
		s.do(t, "edit", path, "operation", "replace_line", "pattern", "two", "content", "2")
		s.do(t, "edit", path, "operation", "regex", "pattern", "(a)(b)", "replacement", `\2\1`)
		if got := contentOf(t, path); got != "2\nba\n" {
			t.Errorf("%q", got)
		}
		if r := s.do(t, "edit", path, "old_text", "2\nba", "new_text", "z"); r.IsError || contentOf(t, path) != "z\n" {
			t.Errorf("%s", r.Structured)
		}
	})
	t.Run("W12 a .bak beside it stays", func(t *testing.T) {
		s.put(t, path, "a\n")
		s.put(t, path+".bak", "mine\n")
		s.do(t, "edit", path, "old_text", "a", "new_text", "b")
		if entries, _ := os.ReadDir(s.root); contentOf(t, path+".bak") != "mine\n" || len(entries) != 2 {
			t.Errorf("in the directory now: %v", entries)
		}
	})
	t.Run("W13 nginx's .conf is not INI", func(t *testing.T) {
		if r := s.do(t, "write", filepath.Join(s.root, "nginx.conf"), "content", "events {\n}\n"); r.IsError {
			t.Errorf("%s", r.Structured)
		}
	})
	t.Run("W14 what fails is a failure", func(t *testing.T) {
		for tool, more := range map[string][]any{"read": nil, "validate": {"type", "json"}, "list_dir": nil, "edit": {"old_text", "a"}} {
			if r := s.do(t, tool, filepath.Join(s.root, "missing"), more...); !r.IsError || r.code() != "not_found" {
				t.Errorf("%s: %s", tool, r.Structured)
			}
		}
		if r := s.do(t, "read", s.root); r.code() != "not_a_file" {
			t.Errorf("%s", r.Structured)
		}
		if r := s.do(t, "list_dir", path); r.code() != "not_a_directory" {
			t.Errorf("%s", r.Structured)
		}
	})
	t.Run("W8, a path with blanks and > is a name", func(t *testing.T) {
		odd, marker := filepath.Join(s.root, "a > b; touch c"), filepath.Join(s.root, "b; touch c")
		if r := s.do(t, "write", odd, "content", "x"); r.IsError || contentOf(t, odd) != "x" {
			t.Errorf("%s", r.Structured)
		}
		if _, err := os.Lstat(marker); err == nil {
			t.Error("it was read as a redirection")
		}
	})
	t.Run("root /a: /a is readable, /ab is refused", func(t *testing.T) {
		s.put(t, path, "a")
		s.put(t, filepath.Join(s.other, "f"), "ab")
		if r := s.do(t, "read", path); r.IsError || r.Content != "a" {
			t.Errorf("%s", r.Structured)
		}
		if r := s.do(t, "read", filepath.Join(s.other, "f")); r.Status != "denied" || r.Content != "" {
			t.Errorf("%s", r.Structured)
		}
	})
	t.Run("root /: /etc/hostname is readable", func(t *testing.T) {
		all := newFileSite(t)
		all.write(t, "policy.yml", "rules:\n  - {action: allow, profile: readonly}\nfiles:\n  - {action: allow, read: [/**]}\n", 0o600)
		all.client = all.serveHTTP(t)
		if r := all.do(t, "read", "/etc/hostname"); r.IsError || r.Content != contentOf(t, "/etc/hostname") {
			t.Errorf("%s", r.Structured)
		}
	})
	t.Run("binary and large files", func(t *testing.T) {
		want := bytes.Repeat([]byte{0, 0xff, 'a', '\n'}, 3<<18) // 3 MiB
		s.put(t, path, string(want))
		var got []byte
		for next := int64(0); ; {
			r := s.do(t, "read", path, "offset", next, "length", 1<<20, "encoding", "base64")
			b, err := base64.StdEncoding.DecodeString(r.Content)
			if r.IsError || err != nil || r.Size != int64(len(want)) {
				t.Fatalf("%v: %.300s", err, r.Structured)
			}
			got, next = append(got, b...), r.Next
			if !r.More {
				break
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes of %d came back", len(got), len(want))
		}
	})
}

// Each step of a file tool is a decision of its own, on both logs, and no
// content is on either.
func TestFilesOnRecord(t *testing.T) {
	s := newFileSite(t)
	path := filepath.Join(s.root, "f")
	s.put(t, path, "planted-in-the-file\n")
	s.do(t, "edit", path, "old_text", "planted-in-the-file", "new_text", "planted-by-the-edit")
	decisions := contentOf(t, filepath.Join(s.dir, "decisions.jsonl"))
	if n := strings.Count(decisions, `"tool":"edit"`); n != 3 {
		t.Errorf("%d decisions", n)
	}
	audit := contentOf(t, filepath.Join(s.dir, "audit.jsonl"))
	if started, finished := strings.Count(audit, `"type":"started"`), strings.Count(audit, `"type":"finished"`); started != 3 || finished != 3 {
		t.Errorf("%d started, %d finished:\n%s", started, finished, audit)
	}
	if strings.Contains(decisions+audit, "planted") {
		t.Error("content is on record")
	}
}

// A copy goes from one host to another only where policy of both permits it by
// where the paths lead, and arrives whole, with its mode.
func TestSyncOnRealHosts(t *testing.T) {
	s := newFileSite(t)
	sync := func(from, to string) fileReply {
		t.Helper()
		answer, err := s.client.Call(t.Context(), "sync", map[string]any{
			"source_node": "readonly", "source_path": from, "dest_node": "diagnose", "dest_path": to,
		})
		if err != nil {
			t.Fatal(err)
		}
		r := fileReply{Answer: answer}
		if err := json.Unmarshal(answer.Structured, &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	from, to := filepath.Join(s.root, "from"), filepath.Join(s.root, "to")
	want := strings.Repeat("0123456789abcdef", 12<<20/16)
	s.put(t, from, want)
	if r := sync(from, to); r.IsError || r.Bytes != 12<<20 || !r.Created || r.Mode != "0640" || contentOf(t, to) != want {
		t.Errorf("%.500s", r.Structured)
	}
	s.put(t, from, "less\n")
	if r := sync(from, to); r.IsError || r.Created || contentOf(t, to) != "less\n" {
		t.Errorf("%s", r.Structured)
	}
	secret := filepath.Join(s.other, "secret")
	s.put(t, secret, "secret")
	if err := os.Symlink(s.other, filepath.Join(s.root, "out")); err != nil {
		t.Fatal(err)
	}
	for _, ends := range [][2]string{{secret, to}, {s.root + "/out/secret", to}, {from, s.other + "/new"}, {from, s.root + "/out/new"}} {
		if r := sync(ends[0], ends[1]); !r.IsError || r.Status != "denied" {
			t.Errorf("%s: %s", ends, r.Structured)
		}
	}
	if _, err := os.Stat(s.other + "/new"); err == nil || contentOf(t, to) != "less\n" {
		t.Error("content moved all the same")
	}
	if r := sync(filepath.Join(s.root, "missing"), to); r.code() != "not_found" {
		t.Errorf("%s", r.Structured)
	}
}
