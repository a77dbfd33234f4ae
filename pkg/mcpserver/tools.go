package mcpserver

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/sallyport/sallyport/pkg/gateway"
	"github.com/sallyport/sallyport/pkg/tool"
)

// newMCP is the protocol engine with everything that this package hangs into
// it. Tools are registered as callers come to see them, see [Server.admit].
func (s *Server) newMCP(name, version string) *server.MCPServer {
	hooks := &server.Hooks{}
	hooks.AddBeforeCallTool(s.admit)
	s.withResources(hooks)
	options := []server.ServerOption{
		server.WithToolCapabilities(false),
		server.WithResourceCapabilities(false, false),
		server.WithPromptCapabilities(false),
		server.WithHooks(hooks),
		server.WithToolFilter(s.visible),
	}
	options = append(options, s.fixtureOptions()...)
	for _, m := range s.chain() {
		options = append(options, server.WithToolHandlerMiddleware(m))
	}
	m := server.NewMCPServer(name, version, options...)
	m.AddResource(mcp.NewResource(anyResource, anyResource), s.read)
	s.addPrompts(m)
	s.addFixtures(m)
	return m
}

// chain is what stands between the protocol and the gateway, the outermost
// first.
func (s *Server) chain() []server.ToolHandlerMiddleware {
	return []server.ToolHandlerMiddleware{
		s.surviving,
	}
}

// admit looks the called tool up. It runs after mcp-go has checked the envelope
// and before it looks for the tool itself; what is not admitted here is not
// found there. A tool that is not in the caller's list is admitted: policy
// refuses it, and says why.
func (s *Server) admit(ctx context.Context, _ any, _ *mcp.CallToolRequest) {
	r := requestFrom(ctx)
	if r == nil {
		return
	}
	if r.tool = s.gateway.Tool(r.msg.tool); r.tool != nil {
		s.register(r.tool)
		return
	}
	caller := s.callerOf(ctx, r)
	r.refusal = noSuchTool(r, s.gateway.Tools(r.ctx, caller))
	s.gateway.NoTool(r.ctx, caller, clip(r.msg.tool))
}

// register makes a tool known to mcp-go. It is the only place that does: a
// task tool would run without the chain above, and on a context that is
// cancelled at once.
func (s *Server) register(t *tool.Tool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.registered[t.Name] == t {
		return
	}
	s.mcp.AddTool(describe(t), s.call)
	s.registered[t.Name] = t
}

// visible is the list that a caller gets, and the only tool that a call can
// reach.
func (s *Server) visible(ctx context.Context, candidates []mcp.Tool) []mcp.Tool {
	r := requestFrom(ctx)
	switch {
	case r == nil:
		return nil
	case r.msg.method == string(mcp.MethodToolsCall):
		return slices.DeleteFunc(candidates, func(t mcp.Tool) bool { return r.tool == nil || t.Name != r.tool.Name })
	}
	var all []mcp.Tool
	for _, t := range s.gateway.Tools(r.ctx, s.callerOf(ctx, r)) {
		all = append(all, describe(t))
	}
	return all
}

// hints are the annotations of an effect, all four said out loud: what is left
// out, hosts take for destructive and open. The hosts that a tool can reach are
// a closed world; what a caller runs there need not be.
type hints struct{ readOnly, destructive, idempotent, openWorld bool }

var hintsOf = map[tool.Effect]hints{
	tool.Observe: {readOnly: true, idempotent: true},
	tool.Change:  {destructive: true},
	tool.Execute: {destructive: true, openWorld: true},
	tool.Link:    {idempotent: true},
}

// describe is a tool as clients see it. The schemas are the tool's own, byte
// for byte.
func describe(t *tool.Tool) mcp.Tool {
	h := hintsOf[t.Effect]
	return mcp.Tool{
		Name: t.Name, Title: titleOf(t.Name), Description: t.Doc,
		RawInputSchema: t.Input, RawOutputSchema: t.Output,
		Annotations: mcp.ToolAnnotation{
			Title:        titleOf(t.Name),
			ReadOnlyHint: &h.readOnly, DestructiveHint: &h.destructive,
			IdempotentHint: &h.idempotent, OpenWorldHint: &h.openWorld,
		},
	}
}

var acronyms = map[string]string{
	"ssh": "SSH", "sftp": "SFTP", "db": "DB", "id": "ID", "ip": "IP", "cpu": "CPU", "tls": "TLS", "dns": "DNS",
}

