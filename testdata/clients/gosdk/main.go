// The official Go SDK's client, put through the same checks as the JavaScript
// clients beside it, with the same options. See ../README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type options struct {
	era, url, token, alias, allow, deny, slow string
	leave                                     bool
	command                                   []string
}

// client is a connected session and what it was told.
type client struct {
	*mcp.ClientSession
	options
	progress chan *mcp.ProgressNotificationParams
}

type check struct {
	name string
	run  func(context.Context, *client) error
}

var checks = []check{
	{"negotiate", negotiate},
	{"list", list},
	{"plan", plan},
	{"run", run},
	{"refusal", refusal},
	{"argument", argument},
	{"unknown", unknown},
	{"resources", resources},
	{"prompts", prompts},
	{"cancel", cancel},
}

func main() {
	var o options
	flag.StringVar(&o.era, "era", "2026-07-28", "")
	flag.StringVar(&o.url, "url", "", "")
	flag.StringVar(&o.token, "token", "", "")
	flag.StringVar(&o.alias, "alias", "web1", "")
	flag.StringVar(&o.allow, "allow", "uptime", "")
	flag.StringVar(&o.deny, "deny", "uptime; id", "")
	flag.StringVar(&o.slow, "slow", "sleep 60", "")
	flag.BoolVar(&o.leave, "leave", false, "")
	flag.Parse()
	o.command = flag.Args()

	summary := map[string]any{"client": "go-sdk", "version": "1.8.0", "era": o.era, "transport": "stdio"}
	if o.url != "" {
		summary["transport"] = "http"
	}
	results, err := try(o)
	summary["checks"] = results
	if err != nil {
		summary["problem"] = err.Error()
	}
	ok := err == nil
	for _, r := range results {
		ok = ok && r == "ok"
	}
	summary["ok"] = ok
	out, _ := json.MarshalIndent(summary, "", "  ")
	fmt.Println(string(out))
	if !ok {
		os.Exit(1)
	}
}

func try(o options) (map[string]string, error) {
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	defer stop()
	transport, err := o.transport()
	if err != nil {
		return nil, err
	}
	c := &client{options: o, progress: make(chan *mcp.ProgressNotificationParams, 100)}
	sdk := mcp.NewClient(&mcp.Implementation{Name: "go-sdk", Version: "1.8.0"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			c.progress <- r.Params
		},
	})
	if c.ClientSession, err = sdk.Connect(ctx, transport, &mcp.ClientSessionOptions{ProtocolVersion: o.era}); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if o.leave {
		return nil, leave(ctx, c)
	}
	results := map[string]string{}
	for _, check := range checks {
		results[check.name] = "ok"
		if err := check.run(ctx, c); err != nil {
			results[check.name] = err.Error()
		}
	}
	return results, c.Close()
}

func (o options) transport() (mcp.Transport, error) {
	switch {
	case (o.url == "") == (len(o.command) == 0):
		return nil, errors.New("give either -url or a command")
	case o.url == "":
		cmd := exec.Command(o.command[0], o.command[1:]...)
		cmd.Stderr = os.Stderr
		return &mcp.CommandTransport{Command: cmd}, nil
	}
	return &mcp.StreamableClientTransport{Endpoint: o.url, HTTPClient: &http.Client{Transport: bearer(o.token)}}, nil
}

// bearer adds a token to every request, if there is one.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+string(b))
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (c *client) call(ctx context.Context, name string, args map[string]any) (*mcp.CallToolResult, error) {
	params := &mcp.CallToolParams{Name: name, Arguments: args}
	params.SetProgressToken(name)
	return c.CallTool(ctx, params)
}

func textOf(r *mcp.CallToolResult) string {
	var b strings.Builder
	for _, part := range r.Content {
		if t, ok := part.(*mcp.TextContent); ok {
			b.WriteString(t.Text)
		}
	}
	return b.String()
}

