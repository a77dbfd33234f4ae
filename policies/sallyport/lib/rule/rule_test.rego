package sallyport.lib.rule_test

import data.sallyport.lib.fixture_test as fixture
import data.sallyport.lib.rule

looks := fixture.rule(0, {"programs": ["uptime", "date", "hostname", "/opt/x"], "most": 2})

df := fixture.rule(0, {"kind": "structured", "programs": ["df"], "prefix": ["-h"], "most": 1})

status := fixture.rule(0, {"kind": "structured", "programs": ["systemctl"], "prefix": ["status"]})

logs := [fixture.pattern("/var/log/*", `^/var/log/[^/]+$`), fixture.pattern("/srv/*.log", `^/srv/[^/]*\.log$`)]

tail := fixture.rule(0, {
	"kind": "structured", "programs": ["tail"], "prefix": ["-n", "5"], "indices": [3], "patterns": logs,
})

tail_alone := object.union(tail, {"most": 3})

dated := object.union(tail, {"prefix": ["-c", "/opt/x"], "fixed": 2})

alone := fixture.rule(0, {"programs": ["uptime"], "most": 0})

by_path := fixture.rule(0, {
	"kind": "glob", "programs": ["/opt/x"], "fixed": 0, "patterns": [fixture.pattern("/opt/x*", `^/opt/x( (?s:.)*)?$`)],
})

restart := fixture.rule(0, {"kind": "structured", "programs": ["sudo"], "prefix": ["systemctl", "restart"]})

time_set := fixture.rule(0, {"kind": "structured", "programs": ["date"], "prefix": ["-s"]})

ps := fixture.rule(0, {
	"kind": "glob", "programs": ["ps"], "fixed": 0, "patterns": [fixture.pattern("ps*", `^ps( (?s:.)*)?$`)],
})

cat := fixture.rule(0, {
	"kind": "glob", "programs": ["cat"], "fixed": 0,
	"patterns": [fixture.pattern("cat /var/log/*", `^cat /var/log/[^/ ]+$`)],
})

quoted := fixture.rule(0, {
	"kind": "glob", "programs": ["grep"], "fixed": 1,
	"patterns": [{"text": `grep "a b" *`, "expression": `^grep a\x01b (?s:.)*$`, "literal": "grep a\u0001b "}],
})

status_of := fixture.rule(0, {"kind": "glob", "patterns": [fixture.pattern("* status", `^(?s:.)* status$`)]})

everything := fixture.rule(0, {"kind": "glob", "all": true, "patterns": [fixture.pattern("*", `^(?s:.)*$`)]})

allowed := {
	"simple": [looks, ["uptime"]],
	"simple with words": [looks, ["uptime", "a;b", "a && b"]],
	"simple by its path": [looks, ["/opt/x", "y"]],
	"harmless option": [looks, ["date", "-u", "+%F"]],
	"value of a harmless option": [looks, ["date", "-d", "yesterday"]],
	"prefix": [df, ["df", "-h"]],
	"prefix and more": [status, ["systemctl", "status", "nginx", "-l", "/x"]],
	"path": [tail, ["tail", "-n", "5", "/var/log/a"]],
	"path among the first words": [dated, ["tail", "-c", "/opt/x", "/var/log/a"]],
	"no words": [alone, ["uptime"]],
	"glob by a path": [by_path, ["/opt/x", "y"]],
	"other pattern": [tail, ["tail", "-n", "5", "/srv/a.log"]],
	"further path": [tail, ["tail", "-n", "5", "/var/log/a", "-q", "/var/log/b"]],
	"path alone": [tail_alone, ["tail", "-n", "5", "/var/log/a"]],
	"spelled out": [time_set, ["date", "-s", "2020-01-01"]],
	"glob": [ps, ["ps"]],
	"glob with words": [ps, ["ps", "-e", "x y", "a;b"]],
	"glob of a path": [cat, ["cat", "/var/log/a b"]],
	"blank in quotes": [quoted, ["grep", "a b", "x"]],
	"any program": [status_of, ["pm2", "status"]],
	"everything": [everything, ["pm2", "x"]],
	"dots in a name": [looks, ["uptime", "a..b", ".x"]],
}

