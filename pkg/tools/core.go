package tools

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/sallyport/sallyport/pkg/tool"
)

// core is connections that stay open between calls, and what is done over them.
func core() []*tool.Tool {
	return []*tool.Tool{connect(), disconnect(), run(), identity(), info()}
}

type connectArgs struct {
	Host     string      `json:"host" arg:"required,max=253" doc:"alias of a host of the inventory; or name or address of another host, if policy permits that"`
	Username string      `json:"username,omitempty" arg:"connection,max=64" doc:"user on a host that is not in the inventory"`
	Port     int         `json:"port,omitempty" arg:"min=0,max=65535" doc:"of a host that is not in the inventory; 22 if it is left out"`
	Password tool.Secret `json:"password,omitempty" doc:"of a host that is not in the inventory"`
	Key      string      `json:"private_key_path,omitempty" arg:"path,max=128" doc:"name of a key file of the gateway's, for a host that is not in the inventory; without password and key your identity is used"`
	HostKey  string      `json:"host_key,omitempty" arg:"text,max=64" doc:"SHA256:... fingerprint of the host's key, where the gateway does not know it"`
	Alias    string      `json:"alias,omitempty" arg:"connection,max=100" doc:"what to call the connection"`
	Via      string      `json:"via,omitempty" arg:"connection,max=100" doc:"an open connection, or a host of the inventory, to go through"`
}

var fingerprint = regexp.MustCompile(`^SHA256:[A-Za-z0-9+/]{43}$`)

func (a connectArgs) plan() (tool.Plan, error) {
	o := &tool.Opening{Name: a.Alias, Via: a.Via}
	p := tool.Plan{Scope: tool.Scope{Opening: o}, Steps: []tool.Step{tool.OpenConnection()}}
	inventory := a.Username == "" && a.Port == 0 && a.Password.IsZero() && a.Key == "" && a.HostKey == ""
	switch {
	case inventory:
		p.Scope.Alias = a.Host
		return p, nil
	case a.Username == "":
		return p, badArgument("username", "is missing", "send the user on the host; for a host of the inventory send nothing but its alias as host")
	case !a.Password.IsZero() && a.Key != "":
		return p, badArgument("password", "is there beside private_key_path", "send one of the two")
	case a.HostKey != "" && !fingerprint.MatchString(a.HostKey):
		return p, badArgument("host_key", "is not a fingerprint", "send SHA256: and 43 characters, as ssh-keygen -lf prints it")
	}
	o.AdHoc = &tool.AdHoc{
		Hostname: strings.ToLower(a.Host), Port: a.Port, User: a.Username, Password: a.Password, Key: a.Key, HostKey: a.HostKey,
	}
	return p, nil
}

func badArgument(name, what, remedy string) error {
	return &tool.ArgumentError{Argument: name, Message: fmt.Sprintf("argument %q %s", name, what), Remedy: remedy}
}

func connect() *tool.Tool {
	return tool.New(tool.Spec[connectArgs, connectResult]{
		Name: "connect", Set: "core", Effect: tool.Link,
		Doc: "Open a connection that stays open and keeps a working directory between calls. " +
			"For a host of the inventory send its alias as host and nothing else that describes it.",
		Plan:   connectArgs.plan,
		Format: connectionOf,
	})
}

type connectResult struct {
	tool.Status
	Target  string   `json:"target,omitempty" doc:"what the connection is called: target of other calls"`
	Default bool     `json:"default" doc:"a call without a target means this one"`
	Reused  bool     `json:"reused" doc:"it was open before"`
	Host    string   `json:"host,omitempty"`
	Port    int      `json:"port,omitempty"`
	User    string   `json:"username,omitempty"`
	Address string   `json:"address,omitempty" doc:"that was judged and logged in to"`
	HostKey string   `json:"host_key,omitempty" doc:"type and fingerprint of the key that the host has proved"`
	Via     []string `json:"via,omitempty" doc:"jump hosts, first one first"`
	Cwd     string   `json:"cwd,omitempty" doc:"working directory; empty when the host does not say"`
}

func connectionOf(_ connectArgs, runs []tool.Run) connectResult {
	t := runs[0].Target
	r := connectResult{Status: tool.StatusOf(runs[0]), Host: t.Hostname, Port: t.Port, User: t.User}
	for _, hop := range t.Via {
		r.Via = append(r.Via, hop.Alias)
	}
	if made, ok := answer[tool.Connected](runs[0]); ok {
		r.Target, r.Default, r.Reused = made.Alias, made.Default, made.Reused
		r.Address, r.HostKey, r.Cwd = made.Address, made.HostKey, made.Directory
	}
	return r
}

func (r connectResult) Text() string {
	if r.Failed() {
		return r.Status.Text()
	}
	text := fmt.Sprintf("Connected to %s@%s:%d as target %q, in %s.", r.User, r.Host, r.Port, r.Target, r.Cwd)
	if r.Cwd == "" {
		text = fmt.Sprintf("Connected to %s@%s:%d as target %q.", r.User, r.Host, r.Port, r.Target)
	}
	if r.Default {
		text += " Calls without a target mean it."
	}
	return text
}

type disconnectArgs struct {
	Alias string `json:"alias,omitempty" arg:"connection,max=200" doc:"connection to close, primary for the default one; all of yours if it is left out"`
}

func disconnect() *tool.Tool {
	return tool.New(tool.Spec[disconnectArgs, disconnectResult]{
		Name: "disconnect", Set: "core", Effect: tool.Link,
		Doc: "Close a connection, or all of yours, with those that go through it.",
		Plan: func(a disconnectArgs) (tool.Plan, error) {
			return ask(tool.ConnClose, tool.AskDisconnect, a.Alias), nil
		},
		Format: func(_ disconnectArgs, runs []tool.Run) disconnectResult {
			done, _ := answer[tool.Disconnected](runs[0])
			return disconnectResult{Status: tool.StatusOf(runs[0]), Closed: orEmpty(done.Closed), Busy: done.Busy}
		},
	})
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

type disconnectResult struct {
	tool.Status
	Closed []string `json:"closed" doc:"aliases, those that went through them among them"`
	Busy   []string `json:"busy,omitempty" doc:"aliases on which calls still run: they take no more, and are closed behind the last"`
}

func (r disconnectResult) Text() string {
	switch {
	case r.Failed():
		return r.Status.Text()
	case len(r.Closed)+len(r.Busy) == 0:
		return "No connection was open."
	case len(r.Busy) == 0:
		return "Disconnected " + strings.Join(r.Closed, ", ") + "."
	}
	return "Disconnected " + orNone(r.Closed) + "; as soon as nothing runs on it also " + strings.Join(r.Busy, ", ") + "."
}

func identity() *tool.Tool {
	return tool.New(tool.Spec[noArgs, identityResult]{
		Name: "identity", Set: "core", Effect: tool.Observe,
		Doc: "Show your own public key, for the authorized_keys file of hosts that are not in the inventory.",
		Plan: func(noArgs) (tool.Plan, error) {
			return ask(tool.IdentityRead, tool.AskIdentity, ""), nil
		},
		Format: func(_ noArgs, runs []tool.Run) identityResult {
			id, _ := answer[tool.Identity](runs[0])
			return identityResult{tool.StatusOf(runs[0]), id.Line, id.Type, id.Fingerprint}
		},
	})
}

type identityResult struct {
	tool.Status
	PublicKey   string `json:"public_key,omitempty" doc:"a line for authorized_keys"`
	Type        string `json:"type,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
}

func (r identityResult) Text() string {
	if r.Failed() {
		return r.Status.Text()
	}
	return r.PublicKey
}
