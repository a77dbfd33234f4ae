package custom.limits_and_secrets_test

import data.custom.limits_and_secrets as policy

test_limits if {
	policy.limits.seconds == 30 with input as {"host": {"tags": ["production"]}}
	not policy.limits with input as {"host": {"tags": ["staging"]}}
}

test_redacted[text] if {
	some text in ["key AKIAABCDEFGHIJKLMNOP", "DB_PASSWORD=hunter2", "Token: abc", key]
	some pattern in policy.redact
	regex.match(pattern, text)
}

test_left_alone if {
	text := "nginx.service - loaded, active, passwordless"
	[pattern | some pattern in policy.redact; regex.match(pattern, text)] == []
}

key := "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blb\n-----END OPENSSH PRIVATE KEY-----"
