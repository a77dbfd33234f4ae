# METADATA
# title: Which rules of policy.yml a call makes use of
# description: |
#   No decision depends on this. It is asked when recorded decisions are judged
#   again, to find the rules that nobody makes use of: a rule that allows is used
#   by a call that is allowed and needs what the rule grants, one that denies by a
#   call that it refuses. A rule counts as used when it is not certain.
package sallyport.uses

import data.sallyport
import data.sallyport.host
import data.sallyport.lib.grammar

# METADATA
# title: The rules, by name and line
grants contains grant if {
	sallyport.decision.allow
	some profile in needed
	some grant in held(host.class.allow, profile)
}

# On the way any profile will do.
grants contains grant if {
	sallyport.decision.allow
	some hop in input.host.via
	some profile, _ in data.sallyport.profiles.named
	some grant in held(host.hop_class(hop).allow, profile)
}

grants contains grant if {
	some profile in host.denied
	permits(profile)
	some grant in held(host.class.deny, profile)
}

# Whoever asks about a host makes use of nothing that is granted there, but of
# what is denied: it may hide the host.
grants contains grant if {
	count(host.granted) > 0
	count(host.usable) == 0
	some profile in host.denied
	some grant in held(host.class.deny, profile)
}

needed contains profile if {
	some profile in host.granted
	permits(profile)
}

# Which profile another op needs is not known here.
needed contains profile if {
	some profile in host.granted
	some op in input.ops
	not op.derived
	not op.command
	not host.asks_gateway(op)
}

# permits says that a profile permits some command of the call.
permits(profile) if {
	some op in input.ops
	some command in op.command.commands
	grammar.permits(data.sallyport.profiles.named[profile], command)
}

# held are the rules by which the caller holds a profile.
held(grants, profile) := (everybody | own) | shared if {
	everybody := {grant | grant := grants.any[profile]}
	own := {grant | grant := grants.subjects[input.subject.id][profile]}
	shared := {grant | some group in input.subject.groups; grant := grants.groups[group][profile]}
}
