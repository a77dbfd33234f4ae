package shell

import "math/bits"

// featureSet is a set of the constructs in features, one bit each.
type featureSet uint64

// features is the closed set of constructs, sorted; a bit of a featureSet is an
// index into it.
var features = [...]Feature{
	FeatureAnd,
	FeatureANSICQuote,
	FeatureArithmetic,
	FeatureArithmeticCommand,
	FeatureArray,
	FeatureAssignment,
	FeatureAssignmentPrefix,
	FeatureBackground,
	FeatureBraceExpansion,
	FeatureCase,
	FeatureCommandSubstitution,
	FeatureCoproc,
	FeatureDeclaration,
	FeatureExtglob,
	FeatureFunction,
	FeatureGlob,
	FeatureGlobClass,
	FeatureGroup,
	FeatureHeredoc,
	FeatureHerestring,
	FeatureIf,
	FeatureLet,
	FeatureLocaleQuote,
	FeatureLoop,
	FeatureNegation,
	FeatureOr,
	FeatureParameter,
	FeaturePipe,
	FeaturePipeStderr,
	FeatureProcessSubstitution,
	FeatureRedirect,
	FeatureRedirectBoth,
	FeatureRedirectDup,
	FeatureRedirectNull,
	FeatureSequence,
	FeatureSubshell,
	FeatureTestCommand,
	FeatureTilde,
	FeatureTime,
	FeatureUnknown,
}

// One bit for each entry of features, in its order.
const (
	hasAnd featureSet = 1 << iota
	hasANSICQuote
	hasArithmetic
	hasArithmeticCommand
	hasArray
	hasAssignment
	hasAssignmentPrefix
	hasBackground
	hasBraceExpansion
	hasCase
	hasCommandSubstitution
	hasCoproc
	hasDeclaration
	hasExtglob
	hasFunction
	hasGlob
	hasGlobClass
	hasGroup
	hasHeredoc
	hasHerestring
	hasIf
	hasLet
	hasLocaleQuote
	hasLoop
	hasNegation
	hasOr
	hasParameter
	hasPipe
	hasPipeStderr
	hasProcessSubstitution
	hasRedirect
	hasRedirectBoth
	hasRedirectDup
	hasRedirectNull
	hasSequence
	hasSubshell
	hasTestCommand
	hasTilde
	hasTime
	hasUnknown
)

const (
	// onlyBash are the keys of bashOnly.
	onlyBash = hasANSICQuote | hasLocaleQuote | hasBraceExpansion | hasProcessSubstitution | hasHerestring |
		hasRedirectBoth | hasPipeStderr | hasExtglob | hasArray | hasTestCommand | hasArithmeticCommand |
		hasTime | hasCoproc | hasDeclaration | hasLet
	// hasNested are expansions that can hold commands.
	hasNested = hasParameter | hasCommandSubstitution | hasArithmetic | hasProcessSubstitution | hasExtglob
)

// list is the set as a slice, sorted, never nil.
func (s featureSet) list() []Feature {
	l := make([]Feature, 0, bits.OnesCount64(uint64(s)))
	for ; s != 0; s &= s - 1 {
		l = append(l, features[bits.TrailingZeros64(uint64(s))])
	}
	return l
}

// first is one of the set, for a message.
func (s featureSet) first() Feature { return features[bits.TrailingZeros64(uint64(s))] }

// construct says a feature in words: what it is, and what to write instead.
type construct struct{ what, remedy string }

const writeOut = "write the value itself"

// bashOnly are the constructs that bash and a POSIX shell read differently, or
// that only one of them has.
var bashOnly = map[Feature]construct{
	FeatureANSICQuote:          {"$'...'", "use '...' or \"...\""},
	FeatureLocaleQuote:         {"$\"...\"", "use \"...\""},
	FeatureBraceExpansion:      {"brace expansion", "write the words out, or quote the braces"},
	FeatureProcessSubstitution: {"process substitution, <( ) or >( )", "use a pipe"},
	FeatureHerestring:          {"the here-string <<<", "use a pipe"},
	FeatureRedirectBoth:        {"&> or >& to a file", "use > FILE 2>&1"},
	FeaturePipeStderr:          {"|&", "use 2>&1 |"},
	FeatureExtglob:             {"an extended pattern such as @(...)", "quote it, or write the words out"},
	FeatureArray:               {"an array", writeOut},
	FeatureTestCommand:         {"[[ ]]", "use [ ]"},
	FeatureArithmeticCommand:   {"(( ))", writeOut},
	FeatureTime:                {"time", "leave it out"},
	FeatureCoproc:              {"coproc", "leave it out"},
	FeatureDeclaration:         {"declare, export, local, readonly or typeset", "use env NAME=value COMMAND"},
	FeatureLet:                 {"let", writeOut},
}

// unsendable says, of the constructs that keep a line from being static, why
// they do.
var unsendable = map[Feature]construct{
	FeatureParameter:           {"a parameter expansion is known only when it runs", writeOut},
	FeatureCommandSubstitution: {"a command substitution is known only when it runs", "run the inner command in a call of its own and use its output"},
	FeatureArithmetic:          {"an arithmetic expansion is known only when it runs", writeOut},
	FeatureTilde:               {"a tilde is a home directory, known only when it runs", "write the directory out, or quote the tilde"},
	FeatureGlob:                {"a pattern must be an absolute operand", "begin it with a slash and give it as a word of its own, or quote it"},
	FeatureGlobClass:           {"a bracket pattern is known only when it runs", "use * or ? in an absolute operand, or quote it"},
	FeatureLoop:                {"how often a loop runs is not known", "give its commands one by one"},
	FeatureCase:                {"which branch of a case runs is not known", "give the commands that are meant"},
	FeatureFunction:            {"a function changes what a name means", "give its commands themselves"},
	FeatureHeredoc:             {"a here-document is not sent", "leave it out"},
	FeatureAssignment:          {"an assignment without a command changes what later commands mean", "use env NAME=value COMMAND"},
	FeatureRedirect:            {"a redirection without a command of its own is not sent", "put it behind each command that it is for"},
	FeatureUnknown:             {"a construct that is not known here", "leave it out"},
}