func field(r *mcp.CallToolResult, name string) any {
	object, _ := r.StructuredContent.(map[string]any)
	return object[name]
}

func negotiate(_ context.Context, c *client) error {
	if got := c.InitializeResult().ProtocolVersion; got != c.era {
		return fmt.Errorf("negotiated %s", got)
	}
	return nil
}

func list(ctx context.Context, c *client) error {
	r, err := c.ListTools(ctx, nil)
	if err != nil {
		return err
	}
	var names []string
	for _, t := range r.Tools {
		names = append(names, t.Name)
		if t.Description == "" || t.InputSchema == nil || t.OutputSchema == nil || t.Annotations == nil ||
			t.Annotations.DestructiveHint == nil || t.Annotations.OpenWorldHint == nil {
			return fmt.Errorf("%s is not described", t.Name)
		}
	}
	for _, name := range []string{"ssh_list_hosts", "ssh_plan", "ssh_run"} {
		if !slices.Contains(names, name) {
			return fmt.Errorf("no %s among %v", name, names)
		}
	}
	if !slices.IsSorted(names) {
		return fmt.Errorf("the list is not sorted: %v", names)
	}
	return nil
}

func plan(ctx context.Context, c *client) error {
	for command, want := range map[string]bool{c.allow: true, c.deny: false} {
		r, err := c.call(ctx, "ssh_plan", map[string]any{"alias": c.alias, "command": command})
		if err != nil {
			return err
		}
		if got, _ := field(r, "allowed").(bool); got != want {
			return fmt.Errorf("%q is planned as %v: %s", command, r.StructuredContent, textOf(r))
		}
	}
	return nil
}

func run(ctx context.Context, c *client) error {
	r, err := c.call(ctx, "ssh_run", map[string]any{"alias": c.alias, "command": c.allow})
	if err != nil {
		return err
	}
	if r.IsError || field(r, "status") != "ok" || textOf(r) == "" {
		return fmt.Errorf("an allowed command did not run: %v: %s", r.StructuredContent, textOf(r))
	}
	return nil
}

func refusal(ctx context.Context, c *client) error {
	r, err := c.call(ctx, "ssh_run", map[string]any{"alias": c.alias, "command": c.deny})
	if err != nil {
		return err
	}
	if !r.IsError || field(r, "status") != "denied" || textOf(r) == "" {
		return fmt.Errorf("a forbidden command is not refused: %v: %s", r.StructuredContent, textOf(r))
	}
	return nil
}

func argument(ctx context.Context, c *client) error {
	r, err := c.call(ctx, "ssh_run", map[string]any{"alias": c.alias, "Command": c.allow})
	if err != nil {
		return err
	}
	if !r.IsError || !strings.Contains(strings.ToLower(textOf(r)), "command") {
		return fmt.Errorf("a wrong argument is not named: %s", textOf(r))
	}
	return nil
}

func unknown(ctx context.Context, c *client) error {
	_, err := c.call(ctx, "ssh_rum", nil)
	if err == nil || !strings.Contains(err.Error(), "ssh_rum") || !strings.Contains(err.Error(), "ssh_run") {
		return fmt.Errorf("an unknown tool is not answered with close names: %v", err)
	}
	return nil
}

