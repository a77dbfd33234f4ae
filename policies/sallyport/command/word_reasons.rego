package sallyport.command

import data.sallyport.lib.grammar
import data.sallyport.lib.reason

# Which word of a refused command is at fault, and what would be permitted in
# its place. A reading holds a command against one grammar: the words after the
# program, or after the verb where that has options of its own.

# candidates are the refused commands with each grammar that is about them.
candidates contains {"command": command, "words": words, "spec": spec, "names": names} if {
	some command in refused
	some table, names in held
	spec := data.sallyport.profiles.commands[table][command.program]
	words := grammar.words_of(command)
}

readings contains reading(c, c.command.program, c.spec, c.spec, c.words, 0) if {
	some c in candidates
	grammar.plain(c.spec)
}

# The operands are the verb's once there is one that is known; before that it is
# not clear what they would be.
readings contains reading(c, name, c.spec, verb, c.words, 1) if {
	some c in candidates
	joined_verb(c.spec)
	word := verb_word(c)
	verb := c.spec.sub[word.text]
	name := concat(" ", [c.command.program, word.text])
}

readings contains reading(c, c.command.program, c.spec, {"operands": ["text*"]}, c.words, count(c.words)) if {
	some c in candidates
	joined_verb(c.spec)
	not c.spec.sub[verb_word(c).text]
}

readings contains reading(c, name, verb, verb, array.slice(c.words, at + 1, count(c.words)), 0) if {
	some c in candidates
	at := verb_position(c.spec)
	verb := c.spec.sub[c.words[at].text]
	name := concat(" ", [c.command.program, c.words[at].text])
}

# METADATA
# title: An option is not permitted
# custom:
#   code: command_option
#   remedy: leave it out, or use one of those named; options have to be spelled in full
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some r in readings
	some option in r.unknown
	detail := sprintf("%s: option %s is not in %s; allowed: %s", [
		r.name, reason.quoted(option),
		r.profiles, options_of(r.spec),
	])
}

# METADATA
# title: The value of an option is not permitted
# custom:
#   code: command_option_value
#   remedy: give a value of that form; one that begins with a dash has to be joined to its option
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some r in readings
	some fault in r.faults
	detail := concat(": ", [r.name, fault])
}

# METADATA
# title: An option is missing
# custom:
#   code: command_option_required
#   remedy: add it
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some r in settled
	some needed in r.spec.require
	not grammar.some_given(r.spec, r.words, needed)
	detail := sprintf("%s: %s", [r.name, concat(" or ", [written(option) | some option in needed])])
}

# METADATA
# title: There are too many operands or too few
# custom:
#   code: command_operand_count
#   remedy: give as many as that
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some r in settled
	given := count(r.operands)
	least := object.get(r.wanted, "min", 0)
	most := grammar.most(r.wanted)
	true in {given < least, given > most}
	kinds := concat(" ", [named(type) | some type in r.wanted.operands])
	detail := sprintf("%s: %d, but it takes %s: %s", [r.name, given, span(least, most), kinds])
}

span(least, most) := sprintf("%d to %d", [least, most]) if least != most

span(least, most) := sprintf("%d", [least]) if least == most

# METADATA
# title: A search of a whole tree has to be told of which
# custom:
#   code: command_path_required
#   remedy: name a directory or a file
reasons contains reason.of(rego.metadata.rule(), r.name) if {
	some r in settled
	grammar.lacks_path(r.spec, r.words, r.operands)
}

# METADATA
# title: A path is outside of what is permitted
# custom:
#   code: command_path
#   remedy: name a path that is, absolute and without . or .. in it
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some fault in faulty
	data.sallyport.profiles.paths[fault.type]
	not pattern_refused(fault)
	detail := sprintf("%s: %s is not %s", [fault.name, reason.quoted(fault.operand.text), described(fault.type)])
}

# METADATA
# title: An operand is not permitted
# custom:
#   code: command_operand
#   remedy: give one of that form
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some fault in faulty
	not data.sallyport.profiles.paths[fault.type]
	not pattern_refused(fault)
	detail := sprintf("%s: %s is not %s", [fault.name, reason.quoted(fault.operand.text), described(fault.type)])
}

# METADATA
# title: A pattern is not permitted there
# custom:
#   code: command_pattern
#   remedy: name the files, or list the directory first; quote the word if it is meant literally
reasons contains reason.of(rego.metadata.rule(), detail) if some detail in misplaced_patterns

