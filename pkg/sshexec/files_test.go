package sshexec

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// fileServers are the ways in which OpenSSH serves files, and as whom.
var fileServers = []struct {
	name, subsystem string
	root            bool
}{
	{"internal, user", "internal-sftp", false},
	{"internal, root", "internal-sftp", true},
	{"sftp-server, user", "/usr/lib/openssh/sftp-server", false},
	{"sftp-server, root", "/usr/lib/openssh/sftp-server", true},
}

// onFileServers runs a test on each of them.
func onFileServers(t *testing.T, test func(t *testing.T, l *lab, host tool.Target)) {
	t.Helper()
	user, root := sshtest.AddUser(t, false), sshtest.AddRootUser(t)
	for _, s := range fileServers {
		t.Run(s.name, func(t *testing.T) {
			server := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{SFTP: s.subsystem})
			name := user
			if s.root {
				name = root
			}
			test(t, newLab(t, server.Key, []string{server.KnownLine}), target(name, server.Addr))
		})
	}
	t.Run("another server", func(t *testing.T) {
		l, _, host := faulty(t, sshtest.Faults{})
		test(t, l, host)
	})
}

// openDir is a directory in which every user may do everything. Its path is
// real.
func openDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "files")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	dir, err = filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// put makes a file that every user may read and write.
func put(t testing.TB, dir, name, content string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	return file
}

func digestOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

// fileStep is a step with files as if it had been judged.
func fileStep(do tool.Do) tool.Step {
	return tool.Step{Op: tool.Op{Action: tool.FileRead, Effect: tool.Observe}, Do: do}
}

// answerOf runs a step with files, which must succeed.
func answerOf[T any](t testing.TB, l *lab, host tool.Target, do tool.Do, facts ...*tool.FileFacts) T {
	t.Helper()
	r := l.Run(t.Context(), fileJob(host, do, facts...))
	if r.Outcome != tool.Finished || r.Err != nil || len(r.Outputs) != 1 {
		t.Fatalf("%+v: %s", do, describe(r))
	}
	answer, ok := r.Outputs[0].Answer.(T)
	if !ok {
		t.Fatalf("%+v: answer is a %T", do, r.Outputs[0].Answer)
	}
	return answer
}

func fileJob(host tool.Target, do tool.Do, facts ...*tool.FileFacts) tool.Job {
	step := fileStep(do)
	if len(facts) > 0 {
		step.Op.File = facts[0]
	}
	return job(host, step)
}

func TestLocate(t *testing.T) {
	t.Parallel()
	onFileServers(t, func(t *testing.T, l *lab, host tool.Target) {
		dir := openDir(t)
		file := put(t, dir, "file", "hello")
		put(t, dir, "other name\nof many", "x")
		for name, to := range map[string]string{"link": "file", "up": "../../../../etc/hostname", "dangling": "nothing", "loop": "loop", "self": "."} {
			if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Link(file, filepath.Join(dir, "hard")); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o666); err != nil {
			t.Fatal(err)
		}
		var st syscall.Stat_t
		if err := syscall.Stat(file, &st); err != nil {
			t.Fatal(err)
		}
		want := tool.FileFacts{
			Path: file, Under: tool.Under(file), Exists: true, Type: tool.RegularFile, Bytes: 5, Mode: "0666",
			Links: 2, Inode: st.Ino, Modified: time.Unix(st.Mtim.Sec, 0).UTC().Format(time.RFC3339),
		}
		for _, name := range []string{"file", "link", "self/self/link", "x/../file", "./link", "link/"} {
			got := answerOf[tool.FileFacts](t, l, host, tool.Locate{Path: dir + "/" + name})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", name, diff)
			}
		}
		for _, tc := range []struct {
			name, path string
			exists     bool
			kind       tool.FileType
		}{
			{"other name\nof many", dir + "/other name\nof many", true, tool.RegularFile},
			{"up", "/etc/hostname", true, tool.RegularFile},
			{"fifo", dir + "/fifo", true, tool.FIFO},
			{".", dir, true, tool.Directory},
			{"dangling", dir + "/nothing", false, ""},
			{"new", dir + "/new", false, ""},
			{"../../../../../dev/null", "/dev/null", true, tool.Device},
			{"../../proc/self/root/etc/hostname", "/etc/hostname", true, tool.RegularFile},
		} {
			got := answerOf[tool.FileFacts](t, l, host, tool.Locate{Path: dir + "/" + tc.name, Missing: true})
			if got.Path != tc.path || got.Exists != tc.exists || got.Type != tc.kind {
				t.Errorf("%s: %+v", tc.name, got)
			}
		}
		for _, tc := range []struct {
			path    string
			missing bool
			code    tool.FailureCode
			says    string
		}{
			{dir + "/new", false, tool.FailNotFound, `/new" does not exist`},
			{dir + "/loop", true, tool.FailNotFound, "leads nowhere"},
			{dir + "/no/such/new", true, tool.FailNotFound, `/no/such" does not exist`},
			{file + "/new", true, tool.FailNotDirectory, `/file" is not a directory`},
			{"file", true, tool.FailName, "begin with /"},
			{dir + "/a\x00b", true, tool.FailName, "null byte"},
			{dir + "/\xff", true, tool.FailName, "UTF-8"},
			{"/" + strings.Repeat("a", 5000), true, tool.FailName, "a shorter one"},
			{dir + "/" + strings.Repeat("a", 256), true, tool.FailName, "a shorter one"},
		} {
			r := l.Run(t.Context(), fileJob(host, tool.Locate{Path: tc.path, Missing: tc.missing}))
			failed(t, r, tool.NotStarted, tc.code)
			if !strings.Contains(r.Err.Error()+r.Err.Remedy, tc.says) {
				t.Errorf("%.80q: %v, want %q", tc.path, r.Err, tc.says)
			}
		}
	})
}

