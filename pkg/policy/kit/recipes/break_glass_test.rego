package custom.break_glass_test

import data.custom.break_glass

test_denied if codes(call("shell.run", ["sre"], ["critical"])) == {"break_glass"}

test_not_denied[name] if {
	some name, tried in {
		"an emergency": call("shell.run", ["sre", "break-glass"], ["critical"]),
		"a question about the host": call("gateway.read", ["sre"], ["critical"]),
		"another host": call("shell.run", ["sre"], ["web"]),
	}
	codes(tried) == set()
}

test_limits if {
	break_glass.limits.seconds == 60 with input as call("shell.run", ["break-glass"], ["critical"])
	not break_glass.limits with input as call("shell.run", [], ["web"])
}

call(action, groups, tags) := {
	"subject": {"groups": groups},
	"host": {"tags": tags},
	"ops": [{"action": action}],
}

codes(call) := found if {
	found := {said.code | some said in break_glass.deny} with input as call
}
