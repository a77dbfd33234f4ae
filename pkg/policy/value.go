package policy

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/tool"
)

// The input is built as an OPA value by hand, several times faster than by way
// of JSON. Field names and omitted fields are those of the struct tags; a test
// compares the two for arbitrary inputs.

// pair is a field of an object.
type pair = [2]*ast.Term

// field pairs a value with its name, for which all inputs share one term.
func field(name string, value *ast.Term) pair { return pair{keys[name], value} }

func text(name, value string) pair { return field(name, str(value)) }

// optional leaves a field out when it is empty, like omitempty.
func optional(fields []pair, name, value string) []pair {
	if value == "" {
		return fields
	}
	return append(fields, text(name, value))
}

// whenTrue is like optional for what is true or left out.
func whenTrue(fields []pair, name string, value bool) []pair {
	if !value {
		return fields
	}
	return append(fields, field(name, boolean(true)))
}

func optionalList[T any](fields []pair, name string, items []T, value func(T) *ast.Term) []pair {
	if len(items) == 0 {
		return fields
	}
	return append(fields, field(name, array(items, value)))
}

// str is a string's term, a shared one for the words that inputs are full of.
func str(s string) *ast.Term {
	if t, ok := common[s]; ok {
		return t
	}
	return ast.StringTerm(s)
}

func num[T int | int64](n T) *ast.Term { return ast.InternedTerm(int64(n)) }

func boolean(b bool) *ast.Term { return ast.InternedTerm(b) }

func object(fields ...pair) *ast.Term { return ast.NewTerm(ast.NewObject(fields...)) }

func array[T any](items []T, value func(T) *ast.Term) *ast.Term {
	if len(items) == 0 {
		return ast.InternedEmptyArray
	}
	terms := make([]*ast.Term, len(items))
	for i, item := range items {
		terms[i] = value(item)
	}
	return ast.ArrayTerm(terms...)
}

func stringsOf(items []string) *ast.Term { return array(items, str) }

// Value is the input as OPA evaluates it.
func (in Input) Value() ast.Value {
	return ast.NewObject(
		field("version", num(in.Version)),
		field("call", in.Call.value()),
		field("subject", in.Subject.value()),
		field("host", in.Host.value()),
		field("network", in.Network.value()),
		field("ops", array(in.Ops, opValue)),
		field("limits", object(field("requested", limitsValue(in.Limits.Requested)))),
		field("usage", in.Usage.value()),
		text("now", in.Now),
	)
}

func (c Call) value() *ast.Term {
	return object(
		text("id", c.ID), text("tool", c.Tool), text("toolset", c.Toolset),
		text("effect", string(c.Effect)), text("digest", c.Digest),
	)
}

func (s Subject) value() *ast.Term {
	return object(
		text("id", s.ID), field("groups", stringsOf(s.Groups)), text("auth", s.Auth),
		field("client", object(text("name", s.Client.Name), text("version", s.Client.Version))),
		text("transport", s.Transport),
	)
}

func (h Host) value() *ast.Term {
	return object(
		text("alias", h.Alias), text("hostname", h.Hostname), field("port", num(h.Port)), text("user", h.User),
		text("kind", h.Kind), field("tags", stringsOf(h.Tags)), text("source", h.Source), text("auth", h.Auth),
		text("key", h.Key), text("host_key", h.HostKey),
		field("via", array(h.Via, Hop.value)),
	)
}

func (h Hop) value() *ast.Term {
	return object(
		text("alias", h.Alias), text("hostname", h.Hostname), field("port", num(h.Port)),
		text("user", h.User), text("source", h.Source), field("addresses", array(h.Addresses, Address.value)),
	)
}

func (n Network) value() *ast.Term {
	return object(text("address", n.Address), field("addresses", array(n.Addresses, Address.value)))
}

func (a Address) value() *ast.Term {
	return object(
		text("ip", a.IP), field("family", num(a.Family)), text("scope", a.Scope),
		text("bits", a.Bits), text("embedded", a.Embedded),
	)
}

