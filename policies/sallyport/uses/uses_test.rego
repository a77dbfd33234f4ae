package sallyport.uses_test

import data.sallyport.lib.fixture_test as fixture
import data.sallyport.uses

# class has a rule for everybody, for the subject and for two groups of the
# fixture's caller, who is in one of them.
class := {
	"allow": {
		"any": {"readonly": rule("for all")},
		"subjects": {
			"agent-7": {"ops": rule("for the agent"), "readonly": rule("for the agent, too")},
			"agent-8": {"readonly": rule("x")},
		},
		"groups": {"sre": {"diagnose": rule("for sre")}, "dba": {"readonly": rule("y")}},
	},
	"deny": fixture.granted({"ops": rule("not here")}),
}

rule(name) := {"rule": name, "line": 1}

site(of_class) := object.union(
	object.remove(fixture.site, ["classes"]),
	{"classes": object.union(object.remove(fixture.site.classes, ["readonly"]), {"readonly": of_class})},
)

undenied := {"allow": class.allow, "deny": fixture.granted({})}

denied_all := {"allow": fixture.granted({"readonly": rule("r")}), "deny": fixture.granted({"readonly": rule("d")})}

nothing := {"allow": fixture.granted({}), "deny": fixture.granted({"ops": rule("d")})}

asked := object.union(fixture.ask("gateway.read", ""), {
	"host": {"alias": "readonly", "kind": "posix", "source": "inventory"},
})

via(fields) := object.union(fixture.run("ops", [["uptime"]]), {"host": {"via": [object.union(
	{
		"alias": "", "hostname": "hop", "port": 22, "user": "ops", "source": "inventory",
		"addresses": fixture.base.network.addresses,
	},
	fields,
)]}})

restart := object.union(fixture.run("readonly", []), {"ops": [{
	"action": "shell.run", "effect": "execute", "derived": false, "call": 0,
	"command": fixture.wrapped([["sudo", "-n"]], ["systemctl", "restart", "app-web"]),
}]})

read := {"action": "db.read", "effect": "observe", "derived": false, "call": 0}

test_uses[name] if {
	some name, tc in {
		"whatever permits it": {
			"call": fixture.run("readonly", [["uptime"]]), "class": undenied,
			"want": {"for all", "for sre", "for the agent", "for the agent, too"},
		},
		"only one permits it": {"call": restart, "class": undenied, "want": {"for the agent"}},
		"one of them refused": {
			"call": fixture.run("readonly", [["uptime"], ["id", "--x"]]),
			"class": undenied, "want": set(),
		},
		"refused": {"call": fixture.run("readonly", [["id", "-u", "--x"]]), "class": undenied, "want": set()},
		"refused by a rule": {"call": fixture.run("readonly", [["uptime"]]), "class": class, "want": {"not here"}},
		"asks about the host": {"call": asked, "class": undenied, "want": set()},
		"asks about a hidden host": {"call": asked, "class": denied_all, "want": {"d"}},
		"asks where something is denied": {"call": asked, "class": class, "want": set()},
		"asks where nothing is granted": {"call": asked, "class": nothing, "want": set()},
		"denied is something else": {
			"call": fixture.run("readonly", [["id", "-u", "--x"]]),
			"class": class, "want": set(),
		},
	}
	used(tc.call, site(tc.class)) == tc.want
	either(tc.call, site(tc.class)) == set()
}

# used are the rules of which it is known.
used(call, of_site) := {grant.rule | some rules in told(call, of_site); count(rules) == 1; some grant in rules}

# either are those of which any would do.
either(call, of_site) := {{grant.rule | some grant in rules} | some rules in told(call, of_site); count(rules) > 1}

told(call, of_site) := grants if {
	grants := uses.grants with input as call with data.site as of_site with data.custom.team.permit as {read}
}

# Rules on commands.

ruled := object.union(by_rules, {
	"hosts": {"ops": {"class": "profile", "limits": fixture.limits}},
	"classes": {"profile": {
		"allow": fixture.granted({"ops": rule("ops")}), "deny": fixture.granted({}), "files": fixture.no_files,
	}},
})

