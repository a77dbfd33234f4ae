// Package ownmounts lets tests fill a disk that is theirs alone.
package ownmounts

import (
	"os"
	"syscall"
)

// Hint is what to say when a program with mounts of its own fails.
const Hint = "if it may not mount, run the tests as root or allow user namespaces"

// Attributes start a program in a mount namespace of its own, where it may mount:
// what it mounts nobody else sees, and is gone when it ends.
func Attributes() *syscall.SysProcAttr {
	if os.Getuid() == 0 {
		return &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
}
