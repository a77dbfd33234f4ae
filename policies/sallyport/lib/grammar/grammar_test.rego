package sallyport.lib.grammar_test

import data.sallyport.lib.fixture_test as fixture
import data.sallyport.lib.grammar

named := data.sallyport.profiles.named

permits(profile, words) if grammar.permits(named[profile], fixture.command(0, words))

permits_wrapped(profile, wrappers, words) if {
	grammar.permits(named[profile], fixture.wrapped(wrappers, words).commands[0])
}

# Words by profile, one line a command.
permitted := {
	"readonly": [
		["true"], ["pwd", "-L"], ["pwd", "-LP"], ["whoami"], ["uptime"], ["uptime", "-p"], ["uptime", "--pretty"],
		["/bin/uptime"], ["/usr/bin/uptime"],
		["echo"], ["echo", "-n", "--any", "x", ""],
		["date", "-u", "+%F"], ["date"], ["date", "--utc", "+%F %T\n"],
		["df", "-hT", "/"], ["df", "-t", "ext4", "/srv"],
		["head", "-n", "5", "/var/log/a"], ["head", "-n5"], ["head", "-qn-5"], ["head", "-50"], ["head", "-c", "+5"],
		["head", "--lines=5"], ["head", "--lines", "5"], ["head", "--lines=-5"], ["head", "/var/log/a", "-n", "5"],
		["tail", "-n", "5", "--", "/var/log/a"], ["cat", "/var/log/"], ["cat", "/var/log"], ["cat", "/etc/hosts"],
		["ls", "-1"], ["ls", "--color=auto", "/srv"], ["ls", "-la", "/etc", "/opt/x"],
		["grep", "x"], ["grep", "-i", "/x", "/var/log/a"], ["grep", "-e", "x", "/var/log/a"], ["grep", "-iex"],
		["grep", "--regexp", "x"], ["grep", "--regexp=", "/var/log/a"], ["grep", "-rn", "x", "/var/log"],
		["grep", "-r", "-e", "x", "/var/log"], ["grep", "-r", "/var", "/var/log"],
		["grep", "--", "-v", "/var/log/a"], ["grep", "-e", "x"],
		["ps"], ["ps", "aux"], ["ps", "-ef", "-o", "pid,comm"], ["ps", "-p", "1", "--sort=-pid"],
		["test", "-f", "/etc/hosts"], ["[", "-d", "/srv", "]"], ["test", "-e", "/proc/uptime"],
		["systemctl", "status"], ["systemctl", "status", "a.service", "b@1"], ["systemctl", "--failed"],
		["systemctl", "--no-pager", "-n", "5", "is-active", "a", "-l"], ["systemctl", "list-units", "--type=service"],
		["systemctl", "list-timers", "--all"], ["systemctl", "--", "status", "a"],
		["journalctl", "-u", "a", "--no-pager"], ["journalctl", "--unit=a", "--no-pager", "-n", "5"],
		["journalctl", "--no-pager", "-rua"], ["journalctl", "--unit", "a", "--no-pager", "--since", "2 hours ago"],
		["docker", "ps"], ["docker", "ps", "-a", "--format", "{{.Names}}"], ["docker", "logs", "web"],
		["docker", "logs", "--tail=all", "-t", "web"], ["docker", "stats", "--no-stream", "a", "b"],
		["docker", "images"], ["docker", "images", "a/b:1"], ["docker", "version"], ["docker", "info"],
	],
	"diagnose": [
		["cat", {"pattern": "/var/log/*.log"}], ["ls", {"pattern": "/var/log/*/x"}, "/etc"],
		["test", "-f", {"pattern": "/var/log/a*"}],
		["sort", "-nr", "-k2,2", "-t", ":"], ["uniq", "-c", "/var/log/a"], ["cut", "-d:", "-f", "1,3"],
		["tr", "-d", "a"], ["tr", "a", "b"], ["sed", "-n", "1,5p", "/var/log/a"], ["sed", "5p", "-n"],
		["awk", "{print $1, $NF}"], ["awk", "-F:", "{print $1}", "/var/log/a"],
		["find", "/srv"], ["find", "/srv", "/etc", "-name", "*.gz", "-type", "f", "-print"],
		["find", {"pattern": "/var/log/*"}, "-mtime", "+7"], ["find", "/srv", "-name", "-x"],
		["find", "/srv", "-name", "-print"],
		["git", "-C", "/srv/app", "status", "-sb"], ["git", "-C", "/opt/a/b", "log", "-5", "--since", "yesterday"],
		["git", "-C", "/srv/app", "rev-parse", "--short", "HEAD"], ["git", "-C", "/srv/app", "branch"],
		["curl", "-sS", "-m", "5", "http://localhost:8080/healthz"], ["curl", "http://127.0.0.1"],
	],
	"ops": [["uptime"], ["systemctl", "status", "app"]],
}