test_allowed[name] if {
	some name, [found, words] in allowed
	rule.allows(found, rule.spoken(fixture.command(0, words)))
}

# The last one is a part of what is wrong with the command.
refused := {
	"path in the place of the program": [tail, ["/var/log/a"], `it is called as "/var/log/a"`],
	"words where there are none": [alone, ["uptime", "x"], "it has 1 words behind the program, not 0"],
	"too many words": [looks, ["uptime", "a", "b", "c"], "it has 3 words behind the program, not 2"],
	"by another path": [looks, ["/bin/uptime"], `it is called as "/bin/uptime"`],
	"by its name, not its path": [looks, ["x"], `it is called as "x"`],
	"another program": [df, ["tail", "-h"], `it is called as "tail"`],
	"option": [looks, ["date", "-s", "x"], `"-s" does more than look`],
	"long option": [looks, ["date", "--set=x"], `"--set=x" does more`],
	"cut option": [looks, ["date", "--se=x"], `"--se=x" does more`],
	"joined option": [looks, ["date", "-usx"], `"-usx" does more`],
	"operand": [looks, ["hostname", "new"], `"new" does more`],
	"other option": [status, ["systemctl", "status", "-H", "x"], `"-H" does more`],
	"other word": [df, ["df", "-H"], `word 1 is "-H", not "-h"`],
	"missing word": [df, ["df"], `word 1 is missing, not "-h"`],
	"joined": [tail, ["tail", "-n5", "/var/log/a"], `word 1 is "-n5", not "-n"`],
	"more words": [df, ["df", "-h", "/"], "it has 2 words"],
	"missing path": [tail, ["tail", "-n", "5"], "word 3 is missing, not one of those paths"],
	"path below": [tail, ["tail", "-n", "5", "/var/log/a/b"], `word 3 is "/var/log/a/b", not one of those paths`],
	"another path": [tail, ["tail", "-n", "5", "/var/log/a", "/etc/x"], `"/etc/x" is not one of those paths`],
	"path in an option": [tail, ["tail", "-n", "5", "/var/log/a", "--x=/etc/x"], "is not one of those paths"],
	"path and a word": [tail_alone, ["tail", "-n", "5", "/var/log/a", "-f"], "it has 4 words"],
	"longer name": [ps, ["psql", "x"], "it is not of that form"],
	"glob and a path below": [cat, ["cat", "/var/log/a/b"], "it is not of that form"],
	"glob and two paths": [cat, ["cat", "/var/log/a", "/var/log/b"], "it is not of that form"],
	"no blank in quotes": [quoted, ["grep", "a", "b", "x"], "it is not of that form"],
	"any program by its bare name": [status_of, ["/tmp/x", "status"], `it is called as "/tmp/x"`],
	"everything but that": [everything, ["date", "-s", "x"], `"-s" does more`],
	"all but a path": [everything, ["./x"], `it is called as "./x"`],
}

test_refused[name] if {
	some name, [found, words, why] in refused
	said := rule.spoken(fixture.command(0, words))
	not rule.allows(found, said)
	contains(rule.misfit(found, said), why)
}

# A wrapper is in the rule with all that it runs, or in none.
test_wrapped[name] if {
	some name, [found, wrappers, words, fits] in {
		"spelled out": [restart, [["sudo"]], ["systemctl", "restart", "x"], true],
		"another verb": [restart, [["sudo"]], ["systemctl", "stop", "x"], false],
		"own words": [restart, [["sudo", "-n"]], ["systemctl", "restart", "x"], false],
		"wrapper alone": [fixture.rule(0, {"programs": ["sudo"]}), [["sudo"]], ["id"], false],
		"wrapper and nothing else": [
			fixture.rule(0, {"kind": "structured", "programs": ["sudo"]}),
			[["sudo"]], ["id"], false,
		],
		"without it": [restart, [], ["systemctl", "restart", "x"], false],
		"program alone": [looks, [["sudo"]], ["uptime"], false],
		"everything": [everything, [["sudo", "-n"], ["nice"]], ["id"], true],
		"door inside": [everything, [["sudo"]], ["date", "-s", "x"], false],
	}
	command := fixture.wrapped(wrappers, words).commands[0]
	allows(found, command) == fits
}

