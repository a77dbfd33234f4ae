package policy_test

import (
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/tool"
)

// TestOrchestrator has what mcp-ssh-orchestrator's own tests expect of its
// policy files, and what those let through, by the number of the case: a
// policy.yml as it was written for it, loaded, and asked.
func TestOrchestrator(t *testing.T) {
	a, b, through := newRuled(t, fixtureA), newRuled(t, fixtureB), newRuled(t, fixtureThrough)
	for _, c := range []struct {
		id    string
		rules *ruled
		test  func(*ruled, *testing.T)
	}{
		{"P1 what is listed", a, (*ruled).listed},
		{"P2 P9 tags", a, (*ruled).tags},
		{"P3 P11 P12 P13 P14 denied texts in every spelling", a, (*ruled).texts},
		{"P4 P8 aliases", a, (*ruled).aliases},
		{"P5 limits and overrides", a, (*ruled).limits},
		{"P6 addresses", a, (*ruled).addresses},
		{"P7 host keys", a, (*ruled).hostKeys},
		{"P10 P30 nothing is allowed", a, (*ruled).nothing},
		{"P15 P16 words and members", a, (*ruled).members},
		{"P17 P18 chains and their culprit", a, (*ruled).chains},
		{"P19 substitutions", a, (*ruled).substitutions},
		{"P20 P21 P27 simple binaries", b, (*ruled).simple},
		{"P22 P23 P24 P25 structured rules", b, (*ruled).structured},
		{"P26 programs by a path", b, (*ruled).paths},
		{"P28 rules of schema 1 in schema 2", b, (*ruled).otherSchema},
		{"P29 deny and allow", b, (*ruled).denyWins},
		{"B1 B2 newline and &", through, (*ruled).newline},
		{"B3 B4 B5 B6 redirections, process substitution, stray quotes", through, (*ruled).redirections},
		{"B7 B8 where paths lead", through, (*ruled).whereto},
		{"B9 beyond looking", through, (*ruled).beyond},
		{"B10 deny rules that failed", through, (*ruled).denyFailed},
		{"B11 rm in other spellings", through, (*ruled).spellings},
		{"B12 networks with a typo", through, (*ruled).typo},
		{"false positives", through, (*ruled).falsePositives},
	} {
		t.Run(c.id, func(t *testing.T) { c.test(c.rules, t) })
	}
}

const fixtureA = `
limits:
  deny_substrings: ["rm -rf", "shutdown"]
rules:
  - {action: allow, simple_binaries: [uptime], simple_max_args: 6}
  - {action: allow, binary: df, arg_prefix: ["-h"], allow_extra_args: false}
  - {action: allow, binary: systemctl, arg_prefix: [restart], tags: [staging]}
  - {action: deny, aliases: ["prod-*"], simple_binaries: [rm]}
  - {action: allow, aliases: ["web-*"], simple_binaries: [nproc]}
  - {action: allow, tags: [linux, "st*"], simple_binaries: [arch]}
network:
  allow_cidrs: ["10.0.0.0/8"]
  block_ips: ["10.10.10.10"]
overrides:
  aliases:
    prod-db-1: {max_seconds: 30}
  tags:
    production: {max_output_bytes: 524288, max_seconds: 40}
    last: {max_output_bytes: 1000}
`

const fixtureB = `
version: 2
rules:
  - {action: allow, simple_binaries: [uptime, whoami, hostname, date], simple_max_args: 3}
  - {action: allow, binary: df, arg_prefix: ["-h"], allow_extra_args: false}
  - action: allow
    binary: tail
    arg_prefix: ["-n", "200"]
    path_args: {indices: [3], patterns: ["/var/log/*"]}
  - {action: allow, binary: systemctl, arg_prefix: [status], tags: [linux]}
  - action: allow
    binary: cat
    path_args: {indices: [1], patterns: ["/etc/os-release", "/etc/*release"]}
`

