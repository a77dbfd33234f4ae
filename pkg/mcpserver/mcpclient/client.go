// Package mcpclient is an MCP client session as the demo and the tests need
// one: connect, list, call. It is a real client over the real transport, so
// that what it shows is what an agent sees.
package mcpclient

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
)

// Options say how to connect.
type Options struct {
	URL     string // of the endpoint, with its path
	Token   string // bearer token; empty for none
	Name    string // what the client calls itself
	Version string
	Legacy  bool // speak 2025-11-25 with its session instead of the newest revision
	// SessionKey is sent as X-Session-Key with every request, if it is not empty.
	SessionKey string
}

// Session is an open session. It is safe for concurrent use.
type Session struct {
	client   *client.Client
	http     *transport.StreamableHTTP
	headers  map[string]string
	URL      string // that it was opened with
	Protocol string // the negotiated revision
	Server   string // what the server calls itself
}

// Answer is what a tool call came to.
type Answer struct {
	Structured json.RawMessage
	Text       string
	IsError    bool
}

// Connect opens a session over streamable HTTP.
func Connect(ctx context.Context, o Options) (*Session, error) {
	headers := map[string]string{}
	if o.Token != "" {
		headers["Authorization"] = "Bearer " + o.Token
	}
	if o.SessionKey != "" {
		headers["X-Session-Key"] = o.SessionKey
	}
	t, err := transport.NewStreamableHTTP(o.URL, transport.WithHTTPHeaders(headers))
	if err != nil {
		return nil, err
	}
	protocol := mcp.LATEST_PROTOCOL_VERSION
	if o.Legacy {
		protocol = mcp.ProtocolVersion20251125
	}
	c := client.NewClient(t, client.WithProtocolVersion(protocol))
	if err := c.Start(ctx); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", o.URL, err)
	}
	hello := mcp.InitializeRequest{}
	hello.Params.ClientInfo = mcp.Implementation{Name: o.Name, Version: o.Version}
	hello.Params.ProtocolVersion = protocol
	welcome, err := c.Initialize(ctx, hello)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("open a session with %s: %w", o.URL, err)
	}
	return &Session{client: c, http: t, headers: headers, URL: o.URL, Protocol: welcome.ProtocolVersion, Server: welcome.ServerInfo.Name}, nil
}

// Tools lists the names of the tools on offer.
func (s *Session) Tools(ctx context.Context) ([]string, error) {
	list, err := s.client.ListTools(ctx, mcp.ListToolsRequest{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, t := range list.Tools {
		names = append(names, t.Name)
	}
	return names, nil
}

// Call calls a tool. An answer with IsError set is not an error of the call.
func (s *Session) Call(ctx context.Context, name string, args map[string]any) (Answer, error) {
	request := mcp.CallToolRequest{}
	request.Params.Name, request.Params.Arguments = name, args
	result, err := s.client.CallTool(ctx, request)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Structured: result.RawStructuredContent, IsError: result.IsError}
	for _, c := range result.Content {
		if text, ok := c.(mcp.TextContent); ok {
			a.Text += text.Text
		}
	}
	return a, nil
}

// Resources lists the URIs of the resources on offer, and of the templates.
func (s *Session) Resources(ctx context.Context) ([]string, error) {
	list, err := s.client.ListResources(ctx, mcp.ListResourcesRequest{})
	if err != nil {
		return nil, err
	}
	templates, err := s.client.ListResourceTemplates(ctx, mcp.ListResourceTemplatesRequest{})
	if err != nil {
		return nil, err
	}
	var uris []string
	for _, r := range list.Resources {
		uris = append(uris, r.URI)
	}
	for _, t := range templates.ResourceTemplates {
		uris = append(uris, t.URITemplate.Raw())
	}
	return uris, nil
}

// Read reads a resource that is text.
func (s *Session) Read(ctx context.Context, uri string) (string, error) {
	request := mcp.ReadResourceRequest{}
	request.Params.URI = uri
	result, err := s.client.ReadResource(ctx, request)
	if err != nil {
		return "", err
	}
	var text string
	for _, c := range result.Contents {
		if t, ok := c.(mcp.TextResourceContents); ok {
			text += t.Text
		}
	}
	return text, nil
}

// Prompt is the text of a prompt without arguments.
func (s *Session) Prompt(ctx context.Context, name string) (string, error) {
	request := mcp.GetPromptRequest{}
	request.Params.Name = name
	result, err := s.client.GetPrompt(ctx, request)
	if err != nil {
		return "", err
	}
	var text string
	for _, m := range result.Messages {
		if t, ok := m.Content.(mcp.TextContent); ok {
			text += t.Text
		}
	}
	return text, nil
}

// Close ends the session. The library would ask for that without the headers, the
// token among them.
func (s *Session) Close() error {
	if id := s.http.GetSessionId(); id != "" {
		if err := s.end(id); err != nil {
			return err
		}
	}
	return s.client.Close()
}

func (s *Session) end(id string) error {
	r, err := http.NewRequest(http.MethodDelete, s.URL, nil)
	if err != nil {
		return err
	}
	for name, value := range s.headers {
		r.Header.Set(name, value)
	}
	r.Header.Set(transport.HeaderKeySessionID, id)
	r.Header.Set(transport.HeaderKeyProtocolVersion, s.Protocol)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	return answer.Body.Close()
}
