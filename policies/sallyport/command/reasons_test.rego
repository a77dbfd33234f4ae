package sallyport.command_test

import data.sallyport.command
import data.sallyport.lib.fixture_test as fixture

# detail is what the reasons of a code say.
detail(call, code) := concat("\n", [reason.detail | some reason in reasons; reason.code == code]) if {
	reasons := command.reasons with input as call with data.site as fixture.site
}

# A refused command, the code, and what the detail has to name.
explained := [
	["readonly", ["id"], "command_program", [`"id" is not in readonly, which has`, "uptime"]],
	["readonly", ["/tmp/uptime"], "command_directory", ["/tmp/uptime"]],
	["readonly", ["/tmp/id"], "command_program", ["/tmp/id"]],
	["readonly", ["cd", "/srv"], "command_directory_change", [`"cd"`]],
	["readonly", ["systemctl", "--host", "x", "status"], "command_option", [
		`systemctl: option "--host" is not in readonly; allowed: -l`, "-n NUM", "--no-pager", "--lines=NUM",
	]],
	["readonly", ["tail", "-vf", "/var/log/a"], "command_option", [`tail: option "-f"`, "-qv", "-NUM"]],
	["readonly", ["docker", "logs", "-f", "a"], "command_option", [`docker logs: option "-f"`]],
	["diagnose", ["git", "-C", "/srv/app", "log", "-p"], "command_option", [`git log: option "-p"`]],
	["readonly", ["systemctl", "-x", "show"], "command_option", [`systemctl: option "-x"`]],
	["readonly", ["ls", "--=x"], "command_option", [`ls: option "--=x"`]],
	["readonly", ["head", "-nx"], "command_option_value", [`head: -n wants a value of the form [+-]?[0-9]{1,7}, not "x"`]],
	["readonly", ["head", "--lines=x"], "command_option_value", [`head: --lines wants`, `not "x"`]],
	["readonly", ["uptime", "--pretty=x"], "command_option_value", ["uptime: --pretty takes no value"]],
	["readonly", ["head", "-n"], "command_option_value", ["head: -n wants", "as the next word"]],
	["readonly", ["head", "-n", "-5"], "command_option_value", [`as the next word, not "-5"`]],
	["readonly", ["journalctl", "-n", "5"], "command_option_required", ["journalctl: "]],
	["readonly", ["docker", "logs"], "command_operand_count", ["docker logs: 0, but it takes 1: CONTAINER"]],
	["diagnose", ["uniq", "/var/log/a", "/var/log/b"], "command_operand_count", ["uniq: 2, but it takes 0 to 1"]],
	["readonly", ["grep", "-r", "x"], "command_path_required", ["grep"]],
	["readonly", ["cat", "/x"], "command_path", [`cat: "/x" is not at or below /var/log, nor one of`, "/etc/hosts"]],
	["readonly", ["ls", "/root"], "command_path", [`ls: "/root" is not at or below /var/log or /etc or /opt or /srv`]],
	["diagnose", ["cat", {"pattern": "/var/*/x"}], "command_path", ["/var/*/x"]],
	["readonly", ["systemctl", "status", "a b"], "command_operand", [`systemctl status: "a b" is not of the form`]],
	["readonly", ["cat", {"pattern": "/var/log/*"}], "command_pattern", [`cat: "/var/log/*"`]],
	["diagnose", ["df", {"pattern": "/srv/*"}], "command_pattern", [`df: "/srv/*"`]],
	["diagnose", ["uniq", {"pattern": "/var/log/*"}], "command_pattern", ["could be more than one"]],
	["diagnose", ["grep", {"pattern": "/var/log/*"}], "command_pattern", ["grep"]],
	["readonly", ["systemctl", "show"], "command_verb", [`systemctl: "show" is not one of`, "is-active", "in readonly"]],
	["readonly", ["docker", "inspect", "a"], "command_verb", [`docker: "inspect" is not one of`, "images"]],
	["diagnose", ["git", "-C", "/srv/app", "push"], "command_verb", [`git: "push" is not one of`]],
	["ops", ["systemctl", "restart", "app"], "command_verb", ["; sudo -n systemctl restart, reload", "app-web"]],
	["readonly", ["systemctl"], "command_form", ["systemctl takes a verb: is-active"]],
	["readonly", ["docker"], "command_form", ["docker takes a verb: images"]],
	["diagnose", ["git", "log"], "command_form", ["git takes -C and a path at or below /srv or /opt", "rev-parse"]],
	["diagnose", ["git", "-C", "/srv/app"], "command_form", ["git takes a verb"]],
	["diagnose", ["echo", {"pattern": "/a*"}], "command_form", ["echo takes words as they are, no patterns"]],
	["readonly", ["test", "-v", "x"], "command_form", ["test takes one of -e -f -d -s -r and one path at"]],
	["readonly", ["ps", "auxe"], "command_form", ["ps takes any of aux", "-o COLUMNS", "--sort=SORTKEYS", `not "auxe"`]],
	["diagnose", ["find", "/srv", "-fprint", "/tmp/x"], "command_form", [
		"find takes paths at or below", "-name TEXT", "-type [fdl]", `not "-fprint"`,
	]],
]

