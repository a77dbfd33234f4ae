# METADATA
# title: Critical hosts are for emergencies
# description: |
#   On hosts with the tag critical only members of the group break-glass run
#   anything, for a minute at a time. Looking at what there is stays open.
package custom.break_glass

# METADATA
# title: The host is for emergencies
deny contains {
	"code": "break_glass",
	"title": "The host is for emergencies",
	"remedy": "ask the officer on duty to be put into the group break-glass",
	"detail": op.action,
} if {
	critical
	not "break-glass" in input.subject.groups
	some op in input.ops
	op.action != "gateway.read"
}

limits := {"seconds": 60, "concurrent": 1} if critical

critical if "critical" in input.host.tags
