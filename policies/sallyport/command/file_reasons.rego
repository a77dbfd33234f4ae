package sallyport.command

import data.sallyport.file
import data.sallyport.lib.reason

# Why a file may not be read, listed or written.

# explained_file says that there is a reason in this file for an op.
explained_file(op) if {
	file.concerns(op)
	not op.derived
}

# ungranted are the ops that no rule on files grants although one grants
# something.
ungranted := few([op |
	file.governs
	some op in file.ops
	op.under
	not file.granted(op)
	not customary(op)
])

# unreadable are the commands that files are judged as and that are not permitted.
unreadable := [command |
	some op in judged_as_commands
	some face in file.written(op)
	command := equivalent(op, face)
	not permitted(command)
]

# judged_as_commands are the ops that no rule on files has a say about: of tools,
# and of lines in a directory that the call chose.
judged_as_commands := few([op |
	not file.governs
	some op in array.concat([op | some op in input.ops; not op.derived], [op | some op in withheld])
	file.concerns(op)
	op.under
	not customary(op)
])

# METADATA
# title: The path is outside of what is granted
# custom:
#   code: file_path
#   remedy: name a path that is granted, or ask the operator for a rule under files in policy.yml
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some op in ungranted
	verb := file.verbs[op.action]
	some face in file.written(op)
	not file.reached(verb, face)
	detail := sprintf("%s %s; granted are: %s", [verb, reason.quoted(face.path), file.shown(verb)])
}

# METADATA
# title: What the path leads to is outside of what is granted
# custom:
#   code: file_link
#   remedy: name what it leads to if that is granted, or ask the operator for a rule under files in policy.yml
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some [op, path] in misleading
	detail := shown_path(op, path)
}

misleading contains [op, face.path] if {
	some op in ungranted
	some face in file.faces(op)
	face.path != op.path
	not file.reached(file.verbs[op.action], face)
}

misleading contains [op, face.path] if {
	some op in judged_as_commands
	some face in file.faces(op)
	face.path != op.path
	not permitted(equivalent(op, face))
}

# METADATA
# title: What is below the path is not granted as a whole
# custom:
#   code: file_tree
#   remedy: name the files themselves, or a directory that is granted with everything below, as /a/** is
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some op in ungranted
	verb := file.verbs[op.action]
	some face in file.faces(op)
	file.reached(verb, face)
	not file.allowed(op, verb, face)
	detail := sprintf("%s %s; granted are: %s", [verb, reason.quoted(face.path), file.shown(verb)])
}

# METADATA
# title: The file is too large
# custom:
#   code: file_too_large
#   remedy: name a smaller file, write less, or ask the operator for a larger max_bytes
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some [op, path, rule] in unkept
	file.too_large(op, rule)
	detail := sprintf("%s has %d bytes; %s allows %d", [
		reason.quoted(path),
		file.size(op), rule.rule, rule.max_bytes,
	])
}

# METADATA
# title: Only files and directories may be opened
# custom:
#   code: file_special
#   remedy: >-
#     name a file; a device needs a rule with special under files in policy.yml, and pipes and sockets
#     are not for tools
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some [op, rule] in unkept_kinds
	not rule.special
	file.special(op)
	detail := sprintf("%s is of type %s", [reason.quoted(op.file.path), op.file.type])
}

# METADATA
# title: The file may have another name, which may be anywhere
# custom:
#   code: file_hard_links
#   remedy: >-
#     name another file; one that has a further name, or of which the host does not tell, needs a rule
#     with hard_links under files in policy.yml
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some [op, rule] in unkept_kinds
	not rule.hard_links
	file.many_names(op)
	detail := sprintf("%s has %s", [reason.quoted(op.file.path), names_of(op.file)])
}

names_of(facts) := sprintf("%d names", [facts.links]) if facts.links > 0

names_of(facts) := "nobody knows how many names: ls -l on the host says nothing" if facts.links == 0

# METADATA
# title: No rule lets the caller write files
# custom:
#   code: file_write
#   remedy: ask the operator for a rule under files in policy.yml
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some op in judged_as_commands
	op.action == "file.write"
	detail := sprintf("write %s by %s", [reason.quoted(op.path), input.subject.id])
}

# METADATA
# title: A path has to be absolute
# custom:
#   code: file_relative
#   remedy: give an absolute path without .. in it
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some op in input.ops
	not op.derived
	file.concerns(op)
	not op.under
	not file.unknown(op)
	not customary(op)
	detail := reason.quoted(object.get(op, "path", ""))
}

# unkept are the ops that a rule would grant if they kept its limits.
unkept contains [op, face.path, rule] if {
	some op in ungranted
	verb := file.verbs[op.action]
	some face in file.faces(op)
	some rule in file.allowed_by(op, verb, face)
	not file.granted_face(op, verb, face)
}

unkept_kinds contains [op, rule] if some [op, _, rule] in unkept

# Where commands say what may be read, no rule makes an exception.
unkept_kinds contains [op, {"special": false, "hard_links": false}] if some op in judged_as_commands

# shown_path is a path of an op, and where it comes from if that is not how it was
# written.
shown_path(op, path) := reason.quoted(path) if {
	path == op.path
} else := sprintf("%s, which is %s", [reason.quoted(op.path), reason.quoted(path)])
