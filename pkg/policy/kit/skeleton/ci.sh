#!/bin/sh
# Everything that CI checks here, with the stock opa binary alone, 1.22 or newer:
# format, types, tests, coverage, the decisions on the fixtures, the bundle.
# OPA names the binary, REVISION the revision, SIGNING_KEY a private key in PEM.
set -eu
cd "$(dirname "$0")"
OPA=${OPA:-opa}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo "format"
$OPA fmt --list --fail custom

echo "types and built-ins"
$OPA check --strict --bundle --schema schemas/input.json --capabilities capabilities.json . sallyport.tar.gz

echo "tests"
$OPA test --bundle --capabilities capabilities.json . sallyport.tar.gz
$OPA test --bundle --capabilities capabilities.json --coverage . sallyport.tar.gz >"$scratch/coverage.json"

echo "coverage of custom"
$OPA eval --fail-defined --format raw --input "$scratch/coverage.json" '[missed |
	some file, report in input.files
	startswith(file, "custom/")
	not endswith(file, "_test.rego")
	some range in report.not_covered
	missed := sprintf("%s:%d is not reached", [file, range.start.row])
][_]' || { echo "ci.sh: write tests for these lines" >&2; exit 1; }

echo "decisions"
set --
for fixture in fixtures/*.json; do
	set -- "$@" --data "fixtures.$(basename "$fixture" .json):$fixture"
done
$OPA eval --fail-defined --format raw --strict-builtin-errors --capabilities capabilities.json \
	--bundle . --bundle sallyport.tar.gz --data site:site.json --data expected:expected.json "$@" '[wrong |
	some name, call in data.fixtures
	decision := data.sallyport.decision with input as call
	decided := {"allow": decision.allow, "codes": sort({reason.code | some reason in decision.reasons})}
	wanted := object.get(data.expected, name, "nothing")
	decided != wanted
	wrong := sprintf("fixtures/%s.json: decided %v, expected.json wants %v", [name, json.marshal(decided), json.marshal(wanted)])
][_]' || { echo "ci.sh: correct the rules, or what is expected" >&2; exit 1; }

echo "bundle"
revision=${REVISION:-$(git rev-parse HEAD 2>/dev/null || echo dev)}
set -- --bundle . --ignore '*_test.rego' --capabilities capabilities.json --revision "$revision" --output bundle.tar.gz
if [ -n "${SIGNING_KEY:-}" ]; then
	set -- "$@" --signing-key "$SIGNING_KEY" --signing-alg "${SIGNING_ALG:-ES256}"
fi
$OPA build "$@"
echo "wrote bundle.tar.gz, revision $revision"
