//go:build !linux

package sshexec

import (
	"net"
	"time"
)

// quickAcks says whether quickAck does anything.
const quickAcks = false

func quickAck(*net.TCPConn) {}

func setUserTimeout(*net.TCPConn, time.Duration) {}
