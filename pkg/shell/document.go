// Package shell quotes argument vectors and turns command lines into facts.
//
// A line that an agent submits is never compared as text and never sent as it
// is. [Parse] makes a [Document] of it: every call with its words after quote
// removal, the wrappers before it, its redirections, and the constructs of the
// shell language that the line uses. Policy judges the document. What is sent
// is its Canonical: the line rendered again from the judged words, each of them
// quoted, so that a parser's mistake, an alias or the account's login shell
// cannot make it mean something else.
//
// A line has a canonical form when every word is literal, or a pattern such as
// /var/log/*.log. It is built of calls, | && || ; & ! subshells, groups and if.
// Every other line has an [Error] in its place, which names the culprit and
// what to write instead:
//
//   - what expands at run time ($HOME, $(...), a loop, a here-document);
//   - what bash and a POSIX shell read differently, or what the parser is known
//     to read otherwise than shells do;
//   - programs that run what the line does not show (xargs, eval, find -exec).
//     sudo, timeout, env and a few more are looked through instead, by a strict
//     table of their options, and sh -c '...' is parsed in turn;
//   - text that is not plain, too long or too deep.
//
// What it cannot know: which program a name stands for on the host, where a
// symbolic link leads, what a permitted program does with its words.
package shell

// Certainty says how much of a command line is known before a shell reads it.
type Certainty string

const (
	// Static: every word is a literal after quote removal.
	Static Certainty = "static"
	// Pattern: literal but for unquoted * or ? in an absolute operand, after
	// a literal prefix.
	Pattern Certainty = "pattern"
	// Dynamic: something expands at run time.
	Dynamic Certainty = "dynamic"
	// Opaque: refused before or by the parser, or it runs what cannot be seen.
	Opaque Certainty = "opaque"
)

// Shape is the outermost form of a command line: empty, simple, pipeline,
// list or compound.
type Shape string

const (
	ShapeEmpty    Shape = "empty"    // nothing to run
	ShapeSimple   Shape = "simple"   // one simple command
	ShapePipeline Shape = "pipeline" // simple commands joined by |
	ShapeList     Shape = "list"     // simple commands or pipelines joined by && || ; or newline
	ShapeCompound Shape = "compound" // anything else the grammar has
)

// Document is a command line as facts. It is what policy judges and, through
// Canonical, what is sent: there is no second parse.
type Document struct {
	Text      string    `json:"text"`      // as submitted; empty if it is not valid UTF-8
	Certainty Certainty `json:"certainty"` // static, pattern, dynamic, opaque: the worst of its parts
	Shape     Shape     `json:"shape"`     // empty, simple, pipeline, list, compound
	// Cwd is the directory that the line runs in, where that is known.
	Cwd      string    `json:"cwd,omitempty"`
	Features []Feature `json:"features"` // closed set, sorted, without repeats
	// Canonical is the line rendered again from the judged words, every word
	// quoted so that all shells read it alike. It exists only on static and
	// pattern lines, and is the only text that may be sent to a host.
	Canonical string     `json:"canonical,omitempty"`
	Commands  []Command  `json:"commands"` // every call, wherever it hides
	Writes    []Redirect `json:"writes"`   // redirections of groups and loops, which belong to no command
	Reads     []Redirect `json:"reads"`    // likewise
	// Error says why a line has no Canonical: every line has exactly one of
	// the two.
	Error *Error `json:"error,omitempty"`
}

// Command is one call of a program.
type Command struct {
	ID      int    `json:"id"`                // position, in the order of the line
	Program string `json:"program,omitempty"` // base name; empty when the first word is not literal
	Dir     string `json:"dir"`               // what stood before the base name, with its slash: "", "./", "/usr/bin/"
	Static  bool   `json:"static"`            // every word is literal
	// Argv exists only when Static, so that a rule that reads it cannot match
	// a command whose words are not known.
	Argv []string `json:"argv,omitempty"`
	// Words exists only when not Static.
	Words []Word `json:"words,omitempty"`
	// Args are the words after the program, read the way getopt reads them.
	// They exist when every word is literal or a pattern.
	Args      []Arg      `json:"args,omitempty"`
	Wrappers  []Wrapper  `json:"wrappers"`  // outermost first
	User      string     `json:"user"`      // whom a wrapper runs it as; empty: the login user
	Assigns   []Assign   `json:"assigns"`   // NAME=value before the program or given to env
	Stdin     string     `json:"stdin"`     // inherit, pipe, file, heredoc, herestring, null
	Redirects []Redirect `json:"redirects"` // of this command alone
	Scope     []string   `json:"scope"`     // what it hides in, outermost first: substitution, process_substitution, subshell, group, if, loop, case, function, time, coproc, shell
}

// Word is a word of a command that is not static, and the kinds of what is not
// literal in it. Text is the word after quote removal if that is nothing or a
// glob, and as it was written otherwise.
type Word struct {
	Text  string    `json:"text"`  // after quote removal if it is literal or a glob, as written otherwise
	Kinds []Feature `json:"kinds"` // of what is not literal in it
}

// ArgKind is what a word after the program looks like to getopt, before
// anything is known of the program's own options.
type ArgKind string

const (
	Operand ArgKind = "operand" // any other word, "-" and "" among them, and every word after the first "--"
	Letters ArgKind = "letters" // -abc: letters, of which one may take the rest as its value
	Long    ArgKind = "long"    // --name or --name=value
	End     ArgKind = "end"     // the first "--"
)