// resources wants the lists, what they name, and an error for what is not there.
func resources(ctx context.Context, c *client) error {
	list, err := c.ListResources(ctx, nil)
	if err != nil {
		return err
	}
	templates, err := c.ListResourceTemplates(ctx, nil)
	if err != nil {
		return err
	}
	if len(list.Resources) != 1 || list.Resources[0].URI != "ssh://hosts" || len(templates.ResourceTemplates) != 3 {
		return fmt.Errorf("%d resources and %d templates", len(list.Resources), len(templates.ResourceTemplates))
	}
	var hosts struct {
		Count int
		Hosts []struct{ Alias string }
	}
	if err := c.read(ctx, "ssh://hosts", &hosts); err != nil {
		return err
	}
	if hosts.Count != len(hosts.Hosts) || !slices.ContainsFunc(hosts.Hosts, func(h struct{ Alias string }) bool { return h.Alias == c.alias }) {
		return fmt.Errorf("no %s among %v", c.alias, hosts)
	}
	for _, t := range templates.ResourceTemplates {
		var part struct {
			Alias  string
			Probes []struct{ Allowed bool } `json:"policy_probes"`
		}
		uri := strings.Replace(t.URITemplate, "{alias}", c.alias, 1)
		if err := c.read(ctx, uri, &part); err != nil {
			return err
		}
		if part.Alias != c.alias || strings.HasSuffix(uri, "/capabilities") && (len(part.Probes) == 0 || !part.Probes[0].Allowed) {
			return fmt.Errorf("%s holds %+v", uri, part)
		}
	}
	if err := c.read(ctx, "ssh://host/moon", &hosts); err == nil || !strings.Contains(err.Error(), "ssh://host/moon") {
		return fmt.Errorf("a host that is not there: %v", err)
	}
	return nil
}

func (c *client) read(ctx context.Context, uri string, to any) error {
	r, err := c.ReadResource(ctx, &mcp.ReadResourceParams{URI: uri})
	if err != nil {
		return err
	}
	if len(r.Contents) != 1 || r.Contents[0].MIMEType != "application/json" {
		return fmt.Errorf("%s has %d contents", uri, len(r.Contents))
	}
	return json.Unmarshal([]byte(r.Contents[0].Text), to)
}

func prompts(ctx context.Context, c *client) error {
	list, err := c.ListPrompts(ctx, nil)
	if err != nil {
		return err
	}
	if len(list.Prompts) != 6 {
		return fmt.Errorf("%d prompts", len(list.Prompts))
	}
	for _, p := range list.Prompts {
		r, err := c.GetPrompt(ctx, &mcp.GetPromptParams{Name: p.Name})
		if err != nil {
			return err
		}
		text, ok := r.Messages[0].Content.(*mcp.TextContent)
		if !ok || len(r.Messages) != 1 || p.Description == "" || len(text.Text) < 100 {
			return fmt.Errorf("%s has %d messages, the first one %+v", p.Name, len(r.Messages), r.Messages[0].Content)
		}
	}
	return nil
}

// runSlow makes the slow call and returns when the command runs. How the call
// ended is sent on the channel.
func (c *client) runSlow(ctx context.Context) (ended chan error, err error) {
	for len(c.progress) > 0 {
		<-c.progress
	}
	ended = make(chan error, 1)
	go func() {
		_, err := c.call(ctx, "ssh_run", map[string]any{"alias": c.alias, "command": c.slow})
		ended <- err
	}()
	late := time.After(20 * time.Second)
	for {
		select {
		case p := <-c.progress:
			if strings.Contains(p.Message, "running") {
				return ended, nil
			}
		case err := <-ended:
			return nil, fmt.Errorf("ended before it was said to run: %v", err)
		case <-late:
			return nil, errors.New("it is not said to run")
		}
	}
}

// leave vanishes, without a word, while a command runs.
func leave(ctx context.Context, c *client) error {
	if _, err := c.runSlow(ctx); err != nil {
		return err
	}
	fmt.Println(`{"ok": true}`)
	os.Exit(0)
	return nil
}

// cancel wants one call to show progress and cancels it when the command runs;
// the session must be usable afterwards.
func cancel(ctx context.Context, c *client) error {
	brief, stop := context.WithCancel(ctx)
	defer stop()
	ended, err := c.runSlow(brief)
	if err != nil {
		return err
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		return fmt.Errorf("the cancelled call ended with %v", err)
	}
	_, err = c.call(ctx, "ssh_plan", map[string]any{"alias": c.alias, "command": c.allow})
	return err
}
