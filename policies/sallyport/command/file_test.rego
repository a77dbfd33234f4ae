package sallyport.command_test

import data.sallyport.command
import data.sallyport.lib.fixture_test as fixture

srv := fixture.index({"rules": ["0"], "under": {"/srv": ["0"]}})

logs := fixture.index({"rules": ["0"], "under": {"/var/log": ["0"]}})

# governed is a site with a rule on files for everybody beside the profile.
governed(rule, index) := fixture.with_files("readonly", {"0": fixture.file_rule(rule)}, {"allow": {"any": index}})

denying_files(index) := fixture.with_files(
	"readonly", {"0": fixture.file_rule({"rule": "secrets", "read": ["/var/log/secret/**"]})},
	{"deny": {"any": index}},
)

on_files(ops) := fixture.call("readonly", ops)

read_of(path) := on_files([fixture.op("file.read", path)])

codes_at(call, site) := {reason.code | some reason in reasons} | {reason.code | some reason in denied} if {
	reasons := command.reasons with input as call with data.site as site
	denied := command.deny with input as call with data.site as site
}

# allowed says that a call is permitted and that nothing objects to it.
allowed(call, site) if {
	permitted_at(call, site)
	count(command.deny) == 0 with input as call with data.site as site
} else := false

# Where no rule on files allows anything, a tool may read what a command may.
by_profile := {
	"read": {"op": fixture.op("file.read", "/var/log/a"), "codes": set()},
	"list": {"op": fixture.op("file.list", "/etc/nginx"), "codes": set()},
	"exact": {"op": fixture.op("file.read", "/etc/hosts"), "codes": set()},
	"read elsewhere": {"op": fixture.op("file.read", "/etc/shadow"), "codes": {"command_path"}},
	"list elsewhere": {"op": fixture.op("file.list", "/root"), "codes": {"command_path"}},
	"write": {"op": fixture.op("file.write", "/var/log/a"), "codes": {"file_write"}},
	"relative": {"op": fixture.op("file.read", "a"), "codes": {"file_relative"}},
	"nowhere": {"op": object.remove(fixture.op("file.read", "a"), ["path"]), "codes": {"file_relative"}},
	"up": {"op": object.remove(fixture.op("file.read", "/var/log/a"), ["under"]), "codes": {"file_relative"}},
	"found": {"op": fixture.at(fixture.op("file.read", "/var/log/a"), {}), "codes": set()},
	"link inside": {"op": fixture.leading(fixture.op("file.read", "/var/log/a"), "/var/log/b"), "codes": set()},
	"link outside": {"op": fixture.leading(fixture.op("file.read", "/var/log/a"), "/etc/shadow"), "codes": {"file_link"}},
	"customary link": {
		"op": fixture.leading(fixture.op("file.read", "/etc/os-release"), "/usr/lib/os-release"),
		"codes": set(),
	},
	"link to where another one leads": {
		"op": fixture.leading(fixture.op("file.read", "/var/log/a"), "/usr/lib/os-release"),
		"codes": {"file_link"},
	},
	"pipe": {"op": fixture.at(fixture.op("file.read", "/var/log/a"), {"type": "fifo"}), "codes": {"file_special"}},
	"two names": {"op": fixture.at(fixture.op("file.read", "/var/log/a"), {"links": 2}), "codes": {"file_hard_links"}},
	"no number of names": {
		"op": fixture.at(fixture.op("file.read", "/var/log/a"), {"links": 0}),
		"codes": {"file_hard_links"},
	},
	"in a container": {
		"op": object.union(fixture.op("file.read", "/var/log/a"), {"place": "container"}),
		"codes": {"action_not_granted"},
	},
}

test_by_profile[name] if {
	some name, tc in by_profile
	call := on_files([tc.op])
	allowed(call, fixture.site) == no(tc.codes)
	codes_at(call, fixture.site) == tc.codes
}

no(codes) := count(codes) == 0

# The reasons are those of the command.
test_said_as_of_a_command[action] if {
	some action, program in {"file.read": "cat", "file.list": "ls"}
	of_a_tool := detail(on_files([fixture.op(action, "/x")]), "command_path")
	of_a_tool == detail(fixture.run("readonly", [[program, "/x"]]), "command_path")
	of_a_tool != ""
}

test_link_named if {
	call := on_files([fixture.leading(fixture.op("file.read", "/var/log/a"), "/etc/shadow")])
	detail(call, "file_link") == `"/var/log/a", which is "/etc/shadow"`
}

