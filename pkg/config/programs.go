package config

import (
	"path"
	"slices"
)

// What is known of programs here, to warn of rules that no longer allow what they
// did. How a command is judged does not depend on it: the parser of command lines
// and the policy have tables of their own, which tests hold against these.

// runners run their words as another command, which a rule has to spell out.
var runners = []string{"sudo", "doas", "timeout", "nice", "nohup", "ionice", "setsid", "stdbuf", "env", "command", "exec"}

// opaque run what their words do not show, so that nobody can permit them.
var opaque = []string{
	"sh", "bash", "dash", "ash", "ksh", "zsh", "fish", "csh", "tcsh", "busybox", "toybox", "eval", "source", "xargs", "parallel",
	"watch", "su", "runuser", "pkexec", "chroot", "nsenter", "unshare", "flock", "script", "time", "strace", "systemd-run", "at", "batch",
}

// looking do more than look with some of their options, which a rule has to spell
// out.
var looking = []string{
	"arp", "crontab", "date", "dmesg", "docker", "du", "file", "find", "git", "hostname", "hostnamectl", "ifconfig", "ip", "journalctl",
	"localectl", "loginctl", "nginx", "route", "rsync", "sort", "ss", "sysctl", "systemctl", "tcpdump", "timedatectl", "uniq", "wc",
}

// runsWords says that a program runs its words.
func runsWords(program string) bool { return slices.Contains(runners, path.Base(program)) }
