# METADATA
# title: Argument grammars
# description: |
#   Judges one command of a command line by a profile. README.md describes the
#   language of the grammars; the words come lexed from the gateway. Everything
#   here says what is permitted; what it does not say is refused.
#
#   This is where a decision spends its time. What is cheap in OPA is walking a
#   list within a rule, what is dear is calling a function, and each argument
#   that differs from the last call's adds to it. So "all of them" is written as
#   "none that does not", and arguments stand in the order in which they change.
package sallyport.lib.grammar

# permits says that a profile permits a command.
permits(profile, command) if {
	command.dir in {"", "/bin/", "/usr/bin/"}
	command.assigns == []
	command.scope == []
	wrapped(profile, command.wrappers)
	some table in profile.commands
	spec := data.sallyport.profiles.commands[table][command.program]
	fits(profile, spec, command)
}

# words_of are the words after the program; undefined if one is not known.
words_of(command) := words if {
	words := command.args
} else := [] if {
	command.static
}

# Forms of a grammar.

# Most are plain: options and operands in any order.
fits(profile, spec, command) if {
	plain(spec)
	plain_fits(profile, spec, words_of(command))
}

# Any literal words.
fits(_, spec, command) if {
	spec.raw
	command.static
}

# Options and a verb, which says what operands follow it.
fits(profile, spec, command) if {
	spec.sub
	not spec.sub_first
	not spec.git
	verb_fits(profile, spec, words_of(command))
}

# The verb comes first and has options of its own.
fits(profile, spec, command) if {
	spec.sub_first
	words := command.args
	not words[0].pattern
	verb := spec.sub[words[0].text]
	plain_fits(profile, verb, array.slice(words, 1, count(words)))
}

# -C and a directory come first, then the verb and its options.
fits(profile, spec, command) if {
	spec.git
	words := command.args
	words[0].text == "-C"
	operand_fits(profile, "repo_path", words[1])
	not words[2].pattern
	verb := spec.sub[words[2].text]
	plain_fits(profile, verb, array.slice(words, 3, count(words)))
}

# One operator and one path.
fits(profile, spec, command) if {
	spec.file_test
	words := file_test_words(command)
	count(words) == 2
	words[0].text in {"-e", "-f", "-d", "-s", "-r"}
	some type in ["log_path", "list_path"]
	operand_fits(profile, type, words[1])
}

# Words one by one, some of them followed by a value.
fits(_, spec, command) if {
	spec.tokens
	listed(spec.tokens, spec.pairs, spec.prefixed, words_of(command))
}

# Directories, then tests one by one.
fits(profile, spec, command) if {
	words := command.args
	begin := tests_begin(words)
	begin > 0
	starts := array.slice(words, 0, begin)
	type := spec.find.starts
	[start | some start in starts; not operand_fits(profile, type, start)] == []
	listed(spec.find.unary, spec.find.valued, {}, array.slice(words, begin, count(words)))
}

# Some profiles restart a unit, through sudo, beside what their tables have.
fits(profile, _, command) if {
	command.program == "systemctl"
	command.wrappers[0].program == "sudo"
	unit := {"operands": [profile.restart_units], "min": 1, "max": 1}
	verb_fits(profile, {"sub": {"restart": unit, "reload": unit, "try-restart": unit}}, command.args)
}

plain(spec) if [key | some key in ["raw", "sub", "tokens", "find", "file_test"]; spec[key]] == []

tests_begin(words) := min({i | some i, word in words; startswith(word.text, "-")} | {count(words)})

file_test_words(command) := command.args if command.program != "["

# A bracket wants its counterpart.
file_test_words(command) := array.slice(command.args, 0, last) if {
	command.program == "["
	last := count(command.args) - 1
	command.args[last].text == "]"
}

# Options and operands.

plain_fits(_, spec, []) if {
	not spec.require
	object.get(spec, "min", 0) == 0
}

