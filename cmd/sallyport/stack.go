package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/gateway"
	"github.com/sallyport/sallyport/pkg/mcpserver"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/spool"
	"github.com/sallyport/sallyport/pkg/sshexec"
	"github.com/sallyport/sallyport/pkg/tool"
	"github.com/sallyport/sallyport/pkg/tools"
	"github.com/sallyport/sallyport/policies"
)

// stack is the parts, put together. Its load function is called again at each
// reload.
type stack struct {
	config     atomic.Pointer[config.Config]
	load       func() (*config.Config, error)
	engine     *policy.Engine
	shadow     *policy.Shadow // nil: there is none
	upload     *spool.Spool   // of decisions; nil: there is none
	trust      *sshexec.Trust
	runner     *sshexec.Executor
	identities *sshexec.Identities
	audit      tallied
	gateway    *gateway.Gateway
	server     atomic.Pointer[mcpserver.Server] // nil until it serves
	log        *slog.Logger
	seen       []sight // of what the configuration is read from, at the start
	closers    []io.Closer
}

// stackOptions are what differs between serving and planning.
type stackOptions struct {
	load   func() (*config.Config, error)
	stderr io.Writer
	// dry leaves out all that would touch a host or a log: what is put
	// together can plan and nothing else.
	dry bool
}

// assemble loads the configuration and puts the parts together. What was begun
// is taken apart again when a later part is missing.
func assemble(ctx context.Context, o stackOptions) (*stack, error) {
	conf, err := o.load()
	if err != nil {
		return nil, err
	}
	s := &stack{load: o.load, log: newLogger(o.stderr, conf.Settings.LogLevel)}
	s.config.Store(conf)
	s.seen = look(s.filesRead())
	if err := s.build(ctx, conf, o); err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	return s, nil
}

func (s *stack) build(ctx context.Context, conf *config.Config, o stackOptions) error {
	defs, unknown := tools.In(conf.Settings.Toolsets)
	if len(unknown) > 0 {
		return fmt.Errorf("toolsets: there is no toolset %s", strings.Join(unknown, ", "))
	}
	if !o.dry {
		if err := s.openAudit(conf, o.stderr); err != nil {
			return err
		}
	}
	if err := s.openEngine(ctx, conf, o); err != nil {
		return err
	}
	if err := s.openShadow(ctx, conf, o); err != nil {
		return err
	}
	parts := gateway.Options{
		Tools: defs, Resources: tools.Resources(), Profiles: policies.Profiles(),
		Config: conf, Decider: s.engine, Logger: s.log,
	}
	addFixtures(&parts)
	if o.dry {
		s.gateway = gateway.New(parts)
		return nil
	}
	if err := s.openRunner(conf); err != nil {
		return err
	}
	s.identities = sshexec.NewIdentities(filepath.Join(conf.Settings.StateDir, "identities"), s.identityMade)
	parts.Runner, parts.Audit, parts.Reload, parts.Identities = s.runner, s.audit, s.reload, s.identities
	s.gateway = gateway.New(parts)
	return s.warn(ctx, conf)
}

// warn tells what is odd about the configuration at the start, in the log and
// on record. Later the gateway does, at each reload.
func (s *stack) warn(ctx context.Context, conf *config.Config) error {
	s.logWarnings(conf)
	if len(conf.Warnings) == 0 {
		return nil
	}
	return s.audit.Write(ctx, audit.Event{Type: audit.Reload, Subject: "start", Detail: conf.Warned()})
}

func (s *stack) logWarnings(conf *config.Config) {
	for _, w := range conf.Warnings {
		s.log.Warn("configuration", "file", w.File, "line", w.Line, "problem", w.Message, "remedy", w.Remedy)
	}
}

// dryTimeout bounds a decision that nobody waits for: a busy machine must not
// make a plan say less than the policy does.
const dryTimeout = 10 * time.Second

