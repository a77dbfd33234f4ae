package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/mcpserver"
	"github.com/sallyport/sallyport/pkg/mcpserver/mcpclient"
	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
)

func demoCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole thing working, on this machine alone",
		Long: `Start an SSH host and the gateway on loopback with fresh keys in a temporary
folder, connect a real MCP client, and show its calls being planned, judged,
run or refused, stopped, logged and verified. It needs no configuration, and
removes the folder at its end.`,
		Example: "  sallyport demo\n  sallyport demo --serve",
		Args:    cobra.NoArgs,
	}
	keep := c.Flags().Bool("serve", false, "leave the host and the gateway up until Ctrl-C, and print a client configuration")
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		if *keep && outputOf(c) == "json" {
			return errors.New("--serve has no output in JSON; leave one of the two out")
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return runDemo(c, *keep) }
	return c
}

func runDemo(c *cobra.Command, keep bool) (err error) {
	ctx, stop := context.WithCancel(c.Context())
	defer stop()
	d := &demo{screen: newScreen(c.OutOrStdout()), began: time.Now()}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.open(ctx, c.ErrOrStderr()); err != nil {
		return err
	}
	if keep {
		return d.keepServing(ctx)
	}
	if outputOf(c) == "json" {
		d.screen.w = io.Discard
	}
	if err := d.show(ctx); err != nil {
		return err
	}
	return print(c, d.calls, func(io.Writer) {})
}

// demo is everything that the show runs on.
type demo struct {
	screen *screen
	began  time.Time
	dir    string
	host   *sshtest.Server
	stack  *stack
	server chan error
	stop   context.CancelFunc
	url    string
	client *mcpclient.Session
	calls  []demoCall
}

// demoCall is one call of the show, for --output json.
type demoCall struct {
	Title     string          `json:"title"`
	Tool      string          `json:"tool"`
	Arguments map[string]any  `json:"arguments"`
	IsError   bool            `json:"is_error"`
	Result    json.RawMessage `json:"result"`
}

func (d *demo) open(ctx context.Context, stderr io.Writer) (err error) {
	if d.dir, err = os.MkdirTemp("", "sallyport-demo-"); err != nil {
		return err
	}
	if err := d.openHost(ctx); err != nil {
		return fmt.Errorf("demo host: %w", err)
	}
	d.stack, err = assemble(ctx, stackOptions{
		load:   func() (*config.Config, error) { return config.Load(config.Options{Dir: d.dir, Env: noEnv}) },
		stderr: stderr,
	})
	if err != nil {
		return err
	}
	return d.openServer(ctx)
}

// openHost starts the SSH host and writes the configuration that leads to it.
func (d *demo) openHost(ctx context.Context) error {
	key, public, err := sshtest.NewKeyFile()
	if err != nil {
		return err
	}
	d.host, err = sshtest.Serve(ctx, sshtest.Options{User: "demo", AuthorizedKey: public, Dir: d.dir})
	if err != nil {
		return err
	}
	return writeDemoConfig(d.dir, d.host.Addr(), d.host.KnownHostsLine(), key)
}

// openServer serves MCP over HTTP on a free port of loopback.
func (d *demo) openServer(ctx context.Context) error {
	set := d.stack.config.Load().Settings
	o, err := httpOptions(set)
	if err != nil {
		return err
	}
	server := mcpserver.New(mcpserver.Options{Name: "sallyport", Version: version, Gateway: d.stack.gateway, Logger: d.stack.log})
	ctx, d.stop = context.WithCancel(ctx)
	d.server = make(chan error, 1)
	ready := make(chan net.Addr, 1)
	go func() {
		d.server <- server.ListenAndServe(ctx, o, func(a net.Addr) { ready <- a })
	}()
	select {
	case a := <-ready:
		d.url = fmt.Sprintf("http://%s/mcp", a)
		return nil
	case err := <-d.server:
		d.server = nil
		return err
	}
}

func (d *demo) close() error {
	var problems []error
	if d.client != nil {
		problems = append(problems, d.client.Close())
	}
	if d.server != nil {
		d.stop()
		problems = append(problems, <-d.server)
	}
	if d.stack != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		problems = append(problems, d.stack.close(ctx))
		cancel()
	}
	if d.host != nil {
		problems = append(problems, d.host.Close())
	}
	return errors.Join(append(problems, os.RemoveAll(d.dir))...)
}

// keepServing prints how to reach what is running and waits to be told to stop.
func (d *demo) keepServing(ctx context.Context) error {
	clients, err := json.MarshalIndent(map[string]any{"mcpServers": map[string]any{
		"sallyport": map[string]string{"type": "http", "url": d.url},
	}}, "", "  ")
	if err != nil {
		return err
	}
	d.screen.line("The gateway serves MCP at %s and has one host, demo (%s).", d.url, d.host.Addr())
	d.screen.line("Configuration, keys and logs are in %s.", d.dir)
	d.screen.line("")
	d.screen.line("For an MCP client:")
	d.screen.line("%s", clients)
	d.screen.line("")
	d.screen.line("Ctrl-C ends both and removes the folder.")
	select {
	case <-ctx.Done():
		return nil
	case err := <-d.server:
		d.server = nil
		return err
	}
}

func (d *demo) log(name string) string { return filepath.Join(d.dir, name) }