allows(found, command) if {
	rule.allows(found, rule.spoken(command))
} else := false

test_wrapper_misfit if {
	said := rule.spoken(fixture.wrapped([["sudo"]], ["id"]).commands[0])
	rule.misfit(fixture.rule(0, {"programs": ["sudo"]}), said) == "it runs id, which the rule does not spell out"
}

# What no rule can allow.
test_not_spoken[name] if {
	some name, command in {
		"pattern": fixture.command(0, ["cat", {"pattern": "/var/log/*"}]),
		"sh -c": object.union(fixture.command(0, ["cat"]), {"scope": ["shell"]}),
		"dots": fixture.command(0, ["cat", "/var/log/../x"]),
		"dots at the end": fixture.command(0, ["ls", ".."]),
		"dots in a value": fixture.command(0, ["cat", "--x=../y"]),
		"dots behind a letter": fixture.command(0, ["cat", "-x../y"]),
		"one dot": fixture.command(0, ["cat", "/var/log/./x"]),
		"dots around": fixture.wrapped([["timeout", "../x"]], ["cat"]).commands[0],
	}
	not rule.spoken(command)
}

test_key if {
	rule.key(fixture.command(0, ["/bin/ls"])) == "ls"
	rule.key(fixture.wrapped([["sudo"], ["nice"]], ["ls"]).commands[0]) == "sudo"
}

# Each entry is complete: what is missing would be no door.
test_doors_complete[program] if {
	some program, door in data.sallyport.beyond
	object.keys(door) == {"options", "valued", "operands", "most"}
	every expression in [door.options, door.valued, door.operands] { regex.is_valid(expression) }
	door.most >= 0
}

# For each program something that it is there for, and something that it is not.
doors := {
	"arp": [["-n"], ["-s", "a", "b"]],
	"crontab": [["-l", "-u", "x"], ["x"]],
	"date": [["-Iseconds"], ["010203042020"]],
	"dmesg": [["-T", "--color=never"], ["-C"]],
	"docker": [["ps", "-a"], ["-H", "tcp://x", "ps"]],
	"du": [["-sh", "/x"], ["--files0-from=/x"]],
	"file": [["-b", "x"], ["-f", "x"]],
	"find": [["/x", "-name", "y"], ["/x", "-delete"]],
	"git": [["log"], ["-c", "a=b", "log"]],
	"hostname": [["-f"], ["-F", "x"]],
	"hostnamectl": [["status"], ["set-hostname", "x"]],
	"ifconfig": [["eth0"], ["eth0", "down"]],
	"ip": [["-br", "addr"], ["-batch", "x"]],
	"journalctl": [["-u", "x", "-n", "5", "--since", "today"], ["--vacuum-size=1"]],
	"localectl": [["status"], ["set-locale", "x"]],
	"loginctl": [["list-sessions"], ["-M", "x"]],
	"nginx": [["-t"], ["-s", "stop"]],
	"route": [["-n"], ["add", "x"]],
	"rsync": [["-a", "x", "y"], ["-ae", "sh", "x", "y"]],
	"sort": [["-k2n", "x"], ["-no", "x", "y"]],
	"ss": [["-tlnp"], ["-K"]],
	"sysctl": [["kernel.x"], ["kernel.x=1"]],
	"systemctl": [["-p", "Main", "show"], ["--host=x", "show"]],
	"tcpdump": [["-nn", "-c", "5"], ["-w", "x"]],
	"timedatectl": [["status"], ["set-time", "x"]],
	"uniq": [["-c", "x"], ["x", "y"]],
	"wc": [["-l", "x"], ["--files0-from", "x"]],
}

