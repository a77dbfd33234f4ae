package tool

import (
	"cmp"
	"iter"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/pkg/shell"
)

// Detached is the Call of an op that no single command of the line makes: the
// redirection of a group or a loop.
const Detached = -1

// Derive reads further ops out of a command line, so that a typed tool and a
// raw command meet the same rules: a redirection to a file is also file.write,
// `docker stop` also container.control.
//
// It knows the programs of one table. What it says is for policy to refuse or
// to record by; that it says nothing of a command is no evidence that the
// command does nothing. A verb that it does not know counts as a change.
func Derive(doc shell.Document) []Op {
	var ops []Op
	for i := range doc.Commands {
		c := &doc.Commands[i]
		from := len(ops)
		ops = redirected(ops, c.Redirects)
		if p := programs[c.Program]; p != nil && (c.Static || len(c.Args) > 0) {
			ops = p.derive(p, ops, c)
		}
		finish(ops[from:], doc, c.ID)
	}
	from := len(ops)
	ops = redirected(ops, doc.Writes)
	ops = redirected(ops, doc.Reads)
	finish(ops[from:], doc, Detached)
	return ops
}

// finish completes the ops that were derived from one command. Relative paths
// begin in the directory that the line runs in, where that is known.
func finish(ops []Op, doc shell.Document, call int) {
	for i := range ops {
		op := &ops[i]
		op.Derived, op.Call, op.Effect = true, call, op.Action.Effect()
		if op.Place == "host" && !path.IsAbs(op.Path) && doc.Resolve(op.Path) != "" {
			op.lead(doc.Cwd + "/" + op.Path)
		}
	}
}

// redirected are the files that redirections open. One whose name is not known
// has an empty path.
func redirected(ops []Op, list []shell.Redirect) []Op {
	for _, r := range list {
		if r.Static && r.Path == "/dev/null" {
			continue
		}
		name := r.Path
		if !r.Static {
			name = ""
		}
		switch r.Op {
		case "write", "append":
			ops = append(ops, file(FileWrite, name))
		case "read":
			ops = append(ops, file(FileRead, name))
		case "readwrite":
			ops = append(ops, file(FileRead, name), file(FileWrite, name))
		}
	}
	return ops
}

func file(a Action, name string) Op {
	op := Op{Action: a, Place: "host", Path: name}
	if path.IsAbs(name) {
		op.lead(name)
	}
	return op
}

// tree is a file with all that is below it.
func tree(a Action, name string) Op {
	op := file(a, name)
	op.Recursive = true
	return op
}

// lead puts an absolute path into an op. Where one with .. in it leads is not
// known: what comes before that could be a link.
func (o *Op) lead(name string) {
	o.Path = path.Clean(name)
	if !slices.Contains(strings.Split(name, "/"), "..") {
		o.Under = Under(o.Path)
	}
}

// program is what is known of a program: how its words are read, and what they
// mean.
type program struct {
	derive   func(p *program, ops []Op, c *shell.Command) []Op
	valued   string   // letters with a value: the rest of the word, or the next
	attached string   // letters whose value, if any, is the rest of the word
	longs    []string // long options with a value in the next word, if not behind =

	action  Action   // of its operands
	last    Action   // of the last of several operands, where it is another: cp
	also    Action   // of its operands, too; not of the last of several that are put into it: mv
	skip    int      // operands before the first path: the pattern of grep
	given   []string // options that give what skip would leave out: grep -e
	reads   []string // options whose value is a file that is read
	writes  []string // options whose value is a file that is written
	inPlace []string // options with which the operands are written, too: sed -i
	shown   []string // options with which the operands are only read: gzip -c
	here    bool     // what is not named is in the working directory: ls
	deep    []string // options with which what is below the operands is meant, too: grep -r
	tree    bool     // it always is: find
	into    bool     // what is written may be a directory that gets it: cp
	remote  bool     // an operand HOST:PATH is no file of this host: scp
	hosts   int      // how many operands are hosts, if not all: nc HOST PORT
	at      []string // options whose value is a file that is read if it begins with @
	flags   []string // other long options that matter, or that others begin with

	whole []string // all long options that are known, made of the above

	name   string            // of the manager, engine, runtime or facet
	verbs  map[string]Action // by the first operand
	others Action            // of a verb that is not in verbs
}

// option is an option with its value, or an operand, whose name is empty.
type option struct {
	name, value string
	pattern     bool // the value is a pattern of the shell
}

// file is the file that the value names.
func (o option) file(a Action) Op {
	op := file(a, o.value)
	if o.pattern {
		op.Pattern = true
		if first := strings.IndexAny(op.Path, "*?"); op.Under != nil && first >= 0 {
			op.Under = Under(path.Dir(op.Path[:first] + "*"))
		}
	}
	return op
}

// words yields the options and operands of a command, each with the index of
// the last word that it took.
func (p *program) words(args []shell.Arg) iter.Seq2[int, option] {
	return func(yield func(int, option) bool) {
		for i := 0; i < len(args); i++ {
			a := &args[i]
			switch a.Kind {
			case shell.Operand:
				if !yield(i, option{value: a.Text, pattern: a.Pattern}) {
					return
				}
			case shell.Long:
				o := option{name: p.spelled(a.Name)}
				if a.Value != nil {
					o.value = *a.Value
				} else if slices.Contains(p.longs, o.name) && i+1 < len(args) {
					i++
					o.value, o.pattern = args[i].Text, args[i].Pattern
				}
				if !yield(i, o) {
					return
				}
			case shell.Letters:
				var ok bool
				if i, ok = p.cluster(args, i, yield); !ok {
					return
				}
			}
		}
	}
}

