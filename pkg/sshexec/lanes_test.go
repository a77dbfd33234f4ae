package sshexec

import (
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

func TestLanes(t *testing.T) {
	for _, tc := range []struct {
		trip  time.Duration
		bytes int64
		want  int
	}{
		{time.Millisecond, 1 << 30, 1},
		{100 * time.Millisecond, 1 << 30, mostLanes},
		{100 * time.Millisecond, 15 << 20, 1},
		{100 * time.Millisecond, 24 << 20, 3},
		{30 * time.Millisecond, 1 << 30, 3},
		{time.Hour, 1 << 60, mostLanes},
		{0, 0, 1},
	} {
		if got := lanes(tc.trip, tc.bytes); got != tc.want {
			t.Errorf("%s, %d bytes: %d lanes, not %d", tc.trip, tc.bytes, got, tc.want)
		}
	}
}

// farHost is a host behind a delay each way, and a directory there, which its SFTP
// servers have in their command lines.
func farHost(t *testing.T, delay time.Duration) (*lab, tool.Target, string) {
	t.Helper()
	dir := openDir(t)
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{SFTP: "/usr/lib/openssh/sftp-server -d " + dir})
	p := sshtest.StartProxy(t, s.Addr, delay)
	return newLab(t, s.Key, []string{known(p.Addr(), s)}), target(login(t), p.Addr()), dir
}

// On a long way a large file goes over several sessions of one connection, which
// are given back.
func TestLongWay(t *testing.T) {
	t.Parallel()
	l, host, dir := farHost(t, 40*time.Millisecond)
	content := noise(40 << 20)
	source := put(t, dir, "source", content)
	for _, tc := range []struct {
		name string
		left int // sessions that stay for the next job
		run  func() tool.Report
	}{
		{"read", 1, func() tool.Report {
			j := fileJob(host, tool.Read{Path: source})
			j.Limits.OutputBytes = 48 << 20
			r := l.Run(t.Context(), j)
			if c, ok := r.Outputs[0].Answer.(tool.FileContent); !ok || c.Digest != digestOf(content) {
				t.Errorf("other content: %d bytes", len(c.Bytes))
			}
			return r
		}},
		{"write", 1, func() tool.Report {
			return l.Run(t.Context(), fileJob(host, tool.Write{Path: dir + "/written", Content: []byte(content)}))
		}},
		{"copy", 2, func() tool.Report {
			a, b := halves(host, host, source, dir+"/copied")
			b.Target.Alias = a.Target.Alias // one connection for both
			return second(l.Copy(t.Context(), a, b))
		}},
	} {
		reports := make(chan tool.Report, 1)
		go func() { reports <- tc.run() }()
		eventually(t, "lanes for "+tc.name, func() bool { return len(processes(t, dir)) > 3 })
		if r := <-reports; r.Err != nil || r.Outcome != tool.Finished {
			t.Errorf("%s: %s", tc.name, describe(r))
		}
		eventually(t, "they are closed", func() bool { return len(processes(t, dir)) == tc.left })
		if n := l.Stats().Connections; n != 1 {
			t.Errorf("%d connections", n)
		}
	}
	for _, name := range []string{"written", "copied"} {
		if mustRead(t, dir+"/"+name) != content {
			t.Errorf("%s: other content", name)
		}
	}
}

// Jobs side by side have sessions of their own on a host that is far away.
func TestFilesSideBySide(t *testing.T) {
	t.Parallel()
	l, host, dir := farHost(t, 20*time.Millisecond)
	source := put(t, dir, "source", noise(3<<20))
	read := func() {
		r := l.Run(t.Context(), fileJob(host, tool.Read{Path: source, Length: 3 << 20}))
		if r.Err != nil || r.Outcome != tool.Finished {
			t.Error(describe(r))
		}
	}
	read() // now it is known how far away the host is
	const jobs = 4
	var all sync.WaitGroup
	for range jobs {
		all.Go(read)
	}
	all.Wait()
	if n := len(processes(t, dir)); n != jobs {
		t.Errorf("%d SFTP sessions for %d jobs", n, jobs)
	}
	if n := l.Stats().Connections; n != 1 {
		t.Errorf("%d connections", n)
	}
}
