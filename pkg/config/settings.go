package config

import "time"

// Settings are sallyport.yml under the environment and the flags. Paths are
// absolute or relative to the working directory, not to the configuration.
type Settings struct {
	Transport string           `mapstructure:"transport"` // stdio or http
	HTTP      HTTPSettings     `mapstructure:"http"`
	Subject   string           `mapstructure:"subject"` // who calls over stdio; empty for the OS user
	Toolsets  []string         `mapstructure:"toolsets"`
	Tokens    []Token          `mapstructure:"tokens"`
	Logs      LogSettings      `mapstructure:"logs"`
	Policy    PolicySettings   `mapstructure:"policy"`
	SSH       SSHSettings      `mapstructure:"ssh"`
	Limits    CallSettings     `mapstructure:"limits"`
	Secrets   SecretSettings   `mapstructure:"secrets"`
	Resolver  ResolverSettings `mapstructure:"resolver"`
	LogLevel  string           `mapstructure:"log_level"` // debug, info, warn or error
}

// HTTPSettings are those of the HTTP transport.
type HTTPSettings struct {
	Listen                string        `mapstructure:"listen"` // host:port
	AllowedHosts          []string      `mapstructure:"allowed_hosts"`
	AllowedOrigins        []string      `mapstructure:"allowed_origins"`
	MaxBodyBytes          int64         `mapstructure:"max_body_bytes"`
	ShutdownTimeout       time.Duration `mapstructure:"shutdown_timeout"`
	SessionTTL            time.Duration `mapstructure:"session_ttl"`
	MaxSessionsPerSubject int           `mapstructure:"max_sessions_per_subject"`
}

// Token is a bearer token that may call, known by its hash only.
type Token struct {
	ID     string   `mapstructure:"id"`
	SHA256 string   `mapstructure:"sha256"` // 64 lower-case hex digits
	Groups []string `mapstructure:"groups"`
}

// LogSettings say where the two logs go.
type LogSettings struct {
	Decision LogSink `mapstructure:"decision"`
	Audit    LogSink `mapstructure:"audit"`
}

// LogSink is a file, stderr, or both; never neither.
type LogSink struct {
	File   string `mapstructure:"file"`
	Stderr bool   `mapstructure:"stderr"`
}

// PolicySettings say which policies decide, and how long they may take.
type PolicySettings struct {
	Bundle  string        `mapstructure:"bundle"` // empty for the embedded one
	Custom  []string      `mapstructure:"custom"`
	Timeout time.Duration `mapstructure:"timeout"`
}

// SSHSettings are those of connections.
type SSHSettings struct {
	KnownHosts            string        `mapstructure:"known_hosts"`
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

// SecretSettings name the environment variables that env: references may read
// beside those with a secret prefix.
type SecretSettings struct {
	EnvAllow []string `mapstructure:"env_allow"`
}

// ResolverSettings are those of name look-ups.
type ResolverSettings struct {
	Timeout time.Duration `mapstructure:"timeout"`
	Cache   time.Duration `mapstructure:"cache"` // zero to look up every time
}