// fixtureThrough is the policy under which the table of what got through was
// made.
const fixtureThrough = `
version: 2
rules:
  - {action: allow, simple_binaries: [uptime, date, cat, hostname], simple_max_args: 6}
  - {action: allow, binary: systemctl, arg_prefix: [status]}
  - action: allow
    binary: tail
    arg_prefix: ["-n", "200"]
    path_args: {indices: [3], patterns: ["/var/log/*"]}
`

const ruledServers = `hosts:
  - {alias: web-1, host: 10.0.0.11, credentials: ops, tags: [staging, linux]}
  - {alias: db-1, host: 10.0.0.12, credentials: ops, tags: [production]}
  - {alias: prod-web-1, host: 10.0.0.13, credentials: ops, tags: [production]}
  - {alias: prod-db-1, host: 10.0.0.14, credentials: ops, tags: [last, production]}
  - {alias: bare, host: 10.0.0.15, credentials: ops}
`

// ruled is a policy.yml that was loaded and can be asked.
type ruled struct {
	config *config.Config
	engine *policy.Engine
}

// loadRules loads a policy.yml beside a few hosts.
func loadRules(t testing.TB, rules string) (*config.Config, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"servers.yml":     ruledServers,
		"credentials.yml": "entries: [{name: ops, username: ops, agent: true}]\n",
		"policy.yml":      rules,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return config.Load(config.Options{Dir: dir, Env: func(string) (string, bool) { return "", false }})
}

func newRuled(t testing.TB, rules string) *ruled {
	t.Helper()
	c, err := loadRules(t, rules)
	if err != nil {
		t.Fatal(err)
	}
	return newRuledOf(t, c, recordedEngine)
}

// engineMaker is newEngine or recordedEngine.
type engineMaker func(testing.TB, policy.Options) *policy.Engine

// newRuledOf gives policy time on a busy machine.
func newRuledOf(t testing.TB, c *config.Config, engine engineMaker) *ruled {
	t.Helper()
	return &ruled{c, engine(t, policy.Options{Site: c.Site(), Timeout: 5 * time.Second})}
}

// facts are a command line on one of the hosts, as the gateway has them.
func (r *ruled) facts(alias, line string) policy.Facts {
	f := runFacts(alias, line)
	if h, ok := r.config.Host(alias); ok {
		f.Target.Tags = h.Tags
	}
	return f
}

func (r *ruled) decide(t testing.TB, f policy.Facts) tool.Decision {
	t.Helper()
	d := r.engine.Decide(t.Context(), policy.NewInput(f), policy.Mark{Mode: "run"})
	for _, reason := range d.Reasons {
		if strings.HasPrefix(reason.Code, "policy_") || reason.Code == "not_permitted" {
			t.Errorf("%+v", reason)
		}
	}
	return d
}

func (r *ruled) allows(t testing.TB, alias string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if d := r.decide(t, r.facts(alias, line)); !d.Allow {
			t.Errorf("%q on %s is denied: %v", line, alias, d.Reasons)
		}
	}
}

// denies wants a reason with this code, or any when it is empty.
func (r *ruled) denies(t testing.TB, alias, code string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		d := r.decide(t, r.facts(alias, line))
		has := func(reason tool.Reason) bool { return code == "" || reason.Code == code }
		if d.Allow || !slices.ContainsFunc(d.Reasons, has) {
			t.Errorf("%q on %s: allowed %v, without %s: %v", line, alias, d.Allow, code, d.Reasons)
		}
	}
}

func (r *ruled) listed(t *testing.T) {
	r.allows(t, "web-1", "uptime", "df -h")
	r.denies(t, "web-1", "command_program", "unknown-command")
}

func (r *ruled) tags(t *testing.T) {
	r.allows(t, "web-1", "systemctl restart nginx", "arch")
	r.denies(t, "db-1", "command_program", "systemctl restart nginx", "arch")
	r.denies(t, "bare", "command_program", "systemctl restart nginx", "arch")
}

