package sshexec

import (
	"net"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// A caller may pin the key of a host that nothing is known of. What is known goes
// before that.
func TestPinnedHostKey(t *testing.T) {
	key, login, err := sshtest.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	s, err := sshtest.Serve(t.Context(), sshtest.Options{User: "tester", AuthorizedKey: login})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	known := s.KnownHostsLine()
	name, text, _ := strings.Cut(known, " ")
	shown, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	other := ssh.FingerprintSHA256(login)
	right := ssh.FingerprintSHA256(shown)
	elsewhere := name + " " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(login)))
	for _, tc := range []struct {
		name, known, pin string
		code             tool.FailureCode
	}{
		{"unknown", "", "", tool.FailUnknownHostKey},
		{"unknown and pinned", "", right, ""},
		{"unknown and another is pinned", "", other, tool.FailChangedHostKey},
		{"known", known, "", ""},
		{"known and pinned", known, right, ""},
		{"known and another is pinned", known, other, tool.FailChangedHostKey},
		{"changed and pinned", elsewhere, right, tool.FailChangedHostKey},
		{"revoked and pinned", "@revoked * " + text, right, tool.FailRevokedHostKey},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t, key, []string{tc.known})
			host := target("tester", s.Addr())
			host.AdHoc = &tool.AdHoc{HostKey: tc.pin}
			r := l.Run(t.Context(), job(host, tool.OpenConnection()))
			if tc.code != "" {
				failed(t, r, tool.NotStarted, tc.code)
				return
			}
			if made, ok := r.Outputs[0].Answer.(tool.Connected); !ok || made.HostKey != shown.Type()+" "+right {
				t.Errorf("got %s: %+v", describe(r), r.Outputs)
			}
		})
	}
}

// A password that is refused is its owner's affair: others go on logging in.
func TestRefusedPasswordKeepsNobodyElseOut(t *testing.T) {
	key, login, err := sshtest.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	s, err := sshtest.Serve(t.Context(), sshtest.Options{User: "tester", AuthorizedKey: login})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	stranger, _, err := sshtest.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t, key, []string{s.KnownHostsLine()})
	l.login("bad", stranger)
	bad, good := target("tester", s.Addr()), target("tester", s.Addr())
	bad.AdHoc, bad.Credentials = &tool.AdHoc{}, "bad"
	good.AdHoc = &tool.AdHoc{}
	failed(t, l.Run(t.Context(), job(bad, line("true"))), tool.NotStarted, tool.FailAuth)
	for range 5 {
		failed(t, l.Run(t.Context(), job(bad, line("true"))), tool.NotStarted, tool.FailBreaker)
	}
	j := job(good, line("true"))
	j.Subject = "another"
	finished(t, l.Run(t.Context(), j), 0)
}

// What a caller is told of an address that is left alone is why, not what the
// libraries said below.
func TestCoolingOffTellsNoCause(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	key, _, err := sshtest.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t, key, nil)
	host := target("tester", listener.Addr().(*net.TCPAddr).AddrPort())
	for range 20 {
		r := l.Run(t.Context(), job(host, line("true")))
		if r.Err == nil || r.Err.Code != tool.FailBreaker {
			continue
		}
		if strings.Contains(r.Err.Message, "ssh:") || strings.Count(r.Err.Message, listener.Addr().String()) != 1 || !strings.Contains(r.Err.Message, "hung up") {
			t.Errorf("told: %s", r.Err.Message)
		}
		return
	}
	t.Error("the address is not left alone")
}
