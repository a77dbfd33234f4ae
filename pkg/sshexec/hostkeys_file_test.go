package sshexec

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

const someKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPkAbwrzKrFBkUxeHjfMkcdbFeYUkDhjUtdNTFbmFEhj"

// readText reads known_hosts text and gives what was logged.
func readText(t testing.TB, text string) (*knownHosts, string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	known, err := readKnownHosts([]string{file}, slog.New(slog.NewTextHandler(&log, nil)))
	return known, log.String(), err
}

func TestKnownHostsSkipsAndWarns(t *testing.T) {
	for _, line := range []string{
		"word",
		"host",
		"host ssh-ed25519",
		"host ssh-ed25519 !!!",
		"host ssh-ed25519 AAAA",
		"host ssh-rsa " + strings.Fields(someKey)[1],
		"host ssh-quantum AAAAC3NzaC1lZDI1NTE5AAAA",
		"host 1024 35 1234567890123",
		"|2|abc|def " + someKey,
		"|1|abc " + someKey,
		"|1|!|! " + someKey,
		"|1|AAAA|AAAA " + someKey,
		"@trusted host " + someKey,
		"@cert-authority",
		"@cert-authority host",
		"@cert-authority @cert-authority host " + someKey,
	} {
		known, log, err := readText(t, "# comment\n\n"+line+"\nother "+someKey+"\n")
		if err != nil {
			t.Errorf("%q refuses the file: %v", line, err)
			continue
		}
		if len(known.keys) != 1 || known.keys[0].line != 4 {
			t.Errorf("%q leaves %d lines", line, len(known.keys))
		}
		if !strings.Contains(log, "line=3") || strings.Count(log, "\n") != 1 {
			t.Errorf("%q is not logged with its place, or not alone:\n%s", line, log)
		}
	}
}

func TestKnownHostsRefusesBadRevocations(t *testing.T) {
	for _, line := range []string{
		"@revoked",
		"@revoked host",
		"@revoked * ssh-ed25519 !!!",
		"@revoked * ssh-quantum AAAA",
		"@revoked * 1024 35 1234567890123",
		"@revoked |1|abc " + someKey,
		"@Revoked * " + someKey,
		"@revoked: * " + someKey,
		"@cert-authority @revoked * " + someKey,
		"\ufeff@revoked * " + someKey,
		" \t@revoked * AAAA",
	} {
		known, _, err := readText(t, "host "+someKey+"\n"+line+"\n")
		var f *tool.Failure
		if !errors.As(err, &f) || f.Code != tool.FailKnownHosts || known != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		if !strings.Contains(f.Message, "known_hosts:2") || f.Remedy == "" {
			t.Errorf("%q: the failure does not say where, or what to do: %s", line, f.Message)
		}
	}
	if _, _, err := readText(t, "# @revoked is a marker\nhost "+someKey+" @revoked\n"); err != nil {
		t.Errorf("a comment refuses the file: %v", err)
	}
}