func (r *ruled) texts(t *testing.T) {
	for _, line := range []string{
		"rm -rf /tmp", "shutdown -h now", "echo 'rm -rf /'", "'rm -rf /'", `echo "rm -rf /"`, `"rm -rf /"`, `'rm' "-rf" /`, `r'm' -r"f" /`,
		`shutdown\ -h`, `rm\ -rf\ x`, "rm      -rf    /", "rm\t-rf\t/", "rm \t -rf \t /", "'rm  -rf'", "uptime && rm -rf /",
		"rm -r -f x", "rm -fr x", "rm --recursive --force x", "uptime 'shut''down'",
	} {
		r.denies(t, "web-1", "command_text_denied", line)
	}
	r.denies(t, "web-1", "command_not_understood", `rm\ -rf\ /`, "'rm -rf /' x") // no program has such a name
	r.allows(t, "web-1", `uptime "server1"`, "'uptime'", `up\time`)
}

func (r *ruled) aliases(t *testing.T) {
	r.denies(t, "prod-web-1", "command_rule_denied", "rm file.txt", "sudo rm file.txt", "/bin/rm file.txt")
	r.allows(t, "web-1", "nproc")
	r.denies(t, "db-1", "command_program", "nproc")
}

func (r *ruled) limits(t *testing.T) {
	for alias, want := range map[string]tool.Limits{
		"web-1":      {Seconds: 60, OutputBytes: 1 << 20, Concurrent: 32},
		"prod-web-1": {Seconds: 40, OutputBytes: 524_288, Concurrent: 32},
		"prod-db-1":  {Seconds: 30, OutputBytes: 524_288, Concurrent: 32},
	} {
		if d := r.decide(t, r.facts(alias, "uptime")); !d.Allow || d.Limits != want {
			t.Errorf("%s: %+v, want %+v: %v", alias, d.Limits, want, d.Reasons)
		}
	}
}

func (r *ruled) addresses(t *testing.T) {
	at := func(rules *ruled, address string) bool {
		f := rules.facts("web-1", "uptime")
		f.Target.Address = netip.MustParseAddr(address)
		f.Target.Addresses = []netip.Addr{f.Target.Address}
		return rules.decide(t, f).Allow
	}
	open := newRuled(t, "rules: [{action: allow, simple_binaries: [uptime]}]\n")
	exact := newRuled(t, "network: {allow_ips: [192.0.2.1, '2001:db8::1'], block_cidrs: ['2001:db8:bad::/48']}\nrules: [{action: allow, simple_binaries: [uptime]}]\n")
	for _, c := range []struct {
		rules   *ruled
		address string
		allow   bool
	}{
		{r, "10.0.0.1", true},
		{r, "10.255.255.255", true},
		{r, "192.168.1.1", false},
		{r, "11.0.0.1", false},
		{r, "10.10.10.10", false},
		{r, "::ffff:10.10.10.10", false},
		{r, "::ffff:10.0.0.1", true},
		{r, "2001:db8::1", false},
		{open, "203.0.113.9", true},
		{open, "2001:db8::1", true},
		{exact, "192.0.2.1", true},
		{exact, "2001:db8::1", true},
		{exact, "192.0.2.2", false},
		{exact, "2001:db8:bad::1", false},
	} {
		if got := at(c.rules, c.address); got != c.allow {
			t.Errorf("%s: allowed %v", c.address, got)
		}
	}
}

// Nothing turns the verification of host keys off, wherever it is written.
func (*ruled) hostKeys(t *testing.T) {
	c, err := loadRules(t, "limits: {require_known_host: false}\nnetwork: {require_known_host: false}\nrules: []\n")
	if err != nil || strings.Count(c.Warned(), "host keys are always verified") != 2 {
		t.Errorf("%v, %v", c.Warned(), err)
	}
}