by_rules := fixture.ruled(
	[
		{"programs": ["uptime"]},
		{"kind": "structured", "programs": ["df"], "prefix": ["-h"], "most": 1},
		{"programs": ["cat"]},
		{"kind": "structured", "programs": ["df"], "prefix": ["-k"], "most": 1},
	],
	[
		{"rule": "no sudo", "programs": ["sudo"]},
		{"rule": "no df -x", "kind": "structured", "programs": ["df"], "parts": ["-x"]},
	],
)

on_web(lines) := object.union(fixture.run("web", lines), {"host": {"alias": "web"}})

sudo := object.union(on_web([]), {"ops": [{
	"action": "shell.run", "effect": "execute", "derived": false, "call": 0,
	"command": fixture.wrapped([["sudo"]], ["uptime"]),
}]})

test_uses_of_rules_on_commands[name] if {
	some name, tc in {
		"allowed": {"call": on_web([["uptime"], ["df", "-h"]]), "want": {"rules[0]", "rules[1]"}},
		"other words": {"call": on_web([["df", "-l"]]), "want": set()},
		"beside a file": {"call": beside({}, derived("/etc/hosts")), "want": {"rules[0]"}},
		"beside a file elsewhere": {"call": beside({"cwd": "/srv"}, derived("/etc/hosts")), "want": {"rules[0]"}},
		"where a file is": {
			"call": beside({"cwd": "/etc/hosts"}, derived("/etc/hosts")),
			"want": {"rules[0]", "rules[2]"},
		},
		"denied": {"call": sudo, "want": {"no sudo"}},
		"as a command": {
			"call": fixture.call("web", [fixture.op("file.read", "/etc/hosts")]),
			"want": {"rules[2]"},
		},
		"lets go": {"call": fixture.call("web", [fixture.ask("conn.close", "").ops[0]]), "want": set()},
	}
	used(tc.call, ruled) == tc.want
	either(tc.call, ruled) == set()
}

# beside is a command line on web that has an op beside it.
beside(fields, op) := object.union(fixture.base, {"host": {"alias": "web"}, "ops": [
	{
		"action": "shell.run", "effect": "execute", "derived": false, "call": 0,
		"command": object.union(fixture.line([["uptime"]]), fields),
	},
	op,
]})

opening := {"action": "conn.open", "effect": "link", "derived": false, "call": 0}

# Rules on files.

srv := fixture.index({"rules": ["srv", "logs"], "under": {"/srv": ["srv"], "/var/log": ["logs"]}})

secret := fixture.index({"rules": ["secret"], "under": {"/srv/secret": ["secret"]}, "above": {"/srv": ["secret"]}})

governed := fixture.with_files(
	"readonly",
	{name: fixture.file_rule({"rule": name}) | some name in ["srv", "logs", "secret"]},
	{"allow": {"any": {"read": srv}}, "deny": {"any": {"read": secret}}},
)

derived(path) := object.union(fixture.op("file.read", path), {"derived": true})

tail(path) := object.union(fixture.run("readonly", [["tail", path]]), {"ops": array.concat(
	fixture.run("readonly", [["tail", path]]).ops,
	[derived(path)],
)})

in_directory(path) := object.union(fixture.base, {"host": {"alias": "readonly"}, "ops": [
	{
		"action": "shell.run", "effect": "execute", "derived": false, "call": 0,
		"command": object.union(fixture.line([["uptime"]]), {"cwd": path}),
	},
	object.union(fixture.op("file.list", path), {"derived": true}),
]})

ran(lines, op) := object.union(fixture.run("readonly", lines), {"ops": array.concat(
	fixture.run("readonly", lines).ops,
	[op],
)})

reading(path) := fixture.call("readonly", [fixture.op("file.read", path)])

