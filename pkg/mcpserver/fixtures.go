//go:build !conformance

package mcpserver

import "github.com/mark3labs/mcp-go/server"

// The conformance suite of the protocol calls for tools, resources and prompts
// of its own, see fixtures_conformance.go. Here there are none.

// changes says that there is something to subscribe to.
const changes = false

func (s *Server) fixtureOptions() []server.ServerOption { return nil }

func (s *Server) addFixtures(*server.MCPServer) {}

// fixture is what a call does after it was allowed, in place of its result.
func (s *Server) fixture(*request) server.ToolHandlerFunc { return nil }
