package mcpserver

import (
	"context"
	"fmt"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// addPrompts has mcp-go serve the gateway's guides. They are the same for
// everyone but for their texts, which are written for the caller that asks.
func (s *Server) addPrompts(m *server.MCPServer) {
	for _, p := range s.gateway.Prompts() {
		m.AddPrompt(mcp.Prompt{Name: p.Name, Title: p.Title, Description: p.Doc},
			func(ctx context.Context, _ mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
				r := requestFrom(ctx)
				if r == nil {
					return nil, fmt.Errorf("a prompt that was not asked for through a transport")
				}
				text, ok := s.gateway.Prompt(r.ctx, s.callerOf(ctx, r), p.Name)
				if !ok {
					return nil, fmt.Errorf("prompt %s is gone", p.Name)
				}
				message := mcp.NewPromptMessage(mcp.RoleUser, mcp.NewTextContent(text))
				return mcp.NewGetPromptResult(p.Doc, []mcp.PromptMessage{message}), nil
			})
	}
}
