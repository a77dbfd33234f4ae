package shell

import (
	"slices"
	"testing"
)

func TestEdits(t *testing.T) {
	additions := []Addition{{Program: "sudo", Word: "-n", First: true}, {Program: "journalctl", Word: "--no-pager"}}
	for line, want := range map[string][]string{
		"df -h | tail -1":               {"df -h", "tail -1", "df | tail -1", "df -h | tail"},
		"uptime; id":                    {"uptime", "id"},
		"uptime && id":                  {"uptime", "id"},
		"cat /a /b > /tmp/x":            {"cat /a /b", "cat /b > /tmp/x", "cat /a > /tmp/x"},
		"ls -laZ /etc":                  {"ls -la /etc", "ls -lZ /etc", "ls /etc"},
		"systemctl status x --host y":   {"systemctl status x", "systemctl status x y"},
		"A=1 /usr/local/bin/df -h &":    {"/usr/local/bin/df -h &", "A=1 df -h &", "A=1 /usr/local/bin/df -h"},
		"! true":                        {"true"},
		"(uptime; id)":                  {"uptime; id"},
		"{ uptime; }":                   {"uptime"},
		"sudo -u root systemctl status": {"sudo -n -u root systemctl status", "systemctl status"},
		"bash -c 'df -h'":               {"df -h"},
		"journalctl -u nginx":           {"journalctl -u nginx --no-pager"},
		"tail -n 100 '/a b'":            {"tail -n 200 '/a b'", "tail -n 100 '/c d'"},
	} {
		var got []string
		for _, e := range Edits(line, additions, []Substitution{{"-n 9", "-n"}, {"100", "200"}, {"/a b", "/c d"}}) {
			got = append(got, e.Text)
			if e.What == "" || e.Text == line || e.Cost < 0 {
				t.Errorf("%q: a useless edit %+v", line, e)
			}
		}
		for _, w := range want {
			if !slices.Contains(got, w) {
				t.Errorf("%q does not become %q, only %q", line, w, got)
			}
		}
	}
}

// A lone operand stays: without it most programs do something else altogether.
func TestEditsKeepTheOperand(t *testing.T) {
	for _, e := range Edits("cat /etc/shadow", nil, nil) {
		t.Errorf("%+v", e)
	}
}

// The value of a long option goes with it more often than not.
func TestEditsRankOptions(t *testing.T) {
	cost := map[string]int{}
	for _, e := range Edits("systemctl status x --host y", nil, nil) {
		cost[e.Text] = e.Cost
	}
	if cost["systemctl status x"] >= cost["systemctl status x y"] {
		t.Errorf("costs are %v", cost)
	}
}

func FuzzEdits(f *testing.F) {
	for _, line := range []string{"df -h | tail -1 > /tmp/x &", "if x; then y; fi", "a <<E\nb\nE", "sudo sh -c 'x y' \\;", "'", "-x -y"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		edits := Edits(line, []Addition{{Program: "sudo", Word: "-n", First: true}}, []Substitution{{"/tmp/x", "/tmp/y"}})
		if len(edits) > maxEdits {
			t.Fatalf("%d edits", len(edits))
		}
		for _, e := range edits {
			if e.Text == "" || e.Text == line {
				t.Fatalf("%q gives %+v", line, e)
			}
		}
	})
}
