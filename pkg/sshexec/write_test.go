package sshexec

import (
	"context"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// names are what is in a directory.
func names(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func mustRead(t testing.TB, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func modeAndOwner(t testing.TB, file string) (mode uint32, uid, gid int) {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(file, &st); err != nil {
		t.Fatal(err)
	}
	return st.Mode & 0o7777, int(st.Uid), int(st.Gid)
}

// give gives files to whoever logs in at a host.
func give(t testing.TB, host tool.Target, files ...string) {
	t.Helper()
	owner, err := user.Lookup(host.User)
	if err != nil {
		return // another server runs as we do
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	for _, f := range files {
		if err := os.Chown(f, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("0123456789abcdef", 100_000)
	onFileServers(t, func(t *testing.T, l *lab, host tool.Target) {
		dir := openDir(t)
		file := filepath.Join(dir, "a\nnew \xc3\xa9 file")
		for _, tc := range []struct {
			do      tool.Write
			created bool
			mode    string
		}{
			{tool.Write{Content: []byte("one"), Expect: tool.Absent, Mode: "640"}, true, "0640"},
			{tool.Write{Content: []byte("two"), Expect: digestOf("one")}, false, "0640"},
			{tool.Write{Content: []byte(big), Mode: "777"}, false, "0640"},
			{tool.Write{Content: nil}, false, "0640"},
		} {
			tc.do.Path = file
			got := answerOf[tool.Written](t, l, host, tc.do)
			want := string(tc.do.Content)
			if mustRead(t, file) != want {
				t.Fatalf("%+v: other content", tc.do)
			}
			if mode, _, _ := modeAndOwner(t, file); got.Mode != tc.mode || octal(mode) != tc.mode {
				t.Errorf("mode is %o, said to be %s, not %s", mode, got.Mode, tc.mode)
			}
			if got.Path != file || got.Bytes != int64(len(want)) || got.Digest != digestOf(want) || got.Created != tc.created || len(got.Warnings) > 0 {
				t.Errorf("%+v", got)
			}
			if names(t, dir) != filepath.Base(file) {
				t.Errorf("in the directory: %q", names(t, dir))
			}
		}
	})
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	onFileServers(t, func(t *testing.T, l *lab, host tool.Target) {
		dir := openDir(t)
		file, linked := put(t, dir, "file", "old"), put(t, dir, "linked", "old")
		acl := put(t, dir, "acl", "old")
		setACL(t, acl)
		give(t, host, file, linked, acl)
		for link, to := range map[string]string{"link": "file", "dangling": "nothing", "same": "."} {
			if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Link(linked, filepath.Join(dir, "other")); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(dir+"/fifo", 0o666); err != nil {
			t.Fatal(err)
		}
		before := names(t, dir)
		for _, tc := range []struct {
			do   tool.Write
			code tool.FailureCode
		}{
			{tool.Write{Path: file, Expect: tool.Absent}, tool.FailExists},
			{tool.Write{Path: file, Expect: digestOf("other")}, tool.FailExpectation},
			{tool.Write{Path: dir + "/new", Expect: digestOf("old")}, tool.FailExpectation},
			{tool.Write{Path: dir}, tool.FailNotFile},
			{tool.Write{Path: "/"}, tool.FailNotFile},
			{tool.Write{Path: dir + "/link"}, tool.FailChanged},
			{tool.Write{Path: dir + "/dangling"}, tool.FailChanged},
			{tool.Write{Path: dir + "/same/file"}, tool.FailChanged},
			{tool.Write{Path: dir + "/same/new"}, tool.FailChanged},
			{tool.Write{Path: dir + "/fifo"}, tool.FailSpecialFile},
			{tool.Write{Path: dir + "/none/new"}, tool.FailNotFound},
			{tool.Write{Path: linked}, tool.FailHardLinked},
			{tool.Write{Path: acl}, tool.FailAttributes},
			{tool.Write{Path: file, Mode: "99"}, tool.FailInternal},
			{tool.Write{Path: "new"}, tool.FailName},
		} {
			tc.do.Content = []byte("new")
			failed(t, l.Run(t.Context(), fileJob(host, tc.do)), tool.NotStarted, tc.code)
		}
		r := l.Run(t.Context(), fileJob(host, tool.Write{Path: file, Expect: digestOf("other")}))
		if !strings.Contains(r.Err.Message, digestOf("old")) {
			t.Errorf("does not say what is there: %s", r.Err.Message)
		}
		if names(t, dir) != before || mustRead(t, file)+mustRead(t, linked)+mustRead(t, acl) != "oldoldold" {
			t.Errorf("something was changed: %s", names(t, dir))
		}
	})
}

// What was judged is what is replaced: a file that has come, gone or been
// replaced since then is not.
func TestWriteSeesThatItChanged(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	dir := openDir(t)
	file := put(t, dir, "file", "old")
	give(t, host, file)
	facts := answerOf[tool.FileFacts](t, l, host, tool.Locate{Path: file})
	answerOf[tool.Written](t, l, host, tool.Write{Path: file, Content: []byte("new")}, &facts)
	failed(t, l.Run(t.Context(), fileJob(host, tool.Write{Path: file}, &facts)), tool.NotStarted, tool.FailChanged)
	failed(t, l.Run(t.Context(), fileJob(host, tool.Write{Path: file}, &tool.FileFacts{})), tool.NotStarted, tool.FailChanged)
	failed(t, l.Run(t.Context(), fileJob(host, tool.Write{Path: dir + "/none"}, &facts)), tool.NotStarted, tool.FailChanged)
	if mustRead(t, file) != "new" || names(t, dir) != "file" {
		t.Errorf("%q in %s", mustRead(t, file), names(t, dir))
	}
}

func TestWriteKeepsTheOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	user := sshtest.AddUser(t, false)
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	l := newLab(t, s.Key, []string{s.KnownLine})
	file := put(t, openDir(t), "file", "old")
	if err := os.Chown(file, 4321, 5432); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o664|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	failed(t, l.Run(t.Context(), fileJob(target(user, s.Addr), tool.Write{Path: file})), tool.NotStarted, tool.FailAttributes)
	got := answerOf[tool.Written](t, l, target(sshtest.AddRootUser(t), s.Addr), tool.Write{Path: file, Content: []byte("new")})
	if mode, uid, gid := modeAndOwner(t, file); mode != 0o664 || uid != 4321 || gid != 5432 || got.Mode != "0664" {
		t.Errorf("mode %o, owner %d:%d; said %+v", mode, uid, gid, got)
	}
	if err := os.Chmod(file, 0); err != nil {
		t.Fatal(err)
	}
	answerOf[tool.Written](t, l, target(sshtest.AddRootUser(t), s.Addr), tool.Write{Path: file, Content: []byte("new")})
	if mode, _, _ := modeAndOwner(t, file); mode != 0 {
		t.Errorf("mode %o, not 0", mode)
	}
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "setuid") {
		t.Errorf("warnings %q", got.Warnings)
	}
}

// A new file is open to nobody else before it is whole.
func TestWriteIsPrivateUntilWhole(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{SFTP: "/usr/lib/openssh/sftp-server -u 0"})
	dir := openDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan os.FileMode, 1)
	go func() {
		defer close(seen)
		for ctx.Err() == nil {
			if info, err := os.Stat(dir + "/.file" + temporary); err == nil {
				seen <- info.Mode()
				return
			}
		}
	}()
	r := l.Run(ctx, fileJob(host, tool.Write{Path: dir + "/file", Content: make([]byte, 32<<20), Mode: "666"}))
	cancel()
	if r.Err != nil {
		t.Fatal(describe(r))
	}
	if mode, ok := <-seen; ok && mode != private {
		t.Errorf("mode %v", mode)
	} else if !ok {
		t.Error("not seen")
	}
}

func TestWriteCleansUp(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	dir := openDir(t)
	do := tool.Write{Path: dir + "/file", Content: []byte("new")}
	answerOf[tool.Written](t, l, host, do)
	_, uid, gid := modeAndOwner(t, do.Path)
	litter := put(t, dir, ".file"+temporary, "half")
	for _, tc := range []struct {
		uid  int
		age  time.Duration
		left bool
	}{
		{uid, 0, true},
		{uid + 1, 2 * time.Hour, true},
		{uid, 2 * time.Hour, false},
	} {
		if err := os.Chown(litter, tc.uid, gid); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-tc.age)
		if err := os.Chtimes(litter, then, then); err != nil {
			t.Fatal(err)
		}
		answerOf[tool.Written](t, l, host, do)
		if left := strings.Contains(names(t, dir), temporary); left != tc.left {
			t.Errorf("%+v: in the directory: %s", tc, names(t, dir))
		}
	}
}

func TestWriteToAFullDisk(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	dir := openDir(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=777"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
	file := put(t, dir, "file", "old")
	failed(t, l.Run(t.Context(), fileJob(host, tool.Write{Path: file, Content: make([]byte, 4<<20)})), tool.NotStarted, tool.FailNoSpace)
	if names(t, dir) != "file" || mustRead(t, file) != "old" {
		t.Errorf("left: %s", names(t, dir))
	}
	eventually(t, "the host has closed what it could not write", func() bool {
		return syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "") == nil
	})
	failed(t, l.Run(t.Context(), fileJob(host, tool.Write{Path: file})), tool.NotStarted, tool.FailPermission)
}

func TestWriteALongName(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	dir := openDir(t)
	name := strings.Repeat("n", maxName)
	for range 2 {
		answerOf[tool.Written](t, l, host, tool.Write{Path: dir + "/" + name, Content: []byte("x")})
	}
	if names(t, dir) != name {
		t.Errorf("in the directory: %s", names(t, dir))
	}
}
