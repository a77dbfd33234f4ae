#!/bin/sh
# Checks the bundle in this directory with the opa binary that go.mod names, or
# with the one that $OPA names. CI runs exactly this.
set -eu
cd "$(dirname "$0")"

OPA=${OPA:-go tool opa}

$OPA fmt --list --fail .
$OPA check --strict --bundle . --schema schemas/input.json --capabilities capabilities.json
$OPA test --timeout 60s --bundle . --capabilities capabilities.json
$OPA test --timeout 60s --bundle . --capabilities capabilities.json --coverage --threshold 100 --format json >/dev/null || {
	echo "policies: not every shipped rule is covered; see $OPA test --bundle . --coverage" >&2
	exit 1
}
