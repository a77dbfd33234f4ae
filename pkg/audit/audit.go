// Package audit is the append-only, chained stream of what happened.
//
// The decision log says what was allowed; this stream says what came of it. A
// [Stream] writes one JSON object a line to a file, to a writer such as stderr,
// or to both. Write returns nil once every sink has the line, so a caller that
// may not act without a record refuses on an error; the stream takes events
// again as soon as its sinks do. It never drops an event because its context
// is cancelled: that a caller has gone is itself worth recording.
//
// Lines are chained. Each carries the number of the line ("seq"), the chain
// hash of the line before ("prev") and, as its last member, its own ("chain"):
// the SHA-256 of the line as it would be without that member. A shell can check
// one by hand:
//
//	sed 's/,"chain":"[0-9a-f]*"}$/}/' | tr -d '\n' | sha256sum
//
// There is one chain to a file, whichever process appends: the line before is
// read under the file's lock, so two gateways on one file take turns in one
// chain, and "stream" names the process that wrote a line. The chain goes on
// across rotation and restart. A gateway that finds neither the file nor FILE.1
// begins a new chain with line 1.
//
// [Verify] follows the chain and names the first line that does not fit. It
// proves that nothing between the first line and the last was changed, removed,
// added or moved by someone who did not make every later line anew. It cannot
// see that lines are missing at the end, nor that everything was rewritten: for
// that, keep the last chain hash, which its [Report] holds, where the writer of
// the file cannot reach it.
package audit

import (
	"crypto/sha256"
	"encoding/hex"
)

// Type is what happened.
type Type string

const (
	Start    Type = "start"    // a gateway opened the stream
	Stop     Type = "stop"     // it closed it in order
	Started  Type = "started"  // an allowed run is about to begin
	Finished Type = "finished" // it ended, however it did
	Refused  Type = "refused"  // policy said no
	Invalid  Type = "invalid"  // a call that never got as far as a decision
	Reload   Type = "reload"   // the configuration was loaded with warnings, loaded again, or could not be

	Bundle Type = "bundle" // one of a server's, by its name as the subject: it decides, or does not

	SessionOpen  Type = "session_open"
	SessionClose Type = "session_close"

	ConnOpen  Type = "conn_open"  // a connection is kept open for its subject
	ConnClose Type = "conn_close" // it is no longer; the detail says why

	IdentityMade Type = "identity_made" // a subject was given a key of its own
)

// Event is one thing that happened. The names of its JSON members are those of
// mcp-ssh-orchestrator where it has them. Its first five fields are filled in
// by the stream.
type Event struct {
	TS     string `json:"ts"` // RFC 3339, UTC
	Type   Type   `json:"type"`
	Seq    uint64 `json:"seq"`
	Prev   string `json:"prev"`   // chain hash of the line before; empty in line 1
	Stream string `json:"stream"` // the process that wrote this
	// Cut counts the bytes of an unfinished line that a crash had left before
	// this one and that were removed.
	Cut int64 `json:"cut,omitempty"`

	CallID     string `json:"call_id,omitempty"`
	DecisionID string `json:"decision_id,omitempty"`
	TraceID    string `json:"trace_id,omitempty"`
	Plan       string `json:"plan,omitempty"` // digest of the plan
	Subject    string `json:"subject,omitempty"`
	Client     string `json:"client,omitempty"`
	Session    string `json:"session,omitempty"` // see [Fingerprint]
	Tool       string `json:"tool,omitempty"`
	Alias      string `json:"alias,omitempty"`
	TargetIP   string `json:"target_ip,omitempty"`
	Hash       string `json:"hash,omitempty"`    // of the command, see [CommandHash]
	Failure    string `json:"failure,omitempty"` // code of a refusal or a failure
	Detail     string `json:"detail,omitempty"`  // the same in words

	Ending
}

// Ending is what a finished run has besides. All of it stands in a finished
// event, zeros included, and none of it in any other.
type Ending struct {
	Outcome    string `json:"outcome"`           // finished, not_started, unknown
	ExitCode   *int   `json:"exit_code"`         // null when none was reported
	Signal     string `json:"signal,omitempty"`  // that ended it, without SIG
	BytesOut   int64  `json:"bytes_out"`         // that stdout had, kept or not
	BytesErr   int64  `json:"bytes_err"`         // the same of stderr
	Truncated  bool   `json:"truncated"`         // not all of it was kept
	DurationMS int64  `json:"duration_ms"`       // milliseconds
	Cancelled  bool   `json:"cancelled"`         // by the caller, or by its going away
	Timeout    bool   `json:"timeout"`           // its time limit ended it
	Stop       string `json:"stop,omitempty"`    // why it was stopped
	Stopped    *bool  `json:"stopped,omitempty"` // after a stop: nothing survived
	Survivors  int    `json:"survivors"`         // remote processes that a stop could not end
}

// CommandHash identifies a command line in the stream without showing it.
func CommandHash(text string) string { return Fingerprint(text) }

// Fingerprint names something without showing it: the first 16 hex digits of the
// SHA-256 of the text.
func Fingerprint(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:16]
}
