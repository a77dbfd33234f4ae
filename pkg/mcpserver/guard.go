package mcpserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/sallyport/sallyport/pkg/tool"
)

// Token is a bearer token: the subject that calls with it are made by, and its
// SHA-256. A subject may have several, so that they can be rotated.
type Token struct {
	ID     string
	SHA256 [sha256.Size]byte
	Groups []string
}

// guard answers the questions that come before MCP: is this request meant for
// us, does a web page send it, and who is calling.
type guard struct {
	hosts   []string                // lower case, with or without a port; none: any that is not loopback
	origins []string                // scheme://host[:port], lower case
	tokens  atomic.Pointer[[]Token] // none: everyone is the local subject
}

func newGuard(o HTTPOptions) (*guard, error) {
	g := &guard{}
	for _, h := range o.AllowedHosts {
		g.hosts = append(g.hosts, strings.ToLower(h))
	}
	for _, origin := range o.AllowedOrigins {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
			return nil, fmt.Errorf("allowed origin %q is not of the form https://host[:port]", origin)
		}
		g.origins = append(g.origins, strings.ToLower(u.Scheme+"://"+u.Host))
	}
	return g, g.setTokens(o.Tokens)
}

func (g *guard) setTokens(tokens []Token) error {
	owners := map[[sha256.Size]byte]string{}
	for _, t := range tokens {
		if t.ID == "" {
			return errors.New("a token has no id")
		}
		if other, twice := owners[t.SHA256]; twice {
			return fmt.Errorf("tokens %q and %q are the same", other, t.ID)
		}
		owners[t.SHA256] = t.ID
	}
	g.tokens.Store(&tokens)
	return nil
}

// host refuses requests for somebody else, among them those of a web page whose
// name was bound to our address: 421.
func (g *guard) host(r *http.Request) bool {
	host := strings.ToLower(r.Host)
	name := hostname(host)
	if slices.Contains(g.hosts, host) || slices.Contains(g.hosts, name) {
		return true
	}
	if arrivedOnLoopback(r) {
		return isLoopback(name)
	}
	return len(g.hosts) == 0
}

// origin refuses web pages: 403. Whatever carries an Origin is one, unless it
// is on the list, or comes from this very server on loopback.
func (g *guard) origin(r *http.Request) bool {
	values := r.Header.Values("Origin")
	if len(values) == 0 {
		return true
	}
	origin := strings.ToLower(values[0])
	if len(values) > 1 {
		return false
	}
	return slices.Contains(g.origins, origin) || arrivedOnLoopback(r) && sameOnLoopback(origin, r.Host)
}

// sameOnLoopback says that an origin is the very server that is asked. Loopback
// has many names and literals, and a browser may have opened one and be sent to
// another; what tells the servers there apart is the port.
func sameOnLoopback(origin, host string) bool {
	page, plain := strings.CutPrefix(origin, "http://")
	return plain && isLoopback(hostname(page)) && isLoopback(hostname(host)) && portOf(page) == portOf(host)
}

// portOf is the port of a Host, which leaves out that of HTTP.
func portOf(host string) string {
	if _, port, err := net.SplitHostPort(host); err == nil {
		return port
	}
	return "80"
}

// hostname is a Host without its port and brackets.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}

func isLoopback(name string) bool {
	ip, err := netip.ParseAddr(name)
	return strings.EqualFold(name, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

func arrivedOnLoopback(r *http.Request) bool {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && isLoopback(hostname(addr.String()))
}

// caller is who calls, and false with what is wrong with the credentials.
func (g *guard) caller(r *http.Request) (tool.Caller, string, bool) {
	tokens := *g.tokens.Load()
	if len(tokens) == 0 {
		return tool.Caller{Subject: "local", Auth: "local", Transport: "http"}, "", true
	}
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return tool.Caller{}, "", false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return tool.Caller{}, "", false
	}
	t, ok := find(tokens, strings.TrimSpace(token))
	if !ok {
		return tool.Caller{}, "invalid_token", false
	}
	return tool.Caller{Subject: t.ID, Groups: t.Groups, Auth: "token", Transport: "http"}, "", true
}

// find compares with every token, and in constant time, so that the time it
// takes says nothing about any.
func find(tokens []Token, token string) (Token, bool) {
	sum := sha256.Sum256([]byte(token))
	at := -1
	for i := range tokens {
		at = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum[:], tokens[i].SHA256[:]), i, at)
	}
	if at < 0 {
		return Token{}, false
	}
	return tokens[at], true
}

type callerKey struct{}

func callerFrom(ctx context.Context) tool.Caller {
	c, _ := ctx.Value(callerKey{}).(tool.Caller)
	return c
}

func (e *endpoint) forUs(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !e.guard.host(r) {
			e.turnAway(w, r, http.StatusMisdirectedRequest, fmt.Sprintf(
				"this server does not answer for %q: use the address that it listens at, or have http.allowed_hosts list the name", clip(r.Host)))
			return
		}
		if !e.guard.origin(r) {
			e.turnAway(w, r, http.StatusForbidden, fmt.Sprintf(
				"web pages from %q may not call this server: have http.allowed_origins list the origin if they should", clip(r.Header.Get("Origin"))))
			return
		}
		if r.Header.Get("Origin") != "" && share(w, r) {
			return
		}
		next.ServeHTTP(w, r)
	})
}

// share lets the browser hand our answers to a page whose origin is allowed,
// and says whether the request was only the question whether it may.
func share(w http.ResponseWriter, r *http.Request) (answered bool) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
	h.Set("Access-Control-Expose-Headers", mcp.HeaderSessionID)
	h.Add("Vary", "Origin")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "POST, GET, DELETE")
	h.Set("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"))
	w.WriteHeader(http.StatusNoContent)
	return true
}

func (e *endpoint) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); q.Has("access_token") || q.Has("token") {
			e.turnAway(w, r, http.StatusBadRequest, "a token in the URL ends up in logs: send it in the Authorization header, and replace it")
			return
		}
		caller, problem, ok := e.guard.caller(r)
		if !ok {
			challenge := `Bearer realm="sallyport"`
			if problem != "" {
				challenge += fmt.Sprintf(", error=%q", problem)
			}
			w.Header().Set("WWW-Authenticate", challenge)
			e.turnAway(w, r, http.StatusUnauthorized, "a valid bearer token is required: send Authorization: Bearer TOKEN with one that sallyport.yml lists under tokens")
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, caller)))
	})
}

// turnAway answers a request that never got as far as MCP.
func (e *endpoint) turnAway(w http.ResponseWriter, r *http.Request, status int, why string) {
	e.log.Warn("request turned away", "status", status, "reason", why, "method", r.Method, "remote", r.RemoteAddr)
	http.Error(w, why, status)
}
