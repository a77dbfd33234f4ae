//go:build conformance

package mcpserver

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/sallyport/sallyport/pkg/tool"
)

// The conformance suite of the protocol tries a server with tools, resources and
// prompts whose names and contents it prescribes. They are compiled in under the
// build tag conformance only. The tools and resources come to this package from
// the gateway like all others, so that policy judges them and both logs have
// them; what a tool then does is written down here, because it is about nothing
// but the protocol.

// Fixtures are the suite's tools and resources, for the gateway.
func Fixtures() ([]*tool.Tool, []*tool.Resource) {
	var tools []*tool.Tool
	for _, f := range fixtures {
		tools = append(tools, f.tool())
	}
	return tools, fixtureResources()
}

// fixture is a tool of the suite.
type fixture struct {
	name, doc string
	input     string // JSON Schema; empty: no arguments
	act       func(*Server, context.Context, *request, mcp.CallToolRequest) *mcp.CallToolResult
}

var fixtures = []fixture{
	{"test_simple_text", "Returns a text.", "", says(mcp.NewTextContent("This is a simple text response for testing."))},
	{"test_image_content", "Returns an image.", "", says(mcp.NewImageContent(pixel, "image/png"))},
	{"test_audio_content", "Returns a sound.", "", says(mcp.NewAudioContent(silence, "audio/wav"))},
	{"test_embedded_resource", "Returns a resource.", "", says(embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."))},
	{"test_multiple_content_types", "Returns several contents.", "", says(
		mcp.NewTextContent("Multiple content types test:"),
		mcp.NewImageContent(pixel, "image/png"),
		embedded("test://mixed-content-resource", "application/json", `{"test":"data","value":123}`),
	)},
	{"test_error_handling", "Fails.", "", failing},
	{"test_tool_with_logging", "Writes log messages.", "", logging},
	{"test_logging_tool", "Writes a log message if the request asks for it.", "", loggingIfAsked},
	{"test_tool_with_progress", "Shows progress.", "", progressing},
	{"test_sampling", "Asks the client's model.", `{"type":"object","properties":{"prompt":{"type":"string"}},"required":["prompt"]}`, sampling},
	{"test_elicitation", "Asks the user.", `{"type":"object","properties":{"message":{"type":"string"}},"required":["message"]}`, eliciting},
	{"test_elicitation_sep1034_defaults", "Asks the user, with defaults.", "", asking("Elicitation completed", "Please provide your information", defaultsForm)},
	{"test_elicitation_sep1330_enums", "Asks the user to choose.", "", asking("Elicitation completed", "Please choose", enumsForm)},
	{"test_streaming_elicitation", "Asks the user.", "", asking("User response", "What is your name?", nameForm)},
	{"json_schema_2020_12_tool", "Has a schema with all that JSON Schema 2020-12 has.", schema2020, says(mcp.NewTextContent("done"))},
	{"test_missing_capability", "Needs a client that can sample.", "", needsSampling},
	{"test_trigger_tool_change", "Says that the list of tools has changed.", "", changing(mcp.MethodNotificationToolsListChanged)},
	{"test_trigger_prompt_change", "Says that the list of prompts has changed.", "", changing(mcp.MethodNotificationPromptsListChanged)},
	{"test_input_required_result_elicitation", "Asks for a name.", "", inputName},
	{"test_input_required_result_sampling", "Asks the client's model.", "", inputSampling},
	{"test_input_required_result_list_roots", "Asks for the client's roots.", "", inputRoots},
	{"test_input_required_result_request_state", "Asks, with a state.", "", inputState},
	{"test_input_required_result_tampered_state", "Asks, with a state that cannot be changed.", "", inputState},
	{"test_input_required_result_multiple_inputs", "Asks for several things.", "", inputSeveral},
	{"test_input_required_result_multi_round", "Asks twice.", "", inputTwice},
	{"test_input_required_result_capabilities", "Asks for what the client can answer.", "", inputCapabilities},
}

// tool is the fixture as the gateway has it: a question to the gateway itself.
func (f fixture) tool() *tool.Tool {
	return f.telling(func(_ json.RawMessage, runs []tool.Run) tool.Result { return tool.StatusOf(runs[0]) })
}

func (f fixture) telling(result func(args json.RawMessage, runs []tool.Run) tool.Result) *tool.Tool {
	input := f.input
	if input == "" {
		input = `{"type":"object","properties":{}}`
	}
	return &tool.Tool{
		Name: f.name, Set: "conformance", Doc: f.doc, Effect: tool.Observe, Input: json.RawMessage(input),
		Plan: func(args json.RawMessage) (tool.Plan, error) {
			return tool.Plan{
				Steps:  []tool.Step{tool.AskGateway(tool.GatewayRead, tool.AskPing, "")},
				Result: func(runs []tool.Run) tool.Result { return result(args, runs) },
			}, nil
		},
	}
}

func (s *Server) fixture(r *request) server.ToolHandlerFunc {
	for _, f := range fixtures {
		if f.name == r.tool.Name {
			return func(ctx context.Context, call mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return f.act(s, ctx, r, call), nil
			}
		}
	}
	return nil
}

// changes says that there is something to subscribe to.
const changes = true

// fixtureOptions are the capabilities that no tool of ours has a use for.
func (s *Server) fixtureOptions() []server.ServerOption {
	return []server.ServerOption{
		server.WithToolCapabilities(true), server.WithPromptCapabilities(true), server.WithResourceCapabilities(true, true),
		server.WithCompletions(), server.WithLogging(), server.WithElicitation(),
	}
}

const (
	pixel   = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
	silence = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
)

func embedded(uri, mime, text string) mcp.EmbeddedResource {
	return mcp.NewEmbeddedResource(mcp.TextResourceContents{URI: uri, MIMEType: mime, Text: text})
}

type act = func(*Server, context.Context, *request, mcp.CallToolRequest) *mcp.CallToolResult

func says(contents ...mcp.Content) act {
	return func(*Server, context.Context, *request, mcp.CallToolRequest) *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: contents}
	}
}

