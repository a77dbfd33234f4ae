package sshtest

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// Network is a network of its own with one way in, from this machine or from
// another such network, whose faults can be chosen. It needs root.
type Network struct {
	Addr netip.Addr // of the host in it

	tb   TB
	name string
	near string // our end of the way in
}

var networks atomic.Int32

// NewNetwork makes a network that is reached from this machine, or only from
// behind, when that is given. It ends with the test.
func NewNetwork(tb TB, behind *Network) *Network {
	tb.Helper()
	Require(tb, "ip", "iproute2")
	Require(tb, "iptables", "iptables")
	if os.Geteuid() != 0 {
		tb.Fatalf("this test makes networks: run it as root")
	}
	// Processes that test at the same time differ in their ids, networks of one in
	// their numbers.
	id, n := os.Getpid(), int(networks.Add(1))
	third, fourth := byte(id), byte(4*(n%64))
	ours, theirs := netip.AddrFrom4([4]byte{198, 18 + byte(id>>8&1), third, fourth + 1}), netip.AddrFrom4([4]byte{198, 18 + byte(id>>8&1), third, fourth + 2})
	w := &Network{tb: tb, name: fmt.Sprintf("sp%d-%d", id, n), near: fmt.Sprintf("sp%dn%d", id%100_000, n), Addr: theirs}
	w.ip("netns", "add", w.name)
	tb.Cleanup(func() { _ = exec.Command("ip", "netns", "del", w.name).Run() })
	w.ip("link", "add", w.near, "type", "veth", "peer", "name", "eth0", "netns", w.name)
	from := []string{}
	if behind != nil {
		w.ip("link", "set", w.near, "netns", behind.name)
		from = []string{"-n", behind.name}
	}
	w.ip(append(from, "addr", "add", ours.String()+"/30", "dev", w.near)...)
	w.ip(append(from, "link", "set", w.near, "up")...)
	w.ip("-n", w.name, "addr", "add", theirs.String()+"/30", "dev", "eth0")
	w.ip("-n", w.name, "link", "set", "eth0", "up")
	w.ip("-n", w.name, "link", "set", "lo", "up")
	return w
}

func (w *Network) ip(args ...string) {
	w.tb.Helper()
	w.do("ip", args...)
}

func (w *Network) do(name string, args ...string) {
	w.tb.Helper()
	if out, err := retry(name, args...); err != nil {
		w.tb.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// inside is a command that runs in the network.
func (w *Network) inside(name string, args ...string) []string {
	return append([]string{"ip", "netns", "exec", w.name, name}, args...)
}

func (w *Network) filter(args ...string) {
	command := w.inside("iptables", append([]string{"-w"}, args...)...)
	w.do(command[0], command[1:]...)
}

// Drop loses every packet from now on, without a word to anybody.
func (w *Network) Drop() {
	w.filter("-I", "INPUT", "-i", "eth0", "-j", "DROP")
	w.filter("-I", "OUTPUT", "-o", "eth0", "-j", "DROP")
}

// Reset ends every connection from outside at its next packet.
func (w *Network) Reset() {
	w.filter("-I", "INPUT", "-i", "eth0", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")
}

// Cut takes the link down.
func (w *Network) Cut() { w.ip("-n", w.name, "link", "set", "eth0", "down") }

// Freeze stops every process of the network, or has them go on.
func (w *Network) Freeze(stop bool) {
	signal := syscall.SIGCONT
	if stop {
		signal = syscall.SIGSTOP
	}
	w.signal(signal)
}

// Crash has everything in the network die without a word: what was connected to
// it hears nothing, and it is unknown there when it is up again.
func (w *Network) Crash() {
	w.Drop()
	w.signal(syscall.SIGKILL)
}

// KillOne kills one of the processes that serve connections, by a number that is
// taken as it comes.
func (w *Network) KillOne(n int) {
	pids := slices.DeleteFunc(w.processes(), func(pid int) bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		listens := strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", os.Getpid()))
		return err != nil || listens || !strings.HasPrefix(string(status), "Name:\tsshd\n")
	})
	if len(pids) > 0 {
		_ = syscall.Kill(pids[n%len(pids)], syscall.SIGKILL)
	}
}

func (w *Network) signal(s syscall.Signal) {
	for _, pid := range w.processes() {
		_ = syscall.Kill(pid, s)
	}
}

// processes are the ids of what runs in the network.
func (w *Network) processes() []int {
	out, err := exec.Command("ip", "netns", "pids", w.name).Output()
	if err != nil {
		w.tb.Fatalf("ip netns pids: %v", err)
	}
	var pids []int
	for _, field := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Heal ends every fault of the network.
func (w *Network) Heal() {
	w.filter("-F")
	w.ip("-n", w.name, "link", "set", "eth0", "up")
	w.Freeze(false)
}
