package tool

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/pkg/shell"
)

// Plan is what a call will do, decided without any I/O: which hosts, and the
// steps on each. Steps are what the executor does; the op that each step
// carries is what it means, in the words that policy speaks.
type Plan struct {
	Scope Scope
	Steps []Step
	// Wish is what the caller asked for. A zero field is no wish. The
	// effective limit is the smaller of this and the decision's.
	Wish Limits
	// As names the tool in whose place the call is judged and logged; empty
	// for the tool itself. With DryRun the walk ends after the decision.
	// Together they are how a plan cannot disagree with a run.
	As     string
	DryRun bool
	// Explain has a dry run say why it is decided as it is, if policy lets the
	// caller know.
	Explain bool `json:",omitempty"`
	// Detach has the plan run as a task, which outlives the call.
	Detach bool
	// Next plans what follows on the same host from what came of this plan; nil
	// where nothing does. It is judged anew, so a step can depend on what a host
	// said without a longer leash.
	Next func([]Output) (*Plan, *Failure) `json:"-"`
	// Onto is the half of a copy that is done on another host, by its own Scope.
	// Each half is judged as a plan of its own, and neither runs without the
	// other.
	Onto *Plan `json:",omitempty"`
	// Result is the tool's answer, from what happened on each host.
	Result func([]Run) Result `json:"-"`
}

// Scope says where a plan runs: on the host with an alias, on every host with
// a tag, or, when both are empty, in the gateway itself.
type Scope struct {
	Alias string
	Tag   string
	// Open: Alias may also be that of a connection that the caller has opened;
	// empty, it is the caller's default one.
	Open bool
	// Dir is a directory to work in for this call; a relative one begins where
	// the connection's calls work, and [Home] is where a login begins.
	Dir string `json:",omitempty"`
	// Opening asks for a connection to the host to be kept. Alias is then one of
	// the inventory, or empty for a host that the caller describes.
	Opening *Opening `json:",omitempty"`
	// Parallel is on how many hosts at once, where the caller wants fewer than
	// the gateway would; 0 leaves it to the gateway.
	Parallel int
	// FailFast leaves out the hosts whose turn has not come when one has failed.
	FailFast bool
}

// Home is the directory where a login begins.
const Home = "~"

// Step is one thing that the executor does, with its meaning.
type Step struct {
	Op Op
	Do Do
}

// Do is what a step does: [Shell], [Exec], [Ask], [Connect], or one of those for
// files, such as [Read].
type Do interface{ do() }

// Shell runs a command line. It holds the parsed document rather than text, so
// that the line that was judged is the line that is sent: its Canonical.
//
// It runs in the document's Cwd, or without one where a login begins. Stdin is
// given to it and then closed.
type Shell struct {
	Command *shell.Document `json:"command"`
	Stdin   []byte          `json:"stdin,omitempty"`
}

// Exec runs a program with exactly these words; no shell reads them. Stdin is
// given to it and then closed.
type Exec struct {
	Argv  []string `json:"argv"`
	Stdin []byte   `json:"stdin,omitempty"`
}

// Ask is answered by the gateway itself; nothing is sent to a host.
type Ask struct {
	Question Question `json:"question"`
	Subject  string   `json:"subject,omitempty"` // an alias or a task's id, where the question has one
	Page     Page     `json:"page,omitzero"`     // of AskTaskOutput
	// Wait is for how many seconds the answer may wait for a task to end or, to
	// AskTaskOutput, for a line to come.
	Wait int `json:"wait,omitempty"`
}

// Page asks for some lines of a task's output: up to Lines of them behind
// Cursor, or without one the last ones.
type Page struct {
	Lines  int    `json:"lines"`
	Cursor *int64 `json:"cursor,omitempty"`
}

// Question is what can be asked of the gateway.
type Question string

const (
	AskPing         Question = "ping"
	AskHosts        Question = "hosts"        // []string, aliases
	AskInventory    Question = "inventory"    // []HostFacts
	AskHost         Question = "host"         // HostFacts
	AskCapabilities Question = "capabilities" // Capabilities
	AskReload       Question = "reload"
	AskRules        Question = "rules" // of a dry run that is explained; it has no answer of its own

	AskTask       Question = "status" // TaskFacts
	AskTaskResult Question = "result" // TaskFacts
	AskTaskOutput Question = "output" // TaskLines
	AskCancel     Question = "cancel" // Cancellation

	AskDisconnect Question = "disconnect" // Disconnected
	AskIdentity   Question = "identity"   // Identity
)

func (Shell) do() {}
func (Exec) do()  {}
func (Ask) do()   {}

// RunLine is the step that runs a command line.
func RunLine(line string) Step {
	doc := shell.Parse(line)
	return Step{
		Op: Op{Action: ShellRun, Effect: Execute, Command: &doc},
		Do: Shell{Command: &doc},
	}
}

