package sshtest

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// signals are those of RFC 4254 that a client may send.
var signals = map[string]syscall.Signal{
	"ABRT": syscall.SIGABRT, "ALRM": syscall.SIGALRM, "FPE": syscall.SIGFPE, "HUP": syscall.SIGHUP,
	"ILL": syscall.SIGILL, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "PIPE": syscall.SIGPIPE,
	"QUIT": syscall.SIGQUIT, "SEGV": syscall.SIGSEGV, "TERM": syscall.SIGTERM,
	"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
}

// session serves one session channel: one command, and signals to it, or SFTP.
// As with sshd, a client that goes away does not end the command.
func (s *Server) session(ctx context.Context, number int, ch ssh.Channel, reqs <-chan *ssh.Request) {
	var running sync.WaitGroup
	defer running.Wait()
	p := &process{ch: ch, dir: s.o.Dir, gone: make(chan struct{})}
	defer close(p.gone)
	for r := range reqs {
		ok := false
		switch {
		case s.o.Faults.Refuse != nil && s.o.Faults.Refuse(number, r):
		case r.Type == "exec" && p.command == "":
			var m struct{ Command string }
			ok = ssh.Unmarshal(r.Payload, &m) == nil
			p.command = m.Command
		case r.Type == "subsystem" && p.command == "":
			var m struct{ Name string }
			ok = ssh.Unmarshal(r.Payload, &m) == nil && m.Name == "sftp"
			p.command = "sftp"
		case r.Type == "signal":
			var m struct{ Name string }
			ok = ssh.Unmarshal(r.Payload, &m) == nil && p.signal(signals[m.Name])
		}
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
		switch {
		case r.Type == "exec" && ok:
			running.Go(func() { s.execute(ctx, p) })
		case r.Type == "subsystem" && ok:
			running.Go(func() { p.serveFiles() })
		}
	}
}

func (s *Server) execute(ctx context.Context, p *process) {
	defer p.ch.Close()
	if s.o.Faults.Exec == nil || !s.o.Faults.Exec(p.command, p.ch) {
		p.run(ctx)
	}
}

// serveFiles is the SFTP of a host that is not OpenSSH: all sessions are served by
// one process, this one.
func (p *process) serveFiles() {
	defer p.ch.Close()
	server, err := sftp.NewServer(p.ch, sftp.WithServerWorkingDirectory(p.dir))
	if err == nil {
		err = server.Serve()
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	p.exit(err)
}

// process is the command of a session.
type process struct {
	ch      ssh.Channel
	command string
	dir     string
	gone    chan struct{} // closed when the client has closed the session

	mu  sync.Mutex
	pid int // 0 unless running
}

// run runs the command. Like sshd it reports the exit at once and returns when
// both streams have ended, which is later if a background child holds them.
func (p *process) run(ctx context.Context) {
	cmd := exec.Command("/bin/sh", "-c", p.command)
	cmd.Dir, cmd.Env = p.dir, environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	streams, err := p.start(cmd)
	if err != nil {
		p.exit(err)
		return
	}
	defer streams.close()
	stop := context.AfterFunc(ctx, func() { p.signal(syscall.SIGKILL) })
	err = cmd.Wait()
	p.setPID(0)
	stop()
	p.exit(err)
	select {
	case <-streams.ended():
	case <-p.gone:
	case <-ctx.Done():
	}
}

// streams are our ends of a command's pipes, and the copying between them and
// the channel.
type streams struct {
	ends    []*os.File
	copying sync.WaitGroup
}

// start starts the command on pipes of its own. With the files given to it and
// not copied by os/exec, waiting for it does not wait for its children.
func (p *process) start(cmd *exec.Cmd) (*streams, error) {
	s := &streams{}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	pipes := make([][2]*os.File, 3)
	for i := range pipes {
		r, w, err := os.Pipe()
		if err != nil {
			s.close()
			return nil, err
		}
		if i == 0 {
			r, w = w, r
		}
		pipes[i] = [2]*os.File{r, w}
		s.ends, theirs = append(s.ends, r), append(theirs, w)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs[0], theirs[1], theirs[2]
	if err := cmd.Start(); err != nil {
		s.close()
		return nil, err
	}
	p.setPID(cmd.Process.Pid)
	s.copying.Go(func() { _, _ = io.Copy(p.ch, s.ends[1]); s.ends[1].Close() })
	s.copying.Go(func() { _, _ = io.Copy(p.ch.Stderr(), s.ends[2]); s.ends[2].Close() })
	go func() { _, _ = io.Copy(s.ends[0], p.ch); s.ends[0].Close() }()
	return s, nil
}

// ended is closed when both output streams have ended.
func (s *streams) ended() <-chan struct{} {
	done := make(chan struct{})
	go func() { s.copying.Wait(); close(done) }()
	return done
}

func (s *streams) close() {
	for _, f := range s.ends {
		f.Close()
	}
}

// environment is a plain one: nothing of this process's own reaches a command
// but what a login would set too.
func environment() []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SHELL=/bin/sh"}
	for _, name := range []string{"HOME", "USER", "LOGNAME", "LANG", "TZ"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func (p *process) setPID(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid = pid
}

// signal sends sig to the command's process group.
func (p *process) signal(sig syscall.Signal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid != 0 && sig != 0 && syscall.Kill(-p.pid, sig) == nil
}

// exit reports how the command ended: its status, or the signal that ended it.
func (p *process) exit(err error) {
	status := uint32(0)
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		ws := failed.Sys().(syscall.WaitStatus)
		if ws.Signaled() {
			_, _ = p.ch.SendRequest("exit-signal", false, ssh.Marshal(&struct {
				Name    string
				Core    bool
				Message string
				Lang    string
			}{Name: signalName(ws.Signal()), Core: ws.CoreDump()}))
			return
		}
		status = uint32(ws.ExitStatus())
	case err != nil:
		status = 127
	}
	_, _ = p.ch.SendRequest("exit-status", false, ssh.Marshal(&struct{ Status uint32 }{status}))
}

// signalName is what a client is told; like OpenSSH, it has a word for signals
// that the RFC does not know.
func signalName(sig syscall.Signal) string {
	for name, s := range signals {
		if s == sig {
			return name
		}
	}
	return "SIG@openssh.com"
}
