# METADATA
# title: Which addresses may be dialled
# description: |
#   The address that would be dialled, and each address of each jump host, has to
#   be in no blocked network and, when there is a list of allowed ones, in one of
#   those. Networks are filed by family, prefix length and first bits, so an
#   address is looked up once for each length in use.
package sallyport.network

import data.sallyport.host
import data.sallyport.lib.reason

# A call that stays in the gateway dials nothing.
permit if host.stays

permit if {
	some address in input.network.addresses
	address.ip == input.network.address
	dialable(address)
	[hop | some hop in input.host.via; not reachable(hop)] == []
}

reachable(hop) if {
	hop.addresses != []
	[address | some address in hop.addresses; not dialable(address)] == []
}

dialable(address) if {
	data.site.network.closed == false
	address.scope in usable
	not blocked(address)
}

dialable(address) if {
	within(data.site.network.allow, address)
	address.scope in usable
	not blocked(address)
}

blocked(address) if within(data.site.network.block, address)

# A translator would take the call to an IPv4 address.
blocked(address) if within(data.site.network.block, inner(address))

inner(address) := {"family": 4, "bits": address.embedded} if address.embedded != ""

# usable are the kinds of addresses that are one machine's, not all of them or
# none.
usable := {"global", "private", "loopback", "link_local"}

# within gives a network of an index that holds an address.
within(networks, address) if {
	some length, prefixes in networks[format_int(address.family, 10)]
	prefixes[substring(address.bits, 0, to_number(length))]
}

# faces are an address and the one that it leads to.
faces(address) := [address, inner(address)]

faces(address) := [address] if not inner(address)

# METADATA
# title: The name does not resolve to an address
# custom:
#   code: network_unresolved
#   remedy: check the host's entry in servers.yml, or the gateway's name server
reasons contains reason.of(rego.metadata.rule(), name) if {
	input.host.source != "gateway"
	not host.stays
	some name, _ in unresolved
}

# METADATA
# title: The address is in a blocked network
# custom:
#   code: network_blocked
#   remedy: pick another host; network.block_ips and block_cidrs of policy.yml are the operator's
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some target in dialled
	some address in faces(target.address)
	some length, prefixes in data.site.network.block[format_int(address.family, 10)]
	network := prefixes[substring(address.bits, 0, to_number(length))]
	detail := sprintf("%s of %s is in %s", [target.address.ip, target.name, network])
}

# METADATA
# title: The address is in none of the allowed networks
# custom:
#   code: network_not_allowed
#   remedy: pick another host, or ask the operator to add the network to network.allow_cidrs of policy.yml
reasons contains reason.of(rego.metadata.rule(), detail) if {
	data.site.network.closed
	some target in dialled
	not within(data.site.network.allow, target.address)
	detail := sprintf("%s of %s", [target.address.ip, target.name])
}

# METADATA
# title: The address is not that of a machine
# custom:
#   code: network_unusable
#   remedy: check the host's entry in servers.yml, or the gateway's name server
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some target in dialled
	not target.address.scope in usable
	detail := sprintf("%s of %s is %s", [target.address.ip, target.name, target.address.scope])
}

# dialled are the addresses that a call would dial, with whose they are.
dialled contains {"name": input.host.alias, "address": address} if {
	some address in input.network.addresses
	address.ip == input.network.address
}

dialled contains {"name": hop.alias, "address": address} if {
	some hop in input.host.via
	some address in hop.addresses
}

unresolved[input.host.alias] := input.host.hostname if not input.network.address in listed

unresolved[hop.alias] := hop.hostname if {
	some hop in input.host.via
	hop.addresses == []
}

listed contains address.ip if some address in input.network.addresses
