package mcpserver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/sallyport/sallyport/pkg/gateway"
	"github.com/sallyport/sallyport/pkg/tool"
)

// Resources are the gateway's, and so is the question who may see and read
// them. mcp-go knows of one only, to which it takes every read.

// anyResource is where mcp-go takes reads. A client that asks for it finds
// nothing: what is read is the URI that the client sent.
const anyResource = "sallyport:resource"

// withResources has mcp-go serve the gateway's resources.
func (s *Server) withResources(hooks *server.Hooks) {
	hooks.AddAfterListResources(func(ctx context.Context, _ any, _ *mcp.ListResourcesRequest, result *mcp.ListResourcesResult) {
		result.Resources = s.resources(ctx)
	})
	hooks.AddAfterListResourceTemplates(func(ctx context.Context, _ any, _ *mcp.ListResourceTemplatesRequest, result *mcp.ListResourceTemplatesResult) {
		result.ResourceTemplates = s.templates(ctx)
	})
	hooks.AddBeforeReadResource(func(_ context.Context, _ any, request *mcp.ReadResourceRequest) {
		request.Params.URI = anyResource
	})
}

// resources are those without a variable that the caller may read.
func (s *Server) resources(ctx context.Context) []mcp.Resource {
	list := []mcp.Resource{}
	for _, r := range s.readable(ctx) {
		if !r.IsTemplate() {
			list = append(list, mcp.NewResource(r.URI, r.Tool.Name, func(m *mcp.Resource) {
				m.Title, m.Description, m.MIMEType = r.Title, r.Doc, r.MIME
			}))
		}
	}
	return list
}

// templates are those with a variable.
func (s *Server) templates(ctx context.Context) []mcp.ResourceTemplate {
	list := []mcp.ResourceTemplate{}
	for _, r := range s.readable(ctx) {
		if r.IsTemplate() {
			list = append(list, mcp.NewResourceTemplate(r.URI, r.Tool.Name, func(m *mcp.ResourceTemplate) {
				m.Title, m.Description, m.MIMEType = r.Title, r.Doc, r.MIME
			}))
		}
	}
	return list
}

func (s *Server) readable(ctx context.Context) []*tool.Resource {
	r := requestFrom(ctx)
	if r == nil {
		return nil
	}
	return s.gateway.Resources(r.ctx, s.callerOf(ctx, r))
}

// codeDenied is of the range that JSON-RPC leaves to servers: a read that policy
// refuses, or that went wrong.
const codeDenied = -32003

// read is the handler of every resource.
func (s *Server) read(ctx context.Context, _ mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
	r := requestFrom(ctx)
	if r == nil {
		return nil, fmt.Errorf("a read that did not come through a transport")
	}
	reading := s.gateway.Read(r.ctx, s.callerOf(ctx, r), r.msg.uri)
	switch {
	case reading.Missing:
		r.refusal = &refusal{
			id: r.msg.id, code: notFoundCode(ctx), message: clipTo(reading.Text, 512),
			data: map[string]any{"uri": clip(r.msg.uri)},
		}
	case reading.Contents == nil:
		r.refusal = &refusal{
			id: r.msg.id, code: codeDenied, message: reading.Text,
			data: map[string]any{"uri": clip(r.msg.uri), decisionIDs: reading.DecisionIDs},
		}
	default:
		contents, err := contentsOf(r.msg.uri, reading)
		return []mcp.ResourceContents{contents}, err
	}
	return nil, nil
}

// notFoundCode is what the era of a request calls a resource that is not there.
func notFoundCode(ctx context.Context) int {
	if info := server.RequestProtocolInfoFromContext(ctx); info != nil && info.Modern {
		return mcp.INVALID_PARAMS
	}
	return mcp.RESOURCE_NOT_FOUND
}

// contentsOf is what was read as clients see it: bytes as a blob, the rest as
// text.
func contentsOf(uri string, r gateway.Reading) (mcp.ResourceContents, error) {
	meta := map[string]any{decisionIDs: r.DecisionIDs}
	text := func(s string) mcp.ResourceContents {
		return mcp.TextResourceContents{Meta: meta, URI: uri, MIMEType: r.Resource.MIME, Text: s}
	}
	switch contents := r.Contents.(type) {
	case []byte:
		blob := base64.StdEncoding.EncodeToString(contents)
		return mcp.BlobResourceContents{Meta: meta, URI: uri, MIMEType: r.Resource.MIME, Blob: blob}, nil
	case string:
		return text(contents), nil
	}
	b, err := json.Marshal(r.Contents)
	if err != nil {
		return nil, fmt.Errorf("resource %s: %w", r.Resource.URI, err)
	}
	return text(string(b)), nil
}