func TestLocateSeesACLs(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	file := put(t, openDir(t), "file", "hello")
	setACL(t, file)
	if f := answerOf[tool.FileFacts](t, l, host, tool.Locate{Path: file}); !f.ACL || f.Links != 1 {
		t.Errorf("no ACL seen: %+v", f)
	}
}

// setACL lets user 1 read a file, by an ACL as Linux stores it.
func setACL(t testing.TB, file string) {
	t.Helper()
	acl := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{{1, 6, 0}, {2, 4, 1}, {4, 6, 0}, {0x10, 6, 0}, {0x20, 6, 0}} {
		acl = binary.LittleEndian.AppendUint16(acl, uint16(e[0]))
		acl = binary.LittleEndian.AppendUint16(acl, uint16(e[1]))
		acl = binary.LittleEndian.AppendUint32(acl, e[2])
	}
	if err := unix.Setxattr(file, "system.posix_acl_access", acl, 0); err != nil {
		t.Fatal(err)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("0123456789abcdef", 40_000) // more than one packet
	onFileServers(t, func(t *testing.T, l *lab, host tool.Target) {
		dir := openDir(t)
		file, large := put(t, dir, "a\nfile", "hello"), put(t, dir, "large", big)
		for _, tc := range []struct {
			do   tool.Read
			want tool.FileContent
		}{
			{tool.Read{Path: file}, tool.FileContent{Bytes: []byte("hello"), Size: 5, Digest: digestOf("hello")}},
			{tool.Read{Path: file, Whole: true}, tool.FileContent{Bytes: []byte("hello"), Size: 5, Digest: digestOf("hello")}},
			{tool.Read{Path: file, Length: 2}, tool.FileContent{Bytes: []byte("he"), Size: 5, More: true}},
			{tool.Read{Path: file, Offset: 3, Length: 9}, tool.FileContent{Bytes: []byte("lo"), Offset: 3, Size: 5}},
			{tool.Read{Path: file, Offset: 5}, tool.FileContent{Bytes: []byte{}, Offset: 5, Size: 5}},
			{tool.Read{Path: file, Offset: 1 << 60}, tool.FileContent{Bytes: []byte{}, Offset: 1 << 60, Size: 5}},
			{tool.Read{Path: large}, tool.FileContent{Bytes: []byte(big), Size: int64(len(big)), Digest: digestOf(big)}},
			{tool.Read{Path: large, Offset: 300_001, Length: 300_000}, tool.FileContent{
				Bytes: []byte(big[300_001:600_001]), Offset: 300_001, Size: int64(len(big)), More: true,
			}},
		} {
			got := answerOf[tool.FileContent](t, l, host, tc.do)
			if !cmp.Equal(tc.want, got, cmp.Comparer(bytes.Equal)) {
				t.Errorf("%+v: %d bytes, not %d: %.200v", tc.do, len(got.Bytes), len(tc.want.Bytes), got)
			}
		}
		version, err := os.ReadFile("/proc/version")
		if err != nil {
			t.Fatal(err)
		}
		for _, do := range []tool.Read{{Path: "/proc/version"}, {Path: "/proc/version", Whole: true}} {
			if got := answerOf[tool.FileContent](t, l, host, do); !bytes.Equal(got.Bytes, version) || got.Digest != digestOf(string(version)) {
				t.Errorf("%+v", got)
			}
		}
	})
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	onFileServers(t, func(t *testing.T, l *lab, host tool.Target) {
		dir := openDir(t)
		file := put(t, dir, "file", "hello")
		if err := os.Symlink("file", dir+"/link"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(".", dir+"/same"); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(dir+"/fifo", 0o666); err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			do   tool.Read
			code tool.FailureCode
		}{
			{tool.Read{Path: dir + "/none"}, tool.FailNotFound},
			{tool.Read{Path: dir}, tool.FailNotFile},
			{tool.Read{Path: dir + "/link"}, tool.FailChanged},
			{tool.Read{Path: dir + "/same/file"}, tool.FailChanged},
			{tool.Read{Path: "/proc/self/root" + file}, tool.FailChanged},
			{tool.Read{Path: dir + "/fifo"}, tool.FailSpecialFile},
			{tool.Read{Path: "/dev/zero"}, tool.FailSpecialFile},
			{tool.Read{Path: dir + "/../" + filepath.Base(dir) + "/file"}, tool.FailInternal},
			{tool.Read{Path: "file"}, tool.FailName},
		} {
			failed(t, l.Run(t.Context(), fileJob(host, tc.do)), tool.NotStarted, tc.code)
		}
		j := fileJob(host, tool.Read{Path: file, Whole: true})
		j.Limits.OutputBytes = 4
		failed(t, l.Run(t.Context(), j), tool.NotStarted, tool.FailTooLarge)
		j.Steps[0].Do = tool.Read{Path: "/proc/version", Whole: true}
		failed(t, l.Run(t.Context(), j), tool.NotStarted, tool.FailTooLarge)
		j.Steps[0].Do = tool.Read{Path: "/proc/version"}
		r := l.Run(t.Context(), j)
		if c, ok := r.Outputs[0].Answer.(tool.FileContent); !ok || len(c.Bytes) != 4 || !c.More || c.Digest != "" {
			t.Errorf("%s: %+v", describe(r), c)
		}
	})
}

// A device is read by whoever was let to read a device, and by nobody who was let
// to read a file; what would keep the server waiting is never opened.
func TestReadDevices(t *testing.T) {
	t.Parallel()
	onFileServers(t, func(t *testing.T, l *lab, host tool.Target) {
		fifo := openDir(t) + "/fifo"
		if err := syscall.Mkfifo(fifo, 0o666); err != nil {
			t.Fatal(err)
		}
		device := &tool.FileFacts{Exists: true, Type: tool.Device}
		r := l.Run(t.Context(), fileJob(host, tool.Read{Path: "/dev/zero", Length: 10}, device))
		if r.Err != nil {
			t.Fatal(describe(r))
		}
		if c, ok := r.Outputs[0].Answer.(tool.FileContent); !ok || string(c.Bytes) != strings.Repeat("\x00", 10) || !c.More {
			t.Errorf("%s: %+v", describe(r), c)
		}
		j := fileJob(host, tool.Read{Path: "/dev/zero", Whole: true}, device)
		failed(t, l.Run(t.Context(), j), tool.NotStarted, tool.FailTooLarge)
		j = fileJob(host, tool.Read{Path: fifo}, device)
		failed(t, l.Run(t.Context(), j), tool.NotStarted, tool.FailSpecialFile)
		j = fileJob(host, tool.Read{Path: "/dev/zero"}, &tool.FileFacts{Exists: true, Type: tool.RegularFile})
		failed(t, l.Run(t.Context(), j), tool.NotStarted, tool.FailSpecialFile)
		j = fileJob(host, tool.Write{Path: "/dev/zero"}, device)
		failed(t, l.Run(t.Context(), j), tool.NotStarted, tool.FailSpecialFile)
	})
}

// With many files open at once, each is still known by its descriptor.
func TestManyOpenFiles(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	dir := openDir(t)
	var all sync.WaitGroup
	for i := range 60 {
		content := noise(1<<20 + i)
		file := put(t, dir, fmt.Sprint(i), content)
		all.Go(func() {
			j := fileJob(host, tool.Read{Path: file})
			j.Limits.OutputBytes = 2 << 20
			r := l.Run(t.Context(), j)
			if len(r.Outputs) != 1 || r.Outputs[0].Answer.(tool.FileContent).Digest != digestOf(content) {
				t.Errorf("%d: %s", i, describe(r))
			}
			if r := l.Run(t.Context(), fileJob(host, tool.Write{Path: file + "new", Content: []byte(content)})); r.Err != nil {
				t.Errorf("%d: %s", i, describe(r))
			}
		})
	}
	all.Wait()
}

// Another file under the name that was judged is not read, though it is a hard
// link and its path is the judged one.
func TestReadSeesAnotherInode(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	dir := openDir(t)
	file, other := put(t, dir, "file", "hello"), put(t, dir, "other", "secret")
	facts := answerOf[tool.FileFacts](t, l, host, tool.Locate{Path: file})
	answerOf[tool.FileContent](t, l, host, tool.Read{Path: file}, &facts)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(other, file); err != nil {
		t.Fatal(err)
	}
	failed(t, l.Run(t.Context(), fileJob(host, tool.Read{Path: file}, &facts)), tool.NotStarted, tool.FailChanged)
}

func TestReadWithoutRights(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	dir := openDir(t)
	if err := os.Chmod(put(t, dir, "file", "hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		t.Skip("the owner may read it")
	}
	failed(t, l.Run(t.Context(), fileJob(host, tool.Read{Path: dir + "/file"})), tool.NotStarted, tool.FailPermission)
}

// A host without SFTP says so, and its connection stays good for commands.
func TestNoSFTP(t *testing.T) {
	t.Parallel()
	for _, subsystem := range []string{"none", "/no/such/program", "/bin/echo this account is for commands only", "/bin/true"} {
		t.Run(subsystem, func(t *testing.T) {
			l, _, host := sshd(t, sshtest.OpenSSHOptions{SFTP: subsystem})
			failed(t, l.Run(t.Context(), fileJob(host, tool.Read{Path: "/etc/hostname"})), tool.NotStarted, tool.FailNoSFTP)
			finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
			if n := l.Stats().Connections; n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// A connection that ends while an SFTP session is opened on it tells nothing of
// the host's file transfer: the job goes over another one.
func TestConnectionEndsAsSFTPOpens(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	script := put(t, dir, "subsystem", `#!/bin/sh
if mkdir `+dir+`/once 2>/dev/null; then
	p=$PPID
	until grep -q sshd "/proc/$p/comm"; do p=$(cut -d " " -f 4 "/proc/$p/stat"); done
	kill -9 "$p"
	sleep 9.75
fi
exec /usr/lib/openssh/sftp-server
`)
	if err := os.Chmod(script, 0o755); err != nil {
		t.Fatal(err)
	}
	l, _, host := sshd(t, sshtest.OpenSSHOptions{SFTP: script})
	if got := answerOf[tool.FileContent](t, l, host, tool.Read{Path: script}); len(got.Bytes) == 0 {
		t.Errorf("read %+v", got)
	}
	if _, err := os.Stat(dir + "/once"); err != nil {
		t.Error("the subsystem never ran")
	}
}

// Jobs on a connection share one SFTP session, which makes room when its place is
// wanted and is opened again when it has died.
func TestOneSFTPSession(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	l, _, host := sshd(t, sshtest.OpenSSHOptions{SFTP: "/usr/lib/openssh/sftp-server -d " + dir, MaxSessions: 1})
	file := put(t, dir, "file", "hello")
	for range 3 {
		for range 3 {
			answerOf[tool.FileContent](t, l, host, tool.Read{Path: file})
		}
		if servers := processes(t, dir); len(servers) != 1 {
			t.Errorf("%d servers", len(servers))
		}
		finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
	}
	for range 3 {
		answerOf[tool.FileContent](t, l, host, tool.Read{Path: file})
		killAll(t, dir)
	}
	answerOf[tool.FileContent](t, l, host, tool.Read{Path: file})
}
