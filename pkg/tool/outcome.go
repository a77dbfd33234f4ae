package tool

import (
	"fmt"
	"time"
)

// Limits bound a run. Zero means no limit of that kind.
type Limits struct {
	Seconds     int   `json:"seconds"`      // of the whole call
	OutputBytes int64 `json:"output_bytes"` // kept of each stream
	Concurrent  int   `json:"concurrent"`   // calls at once by one subject on one host
}

// Decision is what policy said of one plan on one host.
type Decision struct {
	ID      string            `json:"decision_id"`
	Allow   bool              `json:"allow"`
	Reasons []Reason          `json:"reasons"`
	Limits  Limits            `json:"limits"`  // effective: the smaller of wish and decision
	Redact  []string          `json:"redact"`  // regular expressions; matches never reach a result
	Record  string            `json:"record"`  // meta or full
	Bundles map[string]string `json:"bundles"` // bundle name -> revision
}

// Reason is why, in words for an agent: which rule, which word, what would be
// allowed instead.
type Reason struct {
	Code   string `json:"code"`
	Title  string `json:"title"`
	Remedy string `json:"remedy"`
	Detail string `json:"detail"`
}

// Outcome is one of three, and never a guess: a command that may have started
// is not run again.
type Outcome string

const (
	Finished   Outcome = "finished"
	NotStarted Outcome = "not_started"
	Unknown    Outcome = "unknown"
)

// Stop is why a run ended before its time. It is also the cause with which a
// context is cancelled.
type Stop string

const (
	StopTimeout    Stop = "timeout"
	StopCancelled  Stop = "cancelled"
	StopDisconnect Stop = "disconnect"
	StopShutdown   Stop = "shutdown"
	StopOutput     Stop = "output_limit" // far more output than anyone keeps
)

func (s Stop) Error() string { return "stopped: " + string(s) }

// Stream is one output stream of a step: what was kept, and how much there was.
type Stream struct {
	Kept      []byte // head and tail around a notice when Truncated; cut on UTF-8 boundaries
	Bytes     int64  // in all
	Truncated bool
}

// Output is what one step gave.
type Output struct {
	Stdout Stream
	Stderr Stream
	Exit   *int   // nil unless the remote side reported a status
	Signal string // name without SIG, when a signal ended it
	Answer any    // of an Ask step
}

// Survivor is a remote process that a stop could not end.
type Survivor struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
}

// Report is how a job ended.
type Report struct {
	Outcome   Outcome
	Outputs   []Output // of the steps that ran
	Stop      Stop     // empty unless stopped
	Stopped   bool     // true: a stop was asked for and nothing survived it
	Survivors []Survivor
	Address   string // peer that was spoken to; empty if none
	Duration  time.Duration
	Err       *Failure
}

// FailureCode is the class of a failure on the way to or at a host.
type FailureCode string

const (
	FailUnresolved     FailureCode = "unresolved"
	FailLookups        FailureCode = "lookup_limit" // too many look-ups of one name
	FailRefused        FailureCode = "connection_refused"
	FailUnreachable    FailureCode = "unreachable"
	FailConnectTimeout FailureCode = "connect_timeout"
	FailDropped        FailureCode = "connection_dropped"
	FailUnknownHostKey FailureCode = "host_key_unknown"
	FailChangedHostKey FailureCode = "host_key_changed"
	FailRevokedHostKey FailureCode = "host_key_revoked"
	FailKnownHosts     FailureCode = "known_hosts_unusable"
	FailAuth           FailureCode = "authentication"
	FailCredentials    FailureCode = "credentials_unusable" // key file mode, passphrase, missing secret
	FailAlgorithms     FailureCode = "no_common_algorithm"
	FailBreaker        FailureCode = "cooling_off" // the breaker is open
	FailSessions       FailureCode = "no_session"  // the server opens no more sessions
	FailExecRefused    FailureCode = "exec_refused"
	FailTooLong        FailureCode = "command_too_long"
	FailShutdown       FailureCode = "shutting_down"
	FailStop           FailureCode = "stop_unconfirmed" // a stop that may have left something running
	FailInternal       FailureCode = "internal"
)

// Failure is a failure with a class, a sentence that names the culprit, and a
// remedy. Cause is for the log.
type Failure struct {
	Code    FailureCode
	Message string
	Remedy  string
	Cause   error
}

func (f *Failure) Error() string {
	if f.Cause == nil {
		return f.Message
	}
	return fmt.Sprintf("%s: %v", f.Message, f.Cause)
}

func (f *Failure) Unwrap() error { return f.Cause }

// Caller is who calls, as far as the transport verified it. Client and Session
// are what the caller says of itself: facts, never authority.
type Caller struct {
	Subject   string
	Groups    []string
	Auth      string // local, token
	Client    Client
	Transport string // stdio or http
	Session   string
	Trace     Trace
}

// Client is what an MCP client calls itself.
type Client struct {
	Name    string `json:"name"`    // of the program
	Version string `json:"version"` // of the program
}
