package sallyport.network_test

import data.sallyport.lib.fixture_test as fixture
import data.sallyport.network

uptime := fixture.run("readonly", [["uptime"]])

ten := {"4": {"8": {"00001010": "10.0.0.0/8"}}}

host_only := {"4": {"8": {"11000000": "192.0.0.0/8"}, "32": {"00001010000000000000000000001011": "10.0.0.11/32"}}}

six := {"6": {"16": {"0010000000000001": "2001::/16"}}}

v6 := {
	"ip": "2001:db8::1", "family": 6, "scope": "global",
	"bits": concat("", ["00100000000000010000110110111000", sprintf("%096d", [1])]), "embedded": "",
}

translated := {
	"ip": "64:ff9b::a00:b", "family": 6, "scope": "global",
	"bits": concat("", ["00000000011001001111111110011011", sprintf("%096b", [167772171])]),
	"embedded": "00001010000000000000000000001011",
}

hop(addresses) := [{"alias": "bastion", "hostname": "bastion.internal", "port": 22, "addresses": addresses}]

with_six := {"address": "2001:db8::1", "addresses": [v6]}

other := fixture.address("10.0.0.9", "00001010000000000000000000001001")

cases := {
	"open": {"network": open, "call": uptime, "codes": set()},
	"open, IPv6": {"network": open, "call": to(with_six), "codes": set()},
	"listed": {"network": closed(ten), "call": uptime, "codes": set()},
	"listed by its own length": {"network": closed(host_only), "call": uptime, "codes": set()},
	"listed, IPv6": {"network": closed(six), "call": to(with_six), "codes": set()},
	"another family is listed": {"network": closed(six), "call": uptime, "codes": {"network_not_allowed"}},
	"nothing is listed": {"network": closed({}), "call": uptime, "codes": {"network_not_allowed"}},
	"blocked": {"network": blocked(ten), "call": uptime, "codes": {"network_blocked"}},
	"what a translator leads to is blocked": {
		"network": blocked(ten), "call": to({"address": "64:ff9b::a00:b", "addresses": [translated]}),
		"codes": {"network_blocked"},
	},
	"what a translator leads to is not listed by that": {
		"network": closed(ten), "call": to({"address": "64:ff9b::a00:b", "addresses": [translated]}),
		"codes": {"network_not_allowed"},
	},
	"another is blocked": {"network": blocked(six), "call": uptime, "codes": set()},
	"listed and blocked": {
		"network": {"closed": true, "allow": ten, "block": host_only},
		"call": uptime, "codes": {"network_blocked"},
	},
	"unresolved": {
		"network": open, "call": to({"address": "", "addresses": []}),
		"codes": {"network_unresolved"},
	},
	"not one of its addresses": {
		"network": open, "call": to({"address": "10.0.0.9"}),
		"codes": {"network_unresolved"},
	},
	"only the one that is dialled counts": {
		"network": blocked(host_only), "call": to({"address": "10.0.0.9", "addresses": [other, uptime.network.addresses[0]]}),
		"codes": set(),
	},
	"everybody's address": {
		"network": open,
		"call": to({"addresses": [object.union(uptime.network.addresses[0], {"scope": "multicast"})]}),
		"codes": {"network_unusable"},
	},
	"everybody's address, listed": {
		"network": closed(ten),
		"call": to({"addresses": [object.union(uptime.network.addresses[0], {"scope": "multicast"})]}),
		"codes": {"network_unusable"},
	},
	"all of IPv4 is blocked, IPv6 that leads to none": {
		"network": blocked({"4": {"0": {"": "0.0.0.0/0"}}}), "call": to(with_six),
		"codes": set(),
	},
	"by a hop": {"network": closed(ten), "call": by([other]), "codes": set()},
	"by a hop that is blocked": {"network": blocked(six), "call": by([other, v6]), "codes": {"network_blocked"}},
	"by a hop that is not listed": {"network": closed(ten), "call": by([v6]), "codes": {"network_not_allowed"}},
	"by a hop without address": {"network": open, "call": by([]), "codes": {"network_unresolved"}},
}

open := {"closed": false, "allow": {}, "block": {}}

closed(networks) := {"closed": true, "allow": networks, "block": {}}

blocked(networks) := {"closed": false, "allow": {}, "block": networks}

to(fields) := object.union(uptime, {"network": fields})

by(addresses) := object.union(uptime, {"host": {"via": hop(addresses)}})

test_cases[name] if {
	some name, tc in cases
	site := object.union(object.remove(fixture.site, ["network"]), {"network": tc.network})
	permitted(tc.call, site) == no(tc.codes)
	reasons := network.reasons with input as tc.call with data.site as site
	tc.codes == {reason.code | some reason in reasons}
}

test_names_the_network if {
	site := object.union(object.remove(fixture.site, ["network"]), {"network": blocked(ten)})
	reasons := network.reasons with input as uptime with data.site as site
	{reason.detail | some reason in reasons} == {"10.0.0.11 of readonly is in 10.0.0.0/8"}
}

test_gateway if {
	call := fixture.ask("gateway.list", "hosts")
	network.permit with input as call with data.site as fixture.site
	network.reasons == set() with input as call with data.site as fixture.site
}

test_question_about_a_host_dials_nothing if {
	call := object.union(by([]), {
		"ops": fixture.ask("gateway.read", "host").ops,
		"network": {"address": "", "addresses": []},
	})
	site := object.union(object.remove(fixture.site, ["network"]), {"network": closed({})})
	network.permit with input as call with data.site as site
	network.reasons == set() with input as call with data.site as site
}

permitted(call, site) if {
	network.permit with input as call with data.site as site
} else := false

no(codes) := count(codes) == 0