// spelled is a long option by its whole name. getopt_long takes it cut short, too,
// where no other one begins so; what is not known may begin so as well, and then
// the program refuses it.
func (p *program) spelled(name string) string {
	if slices.Contains(p.whole, name) {
		return name
	}
	for _, whole := range p.whole {
		if strings.HasPrefix(whole, name) {
			return whole
		}
	}
	return name
}

// cluster yields the letters of one word.
func (p *program) cluster(args []shell.Arg, i int, yield func(int, option) bool) (int, bool) {
	a := &args[i]
	for j, letter := range a.Letters {
		o := option{name: letter}
		valued := strings.Contains(p.valued, letter)
		if valued || strings.Contains(p.attached, letter) {
			o.value = a.Tails[j]
		}
		if valued && o.value == "" && i+1 < len(args) {
			i++
			o.value, o.pattern = args[i].Text, args[i].Pattern
		}
		if !yield(i, o) {
			return i, false
		}
		if o.value != "" {
			break
		}
	}
	return i, true
}

func (p *program) operands(args []shell.Arg) []string {
	var list []string
	for _, o := range p.named(args) {
		list = append(list, o.value)
	}
	return list
}

// named are the operands with what is known of them.
func (p *program) named(args []shell.Arg) []option {
	var list []option
	for _, o := range p.words(args) {
		if o.name == "" {
			list = append(list, o)
		}
	}
	return list
}

// first is the index of the first operand, or how many words there are.
func (p *program) first(args []shell.Arg) int {
	for i, o := range p.words(args) {
		if o.name == "" {
			return i
		}
	}
	return len(args)
}

func (p *program) has(args []shell.Arg, names []string) bool {
	for _, o := range p.words(args) {
		if o.name != "" && slices.Contains(names, o.name) {
			return true
		}
	}
	return false
}

// files is a program whose operands are files.
func files(p *program, ops []Op, c *shell.Command) []Op {
	ops, targeted := optionFiles(p, ops, c.Args)
	action, also, operands := p.action, p.also, p.named(c.Args)
	if p.has(c.Args, p.inPlace) {
		action, also = FileWrite, action
	}
	if !p.has(c.Args, p.given) {
		operands = operands[min(p.skip, len(operands)):]
	}
	deep := p.tree || p.has(c.Args, p.deep)
	for i, o := range operands {
		op := o.file(action)
		op.Recursive = deep
		goal := p.into && i > 0 && i == len(operands)-1 && !targeted
		if also != "" && !goal && o.value != "-" {
			read := o.file(also)
			read.Recursive = deep
			ops = append(ops, read)
		}
		if p.last != "" && i > 0 && i == len(operands)-1 && !targeted {
			op = o.file(p.last)
			op.Recursive = p.into
		}
		if o.value != "-" && !(p.remote && isRemote(o.value)) {
			ops = append(ops, op)
		}
	}
	switch {
	case !p.here:
	case len(operands) == 0:
		op := file(action, ".")
		op.Recursive = deep
		ops = append(ops, op)
	case len(operands) == 1 && p.last != "" && !targeted:
		ops = append(ops, tree(p.last, "."))
	}
	return ops
}

// packed reads gzip and its like: a file is read, and makes room for one beside it
// whose name has an ending more or less, or is in the file itself.
func packed(p *program, ops []Op, c *shell.Command) []Op {
	if p.has(c.Args, p.shown) {
		reading := *p
		reading.action, reading.also = FileRead, ""
		return files(&reading, ops, c)
	}
	ops = files(p, ops, c)
	for _, o := range p.named(c.Args) {
		if o.value != "-" {
			dir, _ := path.Split(o.value)
			ops = append(ops, option{value: dir + "*", pattern: true}.file(FileWrite))
		}
	}
	return ops
}

// optionFiles are the files that options name. The second result is whether
// one of them is written.
func optionFiles(p *program, ops []Op, args []shell.Arg) ([]Op, bool) {
	written := false
	for _, o := range p.words(args) {
		switch {
		case o.value == "" || o.name == "" || o.value == "-":
		case slices.Contains(p.reads, o.name):
			ops = append(ops, o.file(FileRead))
		case o.value[0] == '@' && slices.Contains(p.at, o.name):
			ops = append(ops, file(FileRead, o.value[1:]))
		case slices.Contains(p.writes, o.name):
			op := o.file(FileWrite)
			op.Recursive = p.into
			ops, written = append(ops, op), true
		}
	}
	return ops, written
}

func isRemote(name string) bool {
	host, _, ok := strings.Cut(name, ":")
	return ok && !strings.Contains(host, "/")
}

// findFiles reads find: starting points, then an expression.
func findFiles(_ *program, ops []Op, c *shell.Command) []Op {
	action, n := FileList, 0
	for i := range c.Args {
		switch c.Args[i].Text {
		case "-delete":
			action = FileWrite
		case "-fprint", "-fprint0", "-fprintf", "-fls":
			if i+1 < len(c.Args) {
				ops = append(ops, file(FileWrite, c.Args[i+1].Text))
			}
		}
	}
	for _, a := range c.Args {
		if a.Kind != shell.Operand || a.Text == "(" || a.Text == "!" {
			if slices.Contains(findLeading, a.Text) {
				continue
			}
			break
		}
		op := option{value: a.Text, pattern: a.Pattern}.file(action)
		op.Recursive = true
		ops = append(ops, op)
		n++
	}
	if n == 0 {
		ops = append(ops, tree(action, "."))
	}
	return ops
}