// Members are the steps that would run each command of a line by itself; none for
// a step that runs no line, or one that cannot be parsed.
func (s Step) Members() (all []Step) {
	if s.Op.Command == nil {
		return nil
	}
	for _, text := range shell.Members(s.Op.Command.Text) {
		member := RunLine(text)
		member.Op.Command.Cwd = s.Op.Command.Cwd
		all = append(all, member)
	}
	return all
}

// AskGateway is the step that asks the gateway itself.
func AskGateway(action Action, q Question, subject string) Step {
	return Step{
		Op: Op{Action: action, Effect: action.Effect(), Operation: string(q)},
		Do: Ask{Question: q, Subject: subject},
	}
}

// check refuses a plan in which a step lacks its meaning or its deed.
func (p Plan) check() error {
	if len(p.Steps) == 0 {
		return fmt.Errorf("plan has no steps")
	}
	for i, s := range p.Steps {
		if s.Op.Action.Effect() == "" || s.Do == nil {
			return fmt.Errorf("step %d of the plan has no op or nothing to do", i)
		}
	}
	return nil
}

// Ops is everything that the plan means: the op of each step, followed by the
// ops that the command analyser derives from it.
func (p Plan) Ops() []Op {
	var ops []Op
	for _, s := range p.Steps {
		ops = append(ops, s.Op)
		if s.Op.Command != nil {
			ops = append(ops, Derive(*s.Op.Command)...)
		}
	}
	return ops
}

// Target is a host as the plan addresses it: names for people and for the
// host key, the judged address for the dial.
type Target struct {
	Alias       string   `json:"alias"`
	Hostname    string   `json:"hostname"`
	Port        int      `json:"port"`
	User        string   `json:"user"`
	Kind        string   `json:"kind"`
	Tags        []string `json:"-"`
	Source      string   `json:"source"` // inventory or adhoc
	Auth        string   `json:"auth"`   // key, agent, password, cert, identity
	Credentials string   `json:"-"`      // name of the entry in credentials.yml
	Description string   `json:"-"`
	// Addresses is what the name resolved to, once; Address is the one that
	// was judged and is dialled, chosen from those that policy allows.
	Addresses []netip.Addr `json:"addresses"`
	Address   netip.Addr   `json:"address"`
	Via       []Target     `json:"via,omitempty"` // jump hosts, the first one dialled first
	// Conn is the open connection that it is reached by; Dir is the directory to
	// work in, empty where a login begins.
	Conn Connection `json:"-"`
	Dir  string     `json:"-"`
	// AdHoc is how its owner described it; nil for a host of the inventory.
	AdHoc *AdHoc `json:"adhoc,omitempty"`
}

// Job is a plan on one host after it was allowed: what the executor gets.
type Job struct {
	CallID     string
	DecisionID string
	Subject    string
	Digest     string
	Target     Target
	Steps      []Step
	Limits     Limits
	// Progress, when set, is told of phases and byte counts while the job
	// runs, at most a few times a second. It must not block.
	Progress func(Progress)
	// Output, when set, sees both streams as they come, a piece of one at a
	// time. It must be quick, and must not keep the piece.
	Output func(piece []byte, stderr bool)
}

// Progress is a sign of life from a running call.
type Progress struct {
	Task  string // id of the call, by which it can be cancelled
	Alias string // of the host that this is about; empty for the call as a whole
	Phase string // waiting, queued, connecting, connected, running, or a [TaskState]
	Bytes int64  // stdout and stderr together, so far
}

// Digest identifies exactly what would be done where: the SHA-256, in hex, of
// the steps and the target with its addresses. The decision log, the audit
// stream and an approval all carry it.
func Digest(target Target, steps []Step) string {
	type step struct {
		Op   Action `json:"op"`
		Kind string `json:"kind"`
		Do   Do     `json:"do"`
	}
	body := struct {
		Target Target `json:"target"`
		Steps  []step `json:"steps"`
	}{Target: target}
	for _, s := range steps {
		body.Steps = append(body.Steps, step{s.Op.Action, fmt.Sprintf("%T", s.Do), s.Do})
	}
	b, err := json.Marshal(body)
	if err != nil {
		panic("tool: a plan that cannot be marshalled: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// HostFacts is what may be told of a host: no secrets, not even where they are.
type HostFacts struct {
	Alias          string   `json:"alias,omitempty"`
	Host           string   `json:"host,omitempty"`
	Port           int      `json:"port,omitempty"`
	User           string   `json:"user,omitempty"`
	Kind           string   `json:"kind,omitempty" doc:"what shell world it is"`
	Tags           []string `json:"tags,omitempty"`
	Description    string   `json:"description,omitempty"`
	Via            []string `json:"via,omitempty" doc:"jump hosts, first one first"`
	HasCredentials bool     `json:"has_credentials_ref,omitempty"`
	Profiles       []string `json:"profiles,omitempty" doc:"command profiles that the caller is granted there"`
}
