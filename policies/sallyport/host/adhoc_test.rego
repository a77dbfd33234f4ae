package sallyport.host_test

import data.sallyport.host
import data.sallyport.lib.fixture_test as fixture

lab := {
	"rule": "lab", "line": 1, "says": "*.lab.example",
	"hosts": [{"text": "*.lab.example", "expression": `^(?s:[a-z0-9._-]*\.lab\.example)$`}],
	"anywhere": true, "networks": {"4": {}, "6": {}}, "ports": {"22": true}, "users": {}, "keys": {},
	"any_way": true, "via": {}, "class": "lab",
}

# lab_with is the rule with other fields.
lab_with(fields) := {name: object.get(fields, name, value) | some name, value in lab}

ten := {"anywhere": false, "networks": {"4": {"8": {"00001010": "10.0.0.0/8"}}, "6": {}}}

elsewhere := {"anywhere": false, "networks": {"4": {"8": {"11000000": "192.0.0.0/8"}}, "6": {}}}

any_host := {"hosts": []}

# connecting is a site with rules on hosts that are not in the inventory.
connecting(rules, allow, deny) := object.union(fixture.site, {
	"adhoc": rules,
	"connect": {"allow": object.union(fixture.nobody, allow), "deny": object.union(fixture.nobody, deny)},
	"names": {"web1.lab.example": "web1"},
	"classes": {
		"lab": {"allow": fixture.granted(grant), "deny": none, "files": fixture.no_files},
		"bare": {"allow": none, "deny": none, "files": fixture.no_files},
	},
})

to(fields) := object.union(uptime, {"host": object.union(
	{"source": "adhoc", "alias": "box", "hostname": "Box.lab.example.", "port": 22, "user": "deploy"},
	fields,
)})

opened(call) := object.union(call, {"ops": [{"action": "conn.open", "effect": "link", "derived": false, "call": 0}]})

hop(fields) := {"via": [object.union(
	{"alias": "ops", "hostname": "hop", "port": 22, "user": "ops", "source": "inventory", "addresses": []},
	fields,
)]}

# Whether one rule that allows lets the caller go somewhere.
admitted := {
	"by name": {"rule": {}, "call": to({}), "want": true},
	"another name": {"rule": {}, "call": to({"hostname": "box.example"}), "want": false},
	"another port": {"rule": {}, "call": to({"port": 2222}), "want": false},
	"any port": {"rule": {"ports": {}}, "call": to({"port": 2222}), "want": true},
	"user": {"rule": {"users": {"deploy": true}}, "call": to({}), "want": true},
	"another user": {"rule": {"users": {"deploy": true}}, "call": to({"user": "root"}), "want": false},
	"key": {"rule": {"keys": {"lab": true}}, "call": to({"key": "lab"}), "want": true},
	"no key": {"rule": {"keys": {"lab": true}}, "call": to({}), "want": true},
	"another key": {"rule": {"keys": {"lab": true}}, "call": to({"key": "ops"}), "want": false},
	"key that no rule names": {"rule": {}, "call": to({"key": "ops"}), "want": false},
	"network": {"rule": ten, "call": to({}), "want": true},
	"another network": {"rule": elsewhere, "call": to({}), "want": false},
	"unresolved": {
		"rule": ten, "call": object.union(to({}), {"network": {"address": "", "addresses": []}}),
		"want": false,
	},
	"another address beside it": {
		"rule": ten,
		"call": object.union(to({}), {"network": {"addresses": array.concat(uptime.network.addresses, [far])}}),
		"want": true,
	},
	"another address is dialled": {
		"rule": ten,
		"call": object.union(to({}), {"network": {
			"address": far.ip,
			"addresses": array.concat(uptime.network.addresses, [far]),
		}}),
		"want": false,
	},
	"any name in a network": {"rule": object.union(any_host, ten), "call": to({"hostname": "10.0.0.11"}), "want": true},
	"through a hop": {"rule": {}, "call": to(hop({})), "want": true},
	"through the hop": {"rule": by("ops"), "call": to(hop({})), "want": true},
	"not through it": {"rule": by("ops"), "call": to({}), "want": false},
	"through one that is called so": {"rule": by("ops"), "call": to(hop({"source": "adhoc"})), "want": false},
	"in the inventory": {"rule": {}, "call": to({"hostname": "WEB1.lab.example"}), "want": false},
}

