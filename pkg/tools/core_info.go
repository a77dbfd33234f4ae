package tools

import (
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/pkg/tool"
)

// osProbes are what info asks a host, in order. Policy permits exactly these.
var osProbes = [][]string{
	{"uname", "-snrm"}, // system, name, release and machine, in this order
	{"cat", "/etc/os-release"},
	{"printenv", "SHELL"},
}

func info() *tool.Tool {
	return tool.New(tool.Spec[targetArgs, infoResult]{
		Name: "info", Set: "core", Effect: tool.Observe,
		Doc: "Tell what a host runs: its name, operating system, kernel, architecture and login shell.",
		Plan: func(a targetArgs) (tool.Plan, error) {
			p := tool.Plan{Scope: tool.Scope{Alias: a.Target, Open: true}}
			for _, argv := range osProbes {
				p.Steps = append(p.Steps, tool.Step{
					Op: tool.Op{Action: tool.HostRead, Effect: tool.Observe, Facet: "os", Argv: argv},
					Do: tool.Exec{Argv: argv},
				})
			}
			return p, nil
		},
		Format: infoOf,
	})
}

type infoResult struct {
	tool.Status
	Target   string `json:"target,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	OS       string `json:"os,omitempty" doc:"name and version, as the host calls it"`
	Kernel   string `json:"kernel,omitempty" doc:"release of the kernel"`
	Arch     string `json:"arch,omitempty" doc:"of the machine"`
	Shell    string `json:"shell,omitempty" doc:"login shell of the user"`
}

func infoOf(_ targetArgs, runs []tool.Run) infoResult {
	r := infoResult{Status: tool.StatusOf(runs[0]), Target: called(runs[0].Target)}
	said := make([]string, len(osProbes))
	if runs[0].Report != nil {
		for i, o := range runs[0].Report.Outputs[:min(len(runs[0].Report.Outputs), len(said))] {
			said[i] = strings.TrimSpace(text(o.Stdout))
		}
	}
	if words := strings.Fields(lastLine(said[0])); len(words) == 4 {
		r.OS, r.Hostname, r.Kernel, r.Arch = words[0], words[1], words[2], words[3]
	}
	if name := prettyName(said[1]); name != "" {
		r.OS = name
	}
	r.Shell = lastLine(said[2])
	return r
}

// lastLine leaves out what start-up files of the shell may have said before.
func lastLine(s string) string { return s[strings.LastIndexByte(s, '\n')+1:] }

// prettyName is the name in an os-release file.
func prettyName(release string) string {
	for line := range strings.Lines(release) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"'`)
		}
	}
	return ""
}

func (r infoResult) Text() string {
	if r.Failed() {
		return r.Status.Text()
	}
	return fmt.Sprintf("%s: %s, kernel %s on %s, shell %s", r.Hostname, r.OS, r.Kernel, r.Arch, r.Shell)
}
