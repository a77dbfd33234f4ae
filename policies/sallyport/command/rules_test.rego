package sallyport.command_test

import data.sallyport.command
import data.sallyport.lib.fixture_test as fixture

looking := {"programs": ["uptime", "cat"], "most": 2, "says": "uptime, cat"}

df := {"kind": "structured", "programs": ["df"], "prefix": ["-h"], "most": 1, "says": "df -h"}

all_status := {"kind": "glob", "says": "* status", "patterns": [fixture.pattern("* status", `^(?s:.)* status$`)]}

no_shadow := {
	"kind": "structured", "programs": ["/usr/bin/cat"], "indices": [1], "says": "cat PATH",
	"patterns": [fixture.pattern("/etc/shadow", `^/etc/shadow$`)],
}

ruled := fixture.ruled([looking, df, all_status], [no_shadow, {"programs": ["sudo"], "says": "sudo"}])

on_web(lines) := object.union(fixture.run("web", lines), {"host": {"alias": "web"}})

wrapped(wrappers, words) := object.union(uptime, {
	"host": {"alias": "web"},
	"ops": [object.union(uptime.ops[0], {"command": fixture.wrapped(wrappers, words)})],
})

said(call, site) := {reason.detail | some reason in reasons} if {
	reasons := command.reasons | command.deny with input as call with data.site as site
}

test_ruled_permitted[name] if {
	some name, call in {
		"simple": on_web([["uptime"]]),
		"structured": on_web([["df", "-h"]]),
		"glob on any program": on_web([["pm", "status"]]),
		"each by its rule": on_web([["df", "-h"], ["cat"]]),
	}
	command.permit with input as call with data.site as ruled
	command.deny == set() with input as call with data.site as ruled
}

test_ruled_refused[name] if {
	some name, tc in {
		"one of two": {"call": on_web([["uptime"], ["df", "-H"]]), "said": {
			`"df -H": rules[1] (policy.yml:11) allows df -h, but word 1 is "-H", not "-h"`,
			`"df -H": rules[2] (policy.yml:12) allows * status, but it is not of that form`,
		}},
		"pattern": {"call": on_web([["df", {"pattern": "/x*"}]]), "said": {
			`"df /x*": rules[1] (policy.yml:11) allows df -h, but "/x*" is a pattern`,
			`"df /x*": rules[2] (policy.yml:12) allows * status, but "/x*" is a pattern`,
		}},
		"denied": {"call": on_web([["cat", "/etc/shadow"]]), "said": {
			`"cat": rules[0] (policy.yml:10) denies cat PATH`,
		}},
		"denied in spite of its path": {"call": on_web([["/bin/cat", "-n", "/etc/shadow"]]), "said": {
			`"/bin/cat": rules[0] (policy.yml:10) denies cat PATH`,
			`"/bin/cat -n /etc/shadow": rules[0] (policy.yml:10) allows uptime, cat, but it is called as "/bin/cat"`,
			`"/bin/cat -n /etc/shadow": rules[2] (policy.yml:12) allows * status, but it is called as "/bin/cat"`,
		}},
		"denied around": {"call": wrapped([["sudo"]], ["pm", "status"]), "said": {
			`"sudo": rules[1] (policy.yml:11) denies sudo`,
			`"sudo pm status": rules[2] (policy.yml:12) allows * status, but it runs pm, which the rule does not spell out`,
		}},
		"dots": {"call": on_web([["df", "-h", "../x"]]), "said": {
			`"df -h ../x": rules[1] (policy.yml:11) allows df -h, but "../x" leads through . or ..`,
			`"df -h ../x": rules[2] (policy.yml:12) allows * status, but "../x" leads through . or ..`,
		}},
	}
	not permitted_on(tc.call, ruled)
	said(tc.call, ruled) == tc.said
}

permitted_on(call, site) if {
	command.permit with input as call with data.site as site
	command.deny == set() with input as call with data.site as site
}

test_sh_is_not_for_rules if {
	inner := object.union(fixture.command(0, ["df", "-h"]), {"scope": ["shell"]})
	line := object.union(fixture.line([["df", "-h"]]), {"commands": [inner]})
	call := object.union(on_web([]), {"ops": [object.union(uptime.ops[0], {"command": line})]})
	site := fixture.ruled([df], [])
	said(call, site) == {
		`"df -h": rules[0] (policy.yml:10) allows df -h, but it stands in the text of sh -c, where no rule reaches`,
	}
}

test_constructs_are_not_for_rules if {
	inner := object.union(fixture.command(0, ["df", "-h"]), {"scope": ["if", "subshell"]})
	line := object.union(fixture.line([["df", "-h"]]), {"commands": [inner]})
	call := object.union(on_web([]), {"ops": [object.union(uptime.ops[0], {"command": line})]})
	site := fixture.ruled([df], [])
	place := "a construct of the shell (if, subshell)"
	said(call, site) == {sprintf(
		`"df -h": rules[0] (policy.yml:10) allows df -h, but it stands in %s, where no rule reaches`,
		[place],
	)}
}

