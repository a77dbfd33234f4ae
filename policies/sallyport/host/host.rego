# METADATA
# title: Who may use which host
# description: |
#   A host has to be of a kind whose shell is known, and in the inventory, or one
#   that a rule of connect: lets the caller go to. Some rule of policy.yml has to
#   grant the caller a profile, commands or files on it; the same goes for each jump
#   host on the way. Which of them is not asked here. Whoever could use a host may
#   ask about it and connect to it, and it is in the lists of nobody else.
package sallyport.host

import data.sallyport.file
import data.sallyport.lib.reason

permit if {
	within_reach
	something_granted
	[op | some op in input.ops; asks_gateway(op)] == []
}

permit if {
	input.host.source == "gateway"
	stays
}

# A question about a host is answered to whoever could use the host.
permit if {
	within_reach
	something_usable
	asks_about_host
}

# Whoever may go to a host outside of the inventory may do so before anything is
# granted there.
permit if {
	within_reach
	something_usable
	opens
}

# What the caller has of its own it may always let go.
permit if settles

within_reach if {
	input.host.source == "inventory"
	input.host.kind == "posix"
	[i | some i, _ in input.host.via; not holds(i)] == []
}

within_reach if {
	input.host.source == "adhoc"
	input.host.kind == "posix"
	admission
	[i | some i, _ in input.host.via; not holds(i)] == []
}

# METADATA
# title: Nothing of the call leaves the gateway
stays if {
	input.ops != []
	[op | some op in input.ops; not asks_gateway(op)] == []
}

asks_about_host if {
	input.ops != []
	[op | some op in input.ops; op.action != "gateway.read"] == []
}

opens if {
	input.ops != []
	[op | some op in input.ops; op.action != "conn.open"] == []
}

settles if {
	input.ops != []
	[op | some op in input.ops; not op.action in {"conn.close", "identity.read"}] == []
}

something_granted if some _ in granted

something_granted if some _ in allowing

something_granted if file.governs

# METADATA
# title: The caller could do something on the host
something_usable if usable != set()

something_usable if {
	some rules in allowing
	some program, _ in rules
	not shut(program)
}

something_usable if file.governs

something_usable if admission

# shut says that a rule denies a program with whatever words, or any program.
shut(program) if {
	some rules in denying
	some key in [program, ""]
	some id in rules[key]
	denies_all(data.site.rules[id])
}

denies_all(rule) if rule.kind == "simple"

denies_all(rule) if rule.all

# usable are the profiles that let the caller do something on the host.
usable := granted - denied

class := data.site.classes[data.site.hosts[input.host.alias].class] if input.host.source == "inventory"

class := data.site.classes[admission.class] if input.host.source == "adhoc"

# METADATA
# title: Profiles that some rule grants the caller on the host
granted contains profile if some profile, _ in class.allow.any

granted contains profile if some profile, _ in class.allow.subjects[input.subject.id]

granted contains profile if {
	some group in input.subject.groups
	some profile, _ in class.allow.groups[group]
}

# METADATA
# title: Profiles that some rule denies the caller on the host
denied contains profile if some profile, _ in class.deny.any

denied contains profile if some profile, _ in class.deny.subjects[input.subject.id]

denied contains profile if {
	some group in input.subject.groups
	some profile, _ in class.deny.groups[group]
}

# METADATA
# title: Rules that allow the caller commands on the host, by program
# description: |
#   Maps from the name of a program to the ids of the rules about it; those under
#   the empty name are about any.
allowing := held(class.allow.commands)

# METADATA
# title: Rules that deny the caller commands on the host, by program
denying := held(class.deny.commands)

held(commands) := [] if {
	commands == {"any": {}, "groups": {}, "subjects": {}}
} else := array.concat(
	[rules | rules := commands.any; rules != {}],
	array.concat(
		[rules | rules := commands.subjects[input.subject.id]],
		[rules | some group in input.subject.groups; rules := commands.groups[group]],
	),
)

