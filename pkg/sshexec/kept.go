package sshexec

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/tool"
)

// connect makes sure of a connection and finds out where a login begins. That it
// runs a command is part of what opening a connection means; a host that runs
// none, or says something else, is connected all the same.
func (r *run) connect(ctx context.Context) bool {
	where := command{
		line:  shell.RemoteEnv(r.marker(), "echo "+shell.Quote(r.task)+"; pwd"),
		limit: 16 << 10,
	}
	if !r.step(ctx, where) {
		if f := r.report.Err; f == nil || f.Code != tool.FailExecRefused {
			return false
		}
		r.report = tool.Report{Outcome: tool.Finished, Outputs: []tool.Output{{}}, Address: r.report.Address}
	}
	made := tool.Connected{Address: r.report.Address, Directory: directoryIn(r.report.Outputs[0].Stdout.Kept, r.task)}
	if key := plainKey(r.on.hostKey); key != nil {
		made.HostKey = key.Type() + " " + ssh.FingerprintSHA256(key)
	}
	r.report.Outputs = []tool.Output{{Answer: made}}
	return true
}

// enter tries whether the account can work in a directory, and whether that is
// still the one that was judged.
func (r *run) enter(ctx context.Context, do tool.Enter) bool {
	sign := &lost{dir: do.Path, word: rand.Text()}
	there := command{
		line:  shell.RemoteIn(r.marker(), do.Path, sign.word, "echo "+shell.Quote(r.task)+"; pwd -P"),
		lost:  sign,
		limit: 16 << 10,
	}
	if !r.step(ctx, there) {
		return false
	}
	if _, got, _ := strings.Cut(string(r.report.Outputs[0].Stdout.Kept), r.task+"\n"); got != do.Path+"\n" {
		r.report.Outputs = nil
		r.end(tool.Finished, &tool.Failure{
			Code: tool.FailChanged, Message: fmt.Sprintf("%s: %q leads elsewhere than it did a moment ago", place(r.job.Target), do.Path),
			Remedy: "try again",
		})
		return false
	}
	r.report.Outputs = []tool.Output{{Answer: do.Path}}
	return true
}

// directoryIn is the line behind a marker, if it is an absolute path: start-up
// files may have said something before.
func directoryIn(out []byte, marker string) string {
	_, said, _ := strings.Cut(string(out), marker+"\n")
	dir, whole := strings.CutSuffix(said, "\n")
	if !whole || !strings.HasPrefix(dir, "/") || strings.Contains(dir, "\n") {
		return ""
	}
	return dir
}

// farewell is how long the end of connections is waited for.
const farewell = time.Second

// Disconnect closes what belongs to connections that were kept open, in this
// order, and waits until it is gone, though not for long: on a dead network the
// other side may never hear of it. Nothing runs on them.
func (e *Executor) Disconnect(conns []string) {
	var ending []*conn
	for _, id := range conns {
		ending = append(ending, e.pool.end(func(k poolKey) bool { return k.kept == id }, true)...)
	}
	late := time.NewTimer(farewell)
	defer late.Stop()
	for _, c := range ending {
		select {
		case <-c.dead:
		case <-late.C:
			return
		}
	}
}

// Forget closes the connections of a subject that are pooled in case of another
// job. One on which something runs is closed behind that.
func (e *Executor) Forget(subject string) {
	e.pool.end(func(k poolKey) bool { return k.subject == subject && k.kept == "" }, false)
}

// end has the connections of hosts take nothing new, those being made among them.
// At once, they are closed whatever is on them.
func (p *pool) end(of func(poolKey) bool, atOnce bool) []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ending []*conn
	for key, h := range p.hosts {
		if !of(key) {
			continue
		}
		h.ended++
		for _, c := range slices.Clone(h.conns) {
			c.retiring = true
			if atOnce {
				c.close()
			} else {
				c.poke()
			}
			ending = append(ending, c)
		}
	}
	return ending
}