func (r *ruled) nothing(t *testing.T) {
	for _, empty := range []string{"rules: []\n", "version: 2\n", "", "rules: [{action: deny, simple_binaries: [rm]}]\n"} {
		none := newRuled(t, empty)
		none.denies(t, "web-1", "host_not_granted", "uptime", "ls", "rm x")
		if d := none.decide(t, none.facts("web-1", "uptime")); d.Limits != (tool.Limits{Seconds: 60, OutputBytes: 1 << 20, Concurrent: 32}) {
			t.Errorf("limits of %q: %+v", empty, d.Limits)
		}
	}
	r.denies(t, "bare", "command_program", "ls", "whoami", "id")
}

// There is one reading of a line, that of a shell.
func (r *ruled) members(t *testing.T) {
	for line, want := range map[string]string{
		"a && b": "a, b", "a; b": "a, b", "a | b": "a, b", "a || b": "a, b", "a && b; c": "a, b, c", "a | b && c || d": "a, b, c, d",
		"  a   &&   b  ": "a, b", `a "x && y; z | w"`: "a x && y; z | w", "a 'x;y'": "a x;y", "": "",
		"'rm' '-rf' '/'": "rm -rf /", `rm\ -rf`: "rm -rf", "rm   -rf\t/ ": "rm -rf /", `"a"'b'c`: "abc",
		"a `b c`": "", "a $(b c)": "", "a && (b || c)": "a, b, c",
	} {
		doc := shell.Parse(line)
		var members []string
		for _, c := range doc.Commands {
			members = append(members, strings.Join(c.Argv, " "))
		}
		if got := strings.Join(members, ", "); got != want && want != "" {
			t.Errorf("%q is %q, want %q", line, got, want)
		}
	}
	r.denies(t, "web-1", "command_feature", "uptime && (df -h || uptime)")
}

func (r *ruled) chains(t *testing.T) {
	r.allows(t, "web-1", "uptime && df -h", "uptime; df -h", "df -h && uptime", "df -h | uptime", "uptime || df -h", "uptime; df -h; uptime", "uptime;")
	for line, culprits := range map[string]string{
		"whoami && uptime": "whoami", "uptime && whoami; df -h": "whoami", "uptime; df -h | cat": "cat", "uptime | cat": "cat",
		"whoami; cat": "whoami cat", "whoami": "whoami", "df -h && df -H": "df -H",
	} {
		d := r.decide(t, r.facts("web-1", line))
		text := ""
		for _, reason := range d.Reasons {
			text += reason.Detail + "\n"
		}
		for culprit := range strings.FieldsSeq(culprits) {
			if d.Allow || !strings.Contains(text, culprit) {
				t.Errorf("%q: allowed %v, %q is not named: %s", line, d.Allow, culprit, text)
			}
		}
	}
}

func (r *ruled) substitutions(t *testing.T) {
	rules := newRuled(t, "rules: [{action: allow, simple_binaries: [echo, uptime]}]\n")
	rules.denies(t, "web-1", "command_not_understood",
		"echo $(cat /etc/passwd)", "echo $(whoami)", "echo $(sudo whoami)", "echo $(eval x)", "uptime $(whoami)", "echo `whoami`", "uptime `id`",
		"echo $((1+1))", "uptime && echo $(id)", "echo `id` | uptime", `echo "$(id)"`, "echo \"`id`\"", `echo "x $((1)) y"`, "echo ${x}", "echo $x")
}

func (r *ruled) simple(t *testing.T) {
	r.allows(t, "web-1", "uptime", "whoami", "hostname", "date", "uptime -p", "uptime a b c", "date -u +%F", "uptime 'one word'", `whoami "a b"`)
	r.denies(t, "web-1", "command_rule", "uptime a b c d e", "uptime a b c d")
	r.denies(t, "web-1", "command_program", "ls", "echo hello")
	r.denies(t, "web-1", "command_rule", "cat")
	r.denies(t, "web-1", "command_program", "uptime; ls", "uptime && ls", "uptime || ls", "uptime | ls")
}