// findLeading are the options of find that stand before the starting points.
var findLeading = []string{"-H", "-L", "-P", "--"}

// ddFiles reads dd: if=FILE of=FILE.
func ddFiles(_ *program, ops []Op, c *shell.Command) []Op {
	for _, a := range c.Args {
		switch key, value, _ := strings.Cut(a.Text, "="); key {
		case "if":
			ops = append(ops, file(FileRead, value))
		case "of":
			ops = append(ops, file(FileWrite, value))
		}
	}
	return ops
}

// tarFiles reads tar: what it does is a letter, which may stand without a dash
// in the first word.
func tarFiles(p *program, ops []Op, c *shell.Command) []Op {
	mode, archive, dir, listed, moved := "", "", "", false, false
	args := c.Args
	if len(args) > 0 && args[0].Kind == shell.Operand && !strings.Contains(args[0].Text, "/") {
		args = slices.Clone(args)
		text := args[0].Text
		args[0] = shell.Arg{Text: text, Kind: shell.Letters}
		for i := range len(text) {
			args[0].Letters = append(args[0].Letters, text[i:i+1])
			args[0].Tails = append(args[0].Tails, "")
		}
	}
	var members []option
	for _, o := range p.words(args) {
		switch o.name {
		case "c", "x", "t", "r", "u", "A", "create", "extract", "list", "append", "update", "get", "delete", "catenate", "concatenate":
			mode = o.name
		case "remove-files":
			moved = true
		case "g", "listed-incremental", "index-file":
			ops = append(ops, file(FileWrite, o.value))
		case "f", "file":
			archive = o.value
		case "C", "directory":
			dir = within(dir, o.value)
		case "T", "files-from":
			ops, listed = append(ops, file(FileRead, o.value)), true
		case "X", "exclude-from":
			ops = append(ops, file(FileRead, o.value))
		case "":
			o.value = within(dir, o.value)
			members = append(members, o)
		}
	}
	if listed { // whatever the file says
		members = append(members, option{value: "/"})
	}
	if moved {
		ops = trees(ops, FileWrite, members)
	}
	return tarOps(ops, mode, archive, cmp.Or(dir, "."), members)
}

// within is a path as it is seen from a directory; an empty one is that in which
// the command runs.
func within(dir, name string) string {
	if dir == "" || path.IsAbs(name) {
		return name
	}
	return dir + "/" + name
}

// splitFiles reads split: a file, and how the names of its pieces begin.
func splitFiles(p *program, ops []Op, c *shell.Command) []Op {
	operands := p.named(c.Args)
	pieces := "."
	if len(operands) > 1 {
		pieces = path.Dir(operands[1].value)
	}
	if len(operands) > 0 && operands[0].value != "-" {
		ops = append(ops, operands[0].file(FileRead))
	}
	return append(ops, tree(FileWrite, pieces))
}

// zipFiles reads zip: an archive, and what goes into it.
func zipFiles(p *program, ops []Op, c *shell.Command) []Op {
	for i, o := range p.named(c.Args) {
		op := o.file(FileRead)
		if i == 0 {
			op = o.file(FileWrite)
		}
		op.Recursive = i > 0
		if o.value != "-" {
			ops = append(ops, op)
		}
	}
	return ops
}

// trees are the files that options name, and all that is below them.
func trees(ops []Op, a Action, named []option) []Op {
	for _, o := range named {
		op := o.file(a)
		op.Recursive = true
		ops = append(ops, op)
	}
	return ops
}

func tarOps(ops []Op, mode, archive, dir string, members []option) []Op {
	onArchive := FileRead
	switch mode {
	case "c", "create", "r", "append", "u", "update", "A", "catenate", "concatenate":
		onArchive = FileWrite
		ops = trees(ops, FileRead, members)
	case "delete":
		onArchive = FileWrite
	case "x", "extract", "get":
		ops = append(ops, tree(FileWrite, dir))
	}
	if archive != "" && archive != "-" {
		ops = append(ops, file(onArchive, archive))
	}
	return ops
}

// units is systemctl VERB UNIT...
func units(p *program, ops []Op, c *shell.Command) []Op {
	operands := p.operands(c.Args)
	if len(operands) == 0 {
		return append(ops, Op{Action: ServiceList})
	}
	return unitOps(p, ops, operands[0], operands[1:])
}

// unitFirst is service UNIT VERB.
func unitFirst(p *program, ops []Op, c *shell.Command) []Op {
	operands := p.operands(c.Args)
	if len(operands) < 2 {
		return append(ops, Op{Action: ServiceList})
	}
	return unitOps(p, ops, operands[1], operands[:1])
}

func unitOps(p *program, ops []Op, verb string, units []string) []Op {
	op := Op{Action: p.action, Operation: verb}
	if slices.Contains(p.reads, verb) {
		op = Op{Action: ServiceList}
	}
	if len(units) == 0 {
		return append(ops, op)
	}
	for _, u := range units {
		op.Unit = u
		ops = append(ops, op)
	}
	return ops
}

