package sallyport

default decision := {
	"allow": false,
	"reasons": [{
		"code": "undecided",
		"title": "No rule permits this",
		"remedy": "ask the operator for a grant in policy.yml",
		"detail": "",
	}],
	"limits": {"seconds": 0, "output_bytes": 0, "concurrent": 0},
	"redact": [],
	"record": "full",
	"approval": null,
}
