package sshexec

import (
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
		{100 * time.Millisecond, 3 << 20, 1},
		{100 * time.Millisecond, 12 << 20, 3},
		{30 * time.Millisecond, 1 << 30, 3},
		{time.Hour, 1 << 60, mostLanes},
		{0, 0, 1},
	} {
		if got := lanes(tc.trip, tc.bytes); got != tc.want {
			t.Errorf("%s, %d bytes: %d lanes, not %d", tc.trip, tc.bytes, got, tc.want)
		}
	}
}

// On a long way a large file goes over several sessions of one connection, which
// are given back.
func TestLongWay(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{SFTP: "/usr/lib/openssh/sftp-server -d " + dir})
	p := sshtest.StartProxy(t, s.Addr, 40*time.Millisecond)
	l := newLab(t, s.Key, []string{known(p.Addr(), s)})
	host := target(login(t), p.Addr())
	content := noise(24 << 20)
	source := put(t, dir, "source", content)
	for _, tc := range []struct {
		name string
		run  func() tool.Report
	}{
		{"read", func() tool.Report {
			j := fileJob(host, tool.Read{Path: source})
			j.Limits.OutputBytes = 32 << 20
			r := l.Run(t.Context(), j)
			if c, ok := r.Outputs[0].Answer.(tool.FileContent); !ok || c.Digest != digestOf(content) {
				t.Errorf("other content: %d bytes", len(c.Bytes))
			}
			return r
		}},
		{"write", func() tool.Report {
			return l.Run(t.Context(), fileJob(host, tool.Write{Path: dir + "/written", Content: []byte(content)}))
		}},
		{"copy", func() tool.Report {
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
		eventually(t, "they are closed", func() bool { return len(processes(t, dir)) == 1 })
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
