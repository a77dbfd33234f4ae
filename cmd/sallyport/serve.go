package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/mcpserver"
	"github.com/sallyport/sallyport/pkg/tools"
)

func serveCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve MCP over stdio (default) or streamable HTTP",
		Long: `Serve the tools over stdio, or over streamable HTTP at /mcp with /healthz and
/readyz beside it. Both protocol eras are served on the one endpoint. Off
loopback it refuses to start without tokens.

SIGHUP, a changed file and ssh_reload_config load servers, credentials and
policy again; what does not load changes nothing. SIGTERM stops running
commands on their hosts, records it, and ends.

A flag goes over its environment variable, such as SALLYPORT_HTTP_LISTEN, and
that over sallyport.yml. The defaults are of where none of them says anything.`,
		Example: `  sallyport serve --config ./sallyport
  sallyport serve --config ./sallyport --transport http --listen 127.0.0.1:8022`,
		Args:        cobra.NoArgs,
		Annotations: marked(readsConfig, noOutput),
		RunE:        func(c *cobra.Command, _ []string) error { return serve(c) },
	}
	addTransportFlags(c)
	c.Flags().String("subject", "", "`NAME` of who calls over stdio (default: the OS user)")
	c.Flags().StringSlice("toolsets", nil, "`NAMES` of the toolsets to offer, out of "+strings.Join(tools.Sets(), ", ")+" (default: all)")
	c.Flags().Bool("global", false, "one namespace of open connections for each subject, not one for each session")
	c.Flags().String("log-level", "", "least `LEVEL` to log: debug, info, warn or error (default: info)")
	return c
}

// addTransportFlags are the settings on the command line that say where the
// gateway is.
func addTransportFlags(c *cobra.Command) {
	c.Flags().String("transport", "", "`NAME` of the transport, stdio or http (default: stdio)")
	c.Flags().String("listen", "", "`HOST:PORT` of the HTTP transport (default: 127.0.0.1:8022)")
}

// checkTransport refuses flags that the transport has no use for.
func checkTransport(c *cobra.Command, set config.Settings) error {
	for flag, transport := range map[string]string{"listen": "http", "subject": "stdio"} {
		if c.Flags().Changed(flag) && set.Transport != transport {
			return usageOf(c, fmt.Errorf("--%s is for --transport %s, and this is %s", flag, transport, set.Transport))
		}
	}
	return nil
}

func serve(c *cobra.Command) error {
	s, err := assemble(c.Context(), stackOptions{
		load: func() (*config.Config, error) {
			conf, err := loadOnly(c, config.Options{})
			if err != nil {
				return nil, err
			}
			return conf, checkTransport(c, conf.Settings)
		},
		stderr: c.ErrOrStderr(),
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(c.Context())
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		s.reloadOnChange(ctx)
	}()
	err = s.serve(ctx, c)
	stop()
	<-watching
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Load().Settings.HTTP.ShutdownTimeout)
	defer cancel()
	return errors.Join(err, s.close(ending))
}

func (s *stack) serve(ctx context.Context, c *cobra.Command) error {
	set := s.config.Load().Settings
	server := mcpserver.New(mcpserver.Options{Name: "sallyport", Version: version, Gateway: s.gateway, Logger: s.log, Behind: s.engine.Behind})
	if set.Transport == "stdio" {
		return server.ServeStdio(ctx, localCaller(set.Subject), pollable(c.InOrStdin()), c.OutOrStdout())
	}
	o, err := httpOptions(set)
	if err != nil {
		return err
	}
	o.Metrics = s.metrics()
	s.server.Store(server)
	return server.ListenAndServe(ctx, o, func(addr net.Addr) {
		s.log.Info("serving", "url", fmt.Sprintf("http://%s/mcp", addr), "tokens", len(o.Tokens))
	})
}

// pollable is a pipe from the client opened once more, for a read to wait in the
// runtime's poller instead of keeping a thread, which every message would have to
// wake first, and which would then have to wake another. Only a file of our own
// may be non-blocking: the one that we were given, others may share. What cannot
// be opened again, a socket say, is read as it is.
func pollable(in io.Reader) io.Reader {
	f, ok := in.(*os.File)
	if !ok {
		return in
	}
	if st, err := f.Stat(); err != nil || st.Mode().Type() != fs.ModeNamedPipe {
		return in
	}
	own, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return in
	}
	return own
}

func httpOptions(set config.Settings) (mcpserver.HTTPOptions, error) {
	o := mcpserver.HTTPOptions{
		Listen: set.HTTP.Listen, AllowedHosts: set.HTTP.AllowedHosts, AllowedOrigins: set.HTTP.AllowedOrigins,
		MaxBodyBytes: set.HTTP.MaxBodyBytes, SessionTTL: set.HTTP.SessionTTL,
		SessionLifetime: set.HTTP.SessionLifetime, MaxSessions: set.HTTP.MaxSessions,
		MaxSessionsPerSubject: set.HTTP.MaxSessionsPerSubject, ShutdownTimeout: set.HTTP.ShutdownTimeout,
	}
	var err error
	o.Tokens, err = tokensOf(set)
	return o, err
}

func tokensOf(set config.Settings) ([]mcpserver.Token, error) {
	var tokens []mcpserver.Token
	for _, t := range set.Tokens {
		token := mcpserver.Token{ID: t.ID, Groups: t.Groups}
		if n, err := hex.Decode(token.SHA256[:], []byte(t.SHA256)); err != nil || n != len(token.SHA256) {
			return nil, fmt.Errorf("token %s: sha256 is not 64 hex digits", t.ID)
		}
		tokens = append(tokens, token)
	}
	return tokens, nil
}
