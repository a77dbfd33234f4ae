package custom.read_only_production_test

import data.custom.read_only_production

test_denied[action] if {
	some action, effect in {"service.control": "change", "file.write": "change", "container.run": "execute"}
	codes(call(["web", "production"], action, effect)) == {"read_only_production"}
}

test_not_denied[name] if {
	some name, tried in {
		"a look": call(["production"], "log.read", "observe"),
		"a command line by itself": call(["production"], "shell.run", "execute"),
		"another host": call(["staging"], "service.control", "change"),
	}
	codes(tried) == set()
}

call(tags, action, effect) := {"host": {"tags": tags}, "ops": [{"action": action, "effect": effect}]}

codes(call) := found if {
	found := {said.code | some said in read_only_production.deny} with input as call
}
