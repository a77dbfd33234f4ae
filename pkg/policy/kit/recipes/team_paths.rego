# METADATA
# title: Each team writes below its own directories
package custom.team_paths

# The directories of each group. A real site may have them in a data.json beside
# this file instead, below custom/team_paths.
directories := {
	"web": {"/srv/web", "/etc/nginx"},
	"data": {"/srv/data"},
}

# METADATA
# title: The file belongs to another team
deny contains {
	"code": "team_paths",
	"title": "The file belongs to another team",
	"remedy": "write below a directory of your team, with an absolute path",
	"detail": op.path,
} if {
	some op in input.ops
	op.action == "file.write"
	not own(op)
}

# What a path is below, the gateway has worked out: no prefix of text is compared,
# and a path that is not known is below nothing.
own(op) if {
	some group in input.subject.groups
	some directory in directories[group]
	directory in op.under
}