func (r *ruled) structured(t *testing.T) {
	r.allows(t, "web-1", "df -h", "tail -n 200 /var/log/syslog", "systemctl status nginx", "systemctl status nginx -l", "cat /etc/os-release", "cat /etc/redhat-release")
	r.denies(t, "web-1", "command_rule",
		"df -H", "df -h /", "df", "tail -n 100 /var/log/syslog", "tail -n200 /var/log/syslog", "tail -n 200", "systemctl restart nginx", "cat /etc/passwd", "cat /tmp/test")
	r.denies(t, "db-1", "command_program", "systemctl status nginx")
}

func (r *ruled) paths(t *testing.T) {
	r.denies(t, "web-1", "", "/usr/bin/uptime", "/tmp/evil.sh", "./script.sh", "/bin/cat /etc/os-release", "../uptime")
	spelled := newRuled(t, "rules: [{action: allow, simple_binaries: [/usr/bin/uptime]}]\n")
	spelled.allows(t, "web-1", "/usr/bin/uptime")
	spelled.denies(t, "web-1", "command_rule", "uptime", "/bin/uptime", "/usr/bin/../bin/uptime", "//usr/bin/uptime")
}

// In schema 2 globs over commands are not read, unless they deny; without a
// version, rules of schema 2 say which it is.
func (r *ruled) otherSchema(t *testing.T) {
	for _, rules := range []string{
		"version: 2\nrules: [{action: allow, commands: ['uptime*']}, {action: allow, simple_binaries: [df]}]\n",
		"rules: [{action: allow, commands: ['uptime*']}, {action: allow, simple_binaries: [df]}]\n",
	} {
		newRuled(t, rules).denies(t, "web-1", "command_program", "uptime")
	}
	for _, rules := range []string{
		"rules: [{action: allow, commands: ['uptime*']}]\n", "version: 1\nrules: [{action: allow, commands: ['uptime*']}, {action: allow, simple_binaries: [df]}]\n",
		"version: 3\nrules: [{action: allow, commands: ['uptime*']}, {action: allow, simple_binaries: [df]}]\n",
	} {
		newRuled(t, rules).allows(t, "web-1", "uptime")
	}
	deny := newRuled(t, "version: 2\nrules: [{action: deny, commands: ['uptime -x*']}, {action: allow, simple_binaries: [uptime]}]\n")
	deny.allows(t, "web-1", "uptime")
	deny.denies(t, "web-1", "command_rule_denied", "uptime -x", "uptime -p -x")
}

// It is not the order that says who wins.
func (r *ruled) denyWins(t *testing.T) {
	const deny, allow = "{action: deny, simple_binaries: [cat]}", "{action: allow, simple_binaries: [cat, uptime]}"
	for _, order := range []string{deny + ", " + allow, allow + ", " + deny} {
		rules := newRuled(t, "version: 2\nrules: ["+order+"]\n")
		rules.denies(t, "web-1", "command_rule_denied", "cat /etc/hosts", "uptime && cat x")
		rules.allows(t, "web-1", "uptime")
	}
}

func (r *ruled) newline(t *testing.T) {
	r.denies(t, "web-1", "", "uptime\nid", "uptime\r\ncat /etc/shadow", "uptime & id", "systemctl status nginx & id", "uptime &", "uptime\n\nid", "uptime # x\nid")
	r.allows(t, "web-1", "uptime\ndate") // each of them is allowed
}

func (r *ruled) redirections(t *testing.T) {
	r.denies(t, "web-1", "",
		"date > /etc/cron.d/x", "systemctl status nginx > /tmp/x", "date >> x", "cat < /etc/shadow", "uptime &> x", "cat <<< x", "uptime 3>x",
		"uptime <(id)", "uptime >(id)", `systemctl status \" ; id \"`, `systemctl status nginx \) ; id`, `systemctl status \' ; id \'`, `uptime "a\" ; id`)
	// What is harmless needs no rule, and the words are judged without it.
	r.allows(t, "web-1", "uptime 2>&1", "systemctl status nginx 2>/dev/null", `systemctl status '; id'`)
}

