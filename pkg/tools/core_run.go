package tools

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/sallyport/sallyport/pkg/tool"
)

// runSeconds is how long a command may take whose caller does not say.
const runSeconds = 120

type targetArgs struct {
	Target string `json:"target,omitempty" arg:"connection,max=200" doc:"an open connection or a host of the inventory; your default connection if it is left out"`
}

type runArgs struct {
	targetArgs
	Command   string `json:"command" arg:"required,text" doc:"command line; cd DIR alone changes the directory that the connection keeps"`
	Timeout   int    `json:"timeout,omitempty" arg:"min=1,max=86400" doc:"stop after this many seconds, 120 if it is left out; policy may allow less"`
	Stdin     string `json:"stdin,omitempty" arg:"text,max=1048576" doc:"given to the command"`
	Cwd       string `json:"cwd,omitempty" arg:"path" doc:"directory for this call alone, in place of the one that the connection keeps"`
	MaxOutput int    `json:"max_output_bytes,omitempty" arg:"min=1,max=16777216" doc:"keep this much of each stream; policy may allow less"`
}

func run() *tool.Tool {
	return tool.New(tool.Spec[runArgs, targetRunResult]{
		Name: "run", Set: "core", Effect: tool.Execute,
		Doc: "Run a command on a host if policy allows it, and return its output and exit status. " +
			"Over a connection, cd DIR sent alone changes the directory that later calls work in.",
		Plan:   runArgs.plan,
		Format: targetRunOf,
	})
}

func (a runArgs) plan() (tool.Plan, error) {
	step := tool.RunLine(a.Command)
	p := tool.Plan{
		Scope: tool.Scope{Alias: a.Target, Open: true, Dir: a.Cwd}, Steps: []tool.Step{step},
		Wish: tool.Limits{Seconds: runSeconds, OutputBytes: int64(a.MaxOutput)},
	}
	if a.Timeout > 0 {
		p.Wish.Seconds = a.Timeout
	}
	if words, ok := moves(step); ok {
		return a.move(p, words)
	}
	if a.Stdin != "" {
		do := step.Do.(tool.Shell)
		do.Stdin = []byte(a.Stdin)
		sum := sha256.Sum256(do.Stdin)
		step.Op.Content = &tool.Content{Bytes: int64(len(do.Stdin)), Digest: hex.EncodeToString(sum[:])}
		step.Do = do
		p.Steps[0] = step
	}
	return p, nil
}

// moves says that a line is a cd and nothing else, and gives the words behind it.
func moves(step tool.Step) (words []string, ok bool) {
	doc := step.Op.Command
	if doc.Certainty != "static" || doc.Shape != "simple" || len(doc.Commands) != 1 || len(doc.Features) > 0 {
		return nil, false
	}
	c := doc.Commands[0]
	if c.Program != "cd" || c.Dir != "" || len(c.Wrappers)+len(c.Assigns)+len(c.Redirects) > 0 {
		return nil, false
	}
	if words = c.Argv[1:]; len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	return words, true
}

// move asks the host for a directory, and then has the connection keep it.
func (a runArgs) move(p tool.Plan, words []string) (tool.Plan, error) {
	dir := "."
	switch {
	case len(words) == 0:
		p.Scope.Dir = tool.Home
	case len(words) > 1 || words[0] == "" || words[0][0] == '-':
		return p, badArgument("command", "is a cd that names no single directory", "write cd DIRECTORY; the one before is not kept for cd -")
	default:
		dir = words[0]
	}
	if a.Stdin != "" {
		return p, badArgument("stdin", "is for a cd, which reads nothing", "leave it out")
	}
	step := tool.LocateFile(tool.FileList, dir)
	p.Steps = []tool.Step{step}
	p.Next = func(out []tool.Output) (*tool.Plan, *tool.Failure) {
		facts, ok := out[0].Answer.(tool.FileFacts)
		if !ok || !facts.Exists || facts.Type != tool.Directory {
			return nil, &tool.Failure{
				Code: tool.FailNotDirectory, Message: dir + " is not a directory", Remedy: "list_dir shows what is in the one above",
			}
		}
		next := p
		next.Steps, next.Next = []tool.Step{{Op: step.Op.At(facts), Do: tool.Enter{Path: facts.Path}}}, nil
		return &next, nil
	}
	return p, nil
}

// called is what a caller calls a target: its connection, or else the host.
func called(t tool.Target) string {
	if t.Conn.Alias != "" {
		return t.Conn.Alias
	}
	return t.Alias
}

// targetRunResult is a run with what it ran on and where.
type targetRunResult struct {
	runResult
	Target string `json:"target,omitempty"`
	Cwd    string `json:"cwd,omitempty" doc:"directory that it ran in, or that the connection keeps from now on"`
	moved  bool
}

func targetRunOf(a runArgs, runs []tool.Run) targetRunResult {
	r := runs[0]
	res := targetRunResult{
		runResult: runResult{Status: tool.StatusOf(r), runFacts: factsOf(r.Target.Alias, r)},
		Target:    called(r.Target), Cwd: r.Target.Dir,
	}
	if dir, ok := answer[string](r); ok {
		res.Cwd, res.ExitCode, res.moved = dir, 0, true
	}
	return res
}

func (r targetRunResult) Text() string {
	if r.moved {
		return fmt.Sprintf("%s works in %s from now on.", r.Target, r.Cwd)
	}
	return r.runResult.Text()
}