func (s *stack) openEngine(ctx context.Context, conf *config.Config, o stackOptions) (err error) {
	set := conf.Settings
	options := policyOptions(set, conf.Secrets)
	options.FullRecords, options.Site, options.Logger = set.Logs.Record == "full", conf.Site(), s.log
	options.Labels = map[string]string{"app": "sallyport", "version": version}
	if o.dry {
		options.Timeout, options.Offline = dryTimeout, true
	} else {
		options.Told = s.bundleChanged
		if options.Log, err = s.openDecisionLog(set, conf.Secrets, o.stderr); err != nil {
			return fmt.Errorf("decision log: %w", err)
		}
	}
	s.engine, err = policy.New(ctx, options)
	if err == nil && o.dry {
		err = notFetched(s.engine)
	}
	return ofBundles(err, conf.Settings, conf.Origins)
}

// notFetched says why what contacts nobody has no policy to ask.
func notFetched(e *policy.Engine) error {
	if err := e.Ready(); err != nil {
		return fmt.Errorf("%w (start serve with this state_dir first: it asks the server and keeps what it gives)", err)
	}
	return nil
}

// openShadow has other policies judge what the engine decides.
func (s *stack) openShadow(ctx context.Context, conf *config.Config, o stackOptions) (err error) {
	set := conf.Settings
	if o.dry || !set.Shadow.On() {
		return nil
	}
	options := shadowOptions(set, conf.Secrets)
	options.Site, options.Logger = conf.Site(), s.log.With("mode", "shadow")
	s.shadow, err = policy.NewShadow(ctx, options)
	if err != nil {
		return ofShadow(err, set, conf.Origins)
	}
	s.engine.Cast(s.shadow)
	return nil
}

func (s *stack) openRunner(conf *config.Config) (err error) {
	set := conf.Settings.SSH
	s.trust, err = sshexec.NewTrust(sshexec.TrustOptions{KnownHosts: conf.KnownHosts(), Logger: s.log})
	if err != nil {
		return err
	}
	s.runner = sshexec.New(sshexec.Options{
		Trust: s.trust, Logins: s.login, Logger: s.log,
		ConnectTimeout: set.ConnectTimeout, Keepalive: set.Keepalive, IdleClose: set.IdleClose,
		ConnsPerHost: set.ConnectionsPerHost, SessionsPerConn: set.SessionsPerConnection,
	})
	return nil
}

// identityMade puts on record that a subject has a key of its own.
func (s *stack) identityMade(id tool.Identity) error {
	return s.audit.Write(context.Background(), audit.Event{
		Type: audit.IdentityMade, Subject: id.Subject, Detail: id.Type + " " + id.Fingerprint,
	})
}

// login finds the credentials of the very host that was judged: an inventory
// that changed since then gives none.
func (s *stack) login(_ context.Context, t tool.Target) (sshexec.Login, error) {
	if t.AdHoc != nil {
		return s.ownLogin(t)
	}
	conf := s.config.Load()
	h, ok := conf.Host(t.Alias)
	if !ok || h.Hostname != t.Hostname || h.Port != t.Port || h.User != t.User {
		return sshexec.Login{}, fmt.Errorf("host %s changed in the inventory while the call was under way", t.Alias)
	}
	l, err := conf.Login(t.Alias)
	if err != nil {
		return sshexec.Login{}, err
	}
	return sshexec.Login{
		User: l.User, Key: l.Key, KeyName: l.KeyName, Passphrase: l.Passphrase, Password: l.Password,
		Agent: l.Agent, Certificate: l.Certificate, HostKeyAlias: h.HostKeyAlias, Legacy: h.Legacy,
	}, nil
}

// ownLogin is what the caller has to log in with to a host that it has described.
// Why that cannot be used is for the operator to know: what files there are is
// none of the caller's business.
func (s *stack) ownLogin(t tool.Target) (sshexec.Login, error) {
	l := sshexec.Login{User: t.User}
	var err error
	switch t.Auth {
	case "password":
		l.Password = t.AdHoc.Password.Reveal()
	case "key":
		l.KeyName = t.AdHoc.Key
		l.Key, err = s.config.Load().Key(t.AdHoc.Key)
	default:
		l.KeyName = "identity"
		l.Key, err = s.identities.Key(t.Conn.Subject)
	}
	if err != nil {
		return l, &tool.Failure{
			Code: tool.FailCredentials, Message: fmt.Sprintf("%s: the %s to log in with cannot be used", t.Alias, t.Auth), Cause: err,
			Remedy: "ask the operator which key may be named, or which other way to log in there is",
		}
	}
	return l, nil
}

