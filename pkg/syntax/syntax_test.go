package syntax

import (
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	for name, want := range map[string]Type{
		"/etc/app/settings.JSON": JSON, "a.yml": YAML, "a.yaml": YAML, "Cargo.toml": TOML, "x.plist": XML, "php.ini": INI,
		"setup.cfg": INI, ".env": Env, ".env.production": Env, "prod.env": Env, "Dockerfile": Dockerfile,
		"Dockerfile.dev": Dockerfile, "app.dockerfile": Dockerfile, "docker-compose.yml": YAML,
		"/etc/nginx/nginx.conf": "", "/etc/hosts": "", "json": "", "": "",
	} {
		if got := Of(name); got != want {
			t.Errorf("%s is of type %q, want %q", name, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	tests := map[string]struct {
		kind Type
		text string
		line int // of the first problem; -1 for none
		says string
	}{
		"json":                     {JSON, `{"a": [1, 2]}` + "\n", -1, ""},
		"json broken":              {JSON, "{\n\"a\": 1,\n}", 3, "invalid character"},
		"json cut off":             {JSON, "{\n\"a\": 1", 2, "ends in the middle"},
		"json empty":               {JSON, "", 0, "no value"},
		"json twice":               {JSON, "{}\n\n{}", 3, "follows"},
		"yaml":                     {YAML, "a: 1\n---\nb: [2]\n", -1, ""},
		"yaml empty":               {YAML, "", -1, ""},
		"yaml broken":              {YAML, "a: 1\nb: c: d\n", 2, "not allowed"},
		"yaml in the second":       {YAML, "a: 1\n---\n\tb: 1\n", 3, "found character"},
		"yaml key twice":           {YAML, "a: 1\nb: 2\na: 3\n", 3, "already defined"},
		"toml":                     {TOML, "[a]\nb = 1\n", -1, ""},
		"toml broken":              {TOML, "[a]\nb = \n", 2, ""},
		"xml":                      {XML, "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n<a><b/></a>", -1, ""},
		"xml not closed":           {XML, "<a>\n<b></a>", 2, "closed by"},
		"xml without an element":   {XML, "text", 0, "no element"},
		"ini":                      {INI, "; c\n[a]\nb = 1\nc: 2\n\n# d\n list\n", -1, ""},
		"ini section":              {INI, "[a\n", 1, "section"},
		"ini word":                 {INI, "[a]\nb = 1\nword\n", 3, "neither"},
		"nginx is not ini":         {INI, "events {\n}\n", 1, "neither"},
		"env":                      {Env, "# c\nexport A=1\nB=\"x\ny\"\nC=\n", -1, ""},
		"env without a value":      {Env, "A=1\nB\n", 2, "KEY=VALUE"},
		"env with a strange name":  {Env, "1A=1\n", 1, "no name"},
		"dockerfile":               {Dockerfile, "# c\nARG v=1\nFROM x:$v\nRUN a && \\\n  # why\n  b\ncopy . /\nRUN <<END\nanything\nEND\n", -1, ""},
		"dockerfile without FROM":  {Dockerfile, "ARG v=1\n", 0, "no FROM"},
		"dockerfile before FROM":   {Dockerfile, "RUN x\nFROM y\n", 1, "before FROM"},
		"dockerfile strange":       {Dockerfile, "FROM x\nRUM y\n", 2, "no instruction"},
		"dockerfile with no words": {Dockerfile, "FROM x\nRUN\n", 2, "says nothing"},
		"unknown":                  {"prose", "{", -1, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			problems := Check(test.kind, test.text)
			switch {
			case test.line < 0 && len(problems) > 0:
				t.Errorf("found fault: %v", problems)
			case test.line >= 0 && len(problems) == 0:
				t.Error("found no fault")
			case test.line >= 0 && (problems[0].Line != test.line || !strings.Contains(problems[0].Message, test.says)):
				t.Errorf("found %v, want line %d: %s", problems, test.line, test.says)
			}
		})
	}
}

func TestProblemsAreBounded(t *testing.T) {
	if n := len(Check(INI, strings.Repeat("word\n", 1000))); n != mostProblems {
		t.Errorf("%d problems", n)
	}
}