func failing(*Server, context.Context, *request, mcp.CallToolRequest) *mcp.CallToolResult {
	return mcp.NewToolResultError("This tool intentionally returns an error for testing")
}

// notify sends a notification on the call's own response; that the client has
// gone is seen elsewhere.
func notify(r *request, method mcp.MCPMethod, params map[string]any) {
	_ = r.out.notify(string(method), params)
}

func logMessage(r *request, text string) {
	notify(r, mcp.MethodNotificationMessage, map[string]any{"level": "info", "logger": "conformance", "data": text})
}

const pause = 50 * time.Millisecond

func logging(_ *Server, _ context.Context, r *request, _ mcp.CallToolRequest) *mcp.CallToolResult {
	for _, text := range []string{"Tool execution started", "Tool processing data", "Tool execution completed"} {
		logMessage(r, text)
		time.Sleep(pause)
	}
	return mcp.NewToolResultText("logged")
}

func loggingIfAsked(_ *Server, ctx context.Context, r *request, _ mcp.CallToolRequest) *mcp.CallToolResult {
	if info := server.RequestProtocolInfoFromContext(ctx); info == nil || !info.Modern || info.LogLevel != "" {
		logMessage(r, "a message")
	}
	return mcp.NewToolResultText("done")
}

func progressing(_ *Server, _ context.Context, r *request, _ mcp.CallToolRequest) *mcp.CallToolResult {
	for _, n := range []int{0, 50, 100} {
		if r.msg.progress != nil {
			notify(r, mcp.MethodNotificationProgress, map[string]any{"progressToken": r.msg.progress, "progress": n, "total": 100})
		}
		time.Sleep(pause)
	}
	return mcp.NewToolResultText("progress reported")
}

func changing(method string) act {
	return func(s *Server, _ context.Context, _ *request, _ mcp.CallToolRequest) *mcp.CallToolResult {
		s.mcp.SendNotificationToAllClients(method, nil)
		return mcp.NewToolResultText("changed")
	}
}

// needsSampling answers with the protocol's own error when the client has not
// declared what is needed.
func needsSampling(_ *Server, ctx context.Context, r *request, _ mcp.CallToolRequest) *mcp.CallToolResult {
	if c := capabilitiesOf(ctx); c == nil || c.Sampling == nil {
		r.refusal = &refusal{
			id: r.msg.id, code: mcp.MISSING_REQUIRED_CLIENT_CAPABILITY, message: "the client has not declared sampling",
			data: map[string]any{"requiredCapabilities": map[string]any{"sampling": map[string]any{}}},
		}
	}
	return mcp.NewToolResultText("done")
}

