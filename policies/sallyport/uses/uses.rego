# METADATA
# title: Which rules of policy.yml a call makes use of
# description: |
#   No decision depends on this. It is asked when recorded decisions are judged
#   again, to find the rules that nobody makes use of: a rule that allows is used
#   by a call that is allowed and needs what the rule grants, one that denies by a
#   call that it refuses. A rule counts as used when it is not certain.
package sallyport.uses

import data.sallyport
import data.sallyport.command
import data.sallyport.file
import data.sallyport.host
import data.sallyport.lib.grammar
import data.sallyport.lib.rule

# METADATA
# title: The rules, by name and line
# description: Sets of rules. Of each set the call makes use of one, it is not known which.
grants contains {grant} if {
	sallyport.decision.allow
	some grant in (permitting | leading)
}

grants contains rules if {
	sallyport.decision.allow
	some rules in admitting
}

grants contains {grant} if some grant in (refusing | confining)

# Rules that allow.

# permitting are the rules that grant what a call does.
permitting contains grant if {
	some profile in host.granted
	permits(profile, commands_judged)
	some grant in by_profile(host.class.allow, profile)
}

permitting contains grant if {
	some call in commands_judged
	said := rule.spoken(call)
	some id in command.rules_about(host.allowing, rule.key(call))
	rule.allows(data.site.rules[id], said)
	grant := stands(data.site.rules[id])
}

permitting contains grant if {
	file.governs
	some op in file.ops
	some face in file.faces(op)
	some found in file.allowed_by(op, file.verbs[op.action], face)
	file.keeps(op, found)
	grant := stands(found)
}

# commands_judged are the commands that profiles and rules on commands have the
# say about.
commands_judged contains call if {
	some op in input.ops
	some call in op.command.commands
}

commands_judged contains call if {
	not file.governs
	some op in file.ops
	judged_as_command(op)
	some call in command.equivalents(op)
}

judged_as_command(op) if not op.derived

judged_as_command(op) if {
	some line in input.ops
	op.path == line.command.cwd
}

permits(profile, commands) if {
	some call in commands
	grammar.permits(data.sallyport.profiles.named[profile], call)
}

# admitting are sets of rules each of which would do, where nothing is needed but
# that something is granted: to be connected to a host, to pass one on the way, to
# do what a package of this site permits.
admitting contains held(host.class) if {
	permitting == set()
	needs_something
}

admitting contains held(host.hop_class(i)) if {
	not host.settles
	some i, _ in input.host.via
}

# Who asks about a host makes use of nothing that is granted there, and nor does
# who only goes to a host that a rule of connect: leads to.
needs_something if {
	not host.stays
	not host.admitted_only
}

# leading are the rules that let the caller go to a host that is not in the
# inventory.
leading contains stands(host.admission) if not host.settles

leading contains stands(host.admits(host.hop_place(i))) if {
	not host.settles
	some i, hop in input.host.via
	hop.source == "adhoc"
}

# Rules that deny.

refusing contains grant if {
	some profile in host.denied
	permits(profile, commands_seen)
	some grant in by_profile(host.class.deny, profile)
}

# It hides the host, or keeps everybody away from it.
refusing contains grant if {
	host.something_granted
	not host.something_usable
	some profile in host.denied
	some grant in by_profile(host.class.deny, profile)
}

refusing contains grant if {
	some op in input.ops
	some call in command.calls(op)
	heard := rule.heard(call, command.moves(op))
	some id in command.rules_about(host.denying, call.program)
	rule.denies(data.site.rules[id], heard)
	grant := stands(data.site.rules[id])
}

refusing contains grant if {
	some op in file.ops
	some [_, id] in file.denials(op)
	grant := stands(data.site.files[id])
}

# It is not known whether the path is one of those.
refusing contains grant if {
	some op in file.ops
	not op.under
	some index in file.denying
	some id in index[file.verbs[op.action]].rules
	grant := stands(data.site.files[id])
}

refusing contains grant if {
	some place in host.unlisted
	some i in host.about_caller(data.site.connect.deny)
	found := data.site.adhoc[i]
	host.names(found, place)
	host.touches(found, place)
	grant := stands(found)
}

# commands_seen are the commands that a rule that denies has the say about.
commands_seen contains call if {
	some op in input.ops
	some call in command.commands_of(op)
}

# confining are the rules on files that keep the caller from a file only because
# there are such rules: without any, profiles would have the say.
confining contains grant if {
	file.governs
	some op in file.ops
	not file.granted(op)
	open_otherwise(op)
	some index in file.allowing
	some id in index[_].rules
	grant := stands(data.site.files[id])
}

open_otherwise(op) if {
	not op.derived
	command.readable(op)
}

open_otherwise(op) if {
	op.derived
	some line in input.ops
	some call in line.command.commands
	call.id == op.call
	command.permitted(call)
}

# Where rules stand.

stands(found) := {"rule": found.rule, "line": found.line}

# held are all rules that grant the caller something on the hosts of a class.
held(class) := (profiles | commands) | files if {
	profiles := {grant |
		some profile, _ in data.sallyport.profiles.named
		some grant in by_profile(class.allow, profile)
	}
	commands := {stands(data.site.rules[id]) |
		some rules in host.held(class.allow.commands)
		some id in rules[_]
	}
	files := {stands(data.site.files[id]) |
		some index in file.about_caller(class.files.allow)
		some id in index[_].rules
	}
}

# by_profile are the rules by which the caller holds a profile.
by_profile(grants, profile) := (everybody | own) | shared if {
	everybody := {grant | grant := grants.any[profile]}
	own := {grant | grant := grants.subjects[input.subject.id][profile]}
	shared := {grant | some group in input.subject.groups; grant := grants.groups[group][profile]}
}
