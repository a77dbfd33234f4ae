# METADATA
# title: Changes wait for business hours
# description: |
#   From Monday to Friday, 08:00 to 18:00 UTC, hosts may be changed. At other
#   times they may be looked at.
package custom.business_hours

# METADATA
# title: Hosts are changed in business hours only
deny contains {
	"code": "business_hours",
	"title": "Hosts are changed in business hours only",
	"remedy": "call again from Monday to Friday between 08:00 and 18:00 UTC, or ask the operator",
	"detail": op.action,
} if {
	not open
	some op in input.ops
	op.effect == "change"
	input.host.source != "gateway"
}

open if {
	now := time.parse_rfc3339_ns(input.now)
	not time.weekday(now) in {"Saturday", "Sunday"}
	hour := time.clock(now)[0]
	hour >= 8
	hour < 18
}