plain_fits(profile, spec, words) if {
	options := options_in(spec, words)
	operands := operands_in(words, options)
	[needed | some needed in spec.require; not some_given(spec, words, needed)] == []
	not lacks_path(spec, words, operands)
	operands_fit(profile, expected(spec, words), operands)
}

# expected is what says which operands there have to be: the grammar itself, or
# what it says for the case that some option is there.
expected(spec, words) := array.concat(others, [spec])[0] if {
	others := [other | some other in spec.when; some_given(spec, words, other.option)]
}

verb_fits(profile, spec, words) if {
	operands := operands_in(words, options_in(spec, words))
	not operands[0].pattern
	verb := spec.sub[operands[0].text]
	operands_fit(profile, verb, array.slice(operands, 1, count(operands)))
}

verb_fits(_, spec, words) if {
	operands_in(words, options_in(spec, words)) == []
	some_given(spec, words, spec.sub_optional_with)
}

# options_in gives the words that are options, by position: the type of the
# value that one takes from the next word, empty if it takes none. It is
# undefined when an option is not in the grammar or a value is not of its type.
options_in(spec, words) := options if {
	options := {i: type | some i, word in words; word.kind != "operand"; type := takes(word.kind, spec, word)}
	[i | some i, word in words; word.kind != "operand"; not options[i]] == []
	[i | some i, type in options; type != ""; not value_fits(type, words, i + 1)] == []
}

operands_in(words, options) := [word |
	some i, word in words
	word.kind == "operand"
	object.get(options, i - 1, "") == ""
]

# takes is the type of the value that an option takes from the next word, and
# empty if it takes none. It is undefined for an option that is not in the
# grammar.
takes("end", _, _) := ""

takes("letters", spec, word) := type if {
	not word.pattern
	type := letters_take(spec, behind_flags(spec, word))
} else := "" if {
	word.number
	spec.number
}

takes("long", spec, word) := "" if {
	word.name in spec.long
	not word.value
} else := spec.long_valued[word.name] if {
	not word.value
} else := "" if {
	not word.pattern
	matches(spec.long_valued[word.name], word.value)
}

# behind_flags is what is left of a word of letters behind those without a value.
behind_flags(spec, word) := trim_left(substring(word.text, 1, -1), object.get(spec, "flags", ""))

# letters_take is like takes for what is left: nothing, a letter whose value is
# the next word, or a letter and its value in one.
letters_take(_, "") := ""

letters_take(spec, rest) := type if {
	type := spec.valued[rest]
} else := "" if {
	matches(spec.valued[substring(rest, 0, 1)], substring(rest, 1, -1))
}

# A value in the next word must not begin with a dash, so that what is a value
# depends on nothing but the word before it.
value_fits(type, words, i) if {
	word := words[i]
	word.kind == "operand"
	word.text != "-"
	not word.pattern
	matches(type, word.text)
}

# some_given says that one of some options is there.
some_given(_, words, options) if {
	some word in words
	word.kind == "long"
	word.name in options
}

some_given(spec, words, options) if {
	some word in words
	word.kind == "letters"
	given := substring(word.text, 1, count(word.text) - count(behind_flags(spec, word)))
	some option in options
	count(option) == 1
	contains(given, option)
}

# lacks_path says that a search of a whole tree is not told of which.
lacks_path(spec, words, operands) if {
	some_given(spec, words, spec.recursive_needs_path)
	others := [type | some type in expected(spec, words).operands; not endswith(type, "*")]
	count(operands) <= count(others)
}

# operands_fit says that the operands are of the types that a grammar wants, in
# number, too. A pattern can stand for any number, so it is not for a place
# where there is a most.
operands_fit(_, spec, []) if object.get(spec, "min", 0) == 0

operands_fit(profile, spec, operands) if {
	count(operands) >= object.get(spec, "min", 1)
	count(operands) <= most(spec)
	fitting := [i | some i, operand in operands; operand_fits(profile, type_at(spec, i), operand)]
	count(fitting) == count(operands)
	[operand | spec.max; some operand in operands; operand.pattern] == []
}

