# METADATA
# title: Reasons
# description: |
#   A refusal says in words that a program can tell apart and an agent can act
#   on what was wrong. Code, title and remedy stand in the annotation of the rule
#   that refuses; the detail names the culprit.
package sallyport.lib.reason

# of makes a reason of a rule's annotation.
of(annotation, detail) := {
	"code": annotation.custom.code,
	"title": annotation.title,
	"remedy": annotation.custom.remedy,
	"detail": detail,
}

# said makes a reason of what a custom package says: an object of the same four
# fields, any of which it may leave out, or anything else as the detail.
said(annotation, _, word) := {
	"code": text(object.get(word, "code", annotation.custom.code)),
	"title": text(object.get(word, "title", annotation.title)),
	"remedy": text(object.get(word, "remedy", annotation.custom.remedy)),
	"detail": text(object.get(word, "detail", "")),
} if {
	is_object(word)
}

said(annotation, name, word) := of(annotation, sprintf("custom.%s: %s", [name, text(word)])) if not is_object(word)

text(word) := word if is_string(word)

text(word) := json.marshal(word) if not is_string(word)

# quoted is a word as it can be shown: what is long is cut.
quoted(word) := sprintf("%q", [word]) if count(word) <= 100

quoted(word) := sprintf("%q...", [substring(word, 0, 100)]) if count(word) > 100