# METADATA
# title: The verb is not permitted
# custom:
#   code: command_verb
#   remedy: use one of those named
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some c in candidates
	word := verb_word(c)
	not c.spec.sub[word.text]
	[r | some r in readings; r.words == c.words; r.unknown != set()] == []
	detail := sprintf("%s: %s is not one of %s in %s%s", [
		c.command.program, reason.quoted(word.text), concat(" ", object.keys(c.spec.sub)),
		concat(", ", sort(c.names)), restartable(c),
	])
}

# METADATA
# title: The words are not in the form that the command wants
# custom:
#   code: command_form
#   remedy: write it in that form
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some c in candidates
	not grammar.fits({"glob": glob(c.names)}, c.spec, c.command)
	detail := sprintf("%s takes %s", [c.command.program, form(c)])
}

verb_position(spec) := 0 if spec.sub_first

verb_position(spec) := 2 if spec.git

# joined_verb says that options may stand before and after the verb.
joined_verb(spec) if {
	spec.sub
	not spec.sub_first
	not spec.git
}

verb_word(c) := c.words[verb_position(c.spec)]

verb_word(c) := grammar.operands_in(c.words, options_in(c.spec, c.words))[0] if joined_verb(c.spec)

# options_in is like grammar.options_in, without those that are not known.
options_in(spec, words) := {i: type |
	some i, word in words
	word.kind != "operand"
	type := grammar.takes(word.kind, spec, word)
}

# reading sorts the words into options and operands, without the first ones that
# are no operands, and says which options are not known and which values do not fit.
reading(c, name, spec, wanted, words, skip) := {
	"name": name,
	"profiles": concat(", ", sort(c.names)),
	"glob": glob(c.names),
	"spec": spec,
	"wanted": grammar.expected(wanted, words),
	"words": words,
	"operands": array.slice(operands, skip, count(operands)),
	"unknown": {option | some word in words; option := unknown_option(spec, word)},
	"faults": {fault | some i, word in words; fault := value_fault(spec, words, options, i, word)},
} if {
	options := options_in(spec, words)
	operands := grammar.operands_in(words, options)
}

glob(names) := true in {data.sallyport.profiles.named[name].glob | some name in names}

unknown_option(spec, word) := concat("", ["-", letter]) if {
	word.kind == "letters"
	not grammar.takes("letters", spec, word)
	letter := substring(grammar.behind_flags(spec, word), 0, 1)
	not spec.valued[letter]
}

unknown_option(spec, word) := concat("", ["--", word.name]) if {
	word.kind == "long"
	not word.name in object.get(spec, "long", [])
	not spec.long_valued[word.name]
}

# A word such as --=x names no option at all.
unknown_option(_, word) := word.text if {
	word.kind == "long"
	not word.name
}

# options_of lists what a grammar permits, in the way it is written.
options_of(spec) := concat(" ", [option |
	some option in array.concat(
		array.concat(
			[concat("", ["-", spec.flags]) | spec.flags],
			[sprintf("-%s %s", [letter, named(type)]) | some letter, type in spec.valued],
		),
		array.concat(
			array.concat(["-NUM" | spec.number], [concat("", ["--", name]) | some name in spec.long]),
			[sprintf("--%s=%s", [name, named(type)]) | some name, type in spec.long_valued],
		),
	)
])

# named is how a type stands for its values.
named(type) := upper(type) if data.sallyport.profiles.types[type]

named(type) := type if not data.sallyport.profiles.types[type]

value_fault(spec, _, _, _, word) := unfit(concat("", ["-", letter]), type, substring(rest, 1, -1)) if {
	word.kind == "letters"
	not grammar.takes("letters", spec, word)
	rest := grammar.behind_flags(spec, word)
	letter := substring(rest, 0, 1)
	type := spec.valued[letter]
}

value_fault(spec, _, _, _, word) := sprintf("--%s takes no value", [word.name]) if {
	word.kind == "long"
	word.name in spec.long
	is_string(word.value)
}

value_fault(spec, _, _, _, word) := unfit(concat("", ["--", word.name]), type, word.value) if {
	word.kind == "long"
	type := spec.long_valued[word.name]
	not grammar.takes("long", spec, word)
}

