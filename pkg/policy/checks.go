package policy

import "github.com/open-policy-agent/opa/v1/ast"

// Checks are what every bundle is compiled under: the built-ins that policies may
// use, and the schemas of what they read.
func Checks() (*ast.Capabilities, *ast.SchemaSet, error) {
	g := newGate()
	return g.capabilities, g.schemas, g.err
}

// CompleteSite is site data as policies see it: checked, and nothing missing.
func CompleteSite(site any) (*Site, error) { return readSite(site) }
