package shell

import (
	"slices"
	"strings"
)

// wrapper is how a program that runs another is looked through: its own words,
// read strictly. A word that is not in its table makes the line opaque, and so
// does one that is not literal.
type wrapper struct {
	flags      string // letters without a value
	valued     string // letters with one
	long       []string
	longValued []string
	number     bool              // -N, with digits
	operand    func(string) bool // the one operand before the program, if it takes one
	assigns    bool              // NAME=value before the program
	user       string            // whom it runs the program as, unless -u or --user says so
	asks       string            // letters with which it runs nothing: command -v
	script     bool              // sh: exactly -c and one literal string, which is parsed in turn
}

var wrappers = map[string]*wrapper{
	"sudo": {
		flags: "nEHkP", valued: "uT", assigns: true, user: "root",
		long:       []string{"non-interactive", "preserve-env", "set-home", "reset-timestamp", "preserve-groups"},
		longValued: []string{"user", "command-timeout"},
	},
	"doas": {flags: "n", valued: "u", user: "root"},
	"timeout": {
		flags: "fpv", valued: "sk", operand: isDuration,
		long: []string{"foreground", "preserve-status", "verbose"}, longValued: []string{"signal", "kill-after"},
	},
	"nice":    {valued: "n", longValued: []string{"adjustment"}, number: true},
	"nohup":   {},
	"ionice":  {flags: "t", valued: "cn", long: []string{"ignore"}, longValued: []string{"class", "classdata"}},
	"setsid":  {flags: "cfw", long: []string{"ctty", "fork", "wait"}},
	"stdbuf":  {valued: "ioe", longValued: []string{"input", "output", "error"}},
	"env":     {assigns: true},
	"command": {flags: "p", asks: "vV"},
	"exec":    {},
	"sh":      {script: true},
	// Inside the string only what sh and these read alike is accepted, so they
	// are looked through like sh.
	"bash": {script: true},
	"dash": {script: true},
}

// systemDirs are where a wrapper may stand. Anywhere else a program of the same
// name can be anything.
var systemDirs = []string{"", "/bin/", "/usr/bin/", "/sbin/", "/usr/sbin/", "/usr/local/bin/"}

// unseen is a program that runs what the line does not show, or changes what
// later words mean: always, or where options, letters or subscripts are set only
// with these. Programs that interpret a language of their own (awk, sed, python)
// or take the name of a helper in an option (git -c, tar -I) are not here: their
// words show it, so they are for policy to judge.
type unseen struct {
	why     construct
	options []string // exact words
	letters string   // in a cluster of letters
	// subscripts: bash evaluates NAME[...] in its operands, which may hold a
	// command substitution; behind is the option that must stand before.
	subscripts bool
	behind     string
}

const inItsOwn = "run that command in a call of its own"

var (
	runsWords  = construct{"runs another program, with options that are not looked through", inItsOwn}
	runsInput  = construct{"runs commands that it reads or builds at run time", inItsOwn}
	runsText   = construct{"runs its words as shell text", inItsOwn}
	runsFile   = construct{"runs commands from a file", "give the commands themselves"}
	runsApplet = construct{"runs whatever its next word names", "call that by its own name"}
	renames    = construct{"changes what later commands mean", "leave it out, or use env NAME=value COMMAND"}
	evaluates  = construct{"evaluates a subscript in its operand, which can run commands", "leave the brackets out"}
	opensShell = construct{"is a shell that is not looked through", "give the commands themselves, or use sh -c with one quoted string"}
	ofOption   = construct{"runs a program that its option names", inItsOwn}
)

