# METADATA
# title: How much a call may use
# description: |
#   Limits come from policy.yml by way of the host, or from its defaults for a
#   call to the gateway itself or to a host outside of the inventory; a custom
#   package may narrow them. Zero is no limit. The gateway takes the smaller of
#   these and what the caller asks for.
package sallyport.limit

import data.sallyport.lib.reason

permit if {
	limits
	[name | some name; bounds := data.custom[name].limits; not well_formed(bounds)] == []
	bounds := effective
	below(bounds.concurrent, input.usage.running.host)
	below(bounds.calls_per_minute, input.usage.calls_last_minute.subject)
}

limits := {
	"seconds": bounds.seconds,
	"output_bytes": bounds.output_bytes,
	"concurrent": bounds.concurrent,
} if {
	bounds := effective
}

# own is what the site says.
own := data.site.hosts[input.host.alias].limits if input.host.source == "inventory"

own := data.site.limits if input.host.source == "gateway"

own := data.site.limits if input.host.source == "adhoc"

narrower := [bounds | some name; bounds := data.custom[name].limits]

effective := own if {
	narrower == []
} else := {name: narrow(name) | some name in ["seconds", "output_bytes", "concurrent", "calls_per_minute"]} if {
	own
}

narrow(name) := min(bounds_of(name)) if {
	bounds_of(name) != set()
} else := 0

bounds_of(name) := {bound |
	some said in array.concat([own], narrower)
	bound := said[name]
	bound > 0
}

# well_formed says that a custom package's limits are limits: whole numbers under
# names that mean something.
well_formed(bounds) if {
	is_object(bounds)
	[name | some name, bound in bounds; not whole(name, bound)] == []
}

whole(name, bound) if {
	name in {"seconds", "output_bytes", "concurrent", "calls_per_minute"}
	is_number(bound)
	bound >= 0
	floor(bound) == bound
}

# below says that one more is within a limit.
below(0, _)

below(limit, used) if used < limit

# METADATA
# title: Too many calls at once
# custom:
#   code: limit_concurrent
#   remedy: wait until a running call on this host has finished
reasons contains reason.of(rego.metadata.rule(), detail) if {
	not below(effective.concurrent, input.usage.running.host)
	detail := sprintf("%d running, at most %d", [input.usage.running.host, effective.concurrent])
}

# METADATA
# title: Too many calls in a minute
# custom:
#   code: limit_rate
#   remedy: wait a minute and make fewer calls
reasons contains reason.of(rego.metadata.rule(), detail) if {
	not below(effective.calls_per_minute, input.usage.calls_last_minute.subject)
	detail := sprintf("%d in the last minute, at most %d", [
		input.usage.calls_last_minute.subject,
		effective.calls_per_minute,
	])
}

# METADATA
# title: Limits of this site cannot be understood
# custom:
#   code: limit_malformed
#   remedy: >-
#     tell the operator; limits of a custom package is an object of whole numbers
#     under seconds, output_bytes, concurrent and calls_per_minute
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some name
	bounds := data.custom[name].limits
	not well_formed(bounds)
	detail := sprintf("custom.%s says %s", [name, json.marshal(bounds)])
}

# METADATA
# title: No limits are set for this
# custom:
#   code: limit_undefined
#   remedy: tell the operator; the site data has no limits for this host
reasons contains reason.of(rego.metadata.rule(), input.host.alias) if not limits
