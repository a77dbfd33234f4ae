package sshexec

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/tool"
)

const certSuffix = "-cert-v01@openssh.com"

// hostKeyOrder is OpenSSH's, so that of the keys which a host has the same one
// is shown to both: certificates first, then Ed25519.
var hostKeyOrder = []string{
	ssh.CertAlgoED25519v01,
	ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
	ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
	ssh.KeyAlgoED25519,
	ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
}

// algorithmsFor is what a handshake may negotiate, each list with the best
// first. The library's own defaults would still offer SHA-1 and DSA; here only
// legacy does, for one host at a time, and never the broken ciphers.
func algorithmsFor(legacy bool) ssh.Algorithms {
	a := ssh.SupportedAlgorithms()
	a.MACs = slices.DeleteFunc(a.MACs, restsOnSHA1)
	a.HostKeys = inOrder(a.HostKeys, hostKeyOrder)
	if legacy {
		old := ssh.InsecureAlgorithms()
		a.KeyExchanges = append(a.KeyExchanges, old.KeyExchanges...)
		a.MACs = append(append(a.MACs, ssh.HMACSHA1), old.MACs...)
		a.HostKeys = append(a.HostKeys, old.HostKeys...)
		a.PublicKeyAuths = append(a.PublicKeyAuths, old.PublicKeyAuths...)
	}
	return a
}

func restsOnSHA1(mac string) bool { return strings.HasPrefix(mac, ssh.HMACSHA1) }

// inOrder sorts what the library has by a table, with anything newer than the
// table at the end.
func inOrder(have, order []string) []string {
	rank := func(algo string) int {
		if i := slices.Index(order, algo); i >= 0 {
			return i
		}
		return len(order)
	}
	slices.SortStableFunc(have, func(a, b string) int { return rank(a) - rank(b) })
	return have
}

// signatureAlgorithms is how a key of some type may sign a login; none when it
// may not.
func signatureAlgorithms(keyType string, legacy bool) []string {
	want := []string{keyType}
	if keyType == ssh.KeyAlgoRSA {
		want = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSA}
	}
	may := algorithmsFor(legacy).PublicKeyAuths
	return slices.DeleteFunc(want, func(algo string) bool { return !slices.Contains(may, algo) })
}

func isCertAlgorithm(algo string) bool { return strings.HasSuffix(algo, certSuffix) }

// keyTypeOf is the type of the plain keys that an algorithm is for.
func keyTypeOf(algo string) string {
	algo = strings.TrimSuffix(algo, certSuffix)
	if strings.HasPrefix(algo, "rsa-sha2-") {
		return ssh.KeyAlgoRSA
	}
	return algo
}

// noCommonAlgorithm says what the host offered, and how to accept it where it
// is merely old.
func noCommonAlgorithm(e *ssh.AlgorithmNegotiationError, target tool.Target) *tool.Failure {
	f := &tool.Failure{
		Code:    tool.FailAlgorithms,
		Message: fmt.Sprintf("%s: no common algorithm for %s: the host offers only %s", place(target), e.What, remoteWords(e.RequestedAlgorithms)),
		Remedy:  "update the host's SSH server: it offers nothing that this gateway can speak",
		Cause:   e,
	}
	if slices.ContainsFunc(e.RequestedAlgorithms, legacyOnly) {
		f.Remedy = "update the host's SSH server, or accept its old algorithms for this host alone with " + optIn
	}
	return f
}

// optIn is the setting behind [Login.Legacy].
const optIn = "legacy_algorithms: true in servers.yml"

func legacyOnly(algo string) bool {
	now, old := algorithmsFor(false), algorithmsFor(true)
	return slices.Contains(allAlgorithms(old), algo) && !slices.Contains(allAlgorithms(now), algo)
}

func allAlgorithms(a ssh.Algorithms) []string {
	return slices.Concat(a.KeyExchanges, a.Ciphers, a.MACs, a.HostKeys)
}