far := fixture.address("192.0.2.1", "11000000000000000000001000000001")

by(alias) := {"any_way": false, "via": {alias: true}}

test_admission[name] if {
	some name, tc in admitted
	site := connecting([lab_with(tc.rule)], {"any": [0]}, {})
	permits(tc.call, site) == tc.want
	permits(opened(tc.call), site) == tc.want
}

permits(call, site) if {
	host.permit with input as call with data.site as site
} else := false

test_admitted_whom[name] if {
	some name, tc in {
		"any": {"allow": {"any": [0]}, "want": true},
		"group": {"allow": {"groups": {"sre": [0]}}, "want": true},
		"subject": {"allow": {"subjects": {"agent-7": [0]}}, "want": true},
		"another group": {"allow": {"groups": {"dba": [0]}}, "want": false},
		"another subject": {"allow": {"subjects": {"agent-8": [0]}}, "want": false},
		"nobody": {"allow": {}, "want": false},
	}
	permits(to({}), connecting([lab], tc.allow, {})) == tc.want
}

# The first rule that fits says what the host is.
test_first_rule[name] if {
	some name, tc in {
		"first": {"rules": [lab, lab_with({"class": "bare"})], "want": {"readonly"}},
		"second": {"rules": [lab_with({"ports": {"1": true}}), lab_with({"class": "bare"})], "want": set()},
	}
	granted := host.granted with input as to({}) with data.site as connecting(tc.rules, {"any": [1, 0]}, {})
	granted == tc.want
}

refused := {
	"by name": {"rule": {}, "codes": {"host_adhoc_denied"}},
	"by network": {"rule": object.union(any_host, ten), "codes": {"host_adhoc_denied"}},
	"another port": {"rule": {"ports": {"23": true}}, "codes": set()},
	"another network": {"rule": object.union(any_host, elsewhere), "codes": set()},
}

test_refused[name] if {
	some name, tc in refused
	site := connecting([lab, lab_with(tc.rule)], {"any": [0]}, {"any": [1]})
	permits(to({}), site) == no(tc.codes)
	codes_at(to({}), site) == tc.codes
}

codes_at(call, site) := {reason.code | some reason in reasons} if {
	reasons := host.reasons with input as call with data.site as site
}

# What a translator would take the connection to counts when it is denied.
test_refused_behind_a_translator if {
	translated := {
		"ip": "64:ff9b::a00:b", "family": 6, "scope": "global", "bits": sprintf("%0128b", [1]),
		"embedded": "00001010000000000000000000001011",
	}
	call := object.union(to({}), {"network": {"address": "64:ff9b::a00:b", "addresses": [translated]}})
	site := connecting([lab, lab_with(object.union(any_host, ten))], {"any": [0]}, {"any": [1]})
	codes_at(call, site) == {"host_adhoc_denied"}
}

test_explained[code] if {
	some code, tc in {
		"host_adhoc_not_granted": {
			"call": to({"user": "root", "hostname": "x", "key": "ops"}),
			"detail": "root@x:22 by key ops; permitted are: *.lab.example",
		},
		"host_adhoc_listed": {"call": to({"hostname": "web1.lab.example"}), "detail": "web1.lab.example"},
	}
	reasons := host.reasons with input as tc.call with data.site as connecting([lab], {"any": [0]}, {})
	{[code, tc.detail]} == {[reason.code, reason.detail] | some reason in reasons}
}

test_refusal_explained if {
	reasons := host.reasons with input as to({}) with data.site as connecting([lab, lab], {"any": [0]}, {"any": [1]})
	{"deploy@box.lab.example:22, by lab"} == {reason.detail | some reason in reasons}
}

