package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/mcpserver/mcpclient"
	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
)

// fleet is many addresses of the loopback network with an sshd behind each.
type fleet struct {
	dir  string
	bare []*ssh.Client // to each of them
}

// settling is for the end of what was done before: a hundred connections that are
// closed keep a machine busy.
const settling = time.Second

// perSSHD is how many addresses one sshd serves; it takes 16.
const perSSHD = 15

// fan compares one command on every host of a tag with bare sessions side by side,
// with ansible's raw module and with parallel-ssh, all with live connections where
// they can keep them.
func (b *bench) fan(hosts, rounds int) {
	f := b.fleet(hosts)
	_, client := b.serveFrom(f.dir)
	ours := &contender{name: fmt.Sprintf("ssh_run_on_tag, %d hosts", hosts), run: func() error { return f.onTag(client, hosts) }}
	others := []*contender{{name: "bare sessions, live connections", run: func() error {
		return side(hosts, hosts, func(i int) error { return b.session(f.bare[i]) })
	}}}
	for _, c := range []struct {
		name, program, debianPackage string
		args                         []string
	}{
		{"ansible -m raw, warm", "ansible", "ansible-core", []string{"all", "-i", filepath.Join(f.dir, "inventory"), "-m", "raw", "-a", "true", "-f", "32"}},
		{"parallel-ssh", "parallel-ssh", "pssh", append([]string{
			"-h", filepath.Join(f.dir, "hosts"), "-l", "root", "-p", "32",
		}, append(f.parallelOptions(), "true")...)},
	} {
		if _, err := exec.LookPath(c.program); err != nil {
			fmt.Printf("\n%s: not measured: apt-get install %s\n", c.name, c.debianPackage)
			continue
		}
		others = append(others, &contender{name: c.name, run: func() error { return f.run(c.program, c.args...) }})
	}
	for _, c := range append(others, ours) {
		b.must(c.run(), c.name+", warm up")
	}
	all := append(others, ours)
	for range rounds {
		for _, i := range rand.Perm(len(all)) {
			time.Sleep(settling)
			all[i].round(b)
		}
	}
	report("fan-out: `true` on every host", ours, others...)
}

func (b *bench) fleet(hosts int) fleet {
	f := fleet{dir: filepath.Join(b.dir, "fleet")}
	var servers, known, inventory, list strings.Builder
	var login *sshtest.OpenSSH
	for first := 0; first < hosts; first += perSSHD {
		o := sshtest.OpenSSHOptions{Host: address(first), Login: login, Config: []string{"SetEnv HOME=" + b.dir}}
		for i := first + 1; i < min(hosts, first+perSSHD); i++ {
			o.MoreHosts = append(o.MoreHosts, address(i))
		}
		s := sshtest.StartOpenSSH(b, o)
		login = cmp.Or(login, s)
		for i := first; i < min(hosts, first+perSSHD); i++ {
			port := s.Addr.Port()
			f.bare = append(f.bare, b.dialTo(fmt.Sprintf("%s:%d", address(i), port), login.Key, s.HostKey))
			fmt.Fprintf(&servers, "  - {alias: h%d, host: %s, port: %d, credentials: me, tags: [all]}\n", i, address(i), port)
			fmt.Fprintln(&known, strings.Replace(s.KnownLine, s.Addr.Addr().String(), address(i), 1))
			fmt.Fprintf(&inventory, "h%d ansible_host=%s ansible_port=%d\n", i, address(i), port)
			fmt.Fprintf(&list, "%s:%d\n", address(i), port)
		}
	}
	options := "-F none -o IdentitiesOnly=yes -o BatchMode=yes -o UserKnownHostsFile=" + filepath.Join(f.dir, "keys/known_hosts") +
		" -i " + filepath.Join(f.dir, "keys/login")
	fmt.Fprintf(&inventory, "[all:vars]\nansible_user=root\nansible_ssh_common_args=%q\nansible_ssh_args='-o ControlMaster=auto -o ControlPersist=60s'\nansible_control_path_dir=%s\n", options, filepath.Join(f.dir, "control"))
	b.write("fleet/sallyport.yml", "logs: {decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}\n")
	b.write("fleet/servers.yml", "hosts:\n"+servers.String())
	b.write("fleet/credentials.yml", "entries:\n  - {name: me, username: root, key_path: login}\n")
	b.write("fleet/policy.yml", "rules:\n  - {action: allow, profile: readonly}\n")
	b.write("fleet/keys/login", string(login.Key))
	b.write("fleet/keys/known_hosts", known.String())
	b.write("fleet/inventory", inventory.String())
	b.write("fleet/hosts", list.String())
	return f
}

func address(i int) string { return fmt.Sprintf("127.0.%d.%d", 1+i/200, 1+i%200) }

// parallelOptions give parallel-ssh the keys and host keys of the fleet.
func (f fleet) parallelOptions() []string {
	return []string{
		"-O", "BatchMode=yes", "-O", "IdentitiesOnly=yes", "-O", "UserKnownHostsFile=" + filepath.Join(f.dir, "keys/known_hosts"),
		"-O", "IdentityFile=" + filepath.Join(f.dir, "keys/login"),
	}
}

func (f fleet) run(program string, args ...string) error {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "ANSIBLE_LOCALHOST_WARNING=false", "ANSIBLE_NOCOLOR=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out[max(0, len(out)-500):])
	}
	return nil
}

func (f fleet) onTag(client *mcpclient.Session, hosts int) error {
	answer, err := client.Call(context.Background(), "ssh_run_on_tag", map[string]any{"tag": "all", "command": "true"})
	if err != nil {
		return err
	}
	var result struct{ Summary struct{ Succeeded int } }
	if err := json.Unmarshal(answer.Structured, &result); err != nil {
		return err
	}
	if result.Summary.Succeeded != hosts {
		return fmt.Errorf("%d of %d hosts: %s", result.Summary.Succeeded, hosts, answer.Text[:min(len(answer.Text), 500)])
	}
	return nil
}