refused := {
	"readonly": [
		["id"], ["./uptime"], ["/tmp/uptime"], ["Uptime"], [""],
		["true", "x"], ["true", "-x"], ["pwd", "--logical"], ["uptime", "-x"], ["uptime", "-px"], ["uptime", "--prett"],
		["uptime", "--pretty=x"], ["uptime", "--pretty="], ["uptime", "x"],
		["echo", {"pattern": "/var/log/*"}],
		["date", "-s", "x"], ["date", "+a", "+b"], ["date", "x"],
		["df", "-t"], ["df", "-t", "a b"], ["df", "-t", "-x"], ["df", "-h", "a"], ["df", "/x/../y"],
		["head", "-n"], ["head", "-n", "x"], ["head", "-nx"], ["head", "-n", "-5"], ["head", "-n", "--", "5"],
		["head", "-n", "-"], ["head", "-5x"], ["head", "--lines"], ["head", "--lines=x"], ["head", "--line=5"],
		["head", "--lines="], ["head", "--lines", "-5"], ["head", "-n", {"pattern": "/var/log/*"}],
		["cat", "-n", "--", "-n"], ["cat", "log_path"], ["cat", "/var/logs"], ["cat", "/var/log//a"],
		["cat", "/var/log/.."], ["df", "relative"], ["cat", {"pattern": "/var/log/*"}],
		["cat", "/var/log/a", "/etc/passwd"],
		["ls", "--color"], ["ls", "--color=x"], ["ls", "-5"],
		["grep"], ["grep", "-i"], ["grep", "-r", "x"], ["grep", "-r", "/var/log"],
		["grep", "--recursive", "-e", "x"], ["grep", "-f", "/var/log/a", "x"],
		["grep", "x", "y"], ["grep", "-e", "x", "y"], ["grep", {"pattern": "/var/log/*"}],
		["ps", "auxe"], ["ps", "-o"], ["ps", "-o", "-p"], ["ps", "-o", "PID"], ["ps", "pid"], ["ps", "--sort=A"],
		["ps", "--sort"], ["ps", "-u", "-A"], ["ps", "-u", "--sort=pid"], ["ps", {"pattern": "/a*"}], ["ps", "-p", "-C", "x"],
		["test"], ["test", "-f"], ["test", "-v", "/etc/hosts"], ["test", "-f", "x"], ["test", "-f", "/etc/hosts", "]"],
		["["], ["[", "-d", "/srv"], ["[", "-d", "/srv", "x"], ["[", "]"], ["[", "-d", "/srv", "/srv", "]"],
		["test", "-f", {"pattern": "/var/log/a*"}],
		["systemctl"], ["systemctl", "show"], ["systemctl", "is-active"], ["systemctl", "status", "a b"],
		["systemctl", "list-units", "a"], ["systemctl", "-H", "x", "status"], ["systemctl", "--failed", "show"],
		["systemctl", {"pattern": "/a*"}], ["systemctl", "restart", "app"], ["systemctl", "-l"],
		["journalctl"], ["journalctl", "--no-pager"], ["journalctl", "-u", "a"], ["journalctl", "-u", "a", "--no-pager", "x"],
		["journalctl", "-u", "a", "--no-pager=x"],
		["docker"], ["docker", "run"], ["docker", "-H", "x", "ps"], ["docker", "--", "ps"], ["docker", "logs"],
		["docker", "logs", "a", "b"], ["docker", "logs", "-f", "a"], ["docker", "stats"], ["docker", {"pattern": "/a*"}],
		["docker", "logs", {"pattern": "/a*"}],
		["find", "/srv"], ["sort"],
	],
	"diagnose": [
		["cat", {"pattern": "/var/*/x"}], ["df", {"pattern": "/srv/*"}], ["ls", {"pattern": "/var/log/../*"}],
		["grep", {"pattern": "/var/log/*"}, "/var/log/a"],
		["uniq", "/var/log/a", "/var/log/b"], ["uniq", {"pattern": "/var/log/a*"}],
		["tr"], ["tr", "a", "b", "c"], ["sed", "5p"], ["sed", "-n"], ["sed", "-n", "5d"], ["sed", "-n", "1p\nd"],
		["awk"], ["awk", "{print}"], ["sort", "-o", "x"], ["sort", "-t", "ab"],
		["find"], ["find", "-name", "x"], ["find", "/tmp"], ["find", "/srv", "-name"], ["find", "/srv", "-exec", "id"],
		["find", "/srv", "-type", "b"], ["find", "/srv", "-name", "-type", "f"], ["find", "/srv", "-type", "-print"],
		["find", "/srv", "-print", "/etc"],
		["find", "/srv", "--"], ["find", "x"],
		["find", "/srv", "-name", {"pattern": "/x*"}], ["grep", "-e", {"pattern": "/x*"}, "/var/log/a"],
		["git"], ["git", "log"], ["git", "-c", "/srv/app", "status"], ["git", "-C", "/srv/app"],
		["git", "-C", "/etc", "log"], ["git", "-C", "x", "log"],
		["git", "-C", "/srv/app", "push"], ["git", "-C", "/srv/app", "-c", "x", "log"], ["git", "-C/srv/app", "log"],
		["git", "-C", {"pattern": "/srv/*"}, "log"], ["git", "-C", "/srv/app", {"pattern": "/a*"}],
		["git", "-C", "/srv/app", "rev-parse", "HEAD~1"], ["git", "-C", "/srv/app", "status", "x"],
		["curl"], ["curl", "http://example.org"], ["curl", "-o", "/tmp/x", "http://localhost"],
	],
	"ops": [["systemctl", "restart", "app"], ["cat", {"pattern": "/var/log/*"}], ["sort"]],
}