test_explained[name] if {
	some [alias, words, code, parts] in explained
	name := sprintf("%v in %s", [words, alias])
	call := fixture.run(alias, [words])
	not permitted(call)
	said := detail(call, code)
	every part in parts { contains(said, part) }
}

# One mistake has one reason, so that nothing leads astray.
test_only_reason[name] if {
	some [alias, words, code, _] in explained
	name := sprintf("%v in %s", [words, alias])
	codes(fixture.run(alias, [words])) == {code}
}

test_wrapper_explained[name] if {
	some name, tc in {
		"none": {"alias": "readonly", "wrappers": [["sudo", "-n"]], "part": "readonly permits none"},
		"words": {
			"alias": "ops", "wrappers": [["sudo", "-u", "x"]],
			"part": `"sudo -u x" around "uptime"; ops permits nice, sudo, timeout`,
		},
		"order": {"alias": "ops", "wrappers": [["timeout", "5"], ["sudo", "-n"]], "part": `"sudo -n" around`},
	}
	op := object.union(uptime.ops[0], {"command": fixture.wrapped(tc.wrappers, ["uptime"])})
	call := object.union(fixture.run(tc.alias, []), {"ops": [op]})
	not permitted(call)
	contains(detail(call, "command_wrapper"), tc.part)
	codes(call) == {"command_wrapper"}
}

# Someone who may run nothing learns that from the host's reasons.
test_nothing_granted if {
	site := with_class({"allow": fixture.granted({}), "deny": fixture.granted({})})
	reasons := command.reasons with input as fixture.run("readonly", [["id"]]) with data.site as site
	reasons == set()
}

# Both grants are named where both have the same grammar.
test_two_profiles if {
	site := with_class({
		"allow": fixture.granted({"readonly": fixture.grant, "diagnose": fixture.grant}),
		"deny": fixture.granted({}),
	})
	reasons := command.reasons with input as fixture.run("readonly", [["uptime", "-x"]]) with data.site as site
	count(reasons) == 1
	some reason in reasons
	contains(reason.detail, "is not in diagnose, readonly")
}

test_few_are_explained if {
	lines := [["id", sprintf("%d", [i])] | some i in numbers.range(1, 20)]
	call := fixture.run("readonly", lines)
	count(command.refused) == 5 with input as call with data.site as fixture.site
}

test_few_operands_are_explained if {
	words := array.concat(["cat"], [sprintf("/x/%d", [i]) | some i in numbers.range(1, 20)])
	call := fixture.run("readonly", [words])
	count(command.faulty) == 3 with input as call with data.site as fixture.site
}