func capabilitiesOf(ctx context.Context) *mcp.ClientCapabilities {
	if info := server.RequestProtocolInfoFromContext(ctx); info != nil {
		return info.ClientCapabilities
	}
	return nil
}

// What follows asks the client for something: the new era answers with a request
// for input, the old one is asked by mcp-go while the call waits.

func form(properties string, required ...string) map[string]any {
	f := map[string]any{"type": "object", "properties": json.RawMessage(properties)}
	if len(required) > 0 {
		f["required"] = required
	}
	return f
}

var (
	nameForm     = form(`{"name":{"type":"string"}}`, "name")
	okForm       = form(`{"ok":{"type":"boolean"}}`, "ok")
	colorForm    = form(`{"color":{"type":"string"}}`, "color")
	contextForm  = form(`{"context":{"type":"string"}}`, "context")
	responseForm = form(`{"username":{"type":"string","description":"User's response"},"email":{"type":"string","description":"User's email address"}}`, "username", "email")
	defaultsForm = form(`{"name":{"type":"string","default":"John Doe"},"age":{"type":"integer","default":30},
		"score":{"type":"number","default":95.5},"status":{"type":"string","enum":["active","inactive","pending"],"default":"active"},
		"verified":{"type":"boolean","default":true}}`)
	enumsForm = form(`{"untitledSingle":{"type":"string","enum":["option1","option2","option3"]},
		"titledSingle":{"type":"string","oneOf":[{"const":"value1","title":"First Option"},{"const":"value2","title":"Second Option"},{"const":"value3","title":"Third Option"}]},
		"legacyEnum":{"type":"string","enum":["opt1","opt2","opt3"],"enumNames":["Option One","Option Two","Option Three"]},
		"untitledMulti":{"type":"array","items":{"type":"string","enum":["option1","option2","option3"]}},
		"titledMulti":{"type":"array","items":{"anyOf":[{"const":"value1","title":"First Choice"},{"const":"value2","title":"Second Choice"},{"const":"value3","title":"Third Choice"}]}}}`)
)

func ask(message string, schema map[string]any) mcp.ElicitationParams {
	return mcp.ElicitationParams{Message: message, RequestedSchema: schema}
}

func toModel(text string, tokens int) mcp.CreateMessageParams {
	return mcp.CreateMessageParams{
		Messages:  []mcp.SamplingMessage{{Role: mcp.RoleUser, Content: mcp.NewTextContent(text)}},
		MaxTokens: tokens,
	}
}