test_doors[program] if {
	some program, _ in data.sallyport.beyond
	[looking, more] := doors[program]
	found := fixture.rule(0, {"programs": [program]})
	rule.allows(found, rule.spoken(fixture.command(0, array.concat([program], looking))))
	not rule.allows(found, rule.spoken(fixture.command(0, array.concat([program], more))))
}

# Rules that deny.

no_rm := fixture.rule(0, {"programs": ["rm"]})

no_rf := fixture.rule(0, {"kind": "structured", "programs": ["rm"], "parts": ["-f", "-r"]})

no_stop := fixture.rule(0, {"kind": "structured", "programs": ["systemctl"], "parts": ["--now", "stop"]})

no_shadow := fixture.rule(0, {
	"kind": "structured", "programs": ["cat"], "indices": [1],
	"patterns": [{"text": "/etc/shadow*", "expression": `^/etc/shadow(?s:.)*$`, "literal": "/etc/shadow"}],
})

no_keys := fixture.rule(0, {
	"kind": "structured", "programs": ["cat"], "indices": [1],
	"patterns": [fixture.pattern("/etc/*.key", `^/etc/(?s:.)*\.key$`)],
})

no_word := fixture.rule(0, {"kind": "structured", "programs": ["cat"], "parts": ["/etc/shadow"]})

no_glob := fixture.rule(0, {
	"kind": "glob", "parts": ["-f", "-r"],
	"patterns": [{"text": "*rm -rf*", "expression": `^(?s:.)*rm\s+-rf(?s:.)*$`, "literal": ""}],
})

no_status := fixture.rule(0, {
	"kind": "glob", "programs": ["systemctl"], "parts": ["postgres*", "status"],
	"patterns": [fixture.pattern("systemctl status postgres*", `^systemctl\s+status\s+postgres(?s:.)*$`)],
})

no_etc := fixture.rule(0, {
	"kind": "glob",
	"patterns": [{"text": "cat /etc/*", "expression": `^cat\s+/etc/(?s:.)*$`, "literal": "cat /etc/"}],
})

no_verb := fixture.rule(0, {"kind": "structured", "programs": ["systemctl"], "parts": ["stop"]})

no_tail := fixture.rule(0, {
	"kind": "structured", "programs": ["cat"], "parts": ["-n"], "indices": [2],
	"patterns": [{"text": "/etc/shadow", "expression": "^/etc/shadow$", "literal": "/etc/shadow"}],
})

no_last := fixture.rule(0, {"kind": "glob", "patterns": [fixture.pattern("* --last", `^(?s:.)* --last$`)]})

no_long := fixture.rule(0, {"kind": "structured", "programs": ["rm"], "parts": ["--recursive"]})

no_start := fixture.rule(0, {"kind": "structured", "programs": ["rm"], "parts": ["ab*"]})