test_uses_of_rules_on_files[name] if {
	some name, tc in {
		"read": {"call": reading("/srv/a"), "want": {"srv"}},
		"by a command": {"call": tail("/var/log/a"), "want": {"logs", "rules[0]"}},
		"no file": {"call": fixture.run("readonly", [["uptime"]]), "want": {"rules[0]"}},
		"denied": {"call": reading("/srv/secret/a"), "want": {"secret"}},
		"might be denied": {"call": reading("a"), "want": {"secret"}},
		"in the way of a tool": {"call": reading("/etc/hosts"), "want": {"srv", "logs"}},
		"in the way of a command": {"call": tail("/etc/hosts"), "want": {"srv", "logs"}},
		"not allowed anyway": {"call": tail("/root/x"), "want": set()},
		"a file that a command may read, too": {"call": reading("/var/log/a"), "want": {"logs"}},
		"of a command that is not permitted": {"call": ran([["nope"]], derived("/etc/hosts")), "want": set()},
		"of another command": {"call": ran([["nope"], ["uptime"]], derived("/etc/hosts")), "want": set()},
		"of a tool beside a command": {"call": ran([["uptime"]], fixture.op("file.read", "/root/x")), "want": set()},
	}
	used(tc.call, governed) == tc.want
}

test_uses_of_profiles_for_files[name] if {
	some name, tc in {
		"by a tool": {"call": reading("/var/log/a"), "want": {"rules[0]"}},
		"where a command works": {"call": in_directory("/var/log"), "want": {"rules[0]"}},
		"denied": {"call": reading("/root/a"), "want": set()},
	}
	used(tc.call, fixture.site) == tc.want
}

# Rules on connections.

lab := {
	"rule": "lab", "line": 1, "says": "*.lab.example",
	"hosts": [{"text": "*.lab.example", "expression": `^(?s:[a-z0-9._-]*\.lab\.example)$`}],
	"anywhere": true, "networks": {"4": {}, "6": {}}, "ports": {}, "users": {}, "keys": {},
	"any_way": true, "via": {}, "class": "readonly",
}

connected(deny) := object.union(fixture.site, {
	"adhoc": [
		lab, object.union(lab, {"rule": "not this", "class": ""}), object.union(lab, {"rule": "second"}),
		object.union(lab, {"rule": "another name", "hosts": [{"text": "x", "expression": "^x$"}]}),
		object.union(lab, {"rule": "another port", "ports": {"1": true}}),
	],
	"connect": {"allow": object.union(fixture.nobody, {"any": [0, 2]}), "deny": object.union(fixture.nobody, deny)},
})

box := {"source": "adhoc", "alias": "box", "hostname": "box.lab.example"}

test_uses_of_rules_on_connections[name] if {
	some name, tc in {
		"runs": {"ops": fixture.run("", [["uptime"]]).ops, "deny": {}, "want": {"lab", "rules[0]"}},
		"connects": {"ops": [opening], "deny": {}, "want": {"lab"}},
		"denied": {"ops": [opening], "deny": {"any": [1, 3, 4]}, "want": {"not this"}},
		"lets go": {"ops": fixture.ask("conn.close", "").ops, "deny": {"any": [1]}, "want": set()},
		"lets go where it may": {"ops": fixture.ask("conn.close", "").ops, "deny": {}, "want": set()},
	}
	call := object.union(fixture.base, {"host": box, "ops": tc.ops})
	used(call, connected(tc.deny)) == tc.want
}

test_uses_of_rules_on_the_way if {
	used(via(box), connected({})) == {"lab", "rules[0]"}
	used(object.union(via(box), closing), connected({})) == set()
	either(object.union(via({"alias": "web"}), closing), ruled) == set()
	not "lab" in used(via({"alias": "ops", "hostname": "hop.lab.example"}), connected({}))
}

closing := {"ops": fixture.ask("conn.close", "").ops}

# Where something has to be granted and nothing else, any rule will do.
test_any_rule_will_do[name] if {
	some name, tc in {
		"another op": {"call": fixture.call("web", [read]), "site": ruled, "want": all_of_web},
		"connects": {"call": fixture.call("web", [opening]), "site": ruled, "want": all_of_web},
		"on the way": {"call": via({"alias": "web"}), "site": ruled, "want": all_of_web},
		"by profiles": {
			"call": fixture.call("readonly", [read]), "site": site(undenied),
			"want": {"for all", "for sre", "for the agent", "for the agent, too"},
		},
		"by files": {"call": fixture.call("readonly", [opening]), "site": governed, "want": {"srv", "logs", "rules[0]"}},
	}
	either(tc.call, tc.site) == {tc.want}
}

all_of_web := {"rules[0]", "rules[1]", "rules[2]", "rules[3]"}