func (u Usage) value() *ast.Term {
	return object(
		field("running", object(field("subject", num(u.Running.Subject)), field("host", num(u.Running.Host)))),
		field("calls_last_minute", object(field("subject", num(u.CallsLastMinute.Subject)))),
	)
}

func limitsValue(l tool.Limits) *ast.Term {
	return object(
		field("seconds", num(l.Seconds)), field("output_bytes", num(l.OutputBytes)), field("concurrent", num(l.Concurrent)),
	)
}

func opValue(op tool.Op) *ast.Term {
	fields := make([]pair, 0, 8)
	fields = append(fields,
		text("action", string(op.Action)), text("effect", string(op.Effect)),
		field("derived", boolean(op.Derived)), field("call", num(op.Call)),
	)
	if op.Command != nil {
		fields = append(fields, field("command", documentValue(*op.Command)))
	}
	fields = optional(fields, "place", op.Place)
	fields = optional(fields, "path", op.Path)
	fields = optionalList(fields, "under", op.Under, str)
	fields = whenTrue(fields, "recursive", op.Recursive)
	fields = whenTrue(fields, "pattern", op.Pattern)
	if op.File != nil {
		fields = append(fields, field("file", fileValue(*op.File)))
	}
	if c := op.Content; c != nil {
		fields = append(fields, field("content", object(field("bytes", num(c.Bytes)), text("digest", c.Digest))))
	}
	if f := op.Flow; f != nil {
		fields = append(fields, field("flow", object(text("alias", f.Alias), text("path", f.Path), field("to", boolean(f.To)))))
	}
	fields = optional(fields, "unit", op.Unit)
	fields = optional(fields, "source", op.Source)
	fields = optional(fields, "operation", op.Operation)
	fields = optional(fields, "manager", op.Manager)
	fields = optionalList(fields, "names", op.Names, str)
	fields = optional(fields, "runtime", op.Runtime)
	fields = optionalList(fields, "argv", op.Argv, str)
	fields = optional(fields, "engine", op.Engine)
	fields = optional(fields, "facet", op.Facet)
	fields = optional(fields, "destination", op.Address)
	return object(fields...)
}

func fileValue(f tool.FileFacts) *ast.Term {
	return object(
		text("path", f.Path), field("under", stringsOf(f.Under)), field("exists", boolean(f.Exists)),
		text("type", string(f.Type)), field("bytes", num(f.Bytes)), text("mode", f.Mode),
		field("uid", num(f.UID)), field("gid", num(f.GID)), text("modified", f.Modified),
		field("links", num(f.Links)), field("acl", boolean(f.ACL)),
	)
}

func documentValue(d shell.Document) *ast.Term {
	fields := make([]pair, 0, 9)
	fields = append(fields,
		text("text", d.Text), text("certainty", string(d.Certainty)), text("shape", string(d.Shape)),
		field("features", array(d.Features, featureValue)),
		field("commands", array(d.Commands, commandValue)),
		field("writes", array(d.Writes, redirectValue)), field("reads", array(d.Reads, redirectValue)),
	)
	fields = optional(fields, "cwd", d.Cwd)
	fields = optional(fields, "canonical", d.Canonical)
	if d.Error != nil {
		fields = append(fields, field("error", object(text("code", string(d.Error.Code)), text("message", d.Error.Message))))
	}
	return object(fields...)
}

func featureValue(f shell.Feature) *ast.Term { return str(string(f)) }