// journal is journalctl: one op for each unit.
func journal(p *program, ops []Op, c *shell.Command) []Op {
	from := len(ops)
	for _, o := range p.words(c.Args) {
		switch {
		case o.name == "u" || o.name == "unit" || o.name == "user-unit":
			ops = append(ops, Op{Action: LogRead, Source: p.name, Unit: o.value})
		case strings.HasPrefix(o.name, "vacuum") || o.name == "rotate":
			return append(ops, file(FileWrite, "/var/log/journal"))
		case o.name == "cursor-file":
			ops = append(ops, file(FileWrite, o.value))
		}
	}
	if !slices.ContainsFunc(ops[from:], func(o Op) bool { return o.Action == LogRead }) {
		ops = append(ops, Op{Action: LogRead, Source: p.name})
	}
	return ops
}

func kernelLog(p *program, ops []Op, _ *shell.Command) []Op {
	return append(ops, Op{Action: LogRead, Source: p.name})
}

// packages is a package manager whose first operand is a verb.
func packages(p *program, ops []Op, c *shell.Command) []Op {
	operands := p.operands(c.Args)
	if len(operands) == 0 {
		return ops
	}
	action, ok := p.verbs[operands[0]]
	if !ok {
		action = p.others
	}
	return append(ops, Op{Action: action, Manager: p.name, Operation: operands[0], Names: operands[1:]})
}

// packageOptions is a package manager whose verb is an option: dpkg, rpm.
func packageOptions(p *program, ops []Op, c *shell.Command) []Op {
	op := Op{Action: p.others, Manager: p.name, Names: p.operands(c.Args)}
	for _, o := range p.words(c.Args) {
		if action, ok := p.verbs[o.name]; ok && o.name != "" {
			op.Action, op.Operation = action, o.name
			break
		}
	}
	return append(ops, op)
}

// containers is docker and its like: options, a verb or a group with its verb,
// and what belongs to that.
func containers(p *program, ops []Op, c *shell.Command) []Op {
	at := p.first(c.Args)
	if at == len(c.Args) {
		return append(ops, Op{Action: ContainerRead, Runtime: p.name})
	}
	verb, rest := c.Args[at].Text, c.Args[at+1:]
	operation := verb
	if sub := containerGroups[verb]; sub != nil {
		at = sub.first(rest)
		if at == len(rest) {
			return append(ops, Op{Action: ContainerRead, Runtime: p.name, Operation: verb})
		}
		operation = verb + " " + rest[at].Text
		verb, rest = rest[at].Text, rest[at+1:]
	}
	op := Op{Action: ContainerControl, Runtime: p.name, Operation: operation}
	if action, ok := p.verbs[verb]; ok {
		op.Action = action
	}
	if op.Action == ContainerRun {
		at = containerRun.first(rest)
		if at < len(rest) {
			op.Names, op.Argv = []string{rest[at].Text}, texts(rest[at+1:])
		}
		return append(ops, op)
	}
	options := &program{valued: containerLetters[verb], longs: containerLongs}
	op.Names = options.operands(rest)
	if verb == "cp" {
		ops = copied(ops, op.Names)
	}
	return append(ops, op)
}

// copied are the files of this host in docker cp.
func copied(ops []Op, operands []string) []Op {
	for i, name := range operands {
		action := FileRead
		if i == len(operands)-1 {
			action = FileWrite
		}
		if name != "-" && !isRemote(name) {
			ops = append(ops, tree(action, name))
		}
	}
	return ops
}

func texts(args []shell.Arg) []string {
	list := make([]string, len(args))
	for i := range args {
		list[i] = args[i].Text
	}
	return list
}

// database is a client of a database, with the files that its options name.
func database(p *program, ops []Op, c *shell.Command) []Op {
	ops, _ = optionFiles(p, ops, c.Args)
	return append(ops, Op{Action: DBRun, Engine: p.name})
}

// fileDatabase is a client whose first operand is the database file.
func fileDatabase(p *program, ops []Op, c *shell.Command) []Op {
	if operands := p.operands(c.Args); len(operands) > 0 {
		ops = append(ops, file(FileWrite, operands[0]))
	}
	return append(ops, Op{Action: DBRun, Engine: p.name})
}

// probe is a program that speaks to the hosts that its operands name.
func probe(p *program, ops []Op, c *shell.Command) []Op {
	ops, written := optionFiles(p, ops, c.Args)
	if p.has(c.Args, p.inPlace) || p.here && !written {
		ops = append(ops, tree(FileWrite, "."))
	}
	operands := p.operands(c.Args)
	if p.hosts > 0 && len(operands) > p.hosts {
		operands = operands[:p.hosts]
	}
	for _, o := range operands {
		ops = append(ops, Op{Action: NetProbe, Address: destination(o)})
	}
	if len(operands) == 0 {
		ops = append(ops, Op{Action: NetProbe})
	}
	return ops
}

// scan is nmap, whose options for files are of two letters.
func scan(p *program, ops []Op, c *shell.Command) []Op {
	rest := *c
	rest.Args = nil
	for i := 0; i < len(c.Args); i++ {
		if slices.Contains(p.writes, strings.TrimPrefix(c.Args[i].Text, "-")) && i+1 < len(c.Args) {
			i++
			ops = append(ops, file(FileWrite, c.Args[i].Text))
			continue
		}
		rest.Args = append(rest.Args, c.Args[i])
	}
	return probe(p, ops, &rest)
}

// lookUp is dig: the server behind @, or the name that is looked up.
func lookUp(p *program, ops []Op, c *shell.Command) []Op {
	operands := p.operands(c.Args)
	for _, o := range operands {
		if server, ok := strings.CutPrefix(o, "@"); ok {
			return append(ops, Op{Action: NetProbe, Address: server})
		}
	}
	return probe(p, ops, c)
}

