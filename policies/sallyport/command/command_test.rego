package sallyport.command_test

import data.sallyport.command
import data.sallyport.lib.fixture_test as fixture

uptime := fixture.run("readonly", [["uptime"]])

permitted(call) if {
	command.permit with input as call with data.site as fixture.site
} else := false

codes(call) := {reason.code | some reason in reasons} if {
	reasons := command.reasons with input as call with data.site as fixture.site
}

derived := {"action": "host.read", "effect": "observe", "derived": true, "call": 0, "facet": "load"}

test_derived if permitted(object.union(uptime, {"ops": array.concat(uptime.ops, [derived])}))

test_derived_from_nothing[name] if {
	some name, ops in {
		"alone": [derived],
		"of another command": array.concat(uptime.ops, [object.union(derived, {"call": 1})]),
	}
	call := object.union(uptime, {"ops": ops})
	not permitted(call)
	codes(call) == {"action_not_granted"}
}

test_derived_with_refused if {
	refused := fixture.run("readonly", [["id"]])
	not permitted(object.union(refused, {"ops": array.concat(refused.ops, [derived])}))
}

test_nothing_to_do if not permitted(object.union(uptime, {"ops": []}))

test_unknown_action if {
	call := object.union(uptime, {"ops": [{"action": "file.read", "derived": false, "call": 0, "path": "/etc/hosts"}]})
	not permitted(call)
	codes(call) == {"action_not_granted"}
}

test_every_op if {
	write := {"action": "file.write", "derived": false, "call": 0}
	call := object.union(uptime, {"ops": array.concat(uptime.ops, [write])})
	not permitted(call)
	codes(call) == {"action_not_granted"}
}

read := {"action": "file.read", "effect": "observe", "derived": false, "call": 0, "path": "/etc/hosts"}

test_custom_permits_op if {
	call := object.union(uptime, {"ops": [read]})
	command.permit with input as call with data.site as fixture.site with data.custom as {"team": {"permit": {read}}}
}

test_custom_permits_command if {
	call := fixture.run("readonly", [["nproc"], ["grep", "x"]])
	nproc := fixture.command(0, ["nproc"])
	not permitted(call)
	command.permit with input as call with data.site as fixture.site with data.custom as {"team": {"permit": {nproc}}}
}

test_custom_permits_line if {
	call := fixture.run("readonly", [["nproc"]])
	custom := {"team": {"permit": {call.ops[0]}}}
	command.permit with input as call with data.site as fixture.site with data.custom as custom
}

# What was not understood has no canonical form, and nobody can permit it.
test_custom_cannot_permit_opaque if {
	op := {
		"action": "shell.run", "derived": false, "call": 0,
		"command": fixture.opaque("$(x)", {"code": "syntax", "message": "m"}),
	}
	call := object.union(uptime, {"ops": [op]})
	custom := {"team": {"permit": {op}}}
	not command.permit with input as call with data.site as fixture.site with data.custom as custom
}

test_unknown_profile_granted if {
	site := with_class({"allow": fixture.granted({"nosuch": fixture.grant}), "deny": fixture.granted({})})
	not command.permit with input as uptime with data.site as site
	reasons := command.reasons with input as uptime with data.site as site
	"profile_unknown" in {reason.code | some reason in reasons}
}

test_unknown_profile_denied if {
	site := with_class({
		"allow": fixture.granted({"readonly": fixture.grant}),
		"deny": fixture.granted({"nosuch": fixture.grant}),
	})
	not command.permit with input as uptime with data.site as site
	reasons := command.reasons with input as uptime with data.site as site
	{reason.code | some reason in reasons} == {"profile_unknown"}
}

with_class(class) := object.union(
	object.remove(fixture.site, ["classes"]),
	{"classes": {"readonly": class}},
)
