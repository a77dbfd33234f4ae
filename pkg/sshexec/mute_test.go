package sshexec

import (
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// mute stops the processes with a word on their command line, as a file system
// that does not answer would.
func mute(t testing.TB, word string) {
	t.Helper()
	for _, p := range processes(t, word) {
		pid, err := strconv.Atoi(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
}

// A server that does not answer holds no job beyond its time, is ended, and the
// next job has another one.
func TestMuteServer(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	l, _, host := sshd(t, sshtest.OpenSSHOptions{SFTP: "/usr/lib/openssh/sftp-server -d " + dir})
	file := put(t, dir, "file", "old")
	give(t, host, file)
	for _, do := range []tool.Do{
		tool.Write{Path: file, Content: []byte("new")}, tool.List{Path: dir, Most: 1},
	} {
		answerOf[tool.FileContent](t, l, host, tool.Read{Path: file})
		mute(t, dir)
		j := fileJob(host, do)
		j.Limits.Seconds = 1
		r := l.Run(t.Context(), j)
		failed(t, r, tool.NotStarted, tool.FailStop)
		if r.Stop != tool.StopTimeout || r.Stopped {
			t.Errorf("%+v: %s", do, describe(r))
		}
		eventually(t, "the server is ended", func() bool { return len(processes(t, dir)) == 0 })
	}
	if mustRead(t, file) != "old" || names(t, dir) != "file" {
		t.Errorf("%q in %s", mustRead(t, file), names(t, dir))
	}
	mute(t, dir)
	a, b := halves(host, host, file, dir+"/copy")
	b.Limits.Seconds = 1
	answerOf[tool.FileContent](t, l, host, tool.Read{Path: file})
	mute(t, dir)
	sent, received := l.Copy(t.Context(), a, b)
	failed(t, sent, tool.NotStarted, tool.FailStop)
	failed(t, received, tool.NotStarted, tool.FailStop)
	eventually(t, "the server is ended", func() bool { return len(processes(t, dir)) == 0 })
}

// One job that is stuck takes others on its session with it; they are begun
// again, or say that nothing of them was.
func TestMuteServerForOthers(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	l, _, host := sshd(t, sshtest.OpenSSHOptions{SFTP: "/usr/lib/openssh/sftp-server -d " + dir})
	file := put(t, dir, "file", "hello")
	answerOf[tool.FileContent](t, l, host, tool.Read{Path: file})
	mute(t, dir)
	run := func(seconds int) <-chan tool.Report {
		j := fileJob(host, tool.Read{Path: file})
		j.Limits.Seconds = seconds
		report := make(chan tool.Report, 1)
		go func() { report <- l.Run(t.Context(), j) }()
		return report
	}
	stuck, other := run(1), run(0)
	failed(t, <-stuck, tool.NotStarted, tool.FailStop)
	if r := <-other; r.Outcome == tool.NotStarted {
		failed(t, r, tool.NotStarted, tool.FailDropped)
	} else if r.Outcome != tool.Finished || r.Err != nil {
		t.Error(describe(r))
	}
}

// A FIFO that takes the place of a file keeps the server waiting when it is
// opened. That ends, and says what it was.
func TestOpenThatBlocks(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	l, _, host := sshd(t, sshtest.OpenSSHOptions{SFTP: "/usr/lib/openssh/sftp-server -d " + dir})
	file := put(t, dir, "file", "hello")
	answerOf[tool.FileContent](t, l, host, tool.Read{Path: file})
	if err := syscall.Mkfifo(dir+"/fifo", 0o666); err != nil {
		t.Fatal(err)
	}
	swap(t, file, dir+"/fifo")
	eventually(t, "an open blocks", func() bool {
		r := l.Run(t.Context(), fileJob(host, tool.Read{Path: file}))
		return r.Err != nil && r.Err.Code == tool.FailFile
	})
	eventually(t, "the server is ended", func() bool { return len(processes(t, dir)) <= 1 })
}

// The network falls silent in the middle of a write: the job ends in time, and
// nothing has changed.
func TestFrozenWrite(t *testing.T) {
	t.Parallel()
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	p := sshtest.StartProxy(t, s.Addr, 0)
	l := newLab(t, s.Key, []string{known(p.Addr(), s)}, hasty)
	host := target(login(t), p.Addr())
	dir := openDir(t)
	answerOf[tool.Written](t, l, host, tool.Write{Path: dir + "/file", Content: []byte("old")})
	p.Throttle(20 << 20)
	j := fileJob(host, tool.Write{Path: dir + "/file", Content: make([]byte, 60<<20)})
	j.Limits.Seconds = 2
	reports := make(chan tool.Report, 1)
	go func() { reports <- l.Run(t.Context(), j) }()
	eventually(t, "it is being written", func() bool {
		info, err := os.Stat(dir + "/.file" + temporary)
		return err == nil && info.Size() > 1<<20
	})
	p.Freeze()
	r := <-reports
	p.Throttle(0)
	p.Thaw()
	if r.Outcome != tool.NotStarted || r.Stop != tool.StopTimeout || mustRead(t, dir+"/file") != "old" {
		t.Error(describe(r))
	}
}

// A write that is cancelled leaves nothing.
func TestCancelledWrite(t *testing.T) {
	t.Parallel()
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	p := sshtest.StartProxy(t, s.Addr, 5*time.Millisecond)
	l := newLab(t, s.Key, []string{known(p.Addr(), s)}, hasty)
	host := target(login(t), p.Addr())
	dir := openDir(t)
	p.Throttle(20 << 20)
	r := runUntil(t, l, fileJob(host, tool.Write{Path: dir + "/file", Content: make([]byte, 60<<20)}), tool.StopCancelled, func() bool {
		info, err := os.Stat(dir + "/.file" + temporary)
		return err == nil && info.Size() > 1<<20
	})
	if r.Outcome != tool.NotStarted || r.Stop != tool.StopCancelled {
		t.Error(describe(r))
	}
	eventually(t, "nothing is left", func() bool { return names(t, dir) == "" })
}
