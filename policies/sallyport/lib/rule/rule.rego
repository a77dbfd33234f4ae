# METADATA
# title: Rules on commands
# description: |
#   Judges one command of a command line by a rule of policy.yml that says which
#   words a command may have. Who holds which rule is not asked here. A rule that
#   allows wants every word as it says; one that denies is not particular about
#   order, spelling and spacing.
package sallyport.lib.rule

import data.sallyport.lib.grammar
import data.sallyport.lib.reason

# spoken is a command as a rule that allows reads it: all its words from the
# first program on, and the position of the program that is run in the end. It is
# undefined where a word is not literal or leads out of a directory, and for what
# is in the text of sh -c: no rule names that.
spoken(command) := {"words": words, "inner": inner, "program": command.program} if {
	command.static
	command.scope == []
	words := all_words(command)
	inner := count(words) - count(command.argv)
	[word | some word in words; leads_out(word)] == []
}

all_words(command) := array.concat(around(command.wrappers), command.argv)

all_words(command) := array.concat(around(command.wrappers), [word.text | some word in command.words]) if {
	not command.static
}

# around are the words of the programs that run a command.
around([]) := []

around(wrappers) := [word | some w in wrappers; some word in array.concat([called(w)], w.args)] if wrappers != []

# called is how a program is called.
called(call) := concat("", [call.dir, call.program])

# key is the program by which the rules about a command are found.
key(command) := command.program if command.wrappers == []

key(command) := command.wrappers[0].program

leads_out(word) if {
	contains(word, ".")
	regex.match(`(^|^-[A-Za-z0-9]+|[/=:,@])\.\.(/|$)|/\.(/|$)`, word)
}

# Rules that allow.

# A program and any words, or some.
allows(rule, said) if {
	rule.kind == "simple"
	said.words[0] in rule.programs
	names(rule, said.inner)
	within(rule.most, said.words)
	doors(rule, said) == []
}

# A program, its first words, and paths in some places. Where further words may
# follow, those with a slash are taken for paths, too.
allows(rule, said) if {
	rule.kind == "structured"
	said.words[0] in rule.programs
	array.slice(said.words, 1, count(rule.prefix) + 1) == rule.prefix
	names(rule, said.inner)
	within(rule.most, said.words)
	[i | some i in rule.indices; not fits_at(rule, said.words, i)] == []
	[word | some word in others(rule, said.words); not fits(rule, word)] == []
	doors(rule, said) == []
}

# A text for the whole command.
allows(rule, said) if {
	rule.kind == "glob"
	named(rule, said.words[0])
	names(rule, said.inner)
	fits(rule, text_of(said.words))
	doors(rule, said) == []
}

# names says that a rule spells out everything up to the program that is run in
# the end, so that a rule on sudo alone allows nothing.
names(rule, inner) if inner <= rule.fixed

names(rule, _) if rule.all

# named says that a program may be called like this: as the rule has it, and by
# its bare name where the rule leaves it open.
named(rule, _) if rule.programs != []

named(_, word) if not contains(word, "/")

within(-1, _)

within(most, words) if {
	most >= 0
	count(words) <= most + 1
}

# There may be no such word.
fits_at(rule, words, i) if fits(rule, words[i])

fits(rule, text) if {
	some pattern in rule.patterns
	startswith(text, pattern.literal)
	regex.match(pattern.expression, text)
}

# others are the words that look like paths and are in no place of their own.
others(rule, words) := [word |
	rule.indices != []
	some i, word in words
	i > rule.fixed
	contains(word, "/")
	not i in rule.indices
]

# text_of is a command as a text. A blank inside a word is another character, so
# that it is not taken for one between words.
text_of(words) := concat(" ", [replace(word, " ", "\u0001") | some word in words])

# misfit is the first thing that keeps a rule from allowing a command.
misfit(rule, said) := sprintf("it runs %s, which the rule does not spell out", [said.program]) if {
	not names(rule, said.inner)
} else := sprintf("it is called as %s", [reason.quoted(said.words[0])]) if {
	not spelled_so(rule, said.words[0])
} else := wrong[0] if {
	wrong := misplaced(rule, said.words)
	wrong != []
} else := sprintf("it has %d words behind the program, not %d", [count(said.words) - 1, rule.most]) if {
	not within(rule.most, said.words)
} else := "it is not of that form" if {
	rule.kind == "glob"
	not fits(rule, text_of(said.words))
} else := sprintf("%s does more than look, which the rule would have to spell out", [reason.quoted(word)]) if {
	word := doors(rule, said)[0]
}

spelled_so(rule, word) if word in rule.programs

spelled_so(rule, word) if {
	rule.kind == "glob"
	named(rule, word)
}

# misplaced says which words are others than a structured rule has, and which
# paths lead elsewhere.
misplaced(rule, words) := array.concat(
	[sprintf("word %d is %s, not %q", [i + 1, at(words, i + 1), word]) |
		some i, word in rule.prefix
		not words[i + 1] == word
	],
	array.concat(
		[sprintf("word %d is %s, not one of those paths", [i, at(words, i)]) |
			some i in rule.indices
			not fits_at(rule, words, i)
		],
		[sprintf("%s is not one of those paths", [reason.quoted(word)]) |
			some word in others(rule, words)
			not fits(rule, word)
		],
	),
)