func (r *ruled) whereto(t *testing.T) {
	r.denies(t, "web-1", "command_rule",
		"tail -n 200 /var/log/../../etc/shadow", "tail -n 200 /var/log/..", "tail -n 200 /var/log/nginx/access.log", "tail -n 200 /var/log//x", "tail -n 200 /var/log/./x",
		"tail -n 200 var/log/x", "tail -n 200 /var/log/a /etc/shadow", "tail -n 200 /var/log/a --pid=/etc/x", "tail -n 200 /var/log/*", "tail -n 200 /var/log/a?", "cat /etc/shado?",
		"cat ../../etc/shadow", "cat /x/../etc/shadow")
	r.denies(t, "web-1", "", "cat $HOME/.ssh/id_rsa", "cat ~/.ssh/id_rsa", "cat {a,b}", "cat /etc/sha[d]ow", "cat *")
}

func (r *ruled) beyond(t *testing.T) {
	r.denies(t, "web-1", "command_rule",
		"date -s 12:00", "date --set=12:00", "date --set 12:00", "date -us 12:00", "date -f /etc/shadow", "date --file=/etc/shadow", "date 010203042020", "hostname newname",
		"hostname -F /etc/shadow", "systemctl status -H other-host x", "systemctl status --host=other x", "systemctl status -lH other x", "systemctl status -M c x")
	r.allows(t, "web-1", "date", "date -u", "date -d yesterday +%F", "date -Iseconds", "hostname", "hostname -f", "systemctl status -l nginx", "systemctl status nginx -n 50")
	spelled := newRuled(t, "version: 2\nrules: [{action: allow, binary: date, arg_prefix: [-s]}]\n")
	spelled.allows(t, "web-1", "date -s 12:00")
}

func (r *ruled) denyFailed(t *testing.T) {
	rules := newRuled(t, `version: 2
rules:
  - {action: deny, simple_binaries: [cat], simple_max_args: 2}
  - {action: allow, simple_binaries: [cat, uptime]}
  - {action: allow, binary: cat, arg_prefix: ["a;b"]}
`)
	rules.denies(t, "web-1", "command_rule_denied", "cat a b c", "cat 'a;b'", "cat", "sudo cat a", "/bin/cat a", "uptime | cat")
	if _, err := loadRules(t, "version: 2\nrules: [{action: deny, binary: rm}, {action: allow, simple_binaries: [rm]}]\n"); err == nil || !strings.Contains(err.Error(), "it can never match") {
		t.Errorf("a rule that denies nothing: %v", err)
	}
	partly := newRuled(t, `version: 2
rules:
  - {action: deny, binary: systemctl, arg_prefix: [stop, sshd]}
  - {action: deny, binary: cat, path_args: {indices: [1], patterns: ["/etc/shadow*"]}}
  - {action: allow, simple_binaries: [systemctl, cat]}
`)
	partly.denies(t, "web-1", "command_rule_denied", "systemctl stop sshd", "systemctl --now stop sshd", "systemctl stop --no-block sshd",
		"cat /etc/shadow", "cat -n /etc/shadow", "cat x /etc/shadow-", "cat /etc//shadow", "cat /etc/./shadow", "cat ''/etc/shadow")
	partly.allows(t, "web-1", "systemctl stop nginx", "cat /etc/hosts")
}

func (r *ruled) spellings(t *testing.T) {
	rules := newRuled(t, "version: 2\nrules: [{action: allow, simple_binaries: [rm, dd, echo]}]\n")
	rules.denies(t, "web-1", "command_text_denied",
		"rm -rf /", "rm -r -f /", "rm -f -r /", "rm -fr /", "rm --recursive --force /", "rm -r --force /", "rm -R -f /", "rm -rvf -- /", "rm / -rf", "rm -rf //", "rm -rf /tmp",
		"dd of=/dev/sda if=/dev/zero", "dd bs=1 if=/dev/zero of=x")
	rules.allows(t, "web-1", "rm x", "rm -r x", "rm -f /tmp/x", "dd if=x of=y")
}