func sampled(r *mcp.CreateMessageResult) string {
	b, err := json.Marshal(r.Content)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func asking(intro, message string, schema map[string]any) act {
	return func(_ *Server, _ context.Context, _ *request, call mcp.CallToolRequest) *mcp.CallToolResult {
		if a := server.ElicitationResponse(call.Params.InputResponses, "answer"); a != nil {
			return mcp.NewToolResultText(fmt.Sprintf("%s: action=%s, content=%s", intro, a.Action, marshalled(a.Content)))
		}
		return server.NewInputRequestBuilder("").Elicit("answer", ask(message, schema)).ToolResult()
	}
}

func marshalled(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func eliciting(s *Server, ctx context.Context, r *request, call mcp.CallToolRequest) *mcp.CallToolResult {
	return asking("User response", call.GetString("message", ""), responseForm)(s, ctx, r, call)
}

func sampling(_ *Server, _ context.Context, _ *request, call mcp.CallToolRequest) *mcp.CallToolResult {
	if a := server.SamplingResponse(call.Params.InputResponses, "answer"); a != nil {
		return mcp.NewToolResultText("LLM response: " + sampled(a))
	}
	return server.NewInputRequestBuilder("").Sample("answer", toModel(call.GetString("prompt", ""), 100)).ToolResult()
}

func inputName(_ *Server, _ context.Context, _ *request, call mcp.CallToolRequest) *mcp.CallToolResult {
	if a := server.ElicitationResponse(call.Params.InputResponses, "user_name"); a != nil {
		content, _ := a.Content.(map[string]any)
		return mcp.NewToolResultText(fmt.Sprintf("Hello, %v!", content["name"]))
	}
	return server.NewInputRequestBuilder("").Elicit("user_name", ask("What is your name?", nameForm)).ToolResult()
}

func inputSampling(_ *Server, _ context.Context, _ *request, call mcp.CallToolRequest) *mcp.CallToolResult {
	if a := server.SamplingResponse(call.Params.InputResponses, "capital_question"); a != nil {
		return mcp.NewToolResultText(sampled(a))
	}
	return server.NewInputRequestBuilder("").Sample("capital_question", toModel("What is the capital of France?", 100)).ToolResult()
}

func inputRoots(_ *Server, _ context.Context, _ *request, call mcp.CallToolRequest) *mcp.CallToolResult {
	if a := server.RootsResponse(call.Params.InputResponses, "client_roots"); a != nil {
		return mcp.NewToolResultText(marshalled(a.Roots))
	}
	return server.NewInputRequestBuilder("").Roots("client_roots").ToolResult()
}

func inputSeveral(_ *Server, _ context.Context, r *request, call mcp.CallToolRequest) *mcp.CallToolResult {
	given := call.Params.InputResponses
	if server.ElicitationResponse(given, "user_name") != nil && server.SamplingResponse(given, "greeting") != nil && server.RootsResponse(given, "client_roots") != nil {
		if !opened(r, call.Params.RequestState, "several") {
			return nil
		}
		return mcp.NewToolResultText("all three answers are there")
	}
	return server.NewInputRequestBuilder(sealed("several")).
		Elicit("user_name", ask("What is your name?", nameForm)).
		Sample("greeting", toModel("Generate a greeting", 50)).
		Roots("client_roots").ToolResult()
}

func inputState(_ *Server, _ context.Context, r *request, call mcp.CallToolRequest) *mcp.CallToolResult {
	if server.ElicitationResponse(call.Params.InputResponses, "confirm") != nil || call.Params.RequestState != "" {
		if !opened(r, call.Params.RequestState, "confirm") {
			return nil
		}
		return mcp.NewToolResultText("state-ok")
	}
	return server.NewInputRequestBuilder(sealed("confirm")).Elicit("confirm", ask("Please confirm", okForm)).ToolResult()
}

func inputTwice(_ *Server, _ context.Context, r *request, call mcp.CallToolRequest) *mcp.CallToolResult {
	given := call.Params.InputResponses
	switch {
	case server.ElicitationResponse(given, "step2") != nil:
		if !opened(r, call.Params.RequestState, "step2") {
			return nil
		}
		return mcp.NewToolResultText("both steps are done")
	case server.ElicitationResponse(given, "step1") != nil:
		if !opened(r, call.Params.RequestState, "step1") {
			return nil
		}
		return server.NewInputRequestBuilder(sealed("step2")).Elicit("step2", ask("Step 2: What is your favorite color?", colorForm)).ToolResult()
	}
	return server.NewInputRequestBuilder(sealed("step1")).Elicit("step1", ask("Step 1: What is your name?", nameForm)).ToolResult()
}

func inputCapabilities(_ *Server, ctx context.Context, _ *request, call mcp.CallToolRequest) *mcp.CallToolResult {
	if len(call.Params.InputResponses) > 0 {
		return mcp.NewToolResultText("answered")
	}
	b := server.NewInputRequestBuilder("")
	c := capabilitiesOf(ctx)
	if c != nil && c.Sampling != nil {
		b.Sample("greeting", toModel("Generate a greeting", 50))
	}
	if c != nil && c.Elicitation != nil {
		b.Elicit("user_name", ask("What is your name?", nameForm))
	}
	return b.ToolResult()
}

// seal keeps a state from being made up by the client that carries it.
var seal = []byte(rand.Text())

func sealed(state string) string {
	mac := hmac.New(sha256.New, seal)
	mac.Write([]byte(state))
	return state + "." + hex.EncodeToString(mac.Sum(nil))
}

// opened says that a state is the expected one; another is refused.
func opened(r *request, got, want string) bool {
	if hmac.Equal([]byte(got), []byte(sealed(want))) {
		return true
	}
	r.refusal = &refusal{id: r.msg.id, code: mcp.INVALID_PARAMS, message: "requestState is not what was sent"}
	return false
}

// schema2020 is the schema that the suite wants to see as it was written.
const schema2020 = `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object",
	"$defs":{"address":{"$anchor":"addressDef","type":"object","properties":{"street":{"type":"string"},"city":{"type":"string"}}}},
	"properties":{"name":{"type":"string"},"address":{"$ref":"#/$defs/address"},"contactMethod":{"type":"string","enum":["phone","email"]},
		"phone":{"type":"string"},"email":{"type":"string"}},
	"allOf":[{"anyOf":[{"required":["phone"]},{"required":["email"]}]}],
	"if":{"properties":{"contactMethod":{"const":"phone"}},"required":["contactMethod"]},
	"then":{"required":["phone"]},"else":{"required":["email"]},"additionalProperties":false}`

// fixtureReading is what a resource of the suite holds.
type fixtureReading struct {
	tool.Status
	contents any
}

func (r fixtureReading) Contents() any { return r.contents }

func fixtureResources() []*tool.Resource {
	resource := func(uri, name, mime string, contents func(args json.RawMessage) any) *tool.Resource {
		t := fixture{name: name, doc: "A resource for testing."}.telling(func(args json.RawMessage, runs []tool.Run) tool.Result {
			return fixtureReading{tool.StatusOf(runs[0]), contents(args)}
		})
		return &tool.Resource{URI: uri, Title: name, Doc: t.Doc, MIME: mime, Tool: t}
	}
	return []*tool.Resource{
		resource("test://static-text", "static_text", "text/plain", func(json.RawMessage) any {
			return "This is the content of the static text resource."
		}),
		resource("test://static-binary", "static_binary", "image/png", func(json.RawMessage) any {
			b, _ := base64.StdEncoding.DecodeString(pixel)
			return b
		}),
		resource("test://template/{id}/data", "template_data", "application/json", func(args json.RawMessage) any {
			var a struct{ ID string }
			_ = json.Unmarshal(args, &a) // made by Match
			return map[string]any{"id": a.ID, "templateTest": true, "data": "Data for ID: " + a.ID}
		}),
	}
}

// addFixtures has mcp-go serve the suite's prompts, and lets it ask clients.
func (s *Server) addFixtures(m *server.MCPServer) {
	m.EnableSampling()
	user := func(contents ...mcp.Content) *mcp.GetPromptResult {
		var messages []mcp.PromptMessage
		for _, c := range contents {
			messages = append(messages, mcp.NewPromptMessage(mcp.RoleUser, c))
		}
		return mcp.NewGetPromptResult("A prompt for testing.", messages)
	}
	add := func(name string, args []string, get func(mcp.GetPromptRequest) *mcp.GetPromptResult) {
		p := mcp.Prompt{Name: name, Title: titleOf(name), Description: "A prompt for testing."}
		for _, a := range args {
			p.Arguments = append(p.Arguments, mcp.PromptArgument{Name: a, Description: "An argument.", Required: true})
		}
		m.AddPrompt(p, func(_ context.Context, r mcp.GetPromptRequest) (*mcp.GetPromptResult, error) { return get(r), nil })
	}
	add("test_simple_prompt", nil, func(mcp.GetPromptRequest) *mcp.GetPromptResult {
		return user(mcp.NewTextContent("This is a simple prompt for testing."))
	})
	add("test_prompt_with_arguments", []string{"arg1", "arg2"}, func(r mcp.GetPromptRequest) *mcp.GetPromptResult {
		a := r.Params.Arguments
		return user(mcp.NewTextContent(fmt.Sprintf("Prompt with arguments: arg1='%s', arg2='%s'", a["arg1"], a["arg2"])))
	})
	add("test_prompt_with_embedded_resource", []string{"resourceUri"}, func(r mcp.GetPromptRequest) *mcp.GetPromptResult {
		return user(embedded(r.Params.Arguments["resourceUri"], "text/plain", "Embedded resource content for testing."),
			mcp.NewTextContent("Please process the embedded resource above."))
	})
	add("test_prompt_with_image", nil, func(mcp.GetPromptRequest) *mcp.GetPromptResult {
		return user(mcp.NewImageContent(pixel, "image/png"), mcp.NewTextContent("Please analyze the image above."))
	})
	add("test_input_required_result_prompt", nil, func(r mcp.GetPromptRequest) *mcp.GetPromptResult {
		if a := server.ElicitationResponse(r.Params.InputResponses, "user_context"); a != nil {
			return user(mcp.NewTextContent("Context: " + strings.TrimSpace(marshalled(a.Content))))
		}
		return server.NewInputRequestBuilder("").Elicit("user_context", ask("What context should the prompt use?", contextForm)).PromptResult()
	})
}
