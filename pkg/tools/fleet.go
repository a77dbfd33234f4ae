package tools

import (
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/pkg/tool"
)

// fleet is the hosts of the inventory, commands on them, and tasks.
func fleet() []*tool.Tool {
	return []*tool.Tool{
		sshPing(), sshListHosts(), sshDescribeHost(), sshPlan(), sshRun(), sshRunOnTag(), sshCancel(),
		sshRunAsync(), sshGetTaskStatus(), sshGetTaskResult(), sshGetTaskOutput(), sshCancelAsyncTask(),
		sshReloadConfig(),
	}
}

type noArgs struct{}

type hostArgs struct {
	Alias string `json:"alias" arg:"required,max=100" doc:"host alias from the inventory"`
}

type commandArgs struct {
	Alias      string `json:"alias" arg:"required,max=100" doc:"host alias from the inventory"`
	Command    string `json:"command" arg:"required,text" doc:"command line; pipes and lists are fine when every part is allowed"`
	MaxSeconds int    `json:"max_seconds,omitempty" arg:"min=1,max=86400" doc:"stop after this many seconds; policy may allow less"`
	MaxOutput  int    `json:"max_output_bytes,omitempty" arg:"min=1,max=16777216" doc:"keep this much of each stream; policy may allow less"`
}

func (a commandArgs) plan() tool.Plan {
	return tool.Plan{
		Scope: tool.Scope{Alias: a.Alias},
		Steps: []tool.Step{tool.RunLine(a.Command)},
		Wish:  tool.Limits{Seconds: a.MaxSeconds, OutputBytes: int64(a.MaxOutput)},
	}
}

func sshPing() *tool.Tool {
	return tool.New(tool.Spec[noArgs, gatewayStatus]{
		Name: "ssh_ping", Set: "fleet", Effect: tool.Observe,
		Doc: "Check that the gateway itself answers; no host is contacted.",
		Plan: func(noArgs) (tool.Plan, error) {
			return ask(tool.GatewayRead, tool.AskPing, ""), nil
		},
		Format: func(_ noArgs, runs []tool.Run) gatewayStatus { return done(runs[0], statusPong) },
	})
}

// gatewayStatus is [tool.Status] for the tools whose success has a word of its own.
type gatewayStatus struct {
	Status string `json:"status" arg:"required" enum:"pong,reloaded,denied,failed,stopped,invalid" doc:"what became of the call"`
	tool.Grounds
}

const (
	statusPong     = "pong"
	statusReloaded = "reloaded"
)

// done is the status of a call, with this word for success.
func done(r tool.Run, word string) gatewayStatus {
	s := gatewayStatus(tool.StatusOf(r))
	if s.Status == tool.StatusOK {
		s.Status = word
	}
	return s
}

// Failed implements [tool.Result].
func (s gatewayStatus) Failed() bool { return s.Status != statusPong && s.Status != statusReloaded }

// Text implements [tool.Result].
func (s gatewayStatus) Text() string {
	if s.Failed() {
		return tool.Status(s).Text()
	}
	return s.Status
}

// ask is a plan that the gateway answers itself.
func ask(action tool.Action, q tool.Question, subject string) tool.Plan {
	return tool.Plan{Steps: []tool.Step{tool.AskGateway(action, q, subject)}}
}

// answer is what the gateway said, in the type that it said it in.
func answer[T any](r tool.Run) (T, bool) {
	if r.Report == nil || len(r.Report.Outputs) == 0 {
		var none T
		return none, false
	}
	v, ok := r.Report.Outputs[0].Answer.(T)
	return v, ok
}

func sshListHosts() *tool.Tool {
	return tool.New(tool.Spec[noArgs, hostsResult]{
		Name: "ssh_list_hosts", Set: "fleet", Effect: tool.Observe,
		Doc: "List the aliases of the hosts that you may use.",
		Plan: func(noArgs) (tool.Plan, error) {
			return ask(tool.GatewayList, tool.AskHosts, ""), nil
		},
		Format: func(_ noArgs, runs []tool.Run) hostsResult {
			hosts, _ := answer[[]string](runs[0])
			return hostsResult{Status: tool.StatusOf(runs[0]), Hosts: append([]string{}, hosts...), Count: len(hosts)}
		},
	})
}

type hostsResult struct {
	tool.Status
	Hosts []string `json:"hosts" doc:"aliases in file order"`
	Count int      `json:"count"`
}

func (r hostsResult) Text() string {
	switch {
	case r.Failed():
		return r.Status.Text()
	case r.Count == 0:
		return "No hosts: policy.yml grants you none of those in servers.yml."
	}
	return tool.Count(r.Count, "host") + ": " + strings.Join(r.Hosts, ", ")
}

func sshDescribeHost() *tool.Tool {
	return tool.New(tool.Spec[hostArgs, hostResult]{
		Name: "ssh_describe_host", Set: "fleet", Effect: tool.Observe,
		Doc: "Describe one host: where it is, its tags, what policy grants there. No secrets.",
		Plan: func(a hostArgs) (tool.Plan, error) {
			return askAbout(tool.AskHost, a.Alias), nil
		},
		Format: func(_ hostArgs, runs []tool.Run) hostResult {
			host, ok := answer[tool.HostFacts](runs[0])
			r := hostResult{Status: tool.StatusOf(runs[0])}
			if ok {
				r.HostFacts = &host
			}
			return r
		},
	})
}

type hostResult struct {
	tool.Status
	*tool.HostFacts
}

func (r hostResult) Text() string {
	if r.Failed() {
		return r.Status.Text()
	}
	text := fmt.Sprintf("%s: %s@%s:%d, tags %s", r.Alias, r.User, r.Host, r.Port, orNone(r.Tags))
	if r.Description != "" {
		text += "; " + r.Description
	}
	return text + "; profiles " + orNone(r.Profiles)
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

func sshReloadConfig() *tool.Tool {
	return tool.New(tool.Spec[noArgs, reloadResult]{
		Name: "ssh_reload_config", Set: "fleet", Effect: tool.Change,
		Doc: "Load the configuration again; a bad one changes nothing and says why.",
		Plan: func(noArgs) (tool.Plan, error) {
			return ask(tool.GatewayControl, tool.AskReload, ""), nil
		},
		Format: func(_ noArgs, runs []tool.Run) reloadResult {
			r := reloadResult{gatewayStatus: done(runs[0], statusReloaded)}
			r.Revisions, _ = answer[map[string]string](runs[0])
			return r
		},
	})
}

type reloadResult struct {
	gatewayStatus
	Revisions map[string]string `json:"revisions,omitempty" doc:"bundle revisions that decide from now on"`
}

func (r reloadResult) Text() string {
	if r.Failed() {
		return r.gatewayStatus.Text()
	}
	return "Configuration loaded."
}
