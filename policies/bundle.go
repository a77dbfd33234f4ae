// Package policies is the policy bundle that Sallyport ships: Rego, argument
// grammars as data, the schemas of the two documents that policies read, and
// the built-in functions that they may use.
//
// The directory is an ordinary OPA bundle and works with the plain opa binary;
// README.md says how to test it and how to add to it. This package only puts
// it into the program. Tests are not part of the bundle, and the loader in
// pkg/policy leaves them out.
package policies

import "embed"

// Files is the bundle as a file system, rooted at this directory.
//
//go:embed .manifest capabilities.json schemas sallyport
var Files embed.FS

// Names of the files beside the bundle's own.
const (
	Capabilities      = "capabilities.json"         // built-ins that policies may use
	InputSchema       = "schemas/input.json"        // of the input document
	SiteSchema        = "schemas/site.json"         // of data.site
	DecisionLogSchema = "schemas/decision_log.json" // of the records that system.log masks and drops
)