// TestHostNamesLikeOpenSSH has ssh-keygen look names up in the same lines.
func TestHostNamesLikeOpenSSH(t *testing.T) {
	fields := []string{
		"web1", "WEB1", "web1,web2", "web?", "web*", "*", "*.example.com", "w*1", "**1", "*,!web1", "!web1,*", "!web*,web1", "!web1",
		"[web1]:2222", "[web*]:2222", "[*]:2222", "[WEB1]:2222", "*:2222", "?web1?:2222", "web1:2222", "[web1]:22",
		"10.0.0.1", "10.0.0.*", "10.0.0.?", "::1", "[::1]:2222", "web1,", ",web1", "web[1]", "web1!",
	}
	hosts := []string{
		"web1", "web2", "web11", "db1.example.com", "example.com", "[web1]:2222", "[web1]:2223", "[db1.example.com]:2222",
		"10.0.0.1", "10.0.0.12", "[10.0.0.1]:2222", "::1", "[::1]:2222", "web[1]", "web1!",
	}
	path := filepath.Join(t.TempDir(), "known_hosts")
	for _, hashed := range []bool{false, true} {
		var lines []string
		for _, f := range append(fields, hosts...) {
			if hashed {
				f = knownhosts.HashHostname(f)
			}
			lines = append(lines, f+" "+someKey)
		}
		text := strings.Join(lines, "\n") + "\n"
		known, log, err := readText(t, text)
		if err != nil || log != "" {
			t.Fatalf("%v\n%s", err, log)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, host := range hosts {
			var ours []string
			for _, k := range known.matching(host) {
				ours = append(ours, fmt.Sprint(k.line))
			}
			if theirs := keygenFinds(t, host, path); strings.Join(ours, " ") != theirs {
				t.Errorf("hashed=%t %s: we find lines %v, ssh-keygen finds %s", hashed, host, ours, theirs)
			}
		}
	}
}

var foundLine = regexp.MustCompile(`found: line (\d+)`)

// keygenFinds is the numbers of the lines that ssh-keygen finds a host in.
func keygenFinds(t *testing.T, host, file string) string {
	t.Helper()
	// It ends with 1 when it finds nothing.
	out, _ := exec.Command(sshtest.Require(t, "ssh-keygen", "openssh-client"), "-F", host, "-f", file).CombinedOutput()
	var lines []string
	for _, m := range foundLine.FindAllStringSubmatch(string(out), -1) {
		lines = append(lines, m[1])
	}
	return strings.Join(lines, " ")
}

func TestKnownHostsUnreadable(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	if err := os.WriteFile(good, []byte("host "+someKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{filepath.Join(dir, "missing"), dir} {
		_, err := NewTrust(TrustOptions{KnownHosts: []string{good, bad}})
		f := failureOf(t, err)
		if f == nil || f.Code != tool.FailKnownHosts || !strings.Contains(f.Message, bad) || f.Cause == nil {
			t.Errorf("%s: %v", bad, err)
		}
	}
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, maxKnownHosts+1); err != nil {
		t.Fatal(err)
	}
	if _, err := readLimited(big, maxKnownHosts); err == nil {
		t.Error("a file without end is read")
	}
}

func TestReloadKeepsLastGood(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known_hosts")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("web1 " + someKey + "\n")
	trust := newTrust(t, file)
	knows := func(host string) bool { return len(trust.known.Load().matching(host)) > 0 }

	write("@revoked web1 nonsense\nweb2 " + someKey + "\n")
	_, err := trust.Reload()
	if f := failureOf(t, err); f == nil || f.Code != tool.FailKnownHosts {
		t.Errorf("a bad file reloads: %v", f)
	}
	if !knows("web1") || knows("web2") {
		t.Error("after a bad reload the last good state is not in force")
	}
	write("web2 " + someKey + "\n")
	reload(t, trust)
	if knows("web1") || !knows("web2") {
		t.Error("a good reload changes nothing")
	}
}

func FuzzKnownHosts(f *testing.F) {
	for _, text := range []string{
		"web1 " + someKey + " comment\n",
		"@revoked * " + someKey + "\n@cert-authority *.example.com " + someKey + "\n",
		"@revoked\n", "@", "@revoked @", "|1|AAAA|AAAA " + someKey, "!,* " + someKey, "host 1024 35 1\n", "\r\n\t# \n",
	} {
		f.Add(text, "web1")
	}
	f.Fuzz(func(t *testing.T, text, host string) {
		known := &knownHosts{byName: map[string][]int{}}
		err := known.add("f", []byte(text), slog.New(slog.DiscardHandler))
		numbers := map[int]bool{}
		var matching []knownKey
		for _, k := range known.keys {
			numbers[k.line] = true
			if k.names.match(host) {
				matching = append(matching, k)
			}
		}
		if found := known.matching(host); host != "" && !reflect.DeepEqual(found, matching) {
			t.Errorf("the index finds %v for %q, the lines themselves %v", found, host, matching)
		}
		for i, line := range strings.Split(text, "\n") {
			// The plainest reading of a revocation: it is in force, or the
			// file is refused.
			if strings.HasPrefix(line, "@revoked ") && err == nil && !numbers[i+1] {
				t.Errorf("line %d revokes nothing, and nobody says so: %q", i+1, line)
			}
		}
		for _, k := range known.keys {
			if k.key == nil || k.names.patterns == "" && k.names.hash == nil {
				t.Errorf("line %d is half read: %+v", k.line, k)
			}
		}
	})
}

func FuzzMatchPattern(f *testing.F) {
	f.Add("web1.example.com", "*.example.*")
	f.Add("aaaaaaaaaaaaaaaaaaaaaaaa", "*a*a*a*a*a*b")
	f.Add("[web1]:22", "[web?]:2*")
	f.Fuzz(func(t *testing.T, s, pattern string) {
		if len(pattern) > 100 || regexp.MustCompile(`[^ -~]`).MatchString(s+pattern) {
			t.Skip()
		}
		re := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
		if got, want := matchPattern(s, pattern), regexp.MustCompile("^"+re+"$").MatchString(s); got != want {
			t.Errorf("matchPattern(%q, %q) = %t", s, pattern, got)
		}
	})
}

// BenchmarkKnownHosts looks one host up among ten thousand.
func BenchmarkKnownHosts(b *testing.B) {
	for _, form := range []struct {
		name string
		of   func(string) string
	}{
		{"plain", func(host string) string { return host }},
		{"pattern", func(host string) string { return host + "*" }},
		{"hashed", knownhosts.HashHostname},
	} {
		var text strings.Builder
		for i := range 10000 {
			fmt.Fprintln(&text, form.of(fmt.Sprintf("host%05d.example.com", i)), someKey)
		}
		known, _, err := readText(b, text.String())
		if err != nil {
			b.Fatal(err)
		}
		b.Run(form.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if len(known.matching("host09999.example.com")) != 1 {
					b.Fatal("not found")
				}
			}
		})
	}
}

func reload(t *testing.T, trust *Trust) {
	t.Helper()
	commit, err := trust.Reload()
	if err != nil {
		t.Fatal(err)
	}
	commit()
}
