package sshexec

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// quickAcks says whether quickAck does anything.
const quickAcks = true

// quickAck makes the kernel acknowledge what it receives next at once. The
// kernel forgets it after a while, so it is set again with every read.
func quickAck(c *net.TCPConn) { setTCP(c, unix.TCP_QUICKACK, 1) }

// setUserTimeout drops the connection when sent data stays unacknowledged for
// that long; the kernel's own patience is a quarter of an hour.
func setUserTimeout(c *net.TCPConn, d time.Duration) {
	setTCP(c, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
}

// setTCP sets an option that only makes things quicker: a kernel without it is
// served by the keepalive and the nudge.
func setTCP(c *net.TCPConn, option, value int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, value)
	})
}