// destination is the host of a URL, of HOST:PORT/PATH or of a bare name.
func destination(s string) string {
	if !strings.Contains(s, "://") {
		if !strings.ContainsAny(s, "/") || strings.Count(s, ":") > 1 {
			return s
		}
		s = "//" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" {
		return s
	}
	return u.Hostname()
}

func capture(p *program, ops []Op, c *shell.Command) []Op {
	ops, _ = optionFiles(p, ops, c.Args)
	return append(ops, Op{Action: CaptureRun})
}

func hostFacet(p *program, ops []Op, _ *shell.Command) []Op {
	return append(ops, Op{Action: HostRead, Facet: p.name})
}

// facetOfFiles is a facet of the file systems that the operands are on.
func facetOfFiles(p *program, ops []Op, c *shell.Command) []Op {
	return hostFacet(p, files(p, ops, c), c)
}

// testFiles reads test and [: operators and what they are held against.
func testFiles(_ *program, ops []Op, c *shell.Command) []Op {
	for i := 1; i < len(c.Args); i++ {
		before, a := &c.Args[i-1], &c.Args[i]
		switch {
		case slices.Contains(fileTests, before.Text):
			ops = append(ops, option{value: a.Text, pattern: a.Pattern}.file(FileList))
		case slices.Contains(fileComparisons, a.Text) && i+1 < len(c.Args):
			ops = append(ops, file(FileList, before.Text), file(FileList, c.Args[i+1].Text))
		}
	}
	return ops
}

// fileTests are the operators of test before a file, fileComparisons those
// between two.
var (
	fileTests       = words("-b -c -d -e -f -g -h -k -p -r -s -u -w -x -G -L -N -O -S")
	fileComparisons = words("-ef -nt -ot")
)

// repository is git: it reads or writes whatever is in the directory that it is
// sent to.
func repository(p *program, ops []Op, c *shell.Command) []Op {
	at := p.first(c.Args)
	if at == len(c.Args) {
		return ops
	}
	verb, rest := c.Args[at].Text, c.Args[at+1:]
	action, dir := p.verbs[verb], ""
	if action == "" || verb == "branch" && (p.has(rest, p.inPlace) || len(p.operands(rest)) > 0) {
		action = FileWrite
	}
	for _, o := range p.words(c.Args[:at]) {
		switch {
		case o.name == "C" && (dir == "" || path.IsAbs(o.value)):
			dir = o.value
		case o.name == "C":
			dir += "/" + o.value
		case slices.Contains(p.reads, o.name):
			ops = append(ops, tree(action, o.value))
		}
	}
	ops = append(ops, tree(action, cmp.Or(dir, ".")))
	for _, o := range p.words(rest) {
		if o.name == "output" {
			ops = append(ops, o.file(FileWrite))
		}
	}
	return ops
}

// family is programs, their names divided by spaces, that are read alike.
type family struct {
	names string
	program
}

// programs are those that Derive knows, by name.
var programs = assemble(slices.Concat(fileFamilies, serviceFamilies, packageFamilies, containerFamilies, otherFamilies))

func assemble(families []family) map[string]*program {
	table := map[string]*program{}
	for i := range families {
		p := &families[i].program
		for _, names := range [][]string{p.longs, p.flags, p.writes, p.reads, p.inPlace, p.given, p.shown, p.deep, p.at} {
			p.whole = append(p.whole, names...)
		}
		p.whole = slices.DeleteFunc(p.whole, func(name string) bool { return len(name) == 1 })
		for name := range strings.FieldsSeq(families[i].names) {
			table[name] = p
		}
	}
	return table
}

