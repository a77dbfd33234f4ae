package config

import (
	"regexp"
	"strings"
	"testing"
)

// A command as a text has a blank between words, and _ here for one inside.
func TestLinePatterns(t *testing.T) {
	for _, tc := range []struct {
		glob  string
		fits  []string
		not   []string
		whole int // words that are spelled out
	}{
		{"uptime", []string{"uptime"}, []string{"uptime -p", "uptim", "xuptime"}, 1},
		{" df   -h ", []string{"df -h"}, []string{"df -h /", "df"}, 2},
		{"ps*", []string{"ps", "ps aux", "ps -ef a/b", "ps a_b;c"}, []string{"psql", "ps2 x"}, 1},
		{"df -h*", []string{"df -h", "df -hT", "df -h /x"}, []string{"df", "df -i"}, 1},
		{"cat *", []string{"cat x", "cat /etc/x y", "cat a_b"}, []string{"cat", "catx"}, 1},
		{"cat /var/log/*", []string{"cat /var/log/x", "cat /var/log/a_b"}, []string{"cat /var/log/", "cat /var/log/a/b", "cat /var/log/a b", "cat /var/logs/x"}, 1},
		{"cat /etc/*release", []string{"cat /etc/os-release", "cat /etc/release"}, []string{"cat /etc/a/release", "cat /etc/a release"}, 1},
		{"tail -n * /var/log/*.log", []string{"tail -n 5 /var/log/x.log", "tail -n 5 -q /var/log/x.log"}, []string{"tail -n /etc/x /var/log/x.log", "tail -n 5 /var/log/a/x.log"}, 2},
		{"/opt/*", []string{"/opt/x"}, []string{"/opt/x y", "/opt/a/b"}, 0},
		{"/opt/x*", []string{"/opt/x", "/opt/x y"}, []string{"/opt/xy"}, 1},
		{"sys*ctl status", []string{"systemctl status"}, []string{"systemctl_x status", "sys x ctl status", "sys/ctl status"}, 0},
		{"sudo -n ps*", []string{"sudo -n ps", "sudo -n ps aux"}, []string{"sudo -n psql"}, 3},
		{"timeout 5 ps*", []string{"timeout 5 ps x"}, []string{"timeout 5 psql"}, 3},
		{"docker logs --tail ?", []string{"docker logs --tail 5"}, []string{"docker logs --tail 50", "docker logs --tail /", "docker logs --tail  "}, 3},
		{"echo [a-c][!x]", []string{"echo ab"}, []string{"echo ax", "echo db", "echo a/", "echo a "}, 1},
		{"echo []-]", []string{"echo ]", "echo -"}, []string{"echo x"}, 1},
		{`grep "a b" 'c*'`, []string{"grep a_b c", "grep a_b cd"}, []string{"grep a b c"}, 2},
		{"*", []string{"x", "x /y z"}, nil, 0},
		{"**status", []string{"a status", "status"}, []string{"statuses"}, 0},
	} {
		p, whole, f := linePattern(tc.glob, false)
		if f != nil || len(whole) != tc.whole {
			t.Errorf("%q spells out %q, %v", tc.glob, whole, f)
			continue
		}
		holds(t, p, tc.fits, tc.not)
	}
}

func holds(t *testing.T, p Pattern, fits, not []string) {
	t.Helper()
	is := func(text string) bool {
		text = strings.ReplaceAll(text, "_", string(innerBlank))
		return strings.HasPrefix(text, p.Literal) && regexp.MustCompile(p.Expression).MatchString(text)
	}
	for _, text := range fits {
		if !is(text) {
			t.Errorf("%q does not match %q: %s", p.Text, text, p.Expression)
		}
	}
	for _, text := range not {
		if is(text) {
			t.Errorf("%q matches %q: %s", p.Text, text, p.Expression)
		}
	}
}

// What denies reaches as far as it can.
func TestDeniedPatterns(t *testing.T) {
	for glob, fits := range map[string][]string{
		"rm*": {"rm", "rmdir /x", "rm  -rf /a/b"}, "rm -rf /": {"rm   -rf\t/"}, "*;*": {"echo a;b"}, "cat ~*": {"cat ~/x"}, "* > *": {"echo > x"}, `a\b`: {`a\b`},
		`echo "a b"`: {"echo a b"},
	} {
		p, _, f := linePattern(glob, true)
		if f != nil {
			t.Errorf("%q: %v", glob, f)
			continue
		}
		p.Literal = "" // it is for allowed ones
		holds(t, p, fits, nil)
	}
	p, f := pathPattern("/etc/*.key", true)
	if f != nil {
		t.Fatal(f)
	}
	holds(t, p, []string{"/etc/a.key", "/etc/a/b.key"}, []string{"/etc/a.keys", "/srv/a.key"})
}

func TestPathPatterns(t *testing.T) {
	for glob, tc := range map[string]struct{ fits, not []string }{
		"/var/log/*":    {[]string{"/var/log/x", "/var/log/a b"}, []string{"/var/log/", "/var/log/a/b", "/var/log"}},
		"/var/log/*/*":  {[]string{"/var/log/a/b"}, []string{"/var/log/a", "/var/log/a//", "/var/log/a/b/c"}},
		"/etc/*release": {[]string{"/etc/os-release"}, []string{"/etc/a/release"}},
		"/srv/?.log":    {[]string{"/srv/a.log"}, []string{"/srv/ab.log", "/srv//.log"}},
		"/srv/[!a].log": {[]string{"/srv/b.log"}, []string{"/srv/a.log", "/srv//.log"}},
		"/":             {[]string{"/"}, []string{"/x"}},
		"app.(log)":     {[]string{"app.(log)"}, []string{"appx(log)"}},
	} {
		p, f := pathPattern(glob, false)
		if f != nil {
			t.Errorf("%q: %v", glob, f)
			continue
		}
		holds(t, p, tc.fits, tc.not)
	}
}
