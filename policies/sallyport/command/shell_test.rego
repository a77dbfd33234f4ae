package sallyport.command_test

import data.sallyport.command
import data.sallyport.lib.fixture_test as fixture

test_line_permitted[name] if {
	some name, call in {
		"one": uptime,
		"two": fixture.run("readonly", [["ps", "aux"], ["grep", "x"]]),
		"pattern": fixture.run("diagnose", [["ls", {"pattern": "/var/log/*"}]]),
		"features": changed({"features": ["and", "or", "pipe", "redirect_dup", "redirect_null", "sequence"]}),
	}
	permitted(call)
	codes(call) == set()
}

# changed is a call whose command line has other fields.
changed(fields) := object.union(uptime, {"ops": [object.union(uptime.ops[0], {"command": fields})]})

test_line_refused[name] if {
	some name, tc in refused_lines
	not permitted(tc.call)
	tc.codes == codes(tc.call)
}

# Each of these is enough, although they come together.
test_line_not_understood[name] if {
	some name, line in {
		"nothing that could be sent": object.remove(uptime.ops[0].command, ["canonical"]),
		"dynamic": object.union(uptime.ops[0].command, {"certainty": "dynamic"}),
	}
	not permitted(object.union(uptime, {"ops": [object.union(
		object.remove(uptime.ops[0], ["command"]),
		{"command": line},
	)]}))
}

refused_lines := {
	"another action": {
		"call": object.union(uptime, {"ops": [object.union(uptime.ops[0], {"action": "container.run"})]}),
		"codes": {"action_not_granted"},
	},
	"opaque": {
		"call": changed(object.union(fixture.opaque("'", {"code": "syntax", "message": "m"}), {"canonical": ""})),
		"codes": {"command_not_understood"},
	},
	"feature": {"call": changed({"features": ["background", "pipe"]}), "codes": {"command_feature"}},
	"features of an opaque line are in its message": {
		"call": changed({"features": ["parameter"], "certainty": "opaque", "error": {"code": "x", "message": "m"}}),
		"codes": {"command_not_understood"},
	},
	"dynamic": {
		"call": changed({
			"certainty": "dynamic", "features": ["parameter"],
			"commands": [object.union(uptime_command, {"words": [{"text": "$x", "kinds": ["parameter"]}]})],
		}),
		"codes": {"command_feature", "command_word_expands"},
	},
	"redirect": {
		"call": changed({"features": ["redirect"], "commands": [object.union(uptime_command, {"redirects": [
			{"op": "write", "fd": 2, "path": "/dev/null", "static": true},
			{"op": "dup", "fd": 2, "path": "1", "static": true},
			{"op": "dup", "fd": 1, "path": "2", "static": true},
			{"op": "append", "fd": 1, "path": "/tmp/x", "static": true},
		]})]}),
		"codes": {"command_redirect"},
	},
	"assignment": {
		"call": changed({
			"features": ["assignment_prefix"],
			"commands": [object.union(uptime_command, {"assigns": [path_set]})],
		}),
		"codes": {"command_assignment"},
	},
	"assignment by env": {
		"call": changed({"commands": [object.union(uptime_command, {"assigns": [path_set]})]}),
		"codes": {"command_assignment"},
	},
	"no command": {"call": changed({"commands": []}), "codes": set()},
	"not the second one": {
		"call": fixture.run("readonly", [["uptime"], ["id"]]),
		"codes": {"command_program"},
	},
}

uptime_command := fixture.command(0, ["uptime"])

path_set := {"name": "PATH", "value": "/tmp", "static": true}

test_redirect_named if {
	reasons := command.reasons with input as refused_lines.redirect.call with data.site as fixture.site
	{reason.detail | some reason in reasons} == {`append "/tmp/x" (descriptor 1), dup "2" (descriptor 1)`}
}

# Denied texts.

denying(parts) := object.union(fixture.site, {"hosts": {"readonly": {"limits": {"deny_substrings": parts}}}})

denied(call, parts) := {reason.detail | some reason in reasons} if {
	reasons := command.deny with input as call with data.site as denying(parts)
}

test_text_denied if denied(fixture.run("readonly", [["echo", "a", "b"]]), ["x", "o a b", "a b"]) == {"o a b", "a b"}

test_text_not_denied if denied(uptime, ["rm -rf /"]) == set()

test_no_text_denied if denied(uptime, []) == set()

test_text_denied_behind_quotes if {
	line := {"text": `e''cho "a"'b'\!`, "canonical": `'echo' 'ab'\!'c'\''d'\\'e'`}
	denied(changed(line), ["echo ab!c'd\\e", "no"]) == {"echo ab!c'd\\e"}
}

test_text_denied_without_canonical if {
	line := fixture.opaque("x $y", {"code": "c", "message": "m"})
	op := {"action": "shell.run", "derived": false, "call": 0, "command": line}
	denied(object.union(uptime, {"ops": [op]}), ["$y"]) == {"$y"}
}

test_text_denied_inside_container if {
	op := {"action": "container.run", "derived": false, "call": 0, "argv": ["rm", "-rf", "/"]}
	denied(object.union(uptime, {"ops": [op]}), ["rm -rf /"]) == {"rm -rf /"}
}

# Denied profiles.

granting_and_denying := with_class({
	"allow": fixture.granted({"diagnose": fixture.grant}),
	"deny": fixture.granted({"readonly": fixture.grant}),
})

test_profile_denied[name] if {
	some name, call in {
		"static": fixture.run("readonly", [["sort"], ["uptime"]]),
		"wrapped or not": uptime,
	}
	reasons := command.deny with input as call with data.site as granting_and_denying
	{reason.detail | some reason in reasons} == {`"uptime" is in the denied profile readonly`}
}

test_pattern_denied if {
	site := with_class({"allow": fixture.granted({}), "deny": fixture.granted({"diagnose": fixture.grant})})
	call := fixture.run("readonly", [["ls", {"pattern": "/var/log/*"}]])
	reasons := command.deny with input as call with data.site as site
	count(reasons) == 1
}

test_profile_not_denied if {
	call := fixture.run("readonly", [["sort"]])
	command.deny == set() with input as call with data.site as granting_and_denying
	command.permit with input as call with data.site as granting_and_denying
}
