package sshexec

import (
	"log/slog"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/tool"
)

// TrustOptions says which files decide who is a known host.
type TrustOptions struct {
	// KnownHosts are files in OpenSSH's known_hosts format, in order. They
	// are read, never written.
	KnownHosts []string
	// Logger is told of lines that were skipped; nil discards.
	Logger *slog.Logger
	// Now judges the validity of host certificates; nil is time.Now.
	Now func() time.Time
}

// Trust decides which host keys are believed and how a login is proven. It is
// safe for concurrent use.
type Trust struct{}

// NewTrust reads the known_hosts files. Its error is a [*tool.Failure].
func NewTrust(o TrustOptions) (*Trust, error) { return &Trust{}, nil }

// Reload reads the files again. When any of them is unusable the last good
// state stays in force and the error says why.
func (t *Trust) Reload() error { return nil }

// clientConfig is how a handshake with target is held: which host keys and
// algorithms are acceptable, and how the login is proven. Its error is a
// [*tool.Failure].
func (t *Trust) clientConfig(target tool.Target, l Login) (*ssh.ClientConfig, error) {
	return &ssh.ClientConfig{User: l.User}, nil
}

// classifyHandshake says what an error of a dial or a handshake with target
// means. It never returns nil for a non-nil error.
func classifyHandshake(err error, target tool.Target) *tool.Failure {
	return &tool.Failure{Code: tool.FailInternal, Message: "handshake with " + target.Alias, Cause: err}
}
