package sshexec

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// subjects are texts that a subject can be.
var subjects = []string{"agent-7", "agent-8", "", "../../etc/passwd", "a\nb", "ünï cødé", strings.Repeat("x", 4096), "a/b", "subject \"agent-7\"\n"}

func TestIdentities(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "identities")
	var made []tool.Identity
	keep := NewIdentities(dir, func(id tool.Identity) error { made = append(made, id); return nil })
	lines := map[string]string{}
	for _, subject := range subjects {
		id, err := keep.Identity(subject)
		if err != nil {
			t.Fatalf("%.20q: %v", subject, err)
		}
		public, comment, _, rest, err := ssh.ParseAuthorizedKey([]byte(id.Line))
		if err != nil || len(rest) > 0 || public.Type() != ssh.KeyAlgoED25519 || ssh.FingerprintSHA256(public) != id.Fingerprint ||
			!strings.HasPrefix(comment, "sallyport:") || strings.ContainsAny(id.Line, "\n\"") {
			t.Errorf("%.20q: %+v", subject, id)
		}
		if other, twice := lines[id.Fingerprint]; twice {
			t.Errorf("%.20q has the key of %.20q", subject, other)
		}
		lines[id.Fingerprint] = subject
		again, err := NewIdentities(dir, func(tool.Identity) error { return errors.New("not new") }).Identity(subject)
		if err != nil || again != id {
			t.Errorf("%.20q: at first %+v, then %+v, %v", subject, id, again, err)
		}
	}
	if len(made) != len(subjects) || made[0].Subject != "agent-7" || made[0].Fingerprint == "" {
		t.Errorf("told of %+v", made)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(subjects) {
		t.Errorf("%d files, %v", len(entries), err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", info.Mode(), err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
	keygen := exec.Command(sshtest.Require(t, "ssh-keygen", "openssh-client"), "-y", "-f", keep.path("agent-7"))
	if out, err := keygen.CombinedOutput(); err != nil || !strings.HasPrefix(made[0].Line, strings.Fields(string(out))[0]+" "+strings.Fields(string(out))[1]) {
		t.Errorf("ssh-keygen reads %s, %v", out, err)
	}
}

// Whoever asks for a key at the same time, in one process or in several, gets the
// same, and it is made once.
func TestIdentityIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	lines := map[string]int{}
	var all sync.WaitGroup
	for range 20 {
		keep := NewIdentities(dir, func(tool.Identity) error { return nil })
		for range 5 {
			all.Go(func() {
				id, err := keep.Identity("agent-7")
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				lines[id.Line]++
			})
		}
	}
	all.Wait()
	entries, _ := os.ReadDir(dir)
	if len(lines) != 1 || len(entries) != 1 {
		t.Errorf("%d keys, %d files", len(lines), len(entries))
	}
}

// What cannot be kept, recorded or trusted is no key.
func TestIdentityRefused(t *testing.T) {
	fine := func(tool.Identity) error { return nil }
	for name, spoil := range map[string]func(t *testing.T, keep *Identities){
		"not on record": func(_ *testing.T, keep *Identities) {
			keep.made = func(tool.Identity) error { return errors.New("no space left") }
		},
		"open to everybody": func(t *testing.T, keep *Identities) {
			identityOf(t, keep, "a")
			chmod(t, keep.path("a"), 0o604)
		},
		"another's": func(t *testing.T, keep *Identities) {
			identityOf(t, keep, "b")
			if err := os.Rename(keep.path("b"), keep.path("a")); err != nil {
				t.Fatal(err)
			}
		},
		"a link": func(t *testing.T, keep *Identities) {
			identityOf(t, keep, "b")
			if err := os.Symlink(keep.path("b"), keep.path("a")); err != nil {
				t.Fatal(err)
			}
		},
		"broken": func(t *testing.T, keep *Identities) {
			if err := os.WriteFile(keep.path("a"), []byte("x\n"+ownerLine("a")), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"no directory": func(t *testing.T, keep *Identities) {
			keep.dir = filepath.Join(keep.dir, "file")
			if err := os.WriteFile(keep.dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		keep := NewIdentities(t.TempDir(), fine)
		spoil(t, keep)
		if id, err := keep.Identity("a"); err == nil || id != (tool.Identity{}) || strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
		if key, err := keep.Key("a"); err == nil || key != nil {
			t.Errorf("%s: there is a key", name)
		}
	}
	keep := NewIdentities(t.TempDir(), func(tool.Identity) error { return errors.New("no space left") })
	_, _ = keep.Identity("a")
	keep.made = fine
	identityOf(t, keep, "a")
	chmod(t, keep.path("a"), 0o660)
	identityOf(t, keep, "a")
	if info, err := os.Stat(keep.path("a")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("rights of a group stay: %v, %v", info.Mode(), err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func identityOf(t *testing.T, keep *Identities, subject string) tool.Identity {
	t.Helper()
	id, err := keep.Identity(subject)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
