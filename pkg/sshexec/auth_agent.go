package sshexec

import (
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

const (
	// maxAgentKeys is how many keys of an agent are offered when none is
	// named. sshd ends a login at the sixth failure (MaxAuthTries).
	maxAgentKeys = 5
	// agentTimeout bounds every question to an agent; nobody is there to
	// confirm the use of a key.
	agentTimeout = 5 * time.Second
)

// agentOffers lists the keys of an agent: the one with a public key, or the
// first few.
func agentOffers(socket string, only ssh.PublicKey, legacy bool) ([]offer, error) {
	var keys []*agent.Key
	err := askAgent(socket, func(a agent.ExtendedAgent) (err error) {
		keys, err = a.List()
		return err
	})
	if err != nil {
		return nil, err
	}
	var offers []offer
	for _, k := range keys {
		public, err := ssh.ParsePublicKey(k.Blob)
		if err != nil || only != nil && !sameKey(plainKey(public), only) {
			continue
		}
		may := signatureAlgorithms(plainKey(public).Type(), legacy)
		if len(may) == 0 || len(offers) == maxAgentKeys {
			continue
		}
		offers = append(offers, offer{&agentSigner{socket, public, may}, "agent key"})
	}
	if len(offers) == 0 {
		return nil, noAgentKey(socket, only)
	}
	return offers, nil
}

func noAgentKey(socket string, only ssh.PublicKey) error {
	if only == nil {
		return &credentialError{what: "the agent at " + socket + " has no usable key", remedy: "add one with ssh-add"}
	}
	return &credentialError{
		what:   fmt.Sprintf("the agent at %s does not have key %s", socket, ssh.FingerprintSHA256(only)),
		remedy: "add it with ssh-add",
	}
}

// askAgent asks over a connection of its own, so that nothing is held between
// the listing of keys and a signature.
func askAgent(socket string, ask func(agent.ExtendedAgent) error) error {
	c, err := net.DialTimeout("unix", socket, agentTimeout)
	if err == nil {
		defer c.Close()
		if err = c.SetDeadline(time.Now().Add(agentTimeout)); err == nil {
			err = ask(agent.NewClient(c))
		}
	}
	if err != nil {
		return &credentialError{
			what:   "the agent at " + socket + " does not do its work",
			remedy: "check that it runs, that the gateway's user may use the socket, and that it is unlocked (ssh-add -l)",
			cause:  err,
		}
	}
	return nil
}

// agentSigner is an [ssh.MultiAlgorithmSigner] whose key never leaves the
// agent.
type agentSigner struct {
	socket string
	public ssh.PublicKey
	may    []string
}

func (s *agentSigner) PublicKey() ssh.PublicKey { return s.public }

func (s *agentSigner) Algorithms() []string { return s.may }

func (s *agentSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, s.may[0])
}

func (s *agentSigner) SignWithAlgorithm(_ io.Reader, data []byte, algorithm string) (sig *ssh.Signature, err error) {
	err = askAgent(s.socket, func(a agent.ExtendedAgent) (err error) {
		sig, err = a.SignWithFlags(s.public, data, signatureFlags[algorithm])
		return err
	})
	return sig, err
}

var signatureFlags = map[string]agent.SignatureFlags{
	ssh.KeyAlgoRSASHA256: agent.SignatureFlagRsaSha256,
	ssh.KeyAlgoRSASHA512: agent.SignatureFlagRsaSha512,
}