var fileFamilies = []family{
	{"cat more nl rev hexdump hd md5sum sha1sum sha224sum sha256sum sha384sum sha512sum cksum b2sum sum file cmp comm zcat zless bzcat xzcat base64 pr expand tsort nano vim.tiny view", program{derive: files, action: FileRead}},
	{"head", program{derive: files, action: FileRead, valued: "nc", longs: words("lines bytes")}},
	{"tail", program{derive: files, action: FileRead, valued: "ncs", longs: words("lines bytes pid sleep-interval")}},
	{"less", program{derive: files, action: FileRead, valued: "bhjkoOPptTxyz", writes: words("o O log-file")}},
	{"wc", program{derive: files, action: FileRead, longs: words("files0-from"), reads: words("files0-from")}},
	{"sort", program{derive: files, action: FileRead, valued: "kStTo", longs: words("key field-separator buffer-size temporary-directory output files0-from"), writes: words("o output"), reads: words("files0-from")}},
	{"uniq", program{derive: files, action: FileRead, valued: "fsw", longs: words("skip-fields skip-chars check-chars"), last: FileWrite}},
	{"xxd", program{derive: files, action: FileRead, valued: "lscgo", last: FileWrite}},
	{"cut", program{derive: files, action: FileRead, valued: "bcdf", longs: words("bytes characters fields delimiter output-delimiter")}},
	{"tac", program{derive: files, action: FileRead, valued: "s", longs: words("separator")}},
	{"od", program{derive: files, action: FileRead, valued: "AjNStw"}},
	{"strings", program{derive: files, action: FileRead, valued: "nteT"}},
	{"fold", program{derive: files, action: FileRead, valued: "w"}},
	{"column", program{derive: files, action: FileRead, valued: "sco"}},
	{"join", program{derive: files, action: FileRead, valued: "aeijotv12"}},
	{"paste", program{derive: files, action: FileRead, valued: "d"}},
	{"diff", program{derive: files, action: FileRead, valued: "CUIxXF", longs: words("from-file to-file exclude exclude-from starting-file label"), reads: words("X from-file to-file exclude-from"), deep: words("r recursive")}},
	{"shuf", program{derive: files, action: FileRead, valued: "ino", longs: words("input-range head-count output random-source"), reads: words("random-source"), writes: words("o output")}},
	{"iconv", program{derive: files, action: FileRead, valued: "fto", longs: words("from-code to-code output"), writes: words("o output")}},
	{"look", program{derive: files, action: FileRead, valued: "t", longs: words("terminate"), skip: 1}},
	{"split", program{derive: splitFiles, valued: "abClntu", longs: words("suffix-length bytes line-bytes lines number separator additional-suffix filter")}},
	{"zip", program{derive: zipFiles, valued: "bPtnxi", longs: words("temp-path password exclude include")}},
	{"link", program{derive: files, action: FileRead, last: FileWrite}},
	{"mktemp", program{derive: files, action: FileWrite, valued: "p", longs: words("suffix"), writes: words("p tmpdir")}},
	{"patch", program{derive: files, action: FileWrite, valued: "iodprBDFVYz", longs: words("input output directory reject-file strip fuzz"), reads: words("i input"), writes: words("o output d directory r reject-file"), here: true, tree: true}},
	{"grep egrep fgrep zgrep", program{derive: files, action: FileRead, valued: "ABCmefdD", longs: words("regexp file after-context before-context context max-count include exclude exclude-dir exclude-from color"), skip: 1, given: words("e f regexp file"), reads: words("f file exclude-from"), deep: words("r R recursive dereference-recursive d directories")}},
	{"rg", program{derive: files, action: FileRead, valued: "ABCmefdgtTj", longs: words("regexp file after-context before-context context max-count glob type type-not max-depth"), skip: 1, given: words("e f regexp file files"), reads: words("f file"), tree: true, here: true}},
	{"awk gawk mawk", program{derive: files, action: FileRead, valued: "Fvfi", longs: words("file field-separator assign"), skip: 1, given: words("f file"), reads: words("f file")}},
	{"sed", program{derive: streamEdits, action: FileRead, valued: "efl", attached: "i", longs: words("expression file line-length"), skip: 1, given: words("e f expression file"), reads: words("f file"), inPlace: words("i in-place")}},
	{"jq", program{derive: files, action: FileRead, valued: "fL", skip: 1, given: words("f from-file"), reads: words("f")}},
	{"ls dir vdir", program{derive: files, action: FileList, valued: "ITw", longs: words("ignore hide tabsize width"), here: true, deep: words("R recursive")}},
	{"du", program{derive: files, action: FileList, valued: "dBtX", longs: words("max-depth block-size threshold exclude exclude-from files0-from"), here: true, tree: true}},
	{"tree", program{derive: files, action: FileList, valued: "LPIo", writes: words("o"), here: true, tree: true}},
	{"stat", program{derive: files, action: FileList, valued: "c", longs: words("format printf")}},
	{"readlink realpath namei getfacl lsattr", program{derive: files, action: FileList, deep: words("R recursive")}},
	{"test [", program{derive: testFiles}},
	{"find", program{derive: findFiles}},
	{"cp", program{derive: files, action: FileRead, last: FileWrite, valued: "tS", longs: words("target-directory suffix"), writes: words("t target-directory"), deep: words("r R a recursive archive"), into: true}},
	{"mv", program{derive: files, action: FileWrite, also: FileRead, valued: "tS", longs: words("target-directory suffix"), writes: words("t target-directory"), tree: true, into: true}},
	{"install", program{derive: files, action: FileRead, last: FileWrite, valued: "tSmog", longs: words("target-directory suffix mode owner group"), writes: words("t target-directory"), into: true}},
	{"ln", program{derive: files, action: FileRead, last: FileWrite, valued: "tS", longs: words("target-directory suffix"), writes: words("t target-directory"), here: true, tree: true, into: true}},
	{"rsync scp", program{derive: files, action: FileRead, last: FileWrite, valued: "eFiJoPSTfMB", longs: words("rsh exclude include files-from password-file log-file"), reads: words("F i files-from password-file"), writes: words("log-file"), remote: true, deep: words("r a recursive archive"), into: true}},
	{"tee rm rmdir unlink mkfifo setfacl chattr", program{derive: files, action: FileWrite, deep: words("r R recursive")}},
	{"ed ex vi vim nvim emacs", program{derive: files, action: FileWrite, also: FileRead}},
	{"gzip gunzip bzip2 bunzip2 xz unxz zstd unzstd", program{derive: packed, action: FileWrite, also: FileRead, shown: words("c stdout to-stdout t test l list"), deep: words("r recursive")}},
	{"mkdir", program{derive: files, action: FileWrite, valued: "m", longs: words("mode")}},
	{"touch", program{derive: files, action: FileWrite, valued: "dtr", longs: words("date reference"), reads: words("r reference")}},
	{"truncate", program{derive: files, action: FileWrite, valued: "sr", longs: words("size reference"), reads: words("r reference")}},
	{"shred", program{derive: files, action: FileWrite, valued: "ns", longs: words("iterations size")}},
	{"fallocate", program{derive: files, action: FileWrite, valued: "lo", longs: words("length offset")}},
	{"chmod", program{derive: files, action: FileWrite, skip: 1, longs: words("reference"), given: words("r w x X s t reference"), reads: words("reference"), deep: words("R recursive")}},
	{"chown chgrp", program{derive: files, action: FileWrite, skip: 1, longs: words("reference from"), given: words("reference"), reads: words("reference"), deep: words("R recursive")}},
	{"dd", program{derive: ddFiles}},
	{"tar", program{
		derive: tarFiles, valued: "fCTXbgKLNVIHF", longs: words("file directory files-from exclude exclude-from listed-incremental index-file"),
		flags: words("create extract list append update get delete catenate concatenate remove-files"),
	}},
	{"git", program{
		derive: repository, valued: "Cc", longs: words("git-dir work-tree namespace config-env output"), reads: words("git-dir work-tree"),
		verbs:   verbs(FileRead, "status log show diff rev-parse rev-list branch describe blame ls-files ls-tree cat-file shortlog grep"),
		inPlace: words("d D m M c C f u delete move copy force set-upstream-to unset-upstream edit-description"),
	}},
}