// reload builds everything anew and then swaps: a configuration that does not
// load, a policy that does not pass the gate or a known_hosts file that cannot
// be read changes nothing.
func (s *stack) reload(ctx context.Context) (*config.Config, error) {
	next, err := s.load()
	if err != nil {
		return nil, err
	}
	last := s.config.Load()
	if changed := changedSettings(last, next); len(changed) > 0 {
		return nil, fmt.Errorf("%s changed, which is read at the start only: restart to apply it, or change it back (tokens, servers, credentials and policy can be reloaded)",
			strings.Join(changed, ", "))
	}
	commit, err := s.trust.Reload()
	if err != nil {
		return nil, err
	}
	if err := s.setTokens(next.Settings); err != nil {
		return nil, err
	}
	if err := s.engine.Reload(ctx, next.Site()); err != nil {
		return nil, errors.Join(ofBundles(err, next.Settings, next.Origins), s.setTokens(last.Settings))
	}
	commit()
	s.reloadShadow(ctx, next)
	s.logWarnings(next)
	s.config.Store(next)
	s.runner.Retire() // live connections were made with the last keys and credentials
	return next, nil
}

// reloadShadow leaves a shadow as it was if its policy is none: it has no effect,
// so it must not keep the rest from being loaded.
func (s *stack) reloadShadow(ctx context.Context, next *config.Config) {
	if s.shadow == nil {
		return
	}
	if err := s.shadow.Reload(ctx, next.Site()); err != nil {
		s.log.Error("the shadow keeps its last policy", "err", err)
	}
}

// changedSettings names the settings that differ and that only a start reads.
func changedSettings(last, next *config.Config) []string {
	changed := last.Settings.Changed(next.Settings)
	changed = slices.DeleteFunc(changed, func(key string) bool { return key == "tokens" })
	if len(changed) == 0 && !slices.Equal(last.KnownHosts(), next.KnownHosts()) {
		changed = append(changed, "the list of known_hosts files")
	}
	return changed
}

// setTokens has the HTTP transport, where there is one, take other tokens.
func (s *stack) setTokens(set config.Settings) error {
	server := s.server.Load()
	if server == nil {
		return nil
	}
	tokens, err := tokensOf(set)
	if err != nil {
		return err
	}
	return server.SetTokens(tokens)
}

// recordTime is for the records of what was cut off at the end.
const recordTime = 2 * time.Second

// close takes the parts apart in the order in which they depend on each other:
// running commands are stopped and recorded before the logs close.
func (s *stack) close(ctx context.Context) error {
	var problems []error
	if s.gateway != nil {
		problems = append(problems, s.gateway.Close(ctx))
	}
	if s.runner != nil {
		problems = append(problems, s.runner.Close(ctx))
	}
	if errors.Join(problems...) != nil && s.gateway != nil {
		// What did not end in time has been cut off by now, and is to be recorded.
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
		defer cancel()
		problems = append(problems, s.gateway.Close(ending))
	}
	if s.shadow != nil {
		problems = append(problems, s.shadow.Close(ctx))
	}
	if s.engine != nil {
		problems = append(problems, s.engine.Close(ctx))
	}
	if s.upload != nil {
		problems = append(problems, s.upload.Close(ctx))
	}
	for _, c := range s.closers {
		problems = append(problems, c.Close())
	}
	return errors.Join(problems...)
}

// localCaller is who calls over stdio: the named subject, or the OS user.
func localCaller(subject string) tool.Caller {
	if subject == "" {
		subject = osUser()
	}
	return tool.Caller{Subject: subject, Auth: "local", Transport: "stdio"}
}

// osUser names the user that this process runs as, by the account database: an
// environment variable is the client's to set.
func osUser() string {
	id := strconv.Itoa(os.Getuid())
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid-" + id
}
