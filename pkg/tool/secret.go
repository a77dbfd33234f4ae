package tool

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// Secret is a password that a caller has sent. However it is printed, logged or
// marshalled, it shows that there is one and nothing of it. Copies share what
// they hold, so that [Secret.Wipe] ends all of them. The zero value is none.
type Secret struct{ held *held }

// held is what the copies of a secret share.
type held struct {
	mu   sync.Mutex
	text []byte
}

// NewSecret keeps a text; the empty one is no secret.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&held{text: []byte(text)}}
}

// IsZero reports whether there is none, or none any more.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

// Reveal is the text itself, for whoever logs in with it.
func (s Secret) Reveal() string {
	if s.held == nil {
		return ""
	}
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	return string(s.held.text)
}

// Equal compares in constant time.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// Wipe overwrites what the secret holds, in all copies of it. Strings that
// [Secret.Reveal] has given are beyond its reach, and so are the arguments that
// it was read from; they go when the collector takes them.
func (s Secret) Wipe() {
	if s.held == nil {
		return
	}
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	clear(s.held.text)
	s.held.text = nil
}

// String says whether there is one.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return "[secret]"
}

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

// Format is String for every verb: %x of a password would be the password.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue is String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON is String, quoted.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON reads a string. Its error shows nothing of what was sent.
func (s *Secret) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return errors.New("not a string")
	}
	*s = NewSecret(text)
	return nil
}