# most operands that there may be; more words than this make no command line.
most(spec) := number if {
	number := spec.max
} else := 16384 if {
	endswith(spec.operands[count(spec.operands) - 1], "*")
} else := count(object.get(spec, "operands", []))

# type_at is the type wanted of an operand; a star says that the last one is for
# all that follow.
type_at(spec, i) := trim_suffix(type, "*") if {
	type := spec.operands[i]
} else := trim_suffix(spec.operands[count(spec.operands) - 1], "*")

# operand_fits says that a word is of a type: below a directory, one of the
# files, a pattern below a directory, or a value.
operand_fits(_, type, word) if {
	word.path.clean
	word.kind == "operand"
	not word.pattern
	some directory in data.sallyport.profiles.paths[type].under
	directory in word.path.under
}

operand_fits(_, type, word) if {
	word.path.clean
	word.kind == "operand"
	word.path.name in data.sallyport.profiles.paths[type].exact
	not word.pattern
}

operand_fits(profile, type, word) if {
	word.pattern
	profile.glob
	word.path.clean
	word.kind == "operand"
	data.sallyport.profiles.paths[type].glob
	some directory in data.sallyport.profiles.paths[type].under
	directory in word.path.under
}

operand_fits(_, type, word) if {
	not data.sallyport.profiles.paths[type]
	word.kind == "operand"
	not word.pattern
	matches(type, word.text)
}

# matches says that a whole text is of a value type.
matches("text", _)

matches(type, text) if {
	expression := object.get(data.sallyport.profiles.types, type, type)
	regex.match(replace("^(?s:type)$", "type", expression), text)
}

# Lists of words.

# listed says that each word is one of the tokens, or a key followed by a
# value, or begins with a prefix that a value follows.
listed(tokens, pairs, prefixes, words) if {
	[i | some i, _ in words; not listed_word(tokens, pairs, prefixes, words, i)] == []
	[word | some word in words; word.pattern] == []
}

listed_word(tokens, pairs, _, words, i) if {
	words[i].text in tokens
	not follows_key(pairs, words, i)
}

listed_word(_, pairs, _, words, i) if {
	pairs[words[i].text]
	next := words[i + 1].text
	not pairs[next]
	not follows_key(pairs, words, i)
}

listed_word(_, pairs, _, words, i) if {
	not pairs[words[i].text]
	matches(pairs[words[i - 1].text], words[i].text)
}

listed_word(_, pairs, prefixes, words, i) if {
	not follows_key(pairs, words, i)
	some prefix, type in prefixes
	startswith(words[i].text, prefix)
	matches(type, trim_prefix(words[i].text, prefix))
}

follows_key(pairs, words, i) if pairs[words[i - 1].text]

# Wrappers.

# wrapped says that all that runs a command may.
wrapped(_, [])

wrapped(profile, wrappers) if {
	wrappers != []
	[i | some i, _ in wrappers; not wrapper_fits(profile, wrappers, i)] == []
}

# wrapper_fits says that a wrapper is one that the profile permits: at most two,
# none twice, sudo outermost.
wrapper_fits(profile, wrappers, i) if {
	i < 2
	wrapper := wrappers[i]
	wrapper.program in profile.wrappers
	wrapper.dir in {"", "/bin/", "/usr/bin/"}
	not wrappers[i - 1].program == wrapper.program
	wrapper_words_fit(wrapper.program, i, wrapper.args)
}

wrapper_words_fit("sudo", 0, args) if {
	regex.match(`^(-n+|--non-interactive)( (-n+|--non-interactive))*( --)?$`, concat(" ", args))
}

wrapper_words_fit("timeout", _, [duration]) if regex.match(`^[0-9]{1,3}s?$`, duration)

wrapper_words_fit("nice", _, ["-n", adjustment]) if regex.match(`^[0-9]{1,2}$`, adjustment)