var serviceFamilies = []family{
	{"systemctl", program{derive: units, action: ServiceControl, valued: "ntpoHMPs", longs: words("lines type state property output host machine root signal kill-who job-mode"), reads: words("status is-active is-enabled is-failed is-system-running list-units list-unit-files list-timers list-sockets list-jobs list-dependencies list-machines show cat help get-default")}},
	{"service rc-service invoke-rc.d", program{derive: unitFirst, action: ServiceControl, reads: words("status")}},
	{"journalctl", program{derive: journal, name: "journal", valued: "unpoSUgctDM", longs: words("unit user-unit lines priority output since until grep cursor identifier directory file machine cursor-file vacuum-size vacuum-time vacuum-files facility"), flags: words("user rotate")}},
	{"dmesg", program{derive: kernelLog, name: "kernel"}},
}

var packageFamilies = []family{
	{"apt apt-get", program{derive: packages, name: "apt", others: PackageWrite, valued: "otca", longs: words("option target-release config-file"), verbs: verbs(PackageRead, "list search show showsrc policy depends rdepends changelog check indextargets moo help")}},
	{"apt-cache", program{derive: packages, name: "apt", others: PackageRead, valued: "oca"}},
	{"apt-mark", program{derive: packages, name: "apt", others: PackageWrite, valued: "oc", verbs: verbs(PackageRead, "showauto showmanual showhold showinstall showremove showpurge")}},
	{"dpkg", program{derive: packageOptions, name: "dpkg", others: PackageRead, verbs: verbs(PackageWrite, "i install unpack configure triggers-only r remove P purge set-selections clear-selections update-avail merge-avail clear-avail forget-old-unavail add-architecture remove-architecture")}},
	{"dpkg-query", program{derive: packageOptions, name: "dpkg", others: PackageRead, valued: "f"}},
	{"rpm", program{derive: packageOptions, name: "rpm", others: PackageRead, verbs: merged(verbs(PackageRead, "q query V verify K checksig"), verbs(PackageWrite, "i install U upgrade F freshen e erase reinstall import initdb rebuilddb restore setperms setugids"))}},
	{"yum", rpmFamily("yum")},
	{"dnf dnf5 microdnf", rpmFamily("dnf")},
	{"apk", program{derive: packages, name: "apk", others: PackageWrite, valued: "Xpt", longs: words("repository root arch"), verbs: verbs(PackageRead, "info list search policy stats version dot query manifest audit verify")}},
	{"zypper", program{derive: packages, name: "zypper", others: PackageWrite, valued: "cDRrC", longs: words("config reposd-dir root repo"), verbs: verbs(PackageRead, "search se info if list-updates lu list-patches lp repos lr services ls packages pa patterns pt products pd what-provides wp locks ll versioncmp vcmp licenses source-download ps patch-check pchk")}},
}

func rpmFamily(name string) program {
	return program{
		derive: packages, name: name, others: PackageWrite, valued: "cdexR", longs: words("config enablerepo disablerepo repo exclude installroot releasever setopt"),
		verbs: verbs(PackageRead, "list search info provides whatprovides repolist repoinfo check check-update deplist repoquery history updateinfo version help"),
	}
}

var containerFamilies = []family{
	{"docker", runtime("docker")},
	{"podman", runtime("podman")},
	{"nerdctl", runtime("nerdctl")},
}

func runtime(name string) program {
	return program{
		derive: containers, name: name, valued: "cHln", longs: words("config context host log-level tlscacert tlscert tlskey connection identity url root namespace address"),
		flags: words("tls"),
		verbs: merged(
			verbs(ContainerList, "ps ls list images search"),
			verbs(ContainerRead, "logs inspect stats top port diff history info version events df wait"),
			verbs(ContainerRun, "exec run"),
		),
	}
}

// containerGroups are the words of docker that have verbs of their own, with
// the options that may stand between.
var containerGroups = func() map[string]*program {
	plain := &program{}
	groups := map[string]*program{"compose": {valued: "fp", longs: words("file project-name project-directory profile env-file ansi progress parallel")}}
	for _, name := range words("container image network volume system context builder buildx manifest plugin pod secret config service stack node swarm trust machine") {
		groups[name] = plain
	}
	return groups
}()

// containerRun are the options of exec and run: the first operand is the
// container or the image, what follows is run in it.
var containerRun = &program{
	valued: "eupvwhmlcabn",
	longs: words("env env-file user workdir detach-keys publish volume mount name network hostname memory label cpus cpu-shares cpuset-cpus entrypoint restart add-host " +
		"dns dns-search dns-option cap-add cap-drop device security-opt tmpfs ulimit pid ipc uts userns runtime platform pull shm-size stop-signal stop-timeout log-driver log-opt " +
		"link ip ip6 mac-address network-alias volumes-from volume-driver group-add gpus health-cmd health-interval health-retries health-timeout isolation label-file " +
		"memory-reservation memory-swap memory-swappiness pids-limit cidfile cgroup-parent cgroupns expose blkio-weight kernel-memory oom-score-adj storage-opt sysctl index"),
}

