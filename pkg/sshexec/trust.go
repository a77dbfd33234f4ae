package sshexec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
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
	// Now judges the validity of certificates; nil is time.Now.
	Now func() time.Time
}

// Trust decides which host keys are believed and how a login is proven. It is
// safe for concurrent use.
type Trust struct {
	files []string
	log   *slog.Logger
	now   func() time.Time
	known atomic.Pointer[knownHosts]
	keys  keyring
}

// NewTrust reads the known_hosts files. Its error is a [*tool.Failure].
func NewTrust(o TrustOptions) (*Trust, error) {
	t := &Trust{files: o.KnownHosts, log: o.Logger, now: o.Now}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if t.now == nil {
		t.now = time.Now
	}
	commit, err := t.Reload()
	if err != nil {
		return nil, err
	}
	commit()
	return t, nil
}

// Reload reads the files again, and gives the function that puts them in force.
// When any of them is unusable the error, a [*tool.Failure], says why.
// Connections that are open already are not judged again.
func (t *Trust) Reload() (commit func(), err error) {
	known, err := readKnownHosts(t.files, t.log)
	if err != nil {
		return nil, err
	}
	return func() { t.known.Store(known) }, nil
}

// Skipped are the lines of the files that are not understood, and count for
// nothing.
func (t *Trust) Skipped() []*KnownHostsError { return t.known.Load().skipped }

// Knows says whether the files have a key or an authority by which a host could
// prove itself, under its own name or the alias of its [Login].
func (t *Trust) Knows(target tool.Target, alias string) bool {
	names := t.known.Load().check(target, alias).scopes
	return slices.ContainsFunc(names, func(s scope) bool {
		return slices.ContainsFunc(s.keys, func(k knownKey) bool { return k.marker != revoked })
	})
}

// clientConfig is how one handshake with target is held: which host keys and
// algorithms are acceptable, and how the login is proven. It counts the login
// attempts, so it must not be used twice. Its error is a [*tool.Failure].
func (t *Trust) clientConfig(target tool.Target, l Login) (*ssh.ClientConfig, error) {
	steps, err := t.steps(target, l)
	if err != nil {
		return nil, err
	}
	may := algorithmsFor(l.Legacy)
	host := t.known.Load().check(target, l.HostKeyAlias)
	host.legacy, host.now = l.Legacy, t.now
	ladder := &ladder{target: target, user: loginUser(target, l), steps: steps}
	return &ssh.ClientConfig{
		Config:            ssh.Config{KeyExchanges: may.KeyExchanges, Ciphers: may.Ciphers, MACs: may.MACs},
		User:              ladder.user,
		HostKeyAlgorithms: host.algorithms(may.HostKeys),
		HostKeyCallback:   host.callback,
		AuthCallback:      ladder.next,
	}, nil
}

func loginUser(target tool.Target, l Login) string {
	if l.User != "" {
		return l.User
	}
	return target.User
}

// classifyHandshake says what an error of a handshake with target means. What
// the library has no type for is told by its text, which the tests hold.
func classifyHandshake(err error, target tool.Target) *tool.Failure {
	var f *tool.Failure
	var credential *credentialError
	var algorithms *ssh.AlgorithmNegotiationError
	if errors.As(err, &f) {
		return f
	}
	if errors.As(err, &credential) {
		return unusable(target, credential)
	}
	if errors.As(err, &algorithms) {
		return noCommonAlgorithm(algorithms, target)
	}
	if isTimeout(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return &tool.Failure{
			Code:    tool.FailConnectTimeout,
			Message: place(target) + ": time ran out during the SSH handshake and login",
			Remedy:  "check that it is an SSH server, and that the host is not overloaded",
			Cause:   err,
		}
	}
	text := strings.TrimPrefix(err.Error(), "ssh: handshake failed: ")
	for _, known := range handshakeTexts {
		if strings.HasPrefix(text, known.prefix) {
			return &tool.Failure{
				Code:    known.code,
				Message: place(target) + ": " + known.say,
				Remedy:  known.remedy,
				Cause:   err,
			}
		}
	}
	return brokenHandshake(err, target)
}

var handshakeTexts = []struct {
	prefix string
	code   tool.FailureCode
	say    string
	remedy string
}{
	{
		`ssh: disconnect, reason 2: "Too many authentication failures`, tool.FailAuth,
		"the host ended the login after too many attempts",
		"offer fewer credentials: name the one key that this host accepts",
	},
	{"ssh: unable to authenticate", tool.FailAuth, loginRefused, loginRemedy},
	{"ssh: unexpected message type 51 (expected 60)", tool.FailAuth, loginRefused, loginRemedy},
	{
		"ssh: no common public key signature algorithm", tool.FailAlgorithms,
		"the host accepts signatures of this RSA key only with SHA-1",
		"use an Ed25519 key, or accept old algorithms for this host alone with " + optIn,
	},
}

const (
	loginRefused = "the host refused the login"
	loginRemedy  = "check the user, and that the host accepts this credential for it; the host's sshd log says why it refused"
)

// brokenHandshake is a handshake that the peer did not go through with.
func brokenHandshake(err error, target tool.Target) *tool.Failure {
	f := &tool.Failure{
		Code:    tool.FailDropped,
		Message: place(target) + ": the connection broke during the SSH handshake",
		Remedy:  "check that an SSH server listens on this port, and its log",
		Cause:   err,
	}
	if _, said, ok := strings.Cut(err.Error(), "ssh: disconnect, reason "); ok {
		f.Message = place(target) + ": the host ended the handshake, for reason " + remote(said)
	}
	for _, hungUp := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed} {
		if errors.Is(err, hungUp) {
			f.Message = place(target) + ": the host hung up during the SSH handshake"
			f.Remedy = "check that an SSH server listens on this port; it may be dropping connections because there are too many (MaxStartups), or be penalising the gateway's address for earlier failures (PerSourcePenalties), which passes in less than a minute"
		}
	}
	return f
}

const maxRemote = 80 // runes of a text of the peer's that a message repeats

var plainWord = regexp.MustCompile(`^[A-Za-z0-9@.,_+-]{1,80}$`)

// remote is a text of the peer's for a message. It is quoted unless it is a
// plain word, so that it cannot pass for ours or steer a terminal.
func remote(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	if r := []rune(s); len(r) > maxRemote {
		s = string(r[:maxRemote]) + "..."
	}
	return strconv.QuoteToASCII(s)
}

// remoteWords is a list of the peer's for a message.
func remoteWords(list []string) string {
	const most = 12
	var words []string
	for _, s := range list[:min(len(list), most)] {
		words = append(words, remote(s))
	}
	if len(list) > most {
		words = append(words, fmt.Sprintf("and %d more", len(list)-most))
	}
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, ", ")
}