test_few_places_are_named if {
	many := [lab_with({"says": sprintf("%d", [i])}) | some i in numbers.range(0, 6)]
	site := connecting(many, {"any": numbers.range(0, 6)}, {})
	host.permitted_places == "0; 1; 2; 3; 4; ..." with input as to({}) with data.site as site
	host.permitted_places == "none" with input as to({}) with data.site as fixture.site
}

# Being let in is not being granted anything.
test_nothing_granted if {
	site := connecting([lab_with({"class": "bare"})], {"any": [0]}, {})
	codes_at(to({}), site) == {"host_not_granted"}
	not permits(to({}), site)
	permits(opened(to({})), site)
	codes_at(opened(to({})), site) == set()
}

test_asking_about_a_host_outside if {
	call := object.union(to({}), {
		"ops": fixture.ask("gateway.read", "host").ops,
		"network": {"address": "", "addresses": []},
	})
	permits(call, connecting([lab_with(ten)], {"any": [0]}, {}))
	not permits(call, fixture.site)
}

test_kind_outside if {
	call := to({"kind": "network"})
	site := connecting([lab], {"any": [0]}, {})
	not permits(call, site)
	codes_at(call, site) == {"host_kind"}
}

hops := {
	"of the inventory, by a name that is let in outside": {
		"via": hop({"alias": "x", "hostname": "hop.lab.example"}), "rule": lab,
		"codes": {"host_hop_not_granted"},
	},
	"outside, called like one of the inventory": {
		"via": outside({"alias": "ops"}), "rule": lab_with(elsewhere),
		"codes": {"host_adhoc_not_granted"},
	},
	"of the inventory": {"via": hop({}), "rule": lab, "codes": set()},
	"not granted": {"via": hop({"alias": "x"}), "rule": lab, "codes": {"host_hop_not_granted"}},
	"outside": {"via": outside({}), "rule": lab, "codes": set()},
	"outside of the network": {"via": outside({}), "rule": lab_with(elsewhere), "codes": {"host_adhoc_not_granted"}},
	"outside, unresolved": {
		"via": outside({"addresses": []}), "rule": lab_with(ten),
		"codes": {"host_adhoc_not_granted"},
	},
	"outside, another user": {
		"via": outside({"user": "root"}), "rule": lab_with({"users": {"ops": true}}),
		"codes": {"host_adhoc_not_granted"},
	},
}

outside(fields) := hop(object.union(
	{
		"alias": "x", "hostname": "hop.lab.example", "source": "adhoc",
		"addresses": [fixture.address("10.0.0.9", "00001010000000000000000000001001")],
	},
	fields,
))

test_hops_outside[name] if {
	some name, tc in hops
	call := object.union(uptime, {"host": tc.via})
	site := connecting([tc.rule], {"any": [0]}, {})
	permits(call, site) == no(tc.codes)
	codes_at(call, site) == tc.codes
}

# A host outside is no better reached than one of the inventory.
test_outside_through[name] if {
	some name, tc in {
		"granted": {"via": hop({}), "want": true},
		"not granted": {"via": hop({"alias": "x"}), "want": false},
	}
	permits(to(tc.via), connecting([lab], {"any": [0]}, {})) == tc.want
}

# What a rule says of the last jump host is about one of the inventory.
test_through_a_namesake if {
	by_ops := lab_with(object.union(by("ops"), {"users": {"deploy": true}}))
	rules := [by_ops, lab_with({"users": {"ops": true}})]
	via := hop({"hostname": "hop.lab.example", "source": "adhoc"})
	not permits(to(via), connecting(rules, {"any": [0, 1]}, {}))
	permits(to(hop({})), connecting(rules, {"any": [0, 1]}, {}))
}

# Nothing but what there is to open, and to ask, goes before a grant.
test_before_a_grant[name] if {
	some name, tc in {
		"nothing": {"ops": [], "want": false},
		"opening": {"ops": opened(uptime).ops, "want": true},
		"a question": {"ops": fixture.ask("gateway.read", "host").ops, "want": true},
		"a command": {"ops": uptime.ops, "want": false},
	}
	site := connecting([lab_with({"class": "bare"})], {"any": [0]}, {})
	permits(object.union(to({}), {"ops": tc.ops}), site) == tc.want
}

