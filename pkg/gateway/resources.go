package gateway

import (
	"context"
	"fmt"

	"github.com/sallyport/sallyport/pkg/tool"
)

// Reading is what came of reading a resource.
type Reading struct {
	Resource *tool.Resource // nil: there is none of this URI
	// Contents are as in [tool.Reading]; nil when nothing was read.
	Contents any
	// Missing says that for this caller there is no such resource. One about a
	// host that it may not know of is missing like one about no host at all.
	Missing bool
	// Text says why nothing was read.
	Text        string
	DecisionIDs []string
}

// Read reads a resource for a caller: a call of the tool behind it, judged and
// recorded like every other.
func (g *Gateway) Read(ctx context.Context, caller tool.Caller, uri string) Reading {
	for _, r := range g.reads {
		value, args, ok := r.Match(uri)
		if !ok {
			continue
		}
		result := g.Call(ctx, caller, r.Tool.Name, args, nil)
		reading := Reading{Resource: r, Text: result.Text, DecisionIDs: result.DecisionIDs}
		if read, ok := result.Structured.(tool.Reading); ok && !result.IsError {
			reading.Contents = read.Contents()
		} else if r.IsTemplate() && !g.view(caller).knows(value) {
			reading.Missing, reading.Text = true, noResource(uri).Message
		}
		return reading
	}
	problem := noResource(uri)
	c := &call{gateway: g, id: newID(g.now()), caller: caller, name: uri}
	c.recordInvalid(ctx, problem)
	return Reading{Missing: true, Text: problem.Message}
}

func noResource(uri string) *tool.Problem {
	return &tool.Problem{
		Code:    "unknown_resource",
		Message: fmt.Sprintf("there is no resource %q; ssh://hosts has the aliases, resources/templates/list what can be read of a host", uri),
	}
}