var runsUnseen = map[string]*unseen{
	"xargs": {why: runsInput}, "parallel": {why: runsInput}, "at": {why: runsInput}, "batch": {why: runsInput},
	"eval": {why: runsText}, "trap": {why: runsText}, "watch": {why: runsText}, "let": {why: runsText},
	"complete": {why: runsText}, "compgen": {why: runsText}, "bind": {why: runsText},
	".": {why: runsFile}, "source": {why: runsFile}, "run-parts": {why: runsFile},
	"busybox": {why: runsApplet}, "toybox": {why: runsApplet}, "builtin": {why: runsApplet},
	"alias": {why: renames}, "enable": {why: renames}, "export": {why: renames}, "declare": {why: renames},
	"typeset": {why: renames}, "local": {why: renames}, "readonly": {why: renames}, "hash": {why: renames, letters: "p"},
	"su": {why: runsWords}, "runuser": {why: runsWords}, "pkexec": {why: runsWords}, "sg": {why: runsWords},
	"gosu": {why: runsWords}, "su-exec": {why: runsWords}, "setpriv": {why: runsWords}, "capsh": {why: runsWords},
	"chroot": {why: runsWords}, "unshare": {why: runsWords}, "nsenter": {why: runsWords}, "bwrap": {why: runsWords},
	"fakeroot": {why: runsWords}, "proot": {why: runsWords}, "firejail": {why: runsWords}, "cgexec": {why: runsWords},
	"chrt": {why: runsWords}, "taskset": {why: runsWords}, "numactl": {why: runsWords}, "setarch": {why: runsWords},
	"linux32": {why: runsWords}, "linux64": {why: runsWords}, "prlimit": {why: runsWords}, "choom": {why: runsWords},
	"systemd-run": {why: runsWords}, "systemd-inhibit": {why: runsWords}, "start-stop-daemon": {why: runsWords},
	"flock": {why: runsWords}, "script": {why: runsWords}, "unbuffer": {why: runsWords}, "time": {why: runsWords},
	"strace": {why: runsWords}, "ltrace": {why: runsWords}, "gdb": {why: runsWords}, "valgrind": {why: runsWords},
	"dbus-run-session": {why: runsWords}, "ssh-agent": {why: runsWords}, "entr": {why: runsInput},
	"torsocks": {why: runsWords}, "proxychains": {why: runsWords}, "proxychains4": {why: runsWords},
	"newgrp": {why: opensShell}, "sudoedit": {why: runsWords}, "machinectl": {why: runsWords, options: []string{"shell"}},
	"ksh": {why: opensShell}, "mksh": {why: opensShell}, "zsh": {why: opensShell}, "fish": {why: opensShell},
	"csh": {why: opensShell}, "tcsh": {why: opensShell}, "ash": {why: opensShell}, "rbash": {why: opensShell},
	"yash": {why: opensShell}, "posh": {why: opensShell},
	"ip":      {why: runsWords, options: []string{"exec"}},
	"find":    {why: ofOption, options: []string{"-exec", "-execdir", "-ok", "-okdir"}},
	"mapfile": {why: runsInput, letters: "C"}, "readarray": {why: runsInput, letters: "C"},
	"test": {why: evaluates, subscripts: true, behind: "-v"}, "[": {why: evaluates, subscripts: true, behind: "-v"},
	"printf": {why: evaluates, subscripts: true, behind: "-v"},
	"read":   {why: evaluates, subscripts: true}, "unset": {why: evaluates, subscripts: true},
	"wait": {why: evaluates, subscripts: true},
}

// unwrapped is what a call runs in the end.
type unwrapped struct {
	wrappers []Wrapper
	assigns  []Assign
	user     string
	rest     []word // the words of the program that is run
	script   *word  // the string of sh -c; rest is then the shell's own words
	refusal  *Error // why it cannot be looked through
}

// unwrap looks through the wrappers before a program.
func unwrap(words []word) unwrapped {
	u := unwrapped{rest: words}
	for u.refusal == nil && u.script == nil && len(u.rest) > 0 && u.rest[0].literal() {
		dir, name := splitProgram(u.rest[0].text)
		w := wrappers[name]
		if w == nil {
			u.refusal = seen(name, u.rest[1:])
			break
		}
		if !slices.Contains(systemDirs, dir) {
			u.refusal = refuse(RunsUnseen, "%s runs another program, and in %s it can be anything; call it by its bare name", name, excerpt(dir))
			break
		}
		if !u.through(w, dir, name) {
			break
		}
	}
	return u
}

// through takes one wrapper off; false when there is nothing inside it.
func (u *unwrapped) through(w *wrapper, dir, name string) bool {
	own := ownWords{wrapper: w, words: u.rest[1:], user: w.user}
	if w.script {
		own.readScript()
	} else {
		own.read()
	}
	if own.bad != nil {
		u.refusal = refuse(RunsUnseen, "%s %s; %s", name, own.bad.what, own.bad.remedy)
		return false
	}
	if own.asks || !w.script && own.n == len(own.words) {
		return false // it runs nothing
	}
	texts := make([]string, own.n)
	for i := range texts {
		texts[i] = own.words[i].text
	}
	u.wrappers = append(u.wrappers, Wrapper{Program: name, Dir: dir, Args: texts})
	u.assigns = append(u.assigns, own.assigns...)
	if own.user != "" {
		u.user = own.user
	}
	if w.script {
		u.script = &own.words[own.n]
	} else {
		u.rest = own.words[own.n:]
	}
	return true
}

// ownWords reads the words that belong to a wrapper itself.
type ownWords struct {
	*wrapper
	words   []word // after the wrapper's name
	n       int    // how many of them are its own
	user    string
	assigns []Assign
	asks    bool
	bad     *construct // what stands in the way
}

func (o *ownWords) readScript() {
	o.n = 1
	switch {
	case len(o.words) != 2 || o.words[0].text != "-c" || !o.words[0].literal():
		o.bad = &construct{"runs commands from a file or its input, or has options that are not looked through", "give the commands themselves, or exactly -c and one quoted string"}
	case !o.words[1].literal():
		o.bad = &construct{"-c runs text that is not literal", "put the string in single quotes"}
	}
}