# A question that comes with an address is about that address.
test_question_with_an_address if {
	call := object.union(to({}), {"ops": fixture.ask("gateway.read", "host").ops})
	permits(call, connecting([lab_with(ten)], {"any": [0]}, {}))
	not permits(call, connecting([lab_with(elsewhere)], {"any": [0]}, {}))
}

# What lets in hosts outside is no grant on one of the inventory.
test_admission_is_for_hosts_outside if {
	site := object.union(
		connecting([lab], {"any": [0]}, {}),
		{"hosts": {"web9": {"class": "bare", "limits": fixture.limits}}},
	)
	call := object.union(uptime, {"host": {"alias": "web9", "hostname": "box.lab.example"}})
	not permits(opened(call), site)
	permits(opened(to({})), site)
}

test_opening_a_host_of_no_shell if {
	not permits(opened(object.union(uptime, {"host": {"kind": "network"}})), fixture.site)
}

test_opening_where_nothing_is_granted if {
	not permits(opened(uptime), replaced({"allow": none, "deny": none, "files": fixture.no_files}))
}

# An alias of the caller's own choosing is no alias of the inventory.
test_alias_outside_is_no_alias if {
	call := to({"alias": "ops"})
	host.granted == {"readonly"} with input as call with data.site as connecting([lab], {"any": [0]}, {})
	host.granted == set() with input as call with data.site as fixture.site
}

files_only := object.union(fixture.site, {
	"files": {"0": fixture.file_rule({})},
	"classes": {"bare": {"allow": none, "deny": none, "files": {
		"allow": {"any": {"read": fixture.index({"rules": ["0"], "under": {"/srv": ["0"]}})}, "groups": {}, "subjects": {}},
		"deny": none,
	}}},
	"hosts": {"web9": {"class": "bare", "limits": fixture.limits}},
})

# Files alone make a host one that the caller may use, ask about, connect to and
# go through.
test_files_only[name] if {
	some name, call in {
		"file": fixture.call("web9", [fixture.op("file.read", "/srv/a")]),
		"question": fixture.call("web9", fixture.ask("gateway.read", "host").ops),
		"connection": opened(fixture.call("web9", [])),
		"hop": object.union(uptime, {"host": hop({"alias": "web9"})}),
	}
	permits(call, files_only)
	codes_at(call, files_only) == set()
}

# What is denied cannot be connected to.
test_open_what_is_denied if {
	call := opened(fixture.call("readonly", []))
	site := replaced({"allow": granting.any, "deny": granting.subject, "files": fixture.no_files})
	codes_at(call, site) == {"host_denied"}
}

# What is the caller's own it may let go, wherever that is.
test_own_affairs[name] if {
	some name, call in {
		"in the gateway": fixture.ask("conn.close", ""),
		"on a host": fixture.call("web9", closing),
		"outside": object.union(to({}), {"ops": closing}),
		"through a host that is not granted": object.union(to(hop({"alias": "x"})), {"ops": closing}),
	}
	permits(call, fixture.site)
	codes_at(call, fixture.site) - {"host_unknown"} == set()
}

closing := [{"action": "conn.close", "effect": "link", "derived": false, "call": 0}]

test_own_affairs_and_others if {
	call := fixture.call("readonly", array.concat(uptime.ops, closing))
	codes_at(call, fixture.site) == {"host_mixed"}
}

# A host that nobody let the caller go to is out of reach, and the gateway is no host.
test_within_reach[name] if {
	some name, tc in {
		"admitted": {"call": to({}), "want": true},
		"another name": {"call": to({"hostname": "box.example"}), "want": false},
		"the gateway": {"call": to({"source": "gateway"}), "want": false},
	}
	site := connecting([lab], {"any": [0]}, {})
	reached := {true | host.within_reach with input as tc.call with data.site as site}
	reached == {true | tc.want}
}
