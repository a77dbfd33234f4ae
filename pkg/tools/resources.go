package tools

import (
	"encoding/json"

	"github.com/sallyport/sallyport/pkg/tool"
)

// Resources is the table of what clients can read by URI.
func Resources() []*tool.Resource {
	return []*tool.Resource{
		{
			URI: "ssh://hosts", Title: "Registered SSH Hosts", MIME: jsonType, Tool: readHosts(),
			Doc: "The hosts that the caller may use, with their tags; never their credentials.",
		},
		{
			URI: "ssh://host/{alias}", Title: "Host Details", MIME: jsonType, Tool: readHost(),
			Doc: "One host of ssh://hosts.",
		},
		{
			URI: "ssh://host/{alias}/tags", Title: "Host Tags", MIME: jsonType, Tool: readHostTags(),
			Doc: "The tags of a host, by which policy.yml can name it.",
		},
		{
			URI: "ssh://host/{alias}/capabilities", Title: "Host Capability Summary", MIME: jsonType, Tool: readHostCapabilities(),
			Doc: "What the caller can do on a host: limits in force, and what policy says to typical commands now.",
		},
	}
}

const jsonType = "application/json"

// reading is the result of every read: how it went, and what was read.
type reading[T any] struct {
	tool.Status
	Read *T `json:"contents,omitempty"`
}

func (r reading[T]) Contents() any {
	if r.Read == nil {
		return nil
	}
	return r.Read
}

func (r reading[T]) Text() string {
	if r.Failed() {
		return r.Status.Text()
	}
	b, err := json.Marshal(r.Read)
	if err != nil {
		panic("tools: contents that cannot be marshalled: " + err.Error())
	}
	return string(b)
}

// read is the reading of an answer, brought into the form that clients see.
func read[From, To any](run tool.Run, show func(From) To) reading[To] {
	r := reading[To]{Status: tool.StatusOf(run)}
	if from, ok := answer[From](run); ok {
		to := show(from)
		r.Read = &to
	}
	return r
}

// askAbout is a plan that the gateway answers about a host.
func askAbout(q tool.Question, alias string) tool.Plan {
	p := ask(tool.GatewayRead, q, alias)
	p.Scope.Alias = alias
	return p
}

type hostRecord struct {
	Alias          string   `json:"alias"`
	Host           string   `json:"host"`
	Port           int      `json:"port"`
	Tags           []string `json:"tags"`
	Description    string   `json:"description"`
	HasCredentials bool     `json:"has_credentials_ref"`
}

func recordOf(h tool.HostFacts) hostRecord {
	return hostRecord{h.Alias, h.Host, h.Port, append([]string{}, h.Tags...), h.Description, h.HasCredentials}
}

type hostRecords struct {
	Count int          `json:"count"`
	Hosts []hostRecord `json:"hosts"`
}

func readHosts() *tool.Tool {
	return tool.New(tool.Spec[noArgs, reading[hostRecords]]{
		Name: "read_hosts", Set: "resources", Effect: tool.Observe,
		Doc:  "Read ssh://hosts.",
		Plan: func(noArgs) (tool.Plan, error) { return ask(tool.GatewayList, tool.AskInventory, ""), nil },
		Format: func(_ noArgs, runs []tool.Run) reading[hostRecords] {
			return read(runs[0], func(hosts []tool.HostFacts) hostRecords {
				r := hostRecords{Count: len(hosts), Hosts: []hostRecord{}}
				for _, h := range hosts {
					r.Hosts = append(r.Hosts, recordOf(h))
				}
				return r
			})
		},
	})
}

func readHost() *tool.Tool {
	return tool.New(tool.Spec[hostArgs, reading[hostRecord]]{
		Name: "read_host", Set: "resources", Effect: tool.Observe,
		Doc:    "Read ssh://host/{alias}.",
		Plan:   func(a hostArgs) (tool.Plan, error) { return askAbout(tool.AskHost, a.Alias), nil },
		Format: func(_ hostArgs, runs []tool.Run) reading[hostRecord] { return read(runs[0], recordOf) },
	})
}

type hostTags struct {
	Alias string   `json:"alias"`
	Tags  []string `json:"tags"`
}

func readHostTags() *tool.Tool {
	return tool.New(tool.Spec[hostArgs, reading[hostTags]]{
		Name: "read_host_tags", Set: "resources", Effect: tool.Observe,
		Doc:  "Read ssh://host/{alias}/tags.",
		Plan: func(a hostArgs) (tool.Plan, error) { return askAbout(tool.AskHost, a.Alias), nil },
		Format: func(_ hostArgs, runs []tool.Run) reading[hostTags] {
			return read(runs[0], func(h tool.HostFacts) hostTags {
				return hostTags{h.Alias, recordOf(h).Tags}
			})
		},
	})
}

func readHostCapabilities() *tool.Tool {
	return tool.New(tool.Spec[hostArgs, reading[tool.Capabilities]]{
		Name: "read_host_capabilities", Set: "resources", Effect: tool.Observe,
		Doc:  "Read ssh://host/{alias}/capabilities.",
		Plan: func(a hostArgs) (tool.Plan, error) { return askAbout(tool.AskCapabilities, a.Alias), nil },
		Format: func(_ hostArgs, runs []tool.Run) reading[tool.Capabilities] {
			return read(runs[0], func(c tool.Capabilities) tool.Capabilities { return c })
		},
	})
}