// Arg is one word after the program. Whether an operand is the value of the
// option before it only the program's grammar can tell.
type Arg struct {
	Text string  `json:"text"` // after quote removal
	Kind ArgKind `json:"kind"` // operand, letters (-abc), long (--name), end (the first --)
	// Letters are those of joined options; a letter is one character (rune).
	Letters []string `json:"letters,omitempty"`
	Tails   []string `json:"tails,omitempty"`   // for each letter what is left of the word behind it
	Number  bool     `json:"number,omitempty"`  // -N with decimal digits only
	Name    string   `json:"name,omitempty"`    // of a long option, without dashes
	Value   *string  `json:"value,omitempty"`   // behind the = of a long option; nil without =
	Pattern bool     `json:"pattern,omitempty"` // it has an unquoted * or ?
	// Path exists on operands that begin with a slash and on long options
	// whose value does, and on other operands where cwd is known.
	Path *Path `json:"path,omitempty"`
}

// Path is an absolute path as facts, so that "at or below" is a look-up.
type Path struct {
	// Clean: no empty, "." or ".." component; one slash at the end is
	// tolerated. In a pattern, also no component with a pattern character
	// begins with a dot.
	Clean bool `json:"clean"`
	// Name is the path without a slash at its end ("/" stays).
	Name string `json:"name"`
	// Under lists every directory that the path is at or below, "/" first and
	// the path itself last. For a pattern the last one is the literal part
	// before the first component with a pattern character.
	Under []string `json:"under"`
}

// Wrapper is a program that runs another and was looked through.
type Wrapper struct {
	Program string   `json:"program"` // base name
	Dir     string   `json:"dir"`     // what stood before it
	Args    []string `json:"args"`    // its own words, without those of what it runs
}

// Assign is an assignment before a command.
type Assign struct {
	Name   string `json:"name"`   // of the variable
	Value  string `json:"value"`  // after quote removal
	Static bool   `json:"static"` // the value is literal
}

// Redirect is one redirection.
type Redirect struct {
	Op     string `json:"op"`     // read, write, append, readwrite, dup, close, heredoc, herestring
	FD     int    `json:"fd"`     // descriptor that is redirected
	Path   string `json:"path"`   // literal target; for dup the descriptor's digit
	Static bool   `json:"static"` // the target is literal
}

// Error is why a line cannot be sent, whatever policy says.
type Error struct {
	Code    ErrorCode `json:"code"`    // too_long, bad_text, too_complex, syntax, shell_dependent, empty, ...
	Message string    `json:"message"` // names the culprit and the remedy
}

// ErrorCode is the class of a refusal. All but NotLiteral make a line Opaque.
type ErrorCode string

const (
	TooLong        ErrorCode = "too_long"
	BadText        ErrorCode = "bad_text"
	TooComplex     ErrorCode = "too_complex"
	Syntax         ErrorCode = "syntax"
	ShellDependent ErrorCode = "shell_dependent"
	Empty          ErrorCode = "empty"
	RunsUnseen     ErrorCode = "runs_unseen" // xargs, find -exec, env -S: it runs what cannot be seen
	NotLiteral     ErrorCode = "not_literal" // the line is Dynamic: $HOME, a loop, a relative pattern
)

// Feature is a construct of the shell language that a line uses.
type Feature string

const (
	FeaturePipe                Feature = "pipe"
	FeaturePipeStderr          Feature = "pipe_stderr"
	FeatureAnd                 Feature = "and"
	FeatureOr                  Feature = "or"
	FeatureSequence            Feature = "sequence"
	FeatureBackground          Feature = "background"
	FeatureNegation            Feature = "negation"
	FeatureSubshell            Feature = "subshell"
	FeatureGroup               Feature = "group"
	FeatureIf                  Feature = "if"
	FeatureLoop                Feature = "loop"
	FeatureCase                Feature = "case"
	FeatureFunction            Feature = "function"
	FeatureCommandSubstitution Feature = "command_substitution"
	FeatureProcessSubstitution Feature = "process_substitution"
	FeatureParameter           Feature = "parameter"
	FeatureArithmetic          Feature = "arithmetic"
	FeatureArithmeticCommand   Feature = "arithmetic_command"
	FeatureTestCommand         Feature = "test_command"
	FeatureTime                Feature = "time"
	FeatureCoproc              Feature = "coproc"
	FeatureDeclaration         Feature = "declaration"
	FeatureLet                 Feature = "let"
	FeatureHeredoc             Feature = "heredoc"
	FeatureHerestring          Feature = "herestring"
	FeatureRedirect            Feature = "redirect"
	FeatureRedirectNull        Feature = "redirect_null" // write of descriptor 1 or 2 to exactly /dev/null
	FeatureRedirectDup         Feature = "redirect_dup"  // 2>&1 exactly; every other duplication is FeatureRedirect
	FeatureRedirectBoth        Feature = "redirect_both"
	FeatureAssignment          Feature = "assignment"
	FeatureAssignmentPrefix    Feature = "assignment_prefix"
	FeatureGlob                Feature = "glob"
	FeatureGlobClass           Feature = "glob_class"
	FeatureExtglob             Feature = "extglob"
	FeatureBraceExpansion      Feature = "brace_expansion"
	FeatureTilde               Feature = "tilde"
	FeatureANSICQuote          Feature = "ansi_c_quote"
	FeatureLocaleQuote         Feature = "locale_quote"
	FeatureArray               Feature = "array"
	FeatureUnknown             Feature = "unknown" // a node this package does not know; never static
)
