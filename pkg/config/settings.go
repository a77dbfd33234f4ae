package config

import (
	"reflect"
	"time"
)

// Settings are sallyport.yml under the environment and the flags. A relative
// path in the file is relative to the configuration directory; here it is
// joined to it.
type Settings struct {
	Transport string           `mapstructure:"transport"` // stdio or http
	HTTP      HTTPSettings     `mapstructure:"http"`
	Subject   string           `mapstructure:"subject"` // who calls over stdio; empty for the OS user
	Toolsets  []string         `mapstructure:"toolsets"`
	Tokens    []Token          `mapstructure:"tokens"`
	Logs      LogSettings      `mapstructure:"logs"`
	Policy    PolicySettings   `mapstructure:"policy"`
	Shadow    ShadowSettings   `mapstructure:"shadow"`
	SSH       SSHSettings      `mapstructure:"ssh"`
	Limits    CallSettings     `mapstructure:"limits"`
	Tasks     TaskSettings     `mapstructure:"tasks"`
	Conns     ConnSettings     `mapstructure:"connections"`
	Secrets   SecretSettings   `mapstructure:"secrets"`
	Resolver  ResolverSettings `mapstructure:"resolver"`
	StateDir  string           `mapstructure:"state_dir"` // for what the gateway itself keeps
	LogLevel  string           `mapstructure:"log_level"` // debug, info, warn or error
}

// Origins say where each setting was made: in sallyport.yml, by a variable, by
// a flag.
type Origins struct {
	file place // where a default could be changed
	made map[string]place
}

func (o Origins) at(key string) place {
	if p, ok := o.made[key]; ok {
		return p
	}
	p := o.file
	p.path = key
	return p
}

// Flag says that a setting was made by a flag of a subcommand.
func (o Origins) Flag(key, name string) { o.made[key] = place{file: "--" + name, path: key} }

// Problem is what is wrong with a setting, such as policy.bundle, at the place
// where it was made.
func (o Origins) Problem(key, message, remedy string) Problem {
	return o.at(key).problem(Error, &fault{message, remedy})
}

// HTTPSettings are those of the HTTP transport.
type HTTPSettings struct {
	Listen                string        `mapstructure:"listen"` // host:port
	AllowedHosts          []string      `mapstructure:"allowed_hosts"`
	AllowedOrigins        []string      `mapstructure:"allowed_origins"`
	MaxBodyBytes          int64         `mapstructure:"max_body_bytes"`
	ShutdownTimeout       time.Duration `mapstructure:"shutdown_timeout"`
	SessionTTL            time.Duration `mapstructure:"session_ttl"`
	SessionLifetime       time.Duration `mapstructure:"session_lifetime"`
	MaxSessionsPerSubject int           `mapstructure:"max_sessions_per_subject"`
	MaxSessions           int           `mapstructure:"max_sessions"`
}

// Token is a bearer token that may call, known by its hash only.
type Token struct {
	ID     string   `mapstructure:"id"`
	SHA256 string   `mapstructure:"sha256"` // 64 lower-case hex digits
	Groups []string `mapstructure:"groups"`
}

// LogSettings say where the two logs go, and how much the decision log shows of
// a call: meta is all but its words (commands, paths, names), full is the words
// too. The audit stream never has them.
type LogSettings struct {
	Record   string  `mapstructure:"record"`
	Decision LogSink `mapstructure:"decision"`
	Audit    LogSink `mapstructure:"audit"`
	Upload   Upload  `mapstructure:"upload"`
}

// Upload says where decisions are sent, in batches, beside the places that
// [LogSettings] names. The names are those of OPA's plugin decision_logs.
type Upload struct {
	Service   string    `mapstructure:"service"` // empty: nowhere
	Resource  string    `mapstructure:"resource"`
	Reporting Reporting `mapstructure:"reporting"`
	// Buffer is the directory where records wait that the service does not have.
	Buffer string `mapstructure:"buffer"`
	OnFull string `mapstructure:"on_full"` // refuse calls, or drop_oldest record
}

// Reporting bounds batches and what waits for the next one.
type Reporting struct {
	MinDelaySeconds      int   `mapstructure:"min_delay_seconds"`
	MaxDelaySeconds      int   `mapstructure:"max_delay_seconds"`
	UploadSizeLimitBytes int   `mapstructure:"upload_size_limit_bytes"` // compressed
	BufferSizeLimitBytes int64 `mapstructure:"buffer_size_limit_bytes"` // on disk, of each process
}

// LogSink is a file, stderr, or both; never neither. With MaxBytes, a file of that
// size becomes FILE.1 and a new one begins; Keep is how many old ones stay, zero
// for all.
type LogSink struct {
	File     string `mapstructure:"file"`
	MaxBytes int64  `mapstructure:"max_bytes"`
	Keep     int    `mapstructure:"keep"`
	Stderr   bool   `mapstructure:"stderr"`
}

