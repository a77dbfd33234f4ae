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

asked := object.union(fixture.ask("gateway.read", ""), {
	"host": {"alias": "readonly", "kind": "posix", "source": "inventory"},
})

via(alias) := object.union(fixture.run("ops", [["uptime"]]), {"host": {"via": [{
	"alias": alias, "hostname": "hop", "port": 22,
	"addresses": fixture.base.network.addresses,
}]}})

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
		"another op": {
			"call": object.union(fixture.run("readonly", []), {"ops": [read]}), "class": undenied,
			"want": {"for all", "for sre", "for the agent", "for the agent, too"},
		},
		"refused": {"call": fixture.run("readonly", [["id", "-u", "--x"]]), "class": undenied, "want": set()},
		"refused by a rule": {"call": fixture.run("readonly", [["uptime"]]), "class": class, "want": {"not here"}},
		"asks about the host": {"call": asked, "class": undenied, "want": set()},
		"asks about a hidden host": {"call": asked, "class": denied_all, "want": {"d"}},
		"on the way": {
			"call": via("readonly"), "class": undenied,
			"want": {"for all", "for sre", "for the agent", "for the agent, too", "rules[0]"},
		},
	}
	got := uses.grants with input as tc.call with data.site as site(tc.class)
		with data.custom.team.permit as {read}
	{grant.rule | some grant in got} == tc.want
}
