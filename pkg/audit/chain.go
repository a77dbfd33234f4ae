package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
)

// seal gives an event its place after before and returns its line.
func seal(e Event, before link) ([]byte, link, error) {
	e.Seq, e.Prev = before.seq+1, before.chain
	body, err := marshal(e)
	if err != nil {
		return nil, link{}, err
	}
	at := link{e.Seq, chainOf(body)}
	line := append(body[:len(body)-1], chainMember...)
	line = append(append(line, at.chain...), `"}`...)
	return line, at, nil
}

// marshal leaves the ending out of every event that has none: the nil pointer
// hides the members of the same name one level down.
func marshal(e Event) ([]byte, error) {
	shown := struct {
		Event
		*Ending
	}{Event: e}
	if e.Type == Finished {
		shown.Ending = &e.Ending
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(shown); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// chainMember begins the last member of a line, which ends chainLength bytes
// after it began, with the line.
const (
	chainMember = `,"chain":"`
	chainLength = len(chainMember) + 2*sha256.Size + len(`"}`)
)

func chainOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// sealed is what a line says of itself, as far as the chain is concerned.
type sealed struct {
	Event
	chain string
}

var errNoRecord = errors.New("not an audit record")

// unseal reads a line and says, besides, whether its chain hash is that of its
// content. An error says that it is no record at all.
func unseal(line []byte) (s sealed, intact bool, err error) {
	cut := len(line) - chainLength
	if cut <= 0 || line[0] != '{' || !bytes.HasPrefix(line[cut:], []byte(chainMember)) || !bytes.HasSuffix(line, []byte(`"}`)) {
		return sealed{}, false, errNoRecord
	}
	if err := json.Unmarshal(line, &s.Event); err != nil || s.Type == "" || s.Seq == 0 {
		return sealed{}, false, errNoRecord
	}
	s.chain = string(line[cut+len(chainMember) : len(line)-2])
	body := append(bytes.Clone(line[:cut]), '}')
	return s, chainOf(body) == s.chain, nil
}