test_permitted[name] if {
	some profile, lines in permitted
	some words in lines
	name := sprintf("%s: %v", [profile, words])
	permits(profile, words)
}

test_refused[name] if {
	some profile, lines in refused
	some words in lines
	name := sprintf("%s: %v", [profile, words])
	not permits(profile, words)
}

wrapped_permitted := [
	[[["sudo", "-n"]], ["ss", "-tlnp"]],
	[[["sudo", "--non-interactive", "-n", "--"]], ["uptime"]],
	[[["timeout", "10"]], ["df", "-h"]],
	[[["timeout", "30s"], ["nice", "-n", "10"]], ["df"]],
	[[["nice", "-n", "5"], ["timeout", "5"]], ["df"]],
	[[["sudo", "-n"], ["timeout", "30s"]], ["systemctl", "restart", "app-worker"]],
	[[["sudo", "-n"]], ["systemctl", "reload", "app.service"]],
	[[["sudo", "-n"]], ["systemctl", "try-restart", "app"]],
	[[["sudo", "-n"]], ["systemctl", "status", "x"]],
]

wrapped_refused := [
	[[["sudo"]], ["uptime"]],
	[[["sudo", "--"]], ["uptime"]],
	[[["sudo", "-n", "-u", "x"]], ["uptime"]],
	[[["sudo", "-n", "--", "-n"]], ["uptime"]],
	[[["timeout"]], ["uptime"]],
	[[["timeout", "1000"]], ["uptime"]],
	[[["timeout", "-k", "5"]], ["uptime"]],
	[[["timeout", "5m"]], ["uptime"]],
	[[["nice"]], ["uptime"]],
	[[["nice", "-n10"]], ["uptime"]],
	[[["nice", "-n", "-5"]], ["uptime"]],
	[[["env"]], ["uptime"]],
	[[["timeout", "5"], ["sudo", "-n"]], ["uptime"]],
	[[["sudo", "-n"], ["sudo", "-n"]], ["uptime"]],
	[[["sudo", "-n"], ["timeout", "5"], ["nice", "-n", "5"]], ["uptime"]],
	[[["sudo", "-n"]], ["docker", "restart", "app"]],
	[[["nice", "-n", "5"], ["nice", "-n", "5"]], ["uptime"]],
	[[["sudo", "-n"]], ["systemctl", "restart", "other"]],
	[[["sudo", "-n"]], ["systemctl", "restart"]],
	[[["sudo", "-n"]], ["systemctl", "restart", "app", "app"]],
	[[["sudo", "-n"]], ["systemctl", "restart", "-l", "app"]],
	[[["sudo", "-n"]], ["systemctl", "stop", "app"]],
	[[["timeout", "5"]], ["systemctl", "restart", "app"]],
	[[["sudo", "-n"]], ["id"]],
	[[["sudo", "-n"]], ["./uptime"]],
]

test_wrapped_permitted[name] if {
	some [wrappers, words] in wrapped_permitted
	name := sprintf("%v %v", [wrappers, words])
	permits_wrapped("ops", wrappers, words)
}

test_wrapped_refused[name] if {
	some [wrappers, words] in wrapped_refused
	name := sprintf("%v %v", [wrappers, words])
	not permits_wrapped("ops", wrappers, words)
}

test_no_wrapper_elsewhere[profile] if {
	some profile in ["readonly", "diagnose"]
	not permits_wrapped(profile, [["sudo", "-n"]], ["uptime"])
}

# What is around a command is not for a grammar to permit.
test_around_refused[field] if {
	some field, value in {
		"assigns": [{"name": "PATH", "value": "/tmp", "static": true}],
		"scope": ["function"],
		"dir": "/usr/local/bin/",
		"wrappers": [{"program": "sudo", "dir": "/tmp/", "args": ["-n"]}],
	}
	command := object.union(fixture.command(0, ["uptime"]), {field: value})
	not grammar.permits(named.ops, command)
}