by_rules := {
	"read": {"op": fixture.op("file.read", "/srv/a"), "rule": {}, "codes": set()},
	"list": {"op": fixture.op("file.list", "/srv"), "rule": {}, "codes": set()},
	"what a command may read": {"op": fixture.op("file.read", "/var/log/a"), "rule": {}, "codes": {"file_path"}},
	"write": {"op": fixture.op("file.write", "/srv/a"), "rule": {}, "codes": {"file_path"}},
	"relative": {"op": fixture.op("file.read", "a"), "rule": {}, "codes": {"file_unknown"}},
	"nowhere": {"op": object.remove(fixture.op("file.read", "a"), ["path"]), "rule": {}, "codes": {"file_unknown"}},
	"link outside": {
		"op": fixture.leading(fixture.op("file.read", "/srv/a"), "/etc/shadow"),
		"rule": {}, "codes": {"file_link"},
	},
	"tree": {"op": object.union(fixture.op("file.read", "/srv/a"), {"recursive": true}), "rule": {}, "codes": set()},
	"large": {
		"op": fixture.at(fixture.op("file.read", "/srv/a"), {"bytes": 6}),
		"rule": {"max_bytes": 5}, "codes": {"file_too_large"},
	},
	"pipe": {
		"op": fixture.at(fixture.op("file.read", "/srv/a"), {"type": "fifo"}),
		"rule": {}, "codes": {"file_special"},
	},
	"two names": {
		"op": fixture.at(fixture.op("file.read", "/srv/a"), {"links": 2}),
		"rule": {}, "codes": {"file_hard_links"},
	},
}

test_by_rules[name] if {
	some name, tc in by_rules
	site := governed(tc.rule, {"read": srv})
	call := on_files([tc.op])
	allowed(call, site) == no(tc.codes)
	codes_at(call, site) == tc.codes
}

test_tree_explained if {
	one := fixture.index({"rules": ["0"], "exact": {"/srv/a": ["0"]}})
	call := on_files([object.union(fixture.op("file.read", "/srv/a"), {"recursive": true})])
	codes_at(call, governed({}, {"read": one})) == {"file_tree"}
}

# A reason names the path and what is granted.
test_rules_explained[code] if {
	some code, tc in {
		"file_path": {"op": fixture.op("file.read", "/x"), "detail": `read "/x"; granted are: /srv/**`},
		"file_unknown": {"op": fixture.op("file.read", "x"), "detail": `read "x"`},
		"file_too_large": {
			"op": fixture.at(fixture.op("file.read", "/srv/a"), {"bytes": 6}),
			"detail": `"/srv/a" has 6 bytes; files[0] allows 5`,
		},
		"file_special": {
			"op": fixture.at(fixture.op("file.read", "/srv/a"), {"type": "fifo"}),
			"detail": `"/srv/a" is of type fifo`,
		},
		"file_hard_links": {
			"op": fixture.at(fixture.op("file.read", "/srv/a"), {"links": 2}),
			"detail": `"/srv/a" has 2 names`,
		},
	}
	site := governed({"max_bytes": 5}, {"read": srv})
	call := on_files([tc.op])
	reasons := command.reasons | command.deny with input as call with data.site as site
	tc.detail in {reason.detail | some reason in reasons; reason.code == code}
}

# A command line needs what a tool needs, and the command has to be permitted, too.
derived_op(action, path) := object.union(fixture.op(action, path), {"derived": true})

cat(path, op) := object.union(fixture.run("readonly", [["cat", path]]), {"ops": array.concat(
	fixture.run("readonly", [["cat", path]]).ops,
	[op],
)})

lines_with_files := {
	"no rules": {"site": fixture.site, "path": "/var/log/a", "codes": set()},
	"granted": {"site": governed({}, {"read": logs}), "path": "/var/log/a", "codes": set()},
	"not granted": {"site": governed({}, {"read": srv}), "path": "/var/log/a", "codes": {"file_path"}},
	"granted, but not to a command": {
		"site": governed({}, {"read": srv}), "path": "/srv/a",
		"codes": {"command_path"},
	},
	"only writes are granted": {"site": governed({}, {"write": logs}), "path": "/var/log/a", "codes": {"file_path"}},
	"denied": {"site": denying_files({"read": logs}), "path": "/var/log/a", "codes": {"file_denied"}},
	"another is denied": {"site": denying_files({"read": srv}), "path": "/var/log/a", "codes": set()},
}

test_line_with_files[name] if {
	some name, tc in lines_with_files
	call := cat(tc.path, derived_op("file.read", tc.path))
	allowed(call, tc.site) == no(tc.codes)
	codes_at(call, tc.site) == tc.codes
}

test_line_with_unknown_file if {
	call := cat("a", derived_op("file.read", "a"))
	"file_unknown" in codes_at(call, denying_files({"read": srv}))
	"file_unknown" in codes_at(call, governed({}, {"read": srv}))
}

