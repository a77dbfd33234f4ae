package sallyport.command

import data.sallyport.file
import data.sallyport.lib.reason

# Files, whether a tool names them or a command line does.

permits(op) if {
	op.place == "host"
	not op.derived
	may_use(op)
}

may_use(op) if file.granted(op)

# Where no rule on files allows anything, a tool may read what a command may.
may_use(op) if {
	not file.governs
	readable(op)
}

readable(op) if {
	ordinary(op)
	[command | some command in equivalents(op); not permitted(command)] == []
}

# ordinary is a file that is known and whose content is that of a file with one
# name.
ordinary(op) if {
	readers[op.action]
	op.under
	not file.special(op)
	not file.many_names(op)
}

# readers are the programs that do with a path what an op does.
readers := {"file.list": "ls", "file.read": "cat"}

# equivalents are the commands that an op is judged as, one for each of its paths.
equivalents(op) := [command | some face in file.faces(op); command := equivalent(op, face)]

equivalent(op, face) := {
	"id": op.call, "program": program, "dir": "", "static": true, "argv": [program, face.path],
	"args": [{
		"text": face.path, "kind": "operand",
		"path": {"clean": true, "name": face.path, "under": face.under},
	}],
	"wrappers": [], "user": "", "assigns": [], "stdin": "inherit", "redirects": [], "scope": [],
} if {
	program := readers[op.action]
}

# withheld are ops of command lines that are not permitted by what permits the
# command: where a rule on files allows something, those that none grants.
withheld contains op if {
	data.site.files != {}
	file.governs
	some op in file.ops
	op.derived
	not file.granted(op)
}

# A command that names nothing works in the directory that the call chose, which
# no grammar has seen.
withheld contains op if {
	some line in input.ops
	directory := line.command.cwd
	some op in input.ops
	op.path == directory
	op.derived
	not file.governs
	not names(line.command, op)
	not readable(op)
}

# names says that a command has an op's path among its words.
names(line, op) if {
	some command in line.commands
	command.id == op.call
	some word in command.args
	word.path.name == op.path
}

deny contains objection if {
	data.site.files != {}
	some objection in objections
}

# METADATA
# title: A rule denies this file
# custom:
#   code: file_denied
#   remedy: leave it out; the operator decided that it is not for you on this host
objections contains reason.of(rego.metadata.rule(), detail) if {
	count(file.denying) > 0
	some op in few([op | some op in file.ops; file.denials(op) != set()])
	some [path, id] in file.denials(op)
	rule := data.site.files[id]
	detail := sprintf("%s %s: %s denies %s", [
		file.verbs[op.action], shown_path(op, path),
		rule.rule, concat(" ", array.slice(rule[file.verbs[op.action]], 0, 12)),
	])
}

# METADATA
# title: It is not known which file is meant
# custom:
#   code: file_unknown
#   remedy: give an absolute path without .. in it; a command that works where it is wants one, too
objections contains reason.of(rego.metadata.rule(), detail) if {
	some op in few([op | some op in file.ops; not op.under; file.unknown(op); not customary(op)])
	detail := sprintf("%s %s", [file.verbs[op.action], reason.quoted(object.get(op, "path", ""))])
}

# few is as many of a list as one can learn from.
few(list) := array.slice(list, 0, 5)

# A path is a text of the caller like any other.
said_by(op) := concat("\u0000", [object.get(op, "path", ""), object.get(op, ["file", "path"], "")]) if {
	op.place == "host"
	not op.derived
}