at(words, i) := reason.quoted(words[i])

at(words, i) := "missing" if not words[i]

# doors are the words with which a program does more than it is there for. A rule
# that spells one out means it.
doors(_, said) := [] if not data.sallyport.beyond[said.program]

doors(rule, said) := opening(door, array.slice(said.words, said.inner + 1, count(said.words))) if {
	door := data.sallyport.beyond[said.program]
	opening(door, array.slice(said.words, said.inner + 1, rule.fixed + 1)) == []
}

doors(rule, said) := [] if {
	door := data.sallyport.beyond[said.program]
	opening(door, array.slice(said.words, said.inner + 1, rule.fixed + 1)) != []
}

opening(door, words) := array.concat(
	[word | some word in words; regex.match(door.options, word)],
	array.slice(strangers(door, words), door.most, count(words)),
)

# strangers are the operands that are not of a harmless form.
strangers(door, words) := [word |
	some i, word in words
	not startswith(word, "-")
	not regex.match(door.operands, word)
	not takes_next(door, words, i - 1)
]

takes_next(door, words, i) if regex.match(door.valued, words[i])

# Rules that deny.

# calls are the calls of programs that a command comes to: of itself, and of each
# program that runs it.
calls(command) := array.concat(
	[{"program": w.program, "dir": w.dir, "words": words} |
		some i, w in command.wrappers
		inner := array.slice(command.wrappers, i + 1, count(command.wrappers))
		own := array.concat(w.args, array.concat(around(inner), [called(command)]))
		words := array.concat([{"text": word} | some word in own], grammar.words_of(command))
	],
	[{"program": command.program, "dir": command.dir, "words": grammar.words_of(command)}],
)

# heard is a call as a rule that denies reads it: as a text, and what its words
# come to when they are taken apart. A word that is a pattern could stand for
# anything that begins like it, and where the line changes its directory a
# relative path could lead anywhere.
heard(call, moved) := {
	"texts": {concat(" ", array.concat([program], words)) | some program in {call.program, called(call)}},
	"parts": ({part | some word in words; some part in parts(word)} | led),
	"open": {before_sign(word.text) | some word in call.words; word.pattern},
	"lost": {word | moved; some word in words; not regex.match(`^[/-]`, word)},
} if {
	words := [word.text | some word in call.words]
	led := {shortest(word.path.name) | some word in call.words}
}

before_sign(text) := regex.replace(text, `(?s)[*?].*$`, "")

# parts are a word itself, the same as a path that is as short as can be, the
# name of an option and its first letter, letters that are joined, and what is
# joined to them as a value.
parts(word) := {word, shortest(word)} if {
	not startswith(word, "-")
	not contains(word, "=")
} else := {word, shortest(value)} | names_in(name) if {
	contains(word, "=")
	name := split(word, "=")[0]
	value := substring(word, count(name) + 1, -1)
} else := {word} | names_in(word)

names_in(name) := {name} if not startswith(name, "-")

names_in(name) := {name, substring(name, 1, 2)} if startswith(name, "--")

names_in(name) := {concat("", ["-", letter]) | some letter in split(substring(name, 1, -1), "")} | tails if {
	startswith(name, "-")
	not startswith(name, "--")
	tails := {shortest(substring(name, i, -1)) | some i in [2, 3, 4, 5, 6]}
}

shortest(path) := trim_suffix(regex.replace(path, `/(\./|/)*`, "/"), "/") if {
	path != "/"
	contains(path, "/")
} else := path

# denies says that a rule is about a call.
denies(rule, _) if rule.kind == "simple"

denies(rule, call) if {
	rule.kind == "structured"
	includes(call, rule.parts)
	reaches(rule, call)
}

denies(rule, call) if {
	rule.kind == "glob"
	some pattern in rule.patterns
	some text in call.texts
	regex.match(pattern.expression, text)
}

denies(rule, call) if {
	rule.kind == "glob"
	rule.parts != []
	includes(call, rule.parts)
}

denies(rule, call) if {
	rule.kind == "glob"
	call.open != set()
	some pattern in rule.patterns
	some text in call.texts
	alike(pattern.literal, before_sign(text))
}

# includes says that all parts are there.
includes(call, wanted) := [part | some part in wanted; not part in call.parts; not might_be(call, part)] == []

# A long option may be cut, and a word that ends with * go on.
might_be(call, part) if {
	startswith(part, "--")
	some word in call.parts
	regex.match(`^--.`, word)
	startswith(part, word)
}

might_be(call, part) if {
	endswith(part, "*")
	some word in call.parts
	startswith(word, trim_suffix(part, "*"))
}

might_be(call, part) if {
	some beginning in call.open
	startswith(part, beginning)
}

might_be(call, part) if {
	startswith(part, "/")
	call.lost != set()
}

# reaches says that a word leads where the rule denies, or might.
reaches(rule, _) if rule.patterns == []

reaches(_, call) if call.lost != set()

reaches(rule, call) if {
	some part in call.parts
	some pattern in rule.patterns
	regex.match(pattern.expression, part)
}

reaches(rule, call) if {
	some beginning in call.open
	some pattern in rule.patterns
	alike(pattern.literal, beginning)
}

alike(a, b) if startswith(a, b)

alike(a, b) if startswith(b, a)