denied := {
	"program": [no_rm, ["rm", "x"]],
	"options in one": [no_rf, ["rm", "-rf", "x"]],
	"options apart": [no_rf, ["rm", "-v", "x", "-f", "-r"]],
	"long options": [no_rf, ["rm", "--recursive", "--force"]],
	"long option, cut": [no_stop, ["systemctl", "stop", "--no"]],
	"options in front": [no_stop, ["systemctl", "--now", "-q", "stop", "x"]],
	"path": [no_shadow, ["cat", "/etc/shadow"]],
	"path elsewhere": [no_shadow, ["cat", "-n", "x", "/etc/shadow"]],
	"path spelled longer": [no_shadow, ["cat", "/etc/.//shadow/"]],
	"path below": [no_shadow, ["cat", "/etc/shadow.d/x"]],
	"word that is a pattern": [no_word, ["cat", {"pattern": "/etc/shado?"}]],
	"path in an option": [no_shadow, ["cat", "--x=/etc/shadow"]],
	"path behind letters": [no_shadow, ["cat", "-xf/etc/shadow"]],
	"path in a value": [no_shadow, ["cat", "if=/etc/shadow"]],
	"path as a pattern": [no_shadow, ["cat", {"pattern": "/etc/sha*"}]],
	"path in a pattern": [no_keys, ["cat", {"pattern": "/etc/ssl/a*"}]],
	"glob": [no_glob, ["rm", "-rf", "x"]],
	"glob of words in between": [no_last, ["rm", "a", "--last"]],
	"long option that begins so": [no_long, ["rm", "--rec"]],
	"word that goes on": [no_start, ["rm", "abc"]],
	"glob in another order": [no_glob, ["rm", "-r", "x", "-f"]],
	"glob with an option between": [no_status, ["systemctl", "status", "-l", "postgresql"]],
	"glob by its path": [no_glob, ["/bin/rm", "-rf", "x"]],
	"glob and a pattern": [no_etc, ["cat", {"pattern": "/e*"}]],
}

test_denied[name] if {
	some name, [found, words] in denied
	denies(found, words)
}

denies(found, words) if {
	some call in rule.calls(fixture.command(0, words))
	rule.denies(found, rule.heard(call, false))
}

# Where the directory is known a relative path is what it leads to; where the line
# changes it, it could be any.
test_relative_path[name] if {
	some name, found in {"path": no_shadow, "word": no_word}
	word := {"text": "shadow", "kind": "operand", "path": {"name": "/etc/shadow", "clean": true, "under": []}}
	in_etc := {"program": "cat", "dir": "", "words": [word]}
	rule.denies(found, rule.heard(in_etc, false))
	somewhere := {"program": "cat", "dir": "", "words": [{"text": "x"}]}
	not rule.denies(found, rule.heard(somewhere, false))
	rule.denies(found, rule.heard(somewhere, true))
	elsewhere := {"program": "cat", "dir": "", "words": [{"text": "/x"}, {"text": "-n"}]}
	not rule.denies(found, rule.heard(elsewhere, true))
}

test_not_denied[name] if {
	some name, [found, words] in {
		"one option": [no_rf, ["rm", "-r", "x"]],
		"a word": [no_rf, ["rm", "r", "f"]],
		"word that only begins so": [no_verb, ["systemctl", "stopped"]],
		"pattern that begins otherwise": [no_verb, ["systemctl", {"pattern": "/x*"}]],
		"words and another path": [no_tail, ["cat", "-n", "/etc/hosts"]],
		"long option that begins otherwise": [no_long, ["rm", "--verb"]],
		"short option that begins so": [no_long, ["rm", "-"]],
		"word that begins otherwise": [no_start, ["rm", "cab"]],
		"another program's words": [no_last, ["rm", "--last", "a"]],
		"another verb": [no_stop, ["systemctl", "--now", "start"]],
		"two dashes": [no_stop, ["systemctl", "stop", "--", "x"]],
		"another path": [no_shadow, ["cat", "/etc/hosts"]],
		"root": [no_shadow, ["cat", "/"]],
		"another pattern": [no_shadow, ["cat", {"pattern": "/var/log/*"}]],
		"glob": [no_glob, ["rm", "x"]],
		"glob and another pattern": [no_etc, ["cat", {"pattern": "/var/log/*"}]],
	}
	not denies(found, words)
}

# What a word is elsewhere no change of directory makes it.
test_moved_words if {
	somewhere := {"program": "systemctl", "dir": "", "words": [{"text": "x"}]}
	not rule.denies(no_verb, rule.heard(somewhere, true))
}

# What runs a command is called, too.
test_calls if {
	command := fixture.wrapped([["sudo", "-n"], ["nice"]], ["rm", "x"]).commands[0]
	[concat(" ", array.concat([call.program], [word.text | some word in call.words])) |
		some call in rule.calls(command)
	] == ["sudo -n nice rm x", "nice rm x", "rm x"]
}