func (*ruled) typo(t *testing.T) {
	for _, network := range []string{"allow_cidrs: ['10.0.0.0/33']", "allow_cidrs: ['10.0.0/8']", "allow_ips: ['10.0.0']", "allow: ['10.0.0.0/8']", "allow_cidrs: '10.0.0.0/8'"} {
		if _, err := loadRules(t, "network: {"+network+"}\nrules: []\n"); err == nil || !strings.Contains(err.Error(), "policy.yml:1: network") {
			t.Errorf("%s loads: %v", network, err)
		}
	}
}

// What was refused by accident.
func (r *ruled) falsePositives(t *testing.T) {
	rules := newRuled(t, "version: 2\nrules: [{action: allow, simple_binaries: [rsync, uptime, echo, systemctl, passwd-report, /opt/bin/report]}]\n")
	rules.allows(t, "web-1", "rsync -a x y", "systemctl status ssh", `uptime "a && b"`, "echo '$(x)'", "echo 'a;b|c'", "uptime;", "passwd-report", "/opt/bin/report -v")
	rules.denies(t, "web-1", "command_text_denied", "nc -l 80", "ssh host", "passwd", "uptime; curl x", "sudo wget x", "echo 'nc -l'", "env reboot")
}

// TestOrchestratorDirectories asks policy.yml files as operators have them about
// the commands that are beside each.
func TestOrchestratorDirectories(t *testing.T) {
	for _, file := range commandFiles(t) {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			r := loadRuled(t, config.Options{
				Dir: filepath.Join(dir, "config"), WithoutSecrets: true, Env: func(string) (string, bool) { return "", false },
			}, recordedEngine)
			for line := range fileLines(t, file) {
				r.judged(t, line)
			}
		})
	}
}

// judged holds a decision against a line of such a file.
func (r *ruled) judged(t *testing.T, line string) {
	t.Helper()
	words := strings.SplitN(line, " ", 3)
	switch words[0] {
	case "+":
		r.allows(t, words[1], words[2])
	case "-":
		r.denies(t, words[1], "", words[2])
	default:
		t.Errorf("%q begins with neither + nor -", line)
	}
}

// TestImported: what a policy.yml is converted to decides as the old one does,
// command by command and host by host.
func TestImported(t *testing.T) {
	for _, file := range commandFiles(t) {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			from := config.Options{Dir: filepath.Join(dir, "config"), WithoutSecrets: true, Env: func(string) (string, bool) { return "", false }}
			before := loadRuled(t, from, newEngine)
			to := filepath.Join(t.TempDir(), "new")
			if _, err := config.Import(to, from); err != nil {
				t.Fatal(err)
			}
			from.Dir = to
			after := loadRuled(t, from, newEngine)
			for line := range fileLines(t, file) {
				_, line, _ = strings.Cut(line, " ")
				_, line, _ = strings.Cut(line, " ")
				for _, h := range before.config.Hosts {
					want, got := before.decide(t, before.facts(h.Alias, line)), after.decide(t, after.facts(h.Alias, line))
					if got.Allow != want.Allow || got.Limits != want.Limits {
						t.Errorf("%q on %s: allowed %v with %+v, before %v with %+v", line, h.Alias, got.Allow, got.Limits, want.Allow, want.Limits)
					}
				}
			}
		})
	}
}

// commandFiles are beside the directories of the orchestrator that have rules on
// commands.
func commandFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../testdata/orchestrator/*/commands")
	if err != nil || len(files) < 4 {
		t.Fatalf("%v, %v", files, err)
	}
	return files
}

// fileLines are the lines of a file but for comments.
func fileLines(t *testing.T, file string) iter.Seq[string] {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return func(yield func(string) bool) {
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "#") && !yield(strings.ReplaceAll(strings.TrimSuffix(line, "\n"), `\n`, "\n")) {
				return
			}
		}
	}
}

func loadRuled(t *testing.T, o config.Options, engine engineMaker) *ruled {
	t.Helper()
	c, err := config.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return newRuledOf(t, c, engine)
}
