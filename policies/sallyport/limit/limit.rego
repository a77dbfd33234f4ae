# METADATA
# title: How much a call may use
# description: |
#   Limits come from policy.yml by way of the host, or from its defaults for a
#   call to the gateway itself; a custom package may narrow them. Zero is no
#   limit. The gateway takes the smaller of these and what the caller asks for.
package sallyport.limit

import data.sallyport.lib.reason

permit if {
	limits
	below(effective.concurrent, input.usage.running.host)
	below(effective.calls_per_minute, input.usage.calls_last_minute.subject)
}

limits := {
	"seconds": effective.seconds,
	"output_bytes": effective.output_bytes,
	"concurrent": effective.concurrent,
}

# own is what the site says.
own := data.site.hosts[input.host.alias].limits if input.host.source == "inventory"

own := data.site.limits if input.host.source == "gateway"

narrower := [limits | limits := data.custom[_].limits]

effective := own if narrower == []

effective := {name: narrow(name) |
	some name in ["seconds", "output_bytes", "concurrent", "calls_per_minute"]
} if {
	narrower != []
}

narrow(name) := min(bounds(name)) if bounds(name) != set()

narrow(name) := 0 if bounds(name) == set()

bounds(name) := {bound | some bound in [object.get(limits, name, 0) | some limits in array.concat([own], narrower)]; bound > 0}

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
# title: No limits are set for this
# custom:
#   code: limit_undefined
#   remedy: tell the operator; the site data has no limits for this host
reasons contains reason.of(rego.metadata.rule(), input.host.alias) if not limits