// containerLongs are the long options with a value of the other verbs, and
// containerLetters the letters with one, by verb: -f is a filter to ps, and no
// value to rm.
var (
	containerLongs   = words("tail since until format filter last time signal type file tag output")
	containerLetters = map[string]string{
		"ps": "nf", "ls": "nf", "list": "nf", "images": "f", "search": "f", "logs": "n", "inspect": "f", "stop": "ts", "restart": "ts",
		"kill": "s", "build": "ftm", "commit": "amc", "save": "o", "export": "o", "load": "i", "update": "cm",
	}
)

var otherFamilies = []family{
	{"psql", program{derive: database, name: "postgres", valued: "cdfvLoFPRThpUw", longs: words("command dbname file set variable log-file output host port username"), reads: words("f file"), writes: words("o output L log-file")}},
	{"pg_dump pg_dumpall", program{derive: database, name: "postgres", valued: "fFhpUdtnTNS", longs: words("file host port username dbname"), writes: words("f file")}},
	{"pg_restore", program{derive: database, name: "postgres"}},
	{"mysql", program{derive: database, name: "mysql"}},
	{"mysqldump mysqladmin", program{derive: database, name: "mysql", valued: "r", longs: words("result-file"), writes: words("r result-file")}},
	{"mariadb mariadb-admin", program{derive: database, name: "mariadb"}},
	{"mariadb-dump", program{derive: database, name: "mariadb", valued: "r", longs: words("result-file"), writes: words("r result-file")}},
	{"redis-cli valkey-cli", program{derive: database, name: "redis"}},
	{"mongosh mongo mongodump mongorestore", program{derive: database, name: "mongodb"}},
	{"cqlsh", program{derive: database, name: "cassandra", valued: "fe", longs: words("file execute"), reads: words("f file")}},
	{"sqlite3", program{derive: fileDatabase, name: "sqlite"}},

	{"ping ping4 ping6 fping", program{derive: probe, valued: "cIiWwsQtlpMmSFT"}},
	{"traceroute traceroute6 tracepath mtr", program{derive: probe, valued: "fgimpqswczNMPoI", hosts: 1}},
	{"host nslookup whois", program{derive: probe, valued: "ctNRWhp", hosts: 1}},
	{"dig", program{derive: lookUp, valued: "bcfkptxy", hosts: 1}},
	{"nc ncat netcat telnet", program{derive: probe, valued: "eGgIiMmOPpqsTVWwXxb", hosts: 1}},
	{"nmap", program{derive: scan, valued: "pioeSgDT", longs: words("script script-args top-ports"), writes: words("oN oX oG oA")}},
	{"arping", program{derive: probe, valued: "cIwsS", hosts: 1}},
	{"curl", program{
		derive: probe, valued: "oXdHmuAbceFKTxwrYyzECDPQt", inPlace: words("O remote-name remote-name-all"), flags: words("head"),
		longs:  words("output request data data-raw data-binary data-urlencode header max-time connect-timeout user user-agent cookie cookie-jar referer form config upload-file proxy write-out range resolve cacert cert key dump-header retry url interface"),
		writes: words("o output c cookie-jar D dump-header"), reads: words("T upload-file K config cacert cert key"), at: words("d data data-binary data-urlencode"),
	}},
	{"wget", program{
		derive: probe, valued: "OoaiTtPUQwlARDIXeB", here: true,
		longs:  words("output-document output-file append-output input-file timeout tries directory-prefix user-agent header post-data post-file user password"),
		writes: words("O output-document o output-file a append-output P directory-prefix"), reads: words("i input-file post-file"),
	}},

	{"tcpdump", program{derive: capture, valued: "wrcCGiWFsTyzZBEjVm", longs: words("interface snapshot-length"), writes: words("w"), reads: words("r F V")}},
	{"tshark dumpcap", program{derive: capture, valued: "wrciabfosYRTeEFzDk", writes: words("w"), reads: words("r")}},

	{"uname hostname hostnamectl lsb_release arch nproc lscpu id whoami date timedatectl", program{derive: hostFacet, name: "os"}},
	{"uptime w who last", program{derive: hostFacet, name: "load"}},
	{"free vmstat slabtop", program{derive: hostFacet, name: "memory"}},
	{"df", program{derive: facetOfFiles, name: "disk", action: FileList, valued: "tBx", longs: words("type block-size exclude-type")}},
	{"lsblk blkid findmnt iostat", program{derive: hostFacet, name: "disk"}},
	{"ps top htop pgrep pidof pstree pidstat", program{derive: hostFacet, name: "process"}},
	{"ss netstat lsof", program{derive: hostFacet, name: "socket"}},
}

func words(s string) []string { return strings.Fields(s) }

// verbs gives words one action.
func verbs(a Action, list string) map[string]Action {
	m := map[string]Action{}
	for verb := range strings.FieldsSeq(list) {
		m[verb] = a
	}
	return m
}

func merged(maps ...map[string]Action) map[string]Action {
	all := map[string]Action{}
	for _, m := range maps {
		for verb, a := range m {
			all[verb] = a
		}
	}
	return all
}
