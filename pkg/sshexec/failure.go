package sshexec

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/tool"
)

// place names a host in messages: its alias, where it is, and by which way.
func place(t tool.Target) string {
	s := fmt.Sprintf("%s (%s)", t.Alias, addrPort(t))
	for i := len(t.Via) - 1; i >= 0; i-- {
		s += " through " + t.Via[i].Alias
	}
	return s
}

// connectFailure types an error of the connect phase; doing is what took the
// time when it was cut short.
func (e *Executor) connectFailure(ctx context.Context, err error, t tool.Target, doing string) error {
	var f *tool.Failure
	if errors.As(err, &f) {
		return f
	}
	switch {
	case errors.Is(context.Cause(ctx), tool.StopShutdown):
		return shuttingDown()
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		return &tool.Failure{
			Code:    tool.FailConnectTimeout,
			Message: fmt.Sprintf("%s: time ran out while %s", place(t), doing),
			Remedy:  "check that the host is up and that nothing between drops packets to this port",
			Cause:   err,
		}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &tool.Failure{
			Code:    tool.FailRefused,
			Message: place(t) + ": connection refused",
			Remedy:  "check that sshd runs there and listens on this port",
			Cause:   err,
		}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return dropped(t, "before the handshake", err)
	}
	return &tool.Failure{
		Code:    tool.FailUnreachable,
		Message: place(t) + ": unreachable",
		Remedy:  "check the address in the inventory and the route to it",
		Cause:   err,
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// hopReason is what sshd says of a connection that it was asked to make, and
// how that is told.
type hopReason struct {
	text string
	code tool.FailureCode
	say  string
}

// hopReasons: the first whose text occurs; the last occurs always.
var hopReasons = []hopReason{
	{"refused", tool.FailRefused, "connection refused"},
	{"timed out", tool.FailConnectTimeout, "no answer to the connection attempt"},
	{"", tool.FailUnreachable, "unreachable"},
}

// tunnelFailure types what went wrong between a hop and the next host.
func tunnelFailure(err error, t, hop tool.Target) error {
	var refused *ssh.OpenChannelError
	switch {
	case !errors.As(err, &refused) && errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case refused == nil:
		return dropped(hop, "while it was asked to connect to "+t.Alias, err)
	}
	said := fmt.Errorf("%s says %s", hop.Alias, remote(refused.Message))
	if refused.Reason == ssh.Prohibited {
		return &tool.Failure{
			Code:    tool.FailRefused,
			Message: fmt.Sprintf("%s: %s forbids forwarding to it", place(t), hop.Alias),
			Remedy:  "allow it on the jump host: AllowTcpForwarding, PermitOpen and the key's options",
			Cause:   said,
		}
	}
	text := strings.ToLower(refused.Message)
	why := hopReasons[slices.IndexFunc(hopReasons, func(r hopReason) bool { return strings.Contains(text, r.text) })]
	return &tool.Failure{
		Code:    why.code,
		Message: fmt.Sprintf("%s: %s, says %s", place(t), why.say, hop.Alias),
		Remedy:  "check that the host is up and reachable from the jump host",
		Cause:   said,
	}
}

// loginFailure types an error of whoever keeps the credentials.
func loginFailure(t tool.Target, err error) error {
	var f *tool.Failure
	if errors.As(err, &f) {
		return f
	}
	return &tool.Failure{
		Code:    tool.FailCredentials,
		Message: fmt.Sprintf("%s: its credentials cannot be used", place(t)),
		Remedy:  "check the host's entry in credentials.yml and the files that it names",
		Cause:   err,
	}
}

func dropped(t tool.Target, when string, cause error) *tool.Failure {
	return &tool.Failure{
		Code:    tool.FailDropped,
		Message: fmt.Sprintf("%s: the connection was lost %s", place(t), when),
		Remedy:  "check the host's sshd log and the network; the host may be restarting or refusing new connections",
		Cause:   cause,
	}
}

func noSession(t tool.Target, why string, cause error) *tool.Failure {
	return &tool.Failure{
		Code:    tool.FailSessions,
		Message: fmt.Sprintf("%s: %s", place(t), why),
		Remedy:  "wait for other commands on it to end, or raise MaxSessions in its sshd_config",
		Cause:   cause,
	}
}

func shuttingDown() *tool.Failure {
	return &tool.Failure{
		Code:    tool.FailShutdown,
		Message: "the gateway is shutting down",
		Remedy:  "call again when it is back",
	}
}
