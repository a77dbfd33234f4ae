package tool

import "github.com/sallyport/sallyport/pkg/shell"

// Effect is the coarsest thing that can be said of a tool or an op. MCP
// annotations are derived from it. The zero value is refused by [New].
type Effect string

const (
	Observe Effect = "observe" // reads state
	Change  Effect = "change"  // writes or controls state
	Execute Effect = "execute" // runs something of the caller's choosing
	Link    Effect = "link"    // opens or closes a connection
)

// Action is what an op does: noun.verb, the word that policy speaks.
type Action string

// The actions known today. A noun is a thing on a host, but for gateway, which
// is Sallyport itself: its host list, its configuration; and task, which is a
// run of the caller's own.
const (
	IdentityRead     Action = "identity.read"
	ConnOpen         Action = "conn.open"
	ConnClose        Action = "conn.close"
	ShellRun         Action = "shell.run"
	FileList         Action = "file.list"
	FileRead         Action = "file.read"
	FileWrite        Action = "file.write"
	LogRead          Action = "log.read"
	HostRead         Action = "host.read"
	ServiceList      Action = "service.list"
	ServiceControl   Action = "service.control"
	PackageRead      Action = "package.read"
	PackageWrite     Action = "package.write"
	ContainerList    Action = "container.list"
	ContainerRead    Action = "container.read"
	ContainerControl Action = "container.control"
	ContainerRun     Action = "container.run"
	DBRun            Action = "db.run"
	NetProbe         Action = "net.probe"
	CaptureRun       Action = "capture.run"
	GatewayList      Action = "gateway.list"
	GatewayRead      Action = "gateway.read"
	GatewayControl   Action = "gateway.control"
	GatewayExplain   Action = "gateway.explain" // show which rules spoke, and where they stand
	TaskRead         Action = "task.read"
	TaskControl      Action = "task.control"
)

var effects = map[Action]Effect{
	IdentityRead: Observe,
	ConnOpen:     Link, ConnClose: Link,
	ShellRun:    Execute,
	FileList:    Observe,
	FileRead:    Observe,
	FileWrite:   Change,
	LogRead:     Observe,
	HostRead:    Observe,
	ServiceList: Observe, ServiceControl: Change,
	PackageRead: Observe, PackageWrite: Change,
	ContainerList: Observe, ContainerRead: Observe, ContainerControl: Change, ContainerRun: Execute,
	DBRun:       Execute,
	NetProbe:    Observe,
	CaptureRun:  Execute,
	GatewayList: Observe, GatewayRead: Observe, GatewayControl: Change, GatewayExplain: Observe,
	TaskRead: Observe, TaskControl: Change,
}

// Effect is what an action does in the coarse words of [Effect]; empty for an
// unknown action.
func (a Action) Effect() Effect { return effects[a] }

// Op is one meaning of a plan, in the words that policy speaks. Which
// attributes it has follows from its action; the rest are absent.
type Op struct {
	Action Action `json:"action"` // noun.verb: shell.run, file.write, ...
	Effect Effect `json:"effect"` // observe, change, execute, link
	// Derived ops are what the command analyser read out of a shell.run op: a
	// redirection to a file is also file.write. What permits the command permits
	// them, but a deny may look at them.
	Derived bool `json:"derived"`
	// Call is the id of the command that a derived op was read from.
	Call int `json:"call"`

	Command   *shell.Document `json:"command,omitempty"`     // shell.run: the line as facts
	Place     string          `json:"place,omitempty"`       // file.*: host or container
	Path      string          `json:"path,omitempty"`        // file.*: as written, cleaned when absolute
	Under     []string        `json:"under,omitempty"`       // file.*: directories that the path is at or below; absent where that is not known, for relative paths and those with .. in them
	Recursive bool            `json:"recursive,omitempty"`   // file.*: what is below the path may be meant, too
	Pattern   bool            `json:"pattern,omitempty"`     // file.*: the path is a pattern of the shell; under ends before its first sign
	File      *FileFacts      `json:"file,omitempty"`        // file.*: what the host said of it; absent before it was asked
	Content   *Content        `json:"content,omitempty"`     // file.write: what would be there; shell.run: what it is given
	Flow      *Flow           `json:"flow,omitempty"`        // file.*: the other end of a copy
	Unit      string          `json:"unit,omitempty"`        // service.*, log.read: name of the unit
	Source    string          `json:"source,omitempty"`      // log.read: journal, kernel, container
	Operation string          `json:"operation,omitempty"`   // service.control, package.*, container.control, gateway.*, task.*: what is done
	Manager   string          `json:"manager,omitempty"`     // package.*: apt, dnf, ...
	Names     []string        `json:"names,omitempty"`       // package.*, container.*: what it is about
	Runtime   string          `json:"runtime,omitempty"`     // container.*: docker, podman, ...
	Argv      []string        `json:"argv,omitempty"`        // container.run: what runs inside
	Engine    string          `json:"engine,omitempty"`      // db.*: what kind of database
	Facet     string          `json:"facet,omitempty"`       // host.read: what of the host is looked at
	Address   string          `json:"destination,omitempty"` // net.probe: whereto
}
