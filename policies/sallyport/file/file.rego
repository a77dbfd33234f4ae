# METADATA
# title: What the rules on files say to the caller on the host
# description: |
#   Where a rule of files: allows the caller something on a host, such rules have
#   the say about every file of a call there, whether a tool names it or a command
#   line does. The path as it is written and, once the host was asked, the one that
#   it leads to both need a rule, whose limits have to be kept. What is denied is
#   denied whatever else is said.
package sallyport.file

import data.sallyport.host
import data.sallyport.lib.paths

# METADATA
# title: Some rule on files allows the caller something on the host
governs if {
	data.site.files != {}
	count(allowing) > 0
}

# METADATA
# title: What is done with a file, in the words of policy.yml, by action
verbs := {"file.list": "read", "file.read": "read", "file.write": "write"}

allowing := about_caller(host.class.files.allow)

denying := about_caller(host.class.files.deny)

# about_caller are the indexes that are about the caller, of those by whom they
# are about.
about_caller(holders) := [index |
	some index in array.concat(
		[holders.any, object.get(holders.subjects, input.subject.id, {})],
		[index | some group in input.subject.groups; index := holders.groups[group]],
	)
	index != {}
]

# METADATA
# title: An op is about a file of the host
concerns(op) if {
	verbs[op.action]
	op.place == "host"
}

# METADATA
# title: The ops of a call that are about files of the host
ops := [op | some op in input.ops; concerns(op)]

# METADATA
# title: The rules on files grant an op
granted(op) if {
	governs
	op.under
	verb := verbs[op.action]
	[face | some face in faces(op); not granted_face(op, verb, face)] == []
}

# METADATA
# title: The paths of an op that need to be granted
# description: The path as it is written and, if the host was asked, the real one.
faces(op) := written(op) if not op.file

faces(op) := both(op) if {
	op.file
	not customary_link(op)
}

faces(op) := written(op) if customary_link(op)

# both are the path as it is written and, if the host was asked, the real one.
both(op) := written(op) if not op.file

both(op) := array.concat(written(op), real(op)) if op.file

written(op) := [{"path": op.path, "under": op.under} | op.under]

real(op) := [{"path": op.file.path, "under": op.file.under} | op.file]

# Most distributions make a link of this one.
customary_link(op) if {
	op.path == "/etc/os-release"
	op.file.path == "/usr/lib/os-release"
}

# METADATA
# title: A rule allows a path of an op, whose limits it keeps
granted_face(op, verb, face) if {
	some rule in allowed_by(op, verb, face)
	keeps(op, rule)
}

# METADATA
# title: The rules that allow a path of an op, if it keeps their limits
allowed_by(op, verb, face) := [data.site.files[id] |
	some index in allowing
	some id in allows(op, index[verb], face)
]

# METADATA
# title: Some rule allows a path of an op, if it keeps its limits
allowed(op, verb, face) if count(allowed_by(op, verb, face)) > 0

# METADATA
# title: Some rule allows a path, apart from what is below it
reached(verb, face) if {
	some index in allowing
	count(paths.hits(index[verb], face)) > 0
}

# allows are the rules that allow a path of an op, apart from their limits.
allows(op, index, face) := paths.hits(index, face) if {
	not wide(op)
} else := paths.covers(index, face) | paths.same(index, face) if {
	op.pattern
	not op.recursive
} else := paths.covers(index, face)

# wide is an op that is about more paths than the one that it names.
wide(op) if op.recursive

wide(op) if op.pattern

keeps(op, rule) if {
	not too_large(op, rule)
	not withheld_kind(op, rule)
}

# METADATA
# title: More bytes than a rule allows
too_large(op, rule) if {
	rule.max_bytes > 0
	size(op) > rule.max_bytes
}

# METADATA
# title: How many bytes an op is about, as far as that is known
size(op) := op.file.bytes if op.action == "file.read"

size(op) := op.content.bytes if op.action == "file.write"

withheld_kind(op, rule) if {
	special(op)
	not rule.special
}

withheld_kind(op, rule) if {
	many_names(op)
	not rule.hard_links
}

# METADATA
# title: The content of something that is no file is asked for
special(op) if {
	op.action in {"file.read", "file.write"}
	op.file
	not op.file.type in {"", "regular", "directory"}
}

# METADATA
# title: The content of a file is asked for that is not known to have one name
many_names(op) if {
	op.action in {"file.read", "file.write"}
	op.file.type == "regular"
	op.file.links != 1
}

# METADATA
# title: The rules that deny something of an op, by path
denials(op) := {[face.path, id] |
	verb := verbs[op.action]
	some face in both(op)
	some index in denying
	some id in objections(op, index[verb], face)
}

objections(op, index, face) := paths.hits(index, face) if {
	not wide(op)
} else := paths.hits(index, face) | paths.reaches(index, face)

# METADATA
# title: It is not known which file an op is about, and it matters
unknown(op) if {
	not op.under
	governs
}

unknown(op) if {
	not op.under
	some index in denying
	index[verbs[op.action]]
}

# METADATA
# title: What the caller is granted, for people
# description: The patterns of a verb, the first few of them.
shown(verb) := concat("", [
	concat(" ", array.slice(patterns, 0, 12)),
	concat("", [sprintf(" and %d more", [more]) | more := count(patterns) - 12; more > 0]),
]) if {
	patterns := sort({pattern |
		some index in allowing
		some id in index[verb].rules
		some pattern in data.site.files[id][verb]
	})
	patterns != []
} else := "nothing"
