# METADATA
# title: Short runs in production, and no secrets in results
package custom.limits_and_secrets

# Limits are narrowed, never widened: the smallest of all that are said counts.
limits := {"seconds": 30, "output_bytes": 65536, "calls_per_minute": 30} if "production" in input.host.tags

# What matches these is taken out of every result.
redact contains `AKIA[0-9A-Z]{16}`

redact contains `(?i)(password|passwd|secret|token)\s*[=:]\s*\S+`

redact contains `-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----`