test_denied_file_named if {
	site := denying_files({"read": logs})
	call := on_files([fixture.leading(fixture.op("file.read", "/var/log/a"), "/var/log/secret/a")])
	reasons := command.deny with input as call with data.site as site
	{reason.detail | some reason in reasons} == {
		`read "/var/log/a": secrets denies /var/log/secret/**`,
		`read "/var/log/a", which is "/var/log/secret/a": secrets denies /var/log/secret/**`,
	}
}

# A custom package may permit a file, but not what is denied.
test_custom_permits_file if {
	op := fixture.op("file.write", "/var/log/a")
	custom := {"team": {"permit": {op}}}
	call := on_files([op])
	command.permit with input as call with data.site as fixture.site with data.custom as custom
	command.permit with input as call with data.site as governed({}, {"read": srv}) with data.custom as custom
	denied := denying_files({"write": logs})
	not count(command.deny) == 0 with input as call with data.site as denied with data.custom as custom
}

test_custom_permits_file_of_a_line if {
	op := derived_op("file.read", "/var/log/a")
	call := cat("/var/log/a", op)
	site := governed({}, {"read": srv})
	not permitted_at(call, site)
	command.permit with input as call with data.site as site with data.custom as {"team": {"permit": {op}}}
}

test_custom_permits_unknown_file if {
	op := fixture.op("file.read", "a")
	custom := {"team": {"permit": {op}}}
	call := on_files([op])
	site := governed({}, {"read": srv})
	command.permit with input as call with data.site as site with data.custom as custom
	count(command.deny) == 0 with input as call with data.site as site with data.custom as custom
}

# A profile that is denied denies tools what it would permit to a command.
test_denied_profile_denies_file[path] if {
	some path, want in {"/var/log/a": {"command_denied"}, "/opt/a": {"command_path"}}
	site := with_class({
		"allow": fixture.granted({"readonly": fixture.grant}),
		"deny": fixture.granted({"diagnose": fixture.grant}), "files": fixture.no_files,
	})
	codes_at(read_of(path), site) == want
}

test_denied_text_in_path if {
	site := object.union(fixture.site, {"hosts": {"readonly": {"limits": {"deny_substrings": ["secret"]}}}})
	codes_at(read_of("/var/log/secret"), site) == {"command_text_denied"}
	link := on_files([fixture.leading(fixture.op("file.read", "/var/log/a"), "/var/log/secret")])
	codes_at(link, site) == {"command_text_denied"}
	codes_at(read_of("/var/log/a"), site) == set()
}

# A directory that a call chooses to work in.
in_directory(directory, words, ops) := object.union(fixture.run("readonly", [words]), {"ops": array.concat(
	[object.union(fixture.run("readonly", [words]).ops[0], {"command": {"cwd": directory}})],
	ops,
)})

in_directories(directory, words, others, ops) := object.union(call, {"ops": array.concat(
	[object.union(call.ops[0], {"command": {"cwd": directory}})],
	ops,
)}) if {
	call := fixture.run("readonly", [words, others])
}

working := {
	"nothing of it": {"call": in_directory("/root", ["uptime"], []), "codes": set()},
	"list of it": {"call": in_directory("/srv", ["ls"], [derived_op("file.list", "/srv")]), "codes": set()},
	"list of what may not be listed": {
		"call": in_directory("/root", ["ls"], [derived_op("file.list", "/root")]),
		"codes": {"command_path"},
	},
	"named in a command that may": {
		"call": in_directory("/root", ["df", "/root"], [derived_op("file.list", "/root")]),
		"codes": set(),
	},
	"written to": {
		"call": in_directory("/srv", ["uptime"], [derived_op("file.write", "/srv")]),
		"codes": {"file_write"},
	},
	"named by another command": {
		"call": in_directories("/root", ["ls"], ["df", "/root"], [derived_op("file.list", "/root")]),
		"codes": {"command_path"},
	},
	"with another path among its words": {
		"call": in_directory("/root", ["df", "/srv"], [derived_op("file.list", "/root")]),
		"codes": {"command_path"},
	},
	"another": {"call": in_directory("/root", ["ls", "/srv"], [derived_op("file.list", "/srv")]), "codes": set()},
}

test_working_directory[name] if {
	some name, tc in working
	allowed(tc.call, fixture.site) == no(tc.codes)
	codes_at(tc.call, fixture.site) == tc.codes
}

# What a command is given counts like a pipe before it.
test_content if {
	op := object.union(fixture.run("readonly", [["grep", "x"]]).ops[0], {"content": {"bytes": 5, "digest": "00"}})
	permitted(object.union(uptime, {"ops": [op]}))
}

# What was read out of a line is permitted by the command, not by the file.
test_derived_alone if {
	op := object.union(fixture.op("file.read", "/srv/a"), {"derived": true, "call": 7})
	not permitted_at(on_files([op]), governed({}, {"read": srv}))
	permitted_at(read_of("/srv/a"), governed({}, {"read": srv}))
}
