package config

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// check says what is wrong with a text; nil is nothing.
type check func(string) *fault

// hidden is true of characters that a reader does not see: controls, format
// characters such as zero-width and bidirectional ones, line separators.
func hidden(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

func visible(s string) *fault { return visibleBut("", s) }

func visibleLines(s string) *fault { return visibleBut("\n\t", s) }

// visibleBut sees what is not UTF-8, too: a file cannot hold it, but a flag and
// a variable of the environment can.
func visibleBut(allowed, s string) *fault {
	if !utf8.ValidString(s) {
		return faultf("write it in UTF-8", "is not UTF-8")
	}
	for _, r := range s {
		if hidden(r) && !strings.ContainsRune(allowed, r) {
			return faultf("remove it", "has the invisible character %U", r)
		}
	}
	return nil
}

func filled(s string) *fault {
	if strings.TrimSpace(s) == "" {
		return faultf("give it a value, or remove it", "is empty")
	}
	return nil
}

func atMost(n int) check {
	return func(s string) *fault {
		if utf8.RuneCountInString(s) > n {
			return faultf("shorten it", "longer than %d characters", n)
		}
		return nil
	}
}

// The lengths that names may have, in characters.
const (
	maxAlias  = 100
	maxTag    = 50
	maxSecret = 100
	maxKey    = 500
	maxPerson = 256
)

var nameText = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// name is a name of letters, digits, dot, underscore and dash. It does not begin
// with a dash: no argument of a call may, so nobody could say it.
func name(most int) check {
	return func(s string) *fault {
		if f := atMost(most)(s); f != nil {
			return f
		}
		if !nameText.MatchString(s) {
			return faultf("use letters, digits, '.', '_' and '-'", "%q is not a name", s)
		}
		if strings.HasPrefix(s, "-") {
			return faultf("begin it with a letter or digit", "%q begins with a dash", s)
		}
		return nil
	}
}

// person is a user, a subject or a group: any word, but the whole of it. These
// are compared as they are, so a pattern would match nobody.
func person(s string) *fault {
	switch {
	case utf8.RuneCountInString(s) > maxPerson:
		return atMost(maxPerson)(s)
	case s == "" || strings.TrimSpace(s) != s:
		return faultf("remove the blanks", "%q begins or ends with a blank, or is empty", s)
	case strings.ContainsRune(s, '*'):
		return faultf("write each name out", "%q is a pattern; names are compared whole", s)
	}
	return nil
}

func loginName(s string) *fault {
	if strings.HasPrefix(s, "-") || strings.ContainsFunc(s, unicode.IsSpace) {
		return faultf("write the user's name on the host", "%q is not a user name", s)
	}
	return person(s)
}

// oneOf accepts the listed words only. They are few, so all of them are told
// beside the one that was probably meant.
func oneOf(allowed ...string) check {
	return func(s string) *fault {
		if slices.Contains(allowed, s) {
			return nil
		}
		remedy := "values: " + strings.Join(allowed, ", ")
		if near := Nearest(s, allowed); near != "" {
			remedy = `did you mean "` + near + `"? ` + remedy
		}
		return faultf(remedy, "unknown value %q", s)
	}
}

var (
	hostnameLabel = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)
	hostAndPort   = regexp.MustCompile(`^([^:]+|\[[^\]]*\]):[0-9]+$`)
	allNumbers    = regexp.MustCompile(`^[0-9.]+$`)
)

// hostname is a DNS name or an IP address, without a user, a port, brackets or
// a zone: networks in policy.yml have no zones, so such an address could not be
// judged.
func hostname(s string) *fault {
	if addr, err := netip.ParseAddr(s); err == nil {
		if addr.Zone() != "" {
			return faultf("use an address that means the same on every interface", "%q has a zone in it", s)
		}
		return nil
	}
	switch {
	case strings.ContainsRune(s, '@'):
		return faultf("put the user into credentials.yml as username", "%q has a user in it", s)
	case hostAndPort.MatchString(s):
		return faultf("write the port as port:", "%q has a port in it", s)
	case strings.HasPrefix(s, "["):
		return faultf("write the address without brackets", "%q is in brackets", s)
	case allNumbers.MatchString(s):
		return faultf("write four numbers from 0 to 255", "%q is not an IP address", s)
	case len(s) > 253:
		return faultf("shorten it", "longer than 253 characters")
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if !hostnameLabel.MatchString(label) {
			return faultf("write a DNS name in ASCII, or an IP address", "%q is neither a host name nor an address", s)
		}
	}
	return nil
}

// listenAddress is host:port; an empty host is every interface.
func listenAddress(s string) *fault {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return faultf("write host:port, such as 127.0.0.1:8022", "%q is not host:port", s)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return faultf("write a port from 0 to 65535", "%q is not a port", port)
	}
	if host == "" {
		return nil
	}
	return hostname(host)
}

func isLoopback(listen string) bool {
	host, _, _ := net.SplitHostPort(listen)
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// allowedHost is what a Host header may say: a name or address, with or
// without a port.
func allowedHost(s string) *fault {
	if hostAndPort.MatchString(s) {
		s = s[:strings.LastIndexByte(s, ':')]
	}
	return hostname(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
}

func origin(s string) *fault {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != s {
		return faultf("write scheme://host or scheme://host:port", "%q is not an origin", s)
	}
	return nil
}

var (
	hexDigest = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
	envName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

func sha256Hex(s string) *fault {
	if !hexDigest.MatchString(s) {
		return faultf("write what printf %s \"$TOKEN\" | sha256sum prints", "not 64 hex digits")
	}
	return nil
}

func variable(s string) *fault {
	if !envName.MatchString(s) {
		return faultf("use letters, digits and '_'", "%q is not the name of an environment variable", s)
	}
	return nil
}

// orEmpty lets a text be empty, which means that there is none.
func orEmpty(c check) check {
	return func(s string) *fault {
		if s == "" {
			return nil
		}
		return c(s)
	}
}
