# METADATA
# title: Production is looked at, not changed
# description: |
#   On hosts with the tag production nothing is changed and nothing is run that
#   could, whoever calls and whatever was granted.
package custom.read_only_production

# METADATA
# title: Production is read-only
deny contains {
	"code": "read_only_production",
	"title": "Production is read-only",
	"remedy": "do it on another host first, and ask the operator for a change window",
	"detail": op.action,
} if {
	"production" in input.host.tags
	some op in input.ops
	op.effect in {"change", "execute"}
	not judged_by_its_parts(op)
}

# A command line is what its commands are; what those do are ops of their own.
judged_by_its_parts(op) if op.action == "shell.run"
