package sallyport.command

import data.sallyport.lib.reason

# The rules are shown to those who may load them anew. A custom package may permit
# it to others: an op of the action gateway.explain.
permits(op) if {
	op.action == "gateway.explain"
	reloader
}

# METADATA
# title: The rules are not shown to the caller
# custom:
#   code: explain_not_granted
#   remedy: go by the reasons, or ask the operator, who can let whoever may reload see them
reasons contains reason.of(rego.metadata.rule(), input.subject.id) if {
	some op in input.ops
	op.action == "gateway.explain"
	not permits(op)
	not customary(op)
}