// PolicySettings say which policies decide, and how long they may take.
type PolicySettings struct {
	Bundle  string        `mapstructure:"bundle"` // empty for the embedded one
	Custom  []string      `mapstructure:"custom"`
	Timeout time.Duration `mapstructure:"timeout"`
	// RequireSigned has no bundle but the embedded one decide without a
	// signature by one of the Keys.
	RequireSigned bool                     `mapstructure:"require_signed"`
	Keys          map[string]BundleKey     `mapstructure:"keys"`
	Services      map[string]BundleService `mapstructure:"services"`
	Bundles       []BundleSource           `mapstructure:"bundles"` // in file order
}

// ShadowSettings say which policies judge once more what was decided, without
// effect. Without any there is no shadow. Keys and services are those of
// [PolicySettings].
type ShadowSettings struct {
	Bundle  string         `mapstructure:"bundle"` // empty for the embedded one
	Custom  []string       `mapstructure:"custom"`
	Bundles []BundleSource `mapstructure:"bundles"` // in file order
}

// On says whether there is a shadow.
func (s ShadowSettings) On() bool { return s.Bundle != "" || len(s.Custom) > 0 || len(s.Bundles) > 0 }

// SSHSettings are those of connections.
type SSHSettings struct {
	KnownHosts            string        `mapstructure:"known_hosts"` // see [Config.KnownHosts]
	ConnectTimeout        time.Duration `mapstructure:"connect_timeout"`
	Keepalive             time.Duration `mapstructure:"keepalive"`
	IdleClose             time.Duration `mapstructure:"idle_close"`
	ConnectionsPerHost    int           `mapstructure:"connections_per_host"`
	SessionsPerConnection int           `mapstructure:"sessions_per_connection"`
}

// CallSettings bound what the gateway does at the same time.
type CallSettings struct {
	ParallelHosts int `mapstructure:"parallel_hosts"` // within one call
	Calls         int `mapstructure:"calls"`
}

// TaskSettings bound tasks: how many run at the same time, how many wait for
// their turn, and how many a subject may have, those that have ended and whose
// results are kept among them; and how much of output those results hold before
// the subject must wait with another task.
type TaskSettings struct {
	Running        int `mapstructure:"running"`
	PerSubject     int `mapstructure:"running_per_subject"`
	PerHost        int `mapstructure:"running_per_host"`
	Queued         int `mapstructure:"queued"`
	KeptPerSubject int `mapstructure:"kept_per_subject"`
	KeptBytes      int `mapstructure:"kept_bytes_per_subject"`
}

// ConnSettings bound the connections that callers keep open between calls: how
// many, and how long one is kept when it is not used, and at most.
type ConnSettings struct {
	Global     bool          `mapstructure:"global"` // one namespace for each subject, whatever the session
	Idle       time.Duration `mapstructure:"idle"`
	Lifetime   time.Duration `mapstructure:"lifetime"`
	PerSubject int           `mapstructure:"per_subject"`
	Total      int           `mapstructure:"total"`
}

// SecretSettings name the environment variables that are secrets beside those
// with a secret prefix.
type SecretSettings struct {
	EnvAllow []string `mapstructure:"env_allow"`
}

// ResolverSettings are those of name look-ups.
type ResolverSettings struct {
	Timeout time.Duration `mapstructure:"timeout"`
	Cache   time.Duration `mapstructure:"cache"` // zero to look up every time
}

// setting is one key of sallyport.yml: the tag that YAML must give it, if any,
// how its text is read wherever it comes from, and what it is when nobody says.
type setting struct {
	key   string // dotted
	tag   string
	list  bool
	words words
	def   any
}

func textSetting(key, def string, checks ...check) setting {
	return setting{key: key, tag: "!!str", def: def, words: wordsOf(append([]check{visible}, checks...)...)}
}

func listSetting(key string, def []string, checks ...check) setting {
	s := textSetting(key, "", append([]check{filled}, checks...)...)
	s.list, s.def = true, def
	return s
}

func numberSetting(key string, def, least, most int) setting {
	return setting{key: key, tag: "!!int", def: def, words: wholeNumber(least, most)}
}

func spanSetting(key string, def, least, most time.Duration) setting {
	return setting{key: key, def: def, words: span(least, most)}
}

// truthSetting has no default of its own: [loader.settings] derives it.
func truthSetting(key string) setting {
	return setting{key: key, tag: "!!bool", words: truth}
}

var none = []string{}

