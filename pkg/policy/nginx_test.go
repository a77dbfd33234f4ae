package policy

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// nginx serves a directory on an address of its own.
type nginx struct {
	dir, config, address string
	process              *exec.Cmd
}

func newNginx(t *testing.T) *nginx {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nginx{dir: t.TempDir(), address: l.Addr().String()}
	l.Close()
	run := t.TempDir()
	n.config = filepath.Join(run, "nginx.conf")
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // to read what the test wrote
	}
	write(t, n.config, fmt.Sprintf(`%s daemon off; master_process off; pid %[2]s/pid; error_log %[2]s/error.log;
events {}
http {
	access_log off; client_body_temp_path %[2]s/b; proxy_temp_path %[2]s/p; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;
	server { listen %[3]s; root %[4]s; }
}
`, user, run, n.address, n.dir))
	n.start(t)
	t.Cleanup(func() { n.stop(t) })
	return n
}

func (n *nginx) start(t *testing.T) {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path = "/usr/sbin/nginx"
	}
	n.process = exec.Command(path, "-e", "stderr", "-c", n.config)
	n.process.Stderr = os.Stderr
	if err := n.process.Start(); err != nil {
		t.Fatalf("%v (.ci/install installs it)", err)
	}
	eventually(t, "nginx listens", func() bool {
		c, err := net.Dial("tcp", n.address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// stop ends it at once, with whatever it is sending.
func (n *nginx) stop(t *testing.T) {
	if n.process == nil {
		return
	}
	if err := n.process.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = n.process.Wait() // it was killed
	n.process = nil
}

// put replaces a file in one step. Its ETag there is of its size and second.
func (n *nginx) put(t *testing.T, name string, content []byte) {
	t.Helper()
	path := filepath.Join(n.dir, name)
	write(t, path+".new", string(content))
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// trusting is a policy that allows whatever no team objects to: the worst one to
// decide without its teams.
const trusting = `package sallyport

decision := {"allow": count(reasons) == 0, "reasons": reasons, "limits": {"seconds": 1, "output_bytes": 1, "concurrent": 1}}

reasons := [{"code": "custom_denied", "title": "no", "remedy": "none", "detail": said} | some said in objections]

objections contains said if some said in data.custom.one.deny

objections contains said if some said in data.custom.two.deny
`

// numbered is a team's bundle that objects to everything by its revision. No two
// have one size, which nginx tells files of one second apart by.
func numbered(t *testing.T, by signer, team string, n int) []byte {
	padding := make([]byte, 64*n)
	_, _ = rand.Read(padding)
	return by.release(t, team, n, fmt.Sprintf("# %x\ndeny contains \"%s-%d\"", padding, team, n))
}

// While revisions change under 64 callers, the server stops and comes back, and
// gives halves and forgeries, each decision is made by one revision of each
// bundle, which it names, and none without all of them.
func TestRevisionsFlip(t *testing.T) {
	team, stranger := newSigner(t), newSigner(t)
	server := newNginx(t)
	source := func(name string) Source {
		return Source{
			Name: name, Resource: name + ".tar.gz", MinDelay: time.Second, MaxDelay: time.Second, Persist: true,
			Service: &Service{URL: "http://" + server.address, Headers: 5 * time.Second, Timeout: 5 * time.Second},
		}
	}
	main := mainBundle(t, trusting)
	team.sign(t, main, "team")
	dir := t.TempDir()
	start := func() (*Engine, *history) {
		h := &history{}
		e, err := New(t.Context(), Options{
			Bundle: main, Bundles: []Source{source("one"), source("two")}, Keys: map[string]Key{"team": team.key()}, RequireSigned: true,
			KeepDir: dir, Told: h.told,
		})
		if err != nil {
			t.Fatal(err)
		}
		return e, h
	}
	server.put(t, "one.tar.gz", numbered(t, team, "one", 1))
	e, h := start() // without the other one
	defer func() { e.Close(context.Background()) }()

	in := NewInput(Facts{Now: time.Now()})
	var made, unready atomic.Int64
	seen := sync.Map{} // pairs of revisions that decided
	callers, stop := sync.WaitGroup{}, make(chan struct{})
	for range 64 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				d := e.Decide(context.Background(), in, Mark{})
				made.Add(1)
				one, two := d.Bundles["one"], d.Bundles["two"]
				switch {
				case d.Allow:
					t.Errorf("allowed: %+v", d)
				case len(d.Bundles) == 0:
					unready.Add(1)
				case d.Reasons[0].Code == "policy_timeout":
				case len(d.Reasons) != 2 || d.Reasons[0].Detail != one || d.Reasons[1].Detail != two:
					t.Errorf("torn: %v says %+v", d.Bundles, d.Reasons)
				default:
					seen.Store(one+" "+two, true)
				}
			}
		})
	}
	at := func(one, two string) func() bool {
		return func() bool { r := e.Revisions(); return r["one"] == one && r["two"] == two && len(e.Behind()) == 0 }
	}
	eventually(t, "callers are refused while one is missing", func() bool { return unready.Load() > 64 })
	server.put(t, "two.tar.gz", numbered(t, team, "two", 1))
	eventually(t, "both decide", at("one-1", "two-1"))
	for n := 2; n <= 4; n++ {
		server.put(t, "one.tar.gz", numbered(t, team, "one", n))
		server.put(t, "two.tar.gz", numbered(t, team, "two", n))
		eventually(t, "the next ones decide", at(fmt.Sprintf("one-%d", n), fmt.Sprintf("two-%d", n)))
	}
	next := numbered(t, team, "one", 5)
	for name, bad := range map[string][]byte{"half": next[:len(next)/2], "without its end": next[:len(next)-3], "forged": numbered(t, stranger, "one", 6), "older": numbered(t, team, "one", 3)} {
		told := len(h.kinds("one"))
		server.put(t, "one.tar.gz", bad)
		eventually(t, name+" is refused", func() bool { return len(h.kinds("one")) > told && e.Behind()["one"] != "" })
		server.put(t, "two.tar.gz", numbered(t, team, "two", 10+told))
		eventually(t, "the other goes on", func() bool { return e.Revisions()["two"] == fmt.Sprintf("two-%d", 10+told) })
		if r := e.Revisions(); r["one"] != "one-4" {
			t.Errorf("%s: at %v", name, r)
		}
		server.put(t, "one.tar.gz", numbered(t, team, "one", 4))
		eventually(t, "it is as it was", func() bool { return len(e.Behind()) == 0 })
	}
	server.stop(t)
	eventually(t, "it is away", func() bool {
		return e.Behind()["one"] == string(Unreachable) && e.Behind()["two"] == string(Unreachable)
	})
	server.start(t)
	server.put(t, "one.tar.gz", next)
	eventually(t, "it is back", func() bool { return e.Revisions()["one"] == "one-5" && len(e.Behind()) == 0 })
	close(stop)
	callers.Wait()
	pairs := 0
	seen.Range(func(any, any) bool { pairs++; return true })
	t.Logf("%d decisions by %d pairs of revisions, %d while there was none", made.Load(), pairs, unready.Load())
	if pairs < 5 {
		t.Errorf("only %d pairs of revisions decided", pairs)
	}

	was := e.Revisions()
	e.Close(t.Context())
	server.stop(t)
	e, _ = start()
	if r := e.Revisions(); e.Ready() != nil || r["one"] != was["one"] || r["two"] != was["two"] {
		t.Errorf("restarted without the server: %v, at %v, not %v", e.Ready(), r, was)
	}
	if d := e.Decide(t.Context(), in, Mark{}); d.Allow || len(d.Reasons) != 2 {
		t.Errorf("restarted without the server: %+v", d)
	}
}
