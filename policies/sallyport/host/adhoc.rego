package sallyport.host

import data.sallyport.lib.reason
import data.sallyport.network

# Hosts that are not in the inventory. A rule of connect: has to let the caller go
# there; the first one that does gives the host the tags by which all other rules
# know it, that is, its class.

# METADATA
# title: The rule on connections that lets the caller go to the host
admission := admits(destination) if input.host.source == "adhoc"

# admits is the first rule that lets the caller go somewhere. Who is in the
# inventory is not to be had by another door.
admits(place) := data.site.adhoc[min(fitting)] if {
	not data.site.names[place.hostname]
	refusals(place) == set()
	fitting := {i | some i in about_caller(data.site.connect.allow); fits(data.site.adhoc[i], place)}
	fitting != set()
}

# refusals are the rules that forbid to go somewhere.
refusals(place) := {rule.rule |
	some i in about_caller(data.site.connect.deny)
	rule := data.site.adhoc[i]
	names(rule, place)
	touches(rule, place)
}

about_caller(holders) := ({i | some i in holders.any} | {i | some i in holders.subjects[input.subject.id]}) | {i |
	some group in input.subject.groups
	some i in holders.groups[group]
}

destination := {
	"hostname": plain(input.host.hostname),
	"port": format_int(input.host.port, 10),
	"user": input.host.user,
	"key": input.host.key,
	"addresses": [address | some address in input.network.addresses; address.ip == input.network.address],
	"before": before(count(input.host.via)),
}

# hop_place is where a jump host is, by its position. By which key one logs in
# there was judged when the connection to it was opened.
hop_place(i) := {
	"hostname": plain(hop.hostname),
	"port": format_int(hop.port, 10),
	"user": hop.user,
	"key": "",
	"addresses": hop.addresses,
	"before": before(i),
} if {
	hop := input.host.via[i]
}

# plain is a name of a host in the one way that names are compared in.
plain(name) := trim_suffix(lower(name), ".")

# before is the alias of the host that a connection comes from, at a position of
# the way; empty if that is no host of the inventory.
before(i) := input.host.via[i - 1].alias if {
	input.host.via[i - 1].source == "inventory"
} else := ""

fits(rule, place) if {
	names(rule, place)
	encloses(rule, place)
	by_way(rule, place)
	by_key(rule, place.key)
}

names(rule, place) if {
	named(rule.hosts, place.hostname)
	one_of(rule.ports, place.port)
	one_of(rule.users, place.user)
}

named([], _)

named(patterns, hostname) if {
	some pattern in patterns
	regex.match(pattern.expression, hostname)
}

one_of({}, _)

one_of(allowed, value) if allowed[value]

by_way(rule, _) if rule.any_way

by_way(rule, place) if rule.via[place.before]

by_key(_, "")

by_key(rule, key) if rule.keys[key]

encloses(rule, _) if rule.anywhere

encloses(rule, place) if {
	place.addresses != []
	[address | some address in place.addresses; not network.within(rule.networks, address)] == []
}

# In a question nothing is dialled, so there is no address to be held against.
encloses(_, place) if {
	place.addresses == []
	asks_about_host
}

touches(rule, _) if rule.anywhere

touches(rule, place) if {
	some address in place.addresses
	some face in network.faces(address)
	network.within(rule.networks, face)
}

# unlisted are the places of a call that need a rule of connect:.
unlisted contains destination if {
	input.host.source == "adhoc"
	not settles
}

unlisted contains hop_place(i) if {
	not settles
	some i, hop in input.host.via
	hop.source == "adhoc"
}

called(place) := sprintf("%s@%s:%s%s", [place.user, place.hostname, place.port, concat("", [word |
	place.key != ""
	word := concat("", [" by key ", place.key])
])])

# METADATA
# title: The host is in the inventory
# custom:
#   code: host_adhoc_listed
#   remedy: use it by the alias that ssh_list_hosts shows
reasons contains reason.of(rego.metadata.rule(), place.hostname) if {
	some place in unlisted
	data.site.names[place.hostname]
}

# METADATA
# title: A rule forbids connections to this host
# custom:
#   code: host_adhoc_denied
#   remedy: pick another host; the operator decided in policy.yml that it is not for you
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some place in unlisted
	some rule in refusals(place)
	detail := sprintf("%s, by %s", [called(place), rule])
}

# METADATA
# title: No rule lets the caller connect to this host
# custom:
#   code: host_adhoc_not_granted
#   remedy: >-
#     connect to a host that a rule lets you, use an alias that ssh_list_hosts shows, or ask the operator
#     for a rule under connect in policy.yml
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some place in unlisted
	not data.site.names[place.hostname]
	refusals(place) == set()
	not admits(place)
	detail := sprintf("%s; permitted are: %s", [called(place), permitted_places])
}

# permitted_places says of the first few rules where they let the caller go.
permitted_places := concat("; ", array.concat(array.slice(said, 0, 5), [word |
	count(said) > 5
	word := "..."
])) if {
	said := [data.site.adhoc[i].says | some i in sort(about_caller(data.site.connect.allow))]
	said != []
} else := "none"