// titleOf makes a title of a name: ssh_list_hosts is "SSH list hosts".
func titleOf(name string) string {
	words := strings.Split(name, "_")
	for i, w := range words {
		if a, ok := acronyms[w]; ok {
			words[i] = a
		} else if i == 0 && w != "" {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, " ")
}

// noSuchTool names the tool and those that it was probably meant for.
func noSuchTool(r *request, tools []*tool.Tool) *refusal {
	text := fmt.Sprintf("there is no tool %q", clip(r.msg.tool))
	if close := closest(r.msg.tool, tools); len(close) > 0 {
		text += "; did you mean " + strings.Join(close, " or ") + "?"
	} else {
		text += "; tools/list names those that there are"
	}
	return &refusal{id: r.msg.id, code: mcp.INVALID_PARAMS, message: text}
}

// closest is up to three tools whose names are little edits away or hold the
// name.
func closest(name string, tools []*tool.Tool) []string {
	name = strings.ToLower(clip(name))
	edits := map[string]int{}
	for _, t := range tools {
		d := levenshtein.ComputeDistance(name, t.Name)
		if d <= max(2, len(t.Name)/3) || strings.Contains(t.Name, name) {
			edits[t.Name] = d
		}
	}
	names := slices.SortedFunc(maps.Keys(edits), func(a, b string) int {
		return cmp.Or(cmp.Compare(edits[a], edits[b]), cmp.Compare(a, b))
	})
	return names[:min(len(names), 3)]
}

// callerOf is who sent a request, with what the client calls itself: the new
// era says it in every request, the old one once per session.
func (s *Server) callerOf(ctx context.Context, r *request) tool.Caller {
	caller := r.caller
	if info := server.RequestProtocolInfoFromContext(ctx); info != nil && info.Modern {
		if info.ClientInfo != nil {
			caller.Client = tool.Client{Name: clip(info.ClientInfo.Name), Version: clip(info.ClientInfo.Version)}
		}
		return caller
	}
	if session, ok := server.ClientSessionFromContext(ctx).(server.SessionWithClientInfo); ok {
		info := session.GetClientInfo()
		caller.Client = tool.Client{Name: clip(info.Name), Version: clip(info.Version)}
	}
	return caller
}

// clip keeps a client's own words from filling logs and answers.
func clip(s string) string { return clipTo(s, 128) }

func clipTo(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// call is every tool's handler: the gateway gets the arguments as they came.
func (s *Server) call(ctx context.Context, request mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	r := requestFrom(ctx)
	if r == nil || r.tool == nil {
		return nil, fmt.Errorf("a call that was not admitted")
	}
	progress, done := s.report(r)
	var result gateway.Result
	defer func() { done(result.Running) }()
	result = s.gateway.Call(r.ctx, s.callerOf(ctx, r), r.tool.Name, r.msg.args, progress)
	if act := s.fixture(r); act != nil && !result.IsError {
		return act(ctx, request)
	}
	return s.toResult(r, result), nil
}

// decisionIDs is the key of the decisions in a result's _meta.
const decisionIDs = "io.github.sallyport/decisionIds"

func (s *Server) toResult(r *request, from gateway.Result) *mcp.CallToolResult {
	to := &mcp.CallToolResult{IsError: from.IsError, Content: []mcp.Content{mcp.NewTextContent(textOf(from))}}
	if len(from.DecisionIDs) > 0 {
		to.Meta = &mcp.Meta{AdditionalFields: map[string]any{decisionIDs: from.DecisionIDs}}
	}
	if from.Structured == nil {
		return to
	}
	structured, err := json.Marshal(from.Structured)
	if err != nil {
		s.log.Error("result cannot be written as JSON", "tool", r.tool.Name, "problem", err)
		return broken()
	}
	to.RawStructuredContent = structured
	return to
}

// textOf is the short text, with the decision's id where it is not in it yet:
// many hosts show a model nothing but the text.
func textOf(r gateway.Result) string {
	if len(r.DecisionIDs) != 1 || strings.Contains(r.Text, r.DecisionIDs[0]) {
		return r.Text
	}
	return strings.TrimRight(r.Text, "\n") + "\ndecision " + r.DecisionIDs[0]
}

// broken is what a client is told of a fault of ours: nothing but that.
func broken() *mcp.CallToolResult {
	return mcp.NewToolResultError("the gateway has an internal fault; its operator finds the details in the log")
}

// surviving turns a panic into an answer, and keeps its text from the client.
func (s *Server) surviving(next server.ToolHandlerFunc) server.ToolHandlerFunc {
	return func(ctx context.Context, request mcp.CallToolRequest) (result *mcp.CallToolResult, err error) {
		defer func() {
			if p := recover(); p != nil {
				s.log.Error("panic in a call", "tool", clip(request.Params.Name), "panic", p, "stack", string(debug.Stack()))
				result, err = broken(), nil
			}
		}()
		return next(ctx, request)
	}
}
