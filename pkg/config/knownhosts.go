package config

import (
	"os"
	"path/filepath"
)

// knownHosts is the file that the configuration names, or else the usual ones.
type knownHosts struct {
	named string
	usual []string
}

// knownHosts warns where no file is there to verify a host key against: every
// connection is then refused, and that is better known beforehand.
func (l *loader) knownHosts(s Settings, p *sitePolicy, v vault, inv *inventory) knownHosts {
	k := knownHosts{named: s.SSH.KnownHosts, usual: []string{filepath.Join(v.keysDir, "known_hosts")}}
	if k.named == "" {
		k.named = l.relative(p.knownHosts)
	}
	if home := l.env("HOME"); home != "" {
		k.usual = append(k.usual, filepath.Join(home, ".ssh", "known_hosts"))
	}
	missing := k.named
	if missing == "" {
		missing = k.usual[0]
	}
	if len(inv.entries) > 0 && len(existing(k.files())) == 0 {
		l.place(serversFile).warn(faultf("ssh-keyscan HOST >> "+missing+", after comparing the fingerprint with the host's own",
			"there is no %s to verify host keys against, so every connection will be refused", missing))
	}
	return k
}

func (k knownHosts) files() []string {
	if k.named != "" {
		return []string{k.named}
	}
	return existing(k.usual)
}

func existing(paths []string) []string {
	var found []string
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			found = append(found, path)
		}
	}
	return found
}
