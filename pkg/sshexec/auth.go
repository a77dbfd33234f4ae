package sshexec

// Login is how the gateway proves who it is to a host: a user name and one or
// more credentials. What is empty is not offered. It holds secrets and prints
// none of them, whichever way it is printed.
type Login struct {
	User    string // empty: the target's user
	KeyName string // what the key is called in messages: its file name
	Key     []byte // private key, OpenSSH or PEM
	// Passphrase decrypts Key.
	Passphrase string
	// Certificate is an OpenSSH user certificate for Key, or for the agent's
	// key, as ssh-keygen writes it.
	Certificate []byte
	// Agent is the path of an ssh-agent's socket. With a Certificate or a
	// public key in Key, only that key is asked of the agent.
	Agent string
	// Password answers the password and the keyboard-interactive method.
	Password string
	// HostKeyAlias is the name that the host's key is known by, where that is
	// not its hostname.
	HostKeyAlias string
	// Legacy also permits algorithms that rest on SHA-1 or on finite-field
	// groups of 1024 bits, for a host that has nothing better.
	Legacy bool
}