value_fault(_, words, options, i, word) := concat("", array.concat([fault], instead)) if {
	type := options[i]
	type != ""
	next := i + 1
	not grammar.value_fits(type, words, next)
	fault := sprintf("%s wants a value %s as the next word", [word.text, described(type)])
	instead := [concat("", [", not ", text]) | text := reason.quoted(words[next].text)]
}

unfit(option, type, value) := sprintf("%s wants a value %s, not %s", [option, described(type), reason.quoted(value)])

# settled are the readings whose options are in order, so that it is clear which
# words are operands.
settled contains r if {
	some r in readings
	r.unknown == set()
	r.faults == set()
}

written(option) := concat("", ["-", option]) if count(option) == 1

written(option) := concat("", ["--", option]) if count(option) > 1

# faulty are operands that are not of the type wanted in their place, the first
# few of each command.
faulty contains fault if {
	some r in settled
	some fault in array.slice(
		[{"name": r.name, "type": type, "operand": operand, "glob": r.glob} |
			some i, operand in r.operands
			type := grammar.type_at(r.wanted, i)
			not grammar.operand_fits({"glob": r.glob}, type, operand)
		],
		0, 3,
	)
}

# described says in words what a type is.
described(type) := sprintf("at or below %s%s", [concat(" or ", path.under), files]) if {
	path := data.sallyport.profiles.paths[type]
	files := concat("", [concat(" ", array.concat([", nor one of"], path.exact)) | path.exact != []])
} else := concat("", ["of the form ", object.get(data.sallyport.profiles.types, type, type)])

misplaced_patterns contains concat(": ", [fault.name, reason.quoted(fault.operand.text)]) if {
	some fault in faulty
	pattern_refused(fault)
}

misplaced_patterns contains sprintf("%s: %s could be more than one", [r.name, reason.quoted(operand.text)]) if {
	some r in settled
	r.wanted.max
	some operand in r.operands
	operand.pattern
}

pattern_refused(fault) if {
	fault.operand.pattern
	not pattern_possible(fault)
}

pattern_possible(fault) if {
	fault.glob
	data.sallyport.profiles.paths[fault.type].glob
}

# restartable adds which units a profile may restart, where that is what it is
# about.
restartable(c) := concat("", [sprintf("; sudo -n systemctl restart, reload or try-restart takes one unit %s", [unit]) |
	c.command.program == "systemctl"
	some name in c.names
	unit := described(data.sallyport.profiles.named[name].restart_units)
])

form(c) := "words as they are, no patterns" if c.spec.raw

form(c) := sprintf("one of -e -f -d -s -r and one path %s, or %s", [described("log_path"), described("list_path")]) if {
	c.spec.file_test
}

form(c) := sprintf("any of %s%s", [concat(" ", words), fault]) if {
	fault := misfit(c.spec.tokens, c.spec.pairs, c.spec.prefixed, c.words)
	prefixed := [concat("", [prefix, named(type)]) | some prefix, type in c.spec.prefixed]
	words := array.concat(array.concat(c.spec.tokens, followed(c.spec.pairs)), prefixed)
}

form(c) := sprintf("paths %s, then any of %s%s", [described(find.starts), concat(" ", tests), fault]) if {
	find := c.spec.find
	tests := array.concat(find.unary, followed(find.valued))
	fault := misfit(find.unary, find.valued, {}, array.slice(c.words, grammar.tests_begin(c.words), count(c.words)))
}

form(c) := sprintf("-C and a path %s, one of %s, then its options", [
	described("repo_path"),
	concat(" ", object.keys(c.spec.sub)),
]) if {
	c.spec.git
	not directory_given(c.words)
}

form(c) := concat(" ", array.concat(["a verb:"], [verb | some verb, _ in c.spec.sub])) if {
	c.spec.sub
	not verb_word(c)
	not directory_missing(c)
}

directory_missing(c) if {
	c.spec.git
	not directory_given(c.words)
}

directory_given(words) if {
	words[0].text == "-C"
	grammar.operand_fits({}, "repo_path", words[1])
}

followed(pairs) := [concat(" ", [key, named(type)]) | some key, type in pairs]

# misfit names the first word that is in no list.
misfit(tokens, pairs, prefixes, words) := concat("", array.slice(
	[concat("", [", not ", reason.quoted(word.text)]) |
		some i, word in words
		not grammar.listed_word(tokens, pairs, prefixes, words, i)
	],
	0, 1,
))