func (o *ownWords) read() {
	ended := o.options()
	if o.bad != nil || o.asks {
		return
	}
	if o.operand != nil {
		if o.n == len(o.words) || !o.words[o.n].literal() || !o.operand(o.words[o.n].text) {
			o.refuse("has an operand that is not looked through")
			return
		}
		o.n++
	}
	if o.wrapper.assigns {
		o.assignments(ended)
	}
	if o.bad == nil && o.n < len(o.words) && strings.HasPrefix(o.words[o.n].text, "-") {
		o.refuse("has " + excerpt(o.words[o.n].text) + " where a program is expected")
	}
}

// assignments reads NAME=value words. Behind -- sudo takes them for the
// program, env does not.
func (o *ownWords) assignments(ended bool) {
	for ; o.n < len(o.words); o.n++ {
		w := &o.words[o.n]
		name, value, ok := strings.Cut(w.text, "=")
		if !ok || !w.literal() {
			return
		}
		if !isName(name) || ended && o.wrapper.user != "" {
			o.refuse("has an assignment that is not looked through")
			return
		}
		o.assigns = append(o.assigns, Assign{Name: name, Value: value, Static: true})
	}
}

// options reads options up to the first word that is none; true when -- ended
// them.
func (o *ownWords) options() bool {
	for ; o.n < len(o.words) && o.bad == nil && !o.asks; o.n++ {
		w := &o.words[o.n]
		switch {
		case w.text == "" || w.text[0] != '-' || w.text == "-":
			return false
		case !w.literal():
			o.refuse("has an option that is not literal")
		case w.text == "--":
			o.n++
			return true
		case o.number && isDigits(w.text[1:]):
		case w.text[1] == '-':
			o.longOption(w.text[2:])
		default:
			o.letterOptions(w.text[1:])
		}
	}
	return false
}

func (o *ownWords) longOption(s string) {
	name, value, joined := strings.Cut(s, "=")
	switch {
	case !joined && slices.Contains(o.long, name):
	case !slices.Contains(o.longValued, name):
		o.refuse("has the option --" + excerpt(name) + ", which is not looked through")
	case joined:
		o.value(name, value)
	default:
		o.nextValue(name)
	}
}

func (o *ownWords) letterOptions(s string) {
	for i := range len(s) {
		c := s[i]
		switch {
		case strings.IndexByte(o.flags, c) >= 0:
		case strings.IndexByte(o.wrapper.asks, c) >= 0:
			o.asks = true
			return
		case strings.IndexByte(o.valued, c) < 0:
			o.refuse("has the option -" + excerpt(s[i:]) + ", which is not looked through")
			return
		case i+1 < len(s):
			o.value(s[i:i+1], s[i+1:])
			return
		default:
			o.nextValue(s[i:])
			return
		}
	}
}

// nextValue takes the word behind an option for its value.
func (o *ownWords) nextValue(name string) {
	if o.n++; o.n == len(o.words) || !o.words[o.n].literal() {
		o.refuse("has an option whose value is missing or not literal")
		return
	}
	o.value(name, o.words[o.n].text)
}

func (o *ownWords) value(name, value string) {
	if o.wrapper.user != "" && (name == "u" || name == "user") {
		o.user = value
	}
}

func (o *ownWords) refuse(what string) {
	o.bad = &construct{what, "use only its plain options, each spelled in full, or run the command without it"}
}

// isDuration is the duration of timeout: 10, 1.5, 30s, 2m, 1h, 1d.
func isDuration(s string) bool {
	if s != "" && strings.IndexByte("smhd", s[len(s)-1]) >= 0 {
		s = s[:len(s)-1]
	}
	whole, fraction, dotted := strings.Cut(s, ".")
	return isDigits(whole) && (!dotted || isDigits(fraction))
}

// seen says what a program that is no wrapper runs unseen, nil if nothing.
func seen(name string, args []word) *Error {
	u := runsUnseen[name]
	if u == nil {
		return nil
	}
	always := u.options == nil && u.letters == "" && !u.subscripts
	for i := range args {
		if always {
			break
		}
		w := &args[i]
		switch {
		case u.subscripts && strings.Contains(w.text, "["):
			always = u.behind == "" || i > 0 && strings.HasPrefix(args[i-1].text, u.behind) || strings.HasPrefix(w.text, u.behind)
		case u.letters != "" && len(w.text) > 1 && w.text[0] == '-' && w.text[1] != '-':
			always = strings.ContainsAny(w.text[1:], u.letters)
		default:
			always = slices.Contains(u.options, w.text)
		}
	}
	if !always {
		return nil
	}
	return refuse(RunsUnseen, "%s %s; %s", name, u.why.what, u.why.remedy)
}

func splitProgram(word string) (dir, name string) {
	i := strings.LastIndexByte(word, '/') + 1
	return word[:i], word[i:]
}