# What runs a command is nothing that the rules speak of, although the command is.
test_no_rule_about_what_runs_it if {
	site := fixture.ruled([df], [])
	inner := object.union(fixture.command(0, ["df", "-h"]), {"wrappers": [{"program": "sudo", "dir": "", "args": ["-n"]}]})
	line := object.union(fixture.line([["df", "-h"]]), {"commands": [inner]})
	call := object.union(on_web([]), {"ops": [object.union(uptime.ops[0], {"command": line})]})
	said(call, site) == {`"sudo" around "df" is not in the rules of policy.yml, which has "df"`}
}

test_no_rule_about_it if {
	site := fixture.ruled([looking, df], [])
	said(on_web([["ls"]]), site) == {`"ls" is not in the rules of policy.yml, which has "cat", "df", "uptime"`}
}

# A profile and rules: each permits what it permits.
test_beside_a_profile if {
	both := object.union(ruled, {"classes": {"web": {"allow": {"any": {"readonly": fixture.grant}}}}})
	permitted_on(on_web([["ps", "aux"], ["cat", "/x"]]), both)
	said(on_web([["nope"]]), object.union(both, {"rules": {}})) != set()
}

test_denied_somewhere if {
	site := fixture.ruled([{"programs": ["cd", "cat"]}], [no_shadow])
	permitted_on(on_web([["cat", "shadow"]]), site)
	not permitted_on(on_web([["cd", "/etc"], ["cat", "shadow"]]), site)
}

test_denied_in_container[name] if {
	some name, argv in {
		"itself": ["/bin/rm", "x"],
		"in a script": ["sh", "-c", "cd /x&&rm y"],
		"behind what runs it": ["env", "A=b", "rm", "x"],
	}
	op := {"action": "container.run", "derived": true, "call": 0, "argv": argv}
	call := object.union(on_web([]), {"ops": [op]})
	site := fixture.ruled([], [{"programs": ["rm"], "says": "rm"}])
	reasons := command.deny with input as call with data.site as site
	{reason.detail | some reason in reasons} == {`"rm": rules[0] (policy.yml:10) denies rm`}
}

test_words_in_container_are_words if {
	op := {"action": "container.run", "derived": true, "call": 0, "argv": ["cat", "rm"]}
	call := object.union(on_web([]), {"ops": [op]})
	command.deny == set() with input as call with data.site as fixture.ruled([], [{"programs": ["rm"], "says": "rm"}])
}

# Texts that mean a program.

texts := {
	"meaning": {
		"nc ": {"program": "nc", "inside": `(^|[;&|]\s*|\bsudo\s)nc\s`},
		"rm -rf /": {"program": "", "inside": ""},
		"dd if=/x": {"program": "", "inside": ""},
	},
	"programs": {"nc": ["nc "]},
	"spellings": {
		"rm": [{"text": "rm -rf /", "letters": ["f", "r"], "operands": ["/"]}],
		"dd": [{"text": "dd if=/x", "letters": [], "operands": ["if=/x"]}],
	},
}

with_texts := object.union(fixture.ruled([], []), {
	"texts": texts,
	"hosts": {"web": {"limits": {"deny_substrings": ["nc ", "rm -rf /", "dd if=/x"]}}},
})

denied_texts(call) := {reason.detail | some reason in reasons} if {
	reasons := command.deny with input as call with data.site as with_texts
}

test_meant[name] if {
	some name, [words, found] in {
		"program": [["nc", "-l", "80"], {"nc "}],
		"program alone": [["/usr/bin/nc"], {"nc "}],
		"end of a word": [["rsync", "-a", "x"], set()],
		"operand": [["systemctl", "status", "nc", "x"], set()],
		"called in a word": [["su", "-c", "id; nc -l"], {"nc "}],
		"run in a word": [["su", "-c", "sudo nc -l"], {"nc "}],
		"text": [["rm", "-rf", "/tmp"], {"rm -rf /"}],
		"text in a word": [["echo", "x rm -rf /"], {"rm -rf /"}],
		"text with more blanks": [["echo", "rm  -rf \t /"], {"rm -rf /"}],
		"letters apart": [["rm", "-r", "-f", "/"], {"rm -rf /"}],
		"letters in another order": [["rm", "-vfr", "--", "/x"], {"rm -rf /"}],
		"large letters": [["rm", "-R", "-f", "/"], {"rm -rf /"}],
		"long options": [["rm", "--recursive", "--force", "/"], {"rm -rf /"}],
		"one option": [["rm", "-r", "/x"], set()],
		"a name": [["rm", "-rf", "x"], set()],
		"operands": [["dd", "of=/y", "if=/x"], {"dd if=/x"}],
		"other operands": [["dd", "if=/y"], set()],
	}
	denied_texts(on_web([words])) == found
}

# What is said of one host is said of no other.
test_meant_elsewhere[name] if {
	some name, words in {"program": ["nc", "-l"], "spelling": ["rm", "-fr", "/"]}
	site := object.union(with_texts, {"hosts": {"web": {"limits": {"deny_substrings": ["other"]}}}})
	command.deny == set() with input as on_web([words]) with data.site as site
}

test_meant_around if denied_texts(wrapped([["nc", "-x"]], ["uptime"])) == {"nc "}
