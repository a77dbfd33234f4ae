package sshtest

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// OpenSSHOptions configure [StartOpenSSH].
type OpenSSHOptions struct {
	Host        string   // listen address; empty: 127.0.0.1
	MoreHosts   []string // further listen addresses, at the same port; sshd takes 16 in all
	Login       *OpenSSH // another sshd whose key is to log in here; nil: a key of its own
	Network     *Network // where it runs and listens; nil: the machine's own
	MaxSessions int      // 0: sshd's default, 10
	SFTP        string   // how the sftp subsystem is run; empty: internal-sftp, "none": not at all
	Config      []string // further lines of sshd_config
}

// OpenSSH is a real sshd. One key may log in, as any user of the machine when
// the test runs as root, else as the user of this process.
type OpenSSH struct {
	Addr      netip.AddrPort
	Key       []byte // the private key that may log in, in OpenSSH's format
	HostKey   ssh.PublicKey
	KnownLine string // for a known_hosts file

	dir string
	log log
	pid int
}

// StartOpenSSH starts an sshd of the machine's openssh-server package, as a
// child process that ends with the test.
func StartOpenSSH(tb TB, o OpenSSHOptions) *OpenSSH {
	tb.Helper()
	path := Require(tb, "sshd", "openssh-server")
	dir, err := os.MkdirTemp("", "sshd")
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	s := &OpenSSH{dir: dir}
	for _, step := range []func() error{s.open, func() error { return s.keys(o.Login) }} {
		if err := step(); err != nil {
			tb.Fatalf("prepare sshd: %v", err)
		}
	}
	switch {
	case o.Network != nil:
		o.Host = o.Network.Addr.String()
	case o.Host == "":
		o.Host = "127.0.0.1"
	}
	for range 5 { // the port may have been taken meanwhile
		if err = s.start(tb, path, o); err == nil {
			return s
		}
	}
	tb.Fatalf("start sshd: %v\n%s", err, s.Log())
	return nil
}

// Require finds a program, or fails the test with the package that has it.
func Require(tb TB, program, debianPackage string) string {
	tb.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		path := filepath.Join(dir, program)
		if _, err := exec.LookPath(path); err == nil {
			return path
		}
	}
	tb.Fatalf("this test needs %s: apt-get install %s", program, debianPackage)
	return ""
}

// open makes the directory readable for the users who log in, and the one that
// sshd run by root insists on.
func (s *OpenSSH) open() error {
	if err := os.Chmod(s.dir, 0o755); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		return os.MkdirAll("/run/sshd", 0o755)
	}
	return nil
}

func (s *OpenSSH) keys(other *OpenSSH) error {
	_, host, err := s.newKey("host_key")
	if err != nil {
		return err
	}
	s.HostKey = host
	if other != nil {
		s.Key = other.Key
		return os.Link(other.path("authorized_keys"), s.path("authorized_keys"))
	}
	key, login, err := s.newKey("login_key")
	if err != nil {
		return err
	}
	s.Key = key
	return os.WriteFile(s.path("authorized_keys"), ssh.MarshalAuthorizedKey(login), 0o644)
}

func (s *OpenSSH) path(name string) string { return filepath.Join(s.dir, name) }

// newKey makes a key and a file of it.
func (s *OpenSSH) newKey(name string) ([]byte, ssh.PublicKey, error) {
	text, public, err := NewKeyFile()
	if err != nil {
		return nil, nil, err
	}
	return text, public, os.WriteFile(s.path(name), text, 0o600)
}