func commandValue(c shell.Command) *ast.Term {
	fields := make([]pair, 0, 13)
	fields = append(fields,
		field("id", num(c.ID)), text("dir", c.Dir), field("static", boolean(c.Static)),
		field("wrappers", array(c.Wrappers, wrapperValue)), text("user", c.User),
		field("assigns", array(c.Assigns, assignValue)), text("stdin", c.Stdin),
		field("redirects", array(c.Redirects, redirectValue)), field("scope", stringsOf(c.Scope)),
	)
	fields = optional(fields, "program", c.Program)
	fields = optionalList(fields, "argv", c.Argv, str)
	fields = optionalList(fields, "words", c.Words, wordValue)
	fields = optionalList(fields, "args", c.Args, argValue)
	return object(fields...)
}

func wordValue(w shell.Word) *ast.Term {
	return object(text("text", w.Text), field("kinds", array(w.Kinds, featureValue)))
}

func argValue(a shell.Arg) *ast.Term {
	fields := make([]pair, 0, 9)
	fields = append(fields, text("text", a.Text), text("kind", string(a.Kind)))
	fields = optionalList(fields, "letters", a.Letters, str)
	fields = optionalList(fields, "tails", a.Tails, str)
	fields = whenTrue(fields, "number", a.Number)
	fields = optional(fields, "name", a.Name)
	if a.Value != nil {
		fields = append(fields, text("value", *a.Value))
	}
	fields = whenTrue(fields, "pattern", a.Pattern)
	if a.Path != nil {
		fields = append(fields, field("path", pathValue(*a.Path)))
	}
	return object(fields...)
}

func pathValue(p shell.Path) *ast.Term {
	return object(field("clean", boolean(p.Clean)), text("name", p.Name), field("under", stringsOf(p.Under)))
}

func wrapperValue(w shell.Wrapper) *ast.Term {
	return object(text("program", w.Program), text("dir", w.Dir), field("args", stringsOf(w.Args)))
}

func assignValue(a shell.Assign) *ast.Term {
	return object(text("name", a.Name), text("value", a.Value), field("static", boolean(a.Static)))
}

func redirectValue(r shell.Redirect) *ast.Term {
	return object(text("op", r.Op), field("fd", num(r.FD)), text("path", r.Path), field("static", boolean(r.Static)))
}

// keys are the terms of all field names in an input.
var keys = terms(
	"version", "call", "subject", "host", "network", "ops", "limits", "usage", "now",
	"id", "tool", "toolset", "effect", "digest",
	"groups", "auth", "client", "name", "transport",
	"alias", "hostname", "port", "user", "kind", "tags", "source", "via", "key", "host_key",
	"address", "addresses", "ip", "family", "scope", "bits", "embedded",
	"requested", "seconds", "output_bytes", "concurrent", "running", "calls_last_minute",
	"action", "derived", "command", "place", "path", "recursive", "unit", "operation", "manager", "names",
	"file", "exists", "type", "bytes", "mode", "uid", "gid", "modified", "links", "acl", "content", "flow", "to", "cwd",
	"runtime", "argv", "engine", "facet", "destination",
	"text", "certainty", "shape", "features", "canonical", "commands", "writes", "reads", "error", "code", "message",
	"program", "dir", "static", "words", "args", "wrappers", "assigns", "stdin", "redirects",
	"kinds", "letters", "tails", "number", "value", "pattern", "clean", "under", "op", "fd",
)

// common are the terms of values that are the same in most inputs.
var common = terms(
	"", "/", "/usr/bin/", "/bin/", "/dev/null",
	"observe", "change", "execute", "link", "shell.run", "gateway.list", "gateway.read", "gateway.control",
	"local", "token", "stdio", "http", "inventory", "gateway", "posix", "key", "agent",
	"global", "private", "loopback",
	"static", "pattern", "dynamic", "opaque", "simple", "pipeline", "list",
	"pipe", "and", "or", "sequence", "redirect_null", "redirect_dup", "glob",
	"operand", "letters", "long", "end", "inherit", "write", "dup", "ssh_run", "fleet",
)

func terms(names ...string) map[string]*ast.Term {
	m := make(map[string]*ast.Term, len(names))
	for _, name := range names {
		m[name] = ast.StringTerm(name)
	}
	return m
}
