package sshexec

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/tool"
)

// maxAttempts is sshd's default for MaxAuthTries: at this many failures it
// hangs up.
const maxAttempts = 6

// RFC 4252 and RFC 4256 method names.
const (
	methodKey      = "publickey"
	methodPassword = "password"
	methodKeyboard = "keyboard-interactive"
)

// step is one credential, which costs one attempt.
type step struct {
	method string
	name   string // in messages
	// auth tries it, and calls refused once the host has said no to it.
	auth func(refused func()) ssh.AuthMethod
}

// ladder offers the steps of one login one after the other, as far as the host
// allows their methods, each once. A host that wants several (partial success)
// gets the next ones.
type ladder struct {
	target tool.Target
	user   string
	steps  []step // not offered yet

	tried    []string
	accepted int  // partial successes
	answered bool // the host itself answered the last step
}

// next is an [ssh.ClientAuthCallback].
func (l *ladder) next(ctx *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	if len(ctx.PartialSuccessMethods) > l.accepted {
		l.accepted, l.answered = len(ctx.PartialSuccessMethods), true
	}
	i := slices.IndexFunc(l.steps, func(s step) bool { return slices.Contains(ctx.AllowedMethods, s.method) })
	if i >= 0 && len(l.tried) < maxAttempts {
		s := l.steps[i]
		l.steps = slices.Delete(l.steps, i, i+1)
		l.tried = append(l.tried, s.name)
		l.answered = false
		return s.auth(func() { l.answered = true }), nil
	}
	if l.answered || len(l.tried) == 0 && len(ctx.AllowedMethods) > 0 {
		return nil, l.failure(ctx)
	}
	// The last step may have ended with the connection. With neither method
	// nor error from here, the library returns what it met itself.
	return nil, nil
}

// failure is a login for which nothing is left to offer.
func (l *ladder) failure(ctx *ssh.ClientAuthContext) *tool.Failure {
	var said []string
	if len(l.tried) > 0 {
		said = append(said, "tried "+strings.Join(l.tried, ", "))
	}
	if l.accepted > 0 {
		said = append(said, "the host accepted "+remoteWords(ctx.PartialSuccessMethods)+" and wants more")
	}
	said = append(said, "the host allows "+remoteWords(ctx.AllowedMethods))
	f := &tool.Failure{
		Code:    tool.FailAuth,
		Message: fmt.Sprintf("%s: %s as %s: %s", place(l.target), loginRefused, l.user, strings.Join(said, "; ")),
		Remedy:  loginRemedy,
	}
	if len(l.tried) == 0 || l.accepted > 0 {
		f.Remedy = "give the host's entry in credentials.yml a credential of a kind that the host allows"
	}
	return f
}

// errAnswered ends the second try of a method.
var errAnswered = errors.New("refused")

// once makes an auth function of a method that takes its secret from a
// callback. Whether the host refused or the connection broke, the library only
// goes on to the next method. But it tries a method again only after a refusal,
// and that is learnt from the second call for the secret, which gets none.
func once[T any](secret T, method func(func() (T, error)) ssh.AuthMethod) func(func()) ssh.AuthMethod {
	return func(refused func()) ssh.AuthMethod {
		asked := false
		return ssh.RetryableAuthMethod(method(func() (s T, err error) {
			if asked {
				refused()
				return s, errAnswered
			}
			asked = true
			return secret, nil
		}), 2)
	}
}

func keyStep(k offer) step {
	return step{
		method: methodKey,
		name:   fmt.Sprintf("%s (%s)", k.name, ssh.FingerprintSHA256(plainKey(k.PublicKey()))),
		auth:   once([]ssh.Signer{k.Signer}, ssh.PublicKeysCallback),
	}
}

func passwordStep(password string) step {
	return step{method: methodPassword, name: "password", auth: once(password, ssh.PasswordCallback)}
}

// keyboardStep answers the method that asks through prompts, once.
func keyboardStep(target tool.Target, password string) step {
	answered := false
	challenge := func(_, _ string, questions []string, echoes []bool) ([]string, error) {
		if len(questions) == 0 {
			return nil, nil
		}
		if answered || len(questions) != 1 || echoes[0] || !asksPassword(questions[0]) {
			return nil, strangePrompt(target, questions)
		}
		answered = true
		return []string{password}, nil
	}
	return step{
		method: methodKeyboard,
		name:   "password by keyboard-interactive",
		auth:   func(func()) ssh.AuthMethod { return ssh.KeyboardInteractive(challenge) },
	}
}

// A prompt is believed to ask for the login's password when it has one of these
// words, and no word that asks for a new password or for a code.
var (
	passwordWords = []string{"password", "passwort", "mot de passe", "contraseña", "senha", "wachtwoord", "hasło", "пароль", "密码", "パスワード"}
	otherWords    = regexp.MustCompile(`\b(new|neues|nouveau|nueva|again|retype|repeat|confirm|one[- ]?time|otp|token|code)\b`)
)

func asksPassword(prompt string) bool {
	prompt = strings.ToLower(prompt)
	in := func(word string) bool { return strings.Contains(prompt, word) }
	return slices.ContainsFunc(passwordWords, in) && !otherWords.MatchString(prompt)
}

func strangePrompt(target tool.Target, questions []string) *tool.Failure {
	return &tool.Failure{
		Code:    tool.FailAuth,
		Message: fmt.Sprintf("%s: at the login the host asks what only a person can answer: %s", place(target), remoteWords(questions)),
		Remedy:  "use a key, or exempt the gateway's account from one-time codes; if its password has expired, renew it",
	}
}

func unusable(target tool.Target, err error) *tool.Failure {
	f := &tool.Failure{Code: tool.FailCredentials, Message: place(target) + ": " + err.Error()}
	var c *credentialError
	if errors.As(err, &c) {
		f.Remedy, f.Cause = c.remedy, c.cause
	}
	return f
}