var settingTable = []setting{
	textSetting("transport", "stdio", oneOf("stdio", "http")),
	textSetting("http.listen", "127.0.0.1:8022", listenAddress),
	listSetting("http.allowed_hosts", none, allowedHost),
	listSetting("http.allowed_origins", none, origin),
	numberSetting("http.max_body_bytes", 1<<20, 1<<10, 100<<20),
	spanSetting("http.shutdown_timeout", 10*time.Second, 0, 10*time.Minute),
	spanSetting("http.session_ttl", 30*time.Minute, time.Second, 30*24*time.Hour),
	spanSetting("http.session_lifetime", 24*time.Hour, time.Second, 365*24*time.Hour),
	numberSetting("http.max_sessions_per_subject", 32, 1, 10_000),
	numberSetting("http.max_sessions", 4096, 1, 1_000_000),
	textSetting("subject", "", orEmpty(person)),
	listSetting("toolsets", []string{"all"}, name(maxAlias)),
	textSetting("logs.record", "meta", oneOf("meta", "full")),
	textSetting("logs.decision.file", ""),
	numberSetting("logs.decision.max_bytes", 0, 0, 1<<40),
	numberSetting("logs.decision.keep", 0, 0, 10_000),
	truthSetting("logs.decision.stderr"),
	textSetting("logs.audit.file", ""),
	numberSetting("logs.audit.max_bytes", 0, 0, 1<<40),
	numberSetting("logs.audit.keep", 0, 0, 10_000),
	truthSetting("logs.audit.stderr"),
	textSetting("logs.upload.service", ""),
	textSetting("logs.upload.resource", "/logs", filled),
	numberSetting("logs.upload.reporting.min_delay_seconds", 1, 1, 24*60*60),
	numberSetting("logs.upload.reporting.max_delay_seconds", 60, 1, 24*60*60),
	numberSetting("logs.upload.reporting.upload_size_limit_bytes", 32<<10, 4<<10, 64<<20),
	numberSetting("logs.upload.reporting.buffer_size_limit_bytes", 256<<20, 1<<20, 1<<40),
	textSetting("logs.upload.buffer", ""),
	textSetting("logs.upload.on_full", "refuse", oneOf("refuse", "drop_oldest")),
	textSetting("policy.bundle", ""),
	listSetting("policy.custom", none),
	spanSetting("policy.timeout", 250*time.Millisecond, time.Millisecond, time.Second),
	{key: "policy.require_signed", tag: "!!bool", words: truth, def: false},
	textSetting("shadow.bundle", ""),
	listSetting("shadow.custom", none),
	textSetting("ssh.known_hosts", ""),
	spanSetting("ssh.connect_timeout", 15*time.Second, 100*time.Millisecond, 5*time.Minute),
	spanSetting("ssh.keepalive", 5*time.Second, time.Second, 10*time.Minute),
	spanSetting("ssh.idle_close", 5*time.Minute, time.Second, 24*time.Hour),
	numberSetting("ssh.connections_per_host", 3, 1, 64),
	numberSetting("ssh.sessions_per_connection", 8, 1, 64),
	numberSetting("limits.parallel_hosts", 32, 1, 1000),
	numberSetting("limits.calls", 256, 1, 100_000),
	numberSetting("tasks.running", 256, 1, 10_000),
	numberSetting("tasks.running_per_subject", 64, 1, 10_000),
	numberSetting("tasks.running_per_host", 16, 1, 1000),
	numberSetting("tasks.queued", 1024, 0, 100_000),
	numberSetting("tasks.kept_per_subject", 1024, 1, 100_000),
	numberSetting("tasks.kept_bytes_per_subject", 256<<20, 1<<20, 1<<30),
	{key: "connections.global", tag: "!!bool", words: truth, def: false},
	spanSetting("connections.idle", 30*time.Minute, time.Second, 30*24*time.Hour),
	spanSetting("connections.lifetime", 24*time.Hour, time.Second, 30*24*time.Hour),
	numberSetting("connections.per_subject", 64, 1, 100_000),
	numberSetting("connections.total", 4096, 1, 1_000_000),
	listSetting("secrets.env_allow", none, variable),
	spanSetting("resolver.timeout", 5*time.Second, 100*time.Millisecond, time.Minute),
	spanSetting("resolver.cache", time.Minute, 0, time.Hour),
	textSetting("state_dir", "state", filled),
	textSetting("log_level", "info", oneOf("debug", "info", "warn", "error")),
}

// settingFlags are the flags that go over a setting.
var settingFlags = map[string]string{
	"transport":   "transport",
	"http.listen": "listen",
	"subject":     "subject",
	"toolsets":    "toolsets",
	"log_level":   "log-level",

	"connections.global": "global",
}

// Changed names the settings in which two differ, as sallyport.yml does.
func (s Settings) Changed(other Settings) []string {
	return changed("", reflect.ValueOf(s), reflect.ValueOf(other))
}

func changed(prefix string, a, b reflect.Value) []string {
	var keys []string
	for i := range a.NumField() {
		key := prefix + a.Type().Field(i).Tag.Get("mapstructure")
		switch {
		case reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()):
		case a.Field(i).Kind() == reflect.Struct:
			keys = append(keys, changed(key+".", a.Field(i), b.Field(i))...)
		default:
			keys = append(keys, key)
		}
	}
	return keys
}
