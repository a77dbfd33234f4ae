package tool

// Connect makes sure of a connection: it dials, verifies, logs in, and asks where
// a login begins. Its answer is [Connected].
type Connect struct{}

// Enter makes a directory the one that a connection's calls work in, if the account
// may work there. What is known of it was asked and judged before. Its answer is
// the path.
type Enter struct {
	Path string `json:"path"`
}

func (Connect) do() {}
func (Enter) do()   {}

// FailNoDirectory is that the working directory cannot be entered, and so
// nothing was run.
const FailNoDirectory FailureCode = "no_directory"

// Connected is what is known of a connection that was made. What the caller calls
// it is added by the gateway.
type Connected struct {
	Address   string // peer that was logged in to
	HostKey   string // type and fingerprint of the key that it proved itself with
	Directory string // where a login begins; empty when the host would not say
	Alias     string
	Default   bool // it is what a call without a target means
	Reused    bool // it was open before
}

// AdHoc is a host that is not in the inventory, as a caller describes it.
type AdHoc struct {
	Hostname string `json:"hostname"`
	Port     int    `json:"port"`
	User     string `json:"user"`
	// Password or Key, the name of a file in keys/, is what to log in with;
	// without either it is the caller's identity.
	Password Secret `json:"password,omitzero"`
	Key      string `json:"key,omitempty"`
	// HostKey is the SHA-256 fingerprint that the host has to prove itself with
	// where no known_hosts file has its key.
	HostKey string `json:"host_key,omitempty"`
}

// Same says whether two descriptions are of one host and login.
func (a AdHoc) Same(b AdHoc) bool {
	return a.Password.Equal(b.Password) && a.Hostname == b.Hostname && a.Port == b.Port &&
		a.User == b.User && a.Key == b.Key && a.HostKey == b.HostKey
}

// Auth is the kind of what is logged in with.
func (a AdHoc) Auth() string {
	switch {
	case !a.Password.IsZero():
		return "password"
	case a.Key != "":
		return "key"
	}
	return "identity"
}

// Opening asks for a connection to be kept under a name.
type Opening struct {
	Name  string `json:"name,omitempty"`  // empty: the gateway names it
	AdHoc *AdHoc `json:"adhoc,omitempty"` // nil: the host of the inventory that the scope names
	// Via is the host to go through: an open connection of the caller's or a host
	// of the inventory. The way of a host of the inventory is written there.
	Via string `json:"via,omitempty"`
}

// Connection is the open connection that a target is reached by; the zero value
// is none.
type Connection struct {
	ID      string // known to nobody but the gateway
	Alias   string // what its owner calls it
	Subject string // its owner
}

// Disconnected is what came of closing connections.
type Disconnected struct {
	Closed []string // aliases, those that depended on them among them
	// Busy are those of them on which calls still run: they take no new ones, and
	// are closed behind the last.
	Busy []string
}

// Identity is the public half of a subject's own key.
type Identity struct {
	Subject     string
	Line        string // as in an authorized_keys file
	Type        string // ssh-ed25519
	Fingerprint string
}

// OpenConnection is the step that makes sure of a connection.
func OpenConnection() Step {
	return Step{Op: Op{Action: ConnOpen, Effect: Link}, Do: Connect{}}
}
