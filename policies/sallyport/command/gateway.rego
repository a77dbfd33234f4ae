package sallyport.command

import data.sallyport.lib.reason

# Everybody may ask which hosts there are, whether the gateway lives and by which
# keys hosts know it, and close a connection: nobody has any but its own.
permits(op) if op.action in {"gateway.list", "gateway.read", "identity.read", "conn.close"}

# The gateway shows and stops nobody's tasks but the caller's own.
permits(op) if op.action in {"task.read", "task.control"}

permits(op) if {
	op.action == "gateway.control"
	op.operation == "reload"
	reloader
}

reloader if {
	data.site.gateway.reload.local
	input.subject.auth == "local"
}

reloader if data.site.gateway.reload.subjects[input.subject.id]

reloader if {
	some group in input.subject.groups
	data.site.gateway.reload.groups[group]
}

# METADATA
# title: The caller may not control the gateway
# custom:
#   code: gateway_control_not_granted
#   remedy: ask the operator to do it, or to name you under reload in policy.yml
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some op in input.ops
	op.action == "gateway.control"
	not permits(op)
	not customary(op)
	detail := sprintf("%s by %s", [op.operation, input.subject.id])
}
