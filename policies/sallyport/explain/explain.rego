# METADATA
# title: What policy.yml says of a call
# description: |
#   For explanations; no decision asks for it. The entries that are about the caller
#   and about what is called, and what the caller is allowed that is like it.
package sallyport.explain

import data.sallyport.command
import data.sallyport.file
import data.sallyport.host

# METADATA
# title: The entries of policy.yml that have a say in a call
# description: An object for each, with the rule, its line, and what it says to whom.
entries contains entry(grant, sprintf("%s %s to %s", [verb, profile, who])) if {
	some verb, holders in {"grants": host.class.allow, "denies": host.class.deny}
	some [who, profiles] in held(holders)
	some profile, grant in profiles
}

entries contains entry(found, sprintf("%s %s to %s", [verb, found.says, who])) if {
	some verb, holders in {"allows": host.class.allow.commands, "denies": host.class.deny.commands}
	some [who, rules] in held(holders)
	some program in programs
	some id in rules[program]
	found := data.site.rules[id]
}

entries contains entry(found, sprintf("allows to %s %s", [verb, concat(" ", found[verb])])) if {
	some op in file.ops
	verb := file.verbs[op.action]
	some face in file.both(op)
	some found in file.allowed_by(op, verb, face)
}

entries contains entry(found, sprintf("denies to %s %s", [verb, concat(" ", found[verb])])) if {
	some op in file.ops
	verb := file.verbs[op.action]
	some [_, id] in file.denials(op)
	found := data.site.files[id]
}

entries contains entry(found, sprintf("lets the caller connect to %s", [found.says])) if {
	some place in places
	found := host.admits(place)
}

entries contains entry(found, sprintf("forbids to connect to %s", [found.says])) if {
	some place in places
	some found in data.site.adhoc
	found.rule in host.refusals(place)
}

entry(found, title) := {"rule": found.rule, "line": found.line, "title": title}

# held are what is there for the caller, each with whom it is there for.
held(holders) := array.concat(
	[["everybody", holders.any]],
	array.concat(
		[[input.subject.id, own] | own := holders.subjects[input.subject.id]],
		[[sprintf("group %s", [group]), own] | some group in input.subject.groups; own := holders.groups[group]],
	),
)

# programs are those of the call, and the empty name, which rules on any have.
programs contains ""

programs contains command.program if some command in called

programs contains wrapper.program if {
	some command in called
	some wrapper in command.wrappers
}

called := [one | some op in input.ops; some one in op.command.commands]

# places are where the call goes outside of the inventory.
places contains host.destination if input.host.source == "adhoc"

places contains host.hop_place(i) if {
	some i, hop in input.host.via
	hop.source == "adhoc"
}

# METADATA
# title: What the caller is allowed that is like a call
# description: |
#   Rules on commands with the same program, patterns of files that may be read and
#   written, and rules on hosts outside of the inventory.
allowances := {
	"rules": [found | some one in called; some found in command.about(one)],
	"files": {verb: granted(verb) | some verb in ["read", "write"]},
	"places": [data.site.adhoc[i] |
		input.host.source == "adhoc"
		some i in sort(host.about_caller(data.site.connect.allow))
	],
}

granted(verb) := sort({pattern |
	some index in file.allowing
	some id in index[verb].rules
	some pattern in data.site.files[id][verb]
})