test_restart_refused_around[field] if {
	some field, value in {
		"assigns": [{"name": "PATH", "value": "/tmp", "static": true}],
		"scope": ["function"],
		"dir": "/usr/local/bin/",
	}
	sound := fixture.wrapped([["sudo", "-n"]], ["systemctl", "restart", "app"]).commands[0]
	grammar.permits(named.ops, sound)
	not grammar.permits(named.ops, object.union(sound, {field: value}))
}

# A command whose words are not known has neither argv nor args.
test_unknown_words_refused if {
	command := object.remove(fixture.command(0, ["uptime"]), ["argv"])
	not grammar.permits(named.readonly, object.union(command, {"static": false}))
}

# A grammar that names a form that nobody knows, or operands without a star and
# without a most.
test_most_without_star if grammar.most({"operands": ["text", "text"]}) == 2

test_most_without_operands if grammar.most({}) == 0

# Words of no command line: what a lexer never says of a word is not believed, even
# if the rest of it would do.
operand := {
	"kind": "operand", "pattern": false, "text": "a",
	"path": {"clean": true, "name": "/var/log/a", "under": ["/var", "/var/log"]},
}

misfits := {
	"a pattern for a directory": [{}, "log_path", {"pattern": true}],
	"an option for a directory": [{}, "log_path", {"kind": "letters"}],
	"a path that leads elsewhere": [{}, "log_path", {"path": {"clean": false}}],
	"a pattern for a file": [{}, "log_path", {"pattern": true, "path": {"name": "/etc/os-release", "under": []}}],
	"an option for a file": [{}, "log_path", {"kind": "letters", "path": {"name": "/etc/os-release", "under": []}}],
	"a file that is elsewhere": [{}, "log_path", {"path": {"name": "/etc/os-release", "under": [], "clean": false}}],
	"an option that is a pattern": [{"glob": true}, "log_path", {"kind": "letters", "pattern": true}],
	"a pattern that leads elsewhere": [{"glob": true}, "log_path", {"pattern": true, "path": {"clean": false}}],
	"a pattern for a value": [{}, "text", {"pattern": true}],
	"an option for a value": [{}, "text", {"kind": "letters"}],
}

test_misfits[name] if {
	some name, [profile, type, changes] in misfits
	word := object.union(operand, changes)
	not grammar.operand_fits(profile, type, word)
}

# As they are without the fault, they fit.
test_fits[name] if {
	some name, [profile, type, changes] in {
		"a directory": [{}, "log_path", {}], "a file": [{}, "log_path", {"path": {"name": "/etc/os-release", "under": []}}],
		"a pattern": [{"glob": true}, "log_path", {"pattern": true}], "a value": [{}, "text", {}],
	}
	grammar.operand_fits(profile, type, object.union(operand, changes))
}

test_no_verb_is_a_pattern if {
	verb := {"kind": "operand", "pattern": true, "text": "ps"}
	spec := {"sub": {"ps": {}}}
	every form in [spec, object.union(spec, {"sub_first": true})] {
		not grammar.fits({}, form, {"args": [verb]})
		grammar.fits({}, form, {"args": [object.union(verb, {"pattern": false})]})
	}
	git := {"git": true, "sub": {"ps": {}}}
	path := {"clean": true, "name": "/srv/app", "under": ["/srv"]}
	begin := [{"kind": "letters", "text": "-C", "pattern": false}, object.union(operand, {"path": path})]
	not grammar.fits({}, git, {"args": array.concat(begin, [verb])})
	grammar.fits({}, git, {"args": array.concat(begin, [object.union(verb, {"pattern": false})])})
}

test_no_option_is_a_pattern if {
	letters := {"kind": "letters", "text": "-l", "pattern": false}
	long := {"kind": "long", "text": "--since=x", "name": "since", "value": "x", "pattern": false}
	spec := {"flags": "l", "long_valued": {"since": "text"}}
	every word in [letters, long] {
		grammar.takes(word.kind, spec, word) == ""
		not grammar.takes(word.kind, spec, object.union(word, {"pattern": true}))
	}
}

test_no_value_is_a_dash if {
	grammar.value_fits("text", [operand], 0)
	not grammar.value_fits("text", [object.union(operand, {"text": "-"})], 0)
}

# What is asked for by a whole name is given by that alone.
test_given if {
	long := {"kind": "long", "name": "ab"}
	grammar.some_given({}, [long], ["ab"])
	not grammar.some_given({}, [object.union(long, {"kind": "operand"})], ["ab"])
	grammar.some_given({"flags": "ab"}, [{"kind": "letters", "text": "-ab"}], ["a"])
	not grammar.some_given({"flags": "ab"}, [{"kind": "letters", "text": "-ab"}], ["ab"])
}
