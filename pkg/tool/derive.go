package tool

import "github.com/sallyport/sallyport/pkg/shell"

// Derive reads further ops out of a command line, so that a typed tool and a
// raw command meet the same rules: a redirection to a file is also file.write,
// `docker stop` also container.control.
func Derive(doc shell.Document) []Op { return nil }
