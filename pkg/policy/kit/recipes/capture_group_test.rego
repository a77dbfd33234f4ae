package custom.capture_group_test

import data.custom.capture_group

bounded := ["tcpdump", "-nn", "-c", "100", "-i", "eth0"]

test_network_team if {
	permitted(call(["netops"], bounded, {}))
	not denied(call(["netops"], bounded, {}))
}

test_others if {
	denied(call(["sre"], bounded, {}))
	not permitted(call(["sre"], bounded, {}))
}

test_not_permitted[name] if {
	some name, tried in {
		"no bound": call(["netops"], ["tcpdump", "-nn", "-i", "eth0"], {}),
		"a file": call(["netops"], array.concat(bounded, ["-w", "/tmp/x"]), {}),
		"a word with a blank": call(["netops"], ["tcpdump", "-nn", "-c 100", "-i eth0"], {}),
		"from elsewhere": call(["netops"], bounded, {"dir": "/tmp/"}),
		"with a shell": call(["netops"], bounded, {"wrappers": []}),
		"with a variable": call(["netops"], bounded, {"assigns": [{"name": "X", "value": "", "static": true}]}),
		"in a group": call(["netops"], bounded, {"scope": ["group"]}),
	}
	not permitted(tried)
}

call(groups, argv, more) := {
	"subject": {"groups": groups},
	"ops": [
		{"action": "shell.run", "command": {"commands": [object.union(plain(argv), more)]}},
		{"action": "capture.run", "derived": true, "call": 0},
	],
}

plain(argv) := {
	"id": 0, "argv": argv, "dir": "", "assigns": [], "scope": [],
	"wrappers": [{"program": "sudo", "dir": "", "args": ["-n"]}],
}

permitted(call) if count(capture_group.permit) == 1 with input as call

denied(call) if count(capture_group.deny) == 1 with input as call
