package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
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
		return server.ServeStdio(ctx, localCaller(set.Subject), c.InOrStdin(), c.OutOrStdout())
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

// settle is how long the files must rest before they are read: editors and
// config maps write several at once.
const settle = 300 * time.Millisecond

// reloadOnChange loads the configuration again at SIGHUP and when one of its
// files changes, until ctx is done.
func (s *stack) reloadOnChange(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	files := s.watchFiles()
	defer files.close()
	rest := time.NewTimer(settle)
	rest.Stop()
	// Loading takes twice the memory that it leaves in use.
	debug.FreeOSMemory()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			s.reloadFor(ctx, "SIGHUP")
		case e := <-files.changes:
			if s.isRead(e.Name) {
				files.add(e.Name)
				rest.Reset(settle)
			}
		case err := <-files.problems:
			s.log.Warn("watching files", "problem", err)
		case <-rest.C:
			s.reloadFor(ctx, "file change")
		}
	}
}

// isRead says that the configuration is read from a file, directly or through
// the link of a ConfigMap.
func (s *stack) isRead(file string) bool {
	conf := s.config.Load()
	return strings.HasSuffix(file, ".yml") || filepath.Base(file) == configMapLink ||
		slices.Contains(conf.KnownHosts(), file) ||
		slices.ContainsFunc(bundlePaths(conf), func(path string) bool {
			return file == path || strings.HasPrefix(file, path+string(filepath.Separator))
		})
}

// bundlePaths are where the bundles are that do not come with the program.
func bundlePaths(conf *config.Config) []string {
	paths := slices.Clone(conf.Settings.Policy.Custom)
	if main := conf.Settings.Policy.Bundle; main != "" {
		paths = append(paths, main)
	}
	for _, b := range conf.Settings.Policy.Bundles {
		if b.Path != "" {
			paths = append(paths, b.Path)
		}
	}
	return paths
}

// configMapLink is what Kubernetes swaps when a mounted ConfigMap changes.
const configMapLink = "..data"

// reloadFor reloads; how it went is in the log and in the audit stream.
func (s *stack) reloadFor(ctx context.Context, why string) { _, _ = s.gateway.Reload(ctx, why) }

// fileWatch is a watch on a directory. Without one its channels are nil, so
// that nothing ever comes from them.
type fileWatch struct {
	changes  <-chan fsnotify.Event
	problems <-chan error
	// add watches a new directory, too; a file is none.
	add   func(path string)
	close func()
}

func (s *stack) watchFiles() fileWatch {
	conf := s.config.Load()
	dirs := []string{conf.Dir}
	for _, file := range conf.KnownHosts() {
		dirs = append(dirs, filepath.Dir(file))
	}
	for _, path := range bundlePaths(conf) {
		dirs = append(dirs, filepath.Dir(path))
		dirs = append(dirs, directoriesIn(path)...)
	}
	w, err := fsnotify.NewWatcher()
	for _, dir := range dirs {
		if err == nil {
			err = w.Add(dir)
		}
	}
	if err != nil {
		s.log.Warn("files are not watched; send SIGHUP after a change", "dirs", dirs, "problem", err)
		return fileWatch{add: func(string) {}, close: func() {}}
	}
	return fileWatch{w.Events, w.Errors, func(path string) {
		for _, dir := range directoriesIn(path) {
			_ = w.Add(dir) // it may have gone again
		}
	}, func() { w.Close() }}
}

// directoriesIn are a directory and those below it.
func directoriesIn(path string) []string {
	var dirs []string
	_ = filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	return dirs
}