// start writes the configuration for a free port and waits until sshd listens.
func (s *OpenSSH) start(tb TB, path string, o OpenSSHOptions) (err error) {
	addr := netip.AddrPort{}
	if o.Network != nil {
		addr = netip.AddrPortFrom(o.Network.Addr, 2222) // nobody else is there
	} else if addr, err = freePort(o.Host); err != nil {
		return err
	}
	s.Addr = addr
	s.KnownLine = knownhosts.Line([]string{addr.String()}, s.HostKey)
	if err := os.WriteFile(s.path("sshd_config"), []byte(s.config(o)), 0o644); err != nil {
		return err
	}
	argv := []string{path, "-D", "-e", "-f", s.path("sshd_config")}
	if o.Network != nil {
		argv = o.Network.inside(argv[0], argv[1:]...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	out, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.pid = cmd.Process.Pid
	listening, ended := make(chan struct{}), make(chan struct{})
	go func() { s.log.follow(out, 1+len(o.MoreHosts), listening); _ = cmd.Wait(); close(ended) }()
	// What serves a connection that is still open writes there, too, and lives on.
	end := func() { _ = cmd.Process.Kill(); out.Close(); <-ended }
	select {
	case <-listening:
		tb.Cleanup(end)
		return nil
	case <-ended:
		return fmt.Errorf("it ended at once")
	case <-time.After(30 * time.Second):
		end()
		return fmt.Errorf("it does not listen")
	}
}

func (s *OpenSSH) config(o OpenSSHOptions) string {
	lines := append(o.Config,
		"ListenAddress "+s.Addr.String(),
		"HostKey "+s.path("host_key"),
		"AuthorizedKeysFile "+s.path("authorized_keys"),
		"StrictModes no", "UsePAM no", "PidFile none", "LogLevel VERBOSE",
		"PermitRootLogin yes", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
		"MaxStartups 100")
	if o.SFTP != "none" {
		lines = append(lines, "Subsystem sftp "+cmp.Or(o.SFTP, "internal-sftp"))
	}
	for _, host := range o.MoreHosts {
		lines = append(lines, "ListenAddress "+net.JoinHostPort(host, strconv.Itoa(int(s.Addr.Port()))))
	}
	if o.MaxSessions != 0 {
		lines = append(lines, fmt.Sprintf("MaxSessions %d", o.MaxSessions))
	}
	return strings.Join(lines, "\n") + "\n"
}

func freePort(host string) (netip.AddrPort, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort(), nil
}

// KillSessions ends, as a crash would, the processes of every connection, and
// what they serve files with. New connections are accepted.
func (s *OpenSSH) KillSessions() {
	family := map[int]bool{s.pid: true}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for grown := true; grown; {
		grown = false
		for _, stat := range stats {
			var pid, parent int
			var name, state string
			text, _ := os.ReadFile(stat)
			if _, err := fmt.Sscanf(string(text), "%d %s %s %d", &pid, &name, &state, &parent); err == nil && family[parent] && !family[pid] {
				family[pid], grown = true, true
			}
		}
	}
	delete(family, s.pid)
	for pid := range family {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// Log is what sshd has said.
func (s *OpenSSH) Log() string { return s.log.String() }

// Me is the name of the user who runs the tests.
func Me(tb TB) string {
	tb.Helper()
	me, err := user.Current()
	if err != nil {
		tb.Fatalf("%v", err)
	}
	return me.Username
}

// log keeps what a child process says.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// follow reads until the end, and closes listening when sshd has said so often
// that it is.
func (l *log) follow(r io.Reader, sockets int, listening chan struct{}) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		l.mu.Lock()
		fmt.Fprintln(&l.text, lines.Text())
		l.mu.Unlock()
		if strings.Contains(lines.Text(), "Server listening on") {
			if sockets--; sockets == 0 {
				close(listening)
			}
		}
	}
}

// AddUser makes a throw-away user who may log in with the key of any OpenSSH
// here, and with sudo set may become root without a password. It needs root.
func AddUser(tb TB, sudo bool) string {
	tb.Helper()
	name := addUser(tb)
	if sudo {
		addSudo(tb, name)
	}
	return name
}

// AddRootUser makes a throw-away user with root's number and so its powers, but
// with a quick shell and no start-up files.
func AddRootUser(tb TB) string {
	tb.Helper()
	return addUser(tb, "--non-unique", "--uid", "0", "--gid", "0")
}

func addUser(tb TB, options ...string) string {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Fatalf("this test makes a user: run it as root")
	}
	add, del := Require(tb, "useradd", "passwd"), Require(tb, "userdel", "passwd")
	name := "sp" + strings.ToLower(rand.Text()[:8])
	options = append(options, "--no-create-home", "--home-dir", "/", "--shell", "/bin/sh", "--password", "*", name)
	if out, err := retry(add, options...); err != nil {
		tb.Fatalf("useradd: %v: %s", err, out)
	}
	tb.Cleanup(func() {
		if out, err := retry(del, "--force", name); err != nil {
			tb.Logf("userdel: %v: %s", err, out)
		}
	})
	return name
}

func addSudo(tb TB, name string) {
	tb.Helper()
	Require(tb, "sudo", "sudo")
	rule := "/etc/sudoers.d/" + name
	if err := os.WriteFile(rule, []byte(name+" ALL=(ALL) NOPASSWD: ALL\n"), 0o440); err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(func() { os.Remove(rule) })
}

// retry runs a command again while another holds the lock on the user table.
func retry(name string, args ...string) (out []byte, err error) {
	for range 50 {
		if out, err = exec.Command(name, args...).CombinedOutput(); err == nil || !strings.Contains(string(out), "lock") {
			return out, err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return out, err
}

// Authorize lets a key log in, a line as in authorized_keys, in the place of the one
// that could.
func (s *OpenSSH) Authorize(tb TB, line string) {
	tb.Helper()
	if err := os.WriteFile(s.path("authorized_keys"), []byte(line+"\n"), 0o644); err != nil {
		tb.Fatalf("%v", err)
	}
}