# holds says that some rule grants the caller something on a jump host, by its
# position, or lets the caller go there.
holds(i) if some _ in held(hop_class(i).allow.commands)

holds(i) if some _ in hop_class(i).allow.any

holds(i) if some _ in hop_class(i).allow.subjects[input.subject.id]

holds(i) if {
	some group in input.subject.groups
	some _ in hop_class(i).allow.groups[group]
}

holds(i) if count(file.about_caller(hop_class(i).files.allow)) > 0

holds(i) if {
	input.host.via[i].source == "adhoc"
	admits(hop_place(i))
}

hop_class(i) := data.site.classes[data.site.hosts[input.host.via[i].alias].class] if {
	input.host.via[i].source == "inventory"
}

asks_gateway(op) if strings.any_prefix_match(op.action, ["gateway.", "task.", "conn.close", "identity."])

# METADATA
# title: The host is not in the inventory
# custom:
#   code: host_unknown
#   remedy: use an alias that ssh_list_hosts shows
reasons contains reason.of(rego.metadata.rule(), input.host.alias) if {
	input.host.source == "inventory"
	not data.site.hosts[input.host.alias]
}

# METADATA
# title: The host is from somewhere that no rule knows
# custom:
#   code: host_source
#   remedy: use an alias that ssh_list_hosts shows, or ask the operator to add the host to servers.yml
reasons contains reason.of(rego.metadata.rule(), detail) if {
	not input.host.source in {"inventory", "adhoc", "gateway"}
	detail := sprintf("%s comes from %q", [input.host.hostname, input.host.source])
}

# METADATA
# title: No commands are run on hosts of this kind
# custom:
#   code: host_kind
#   remedy: pick another host; the operator sets kind in servers.yml, and only posix says what its shell understands
reasons contains reason.of(rego.metadata.rule(), detail) if {
	input.host.source in {"inventory", "adhoc"}
	input.host.kind != "posix"
	detail := sprintf("%s is of kind %q", [input.host.alias, input.host.kind])
}

# METADATA
# title: No rule grants the caller anything on this host
# custom:
#   code: host_not_granted
#   remedy: pick another host, or ask the operator for a rule in policy.yml
reasons contains reason.of(rego.metadata.rule(), detail) if {
	class
	not settles
	not something_granted
	not admitted_only
	detail := sprintf("%s on %s", [input.subject.id, input.host.alias])
}

# METADATA
# title: What is granted on this host is denied, too
# custom:
#   code: host_denied
#   remedy: pick another host; a rule of policy.yml that denies goes over those that allow
reasons contains reason.of(rego.metadata.rule(), detail) if {
	approaches
	something_granted
	not something_usable
	detail := sprintf("%s on %s", [input.subject.id, input.host.alias])
}

# METADATA
# title: No rule grants the caller a jump host on the way
# custom:
#   code: host_hop_not_granted
#   remedy: ask the operator for a rule in policy.yml that covers the jump host, too
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some i, hop in input.host.via
	hop.source != "adhoc"
	not settles
	not holds(i)
	detail := sprintf("%s on %s, which is on the way to %s", [input.subject.id, hop.alias, input.host.alias])
}

# METADATA
# title: What asks the gateway and what runs on a host cannot be one call
# custom:
#   code: host_mixed
#   remedy: make two calls of it
reasons contains reason.of(rego.metadata.rule(), action) if some action in misplaced

misplaced contains op.action if {
	input.host.source in {"inventory", "adhoc"}
	not asks_about_host
	not settles
	some op in input.ops
	asks_gateway(op)
}

# admitted_only says that the call is about nothing but the way to a host that the
# caller may go to.
admitted_only if {
	admission
	approaches
}

approaches if asks_about_host

approaches if opens

misplaced contains op.action if {
	input.host.source == "gateway"
	some op in input.ops
	not asks_gateway(op)
}
