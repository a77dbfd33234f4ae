//go:build conformance

package main

import (
	"github.com/sallyport/sallyport/pkg/gateway"
	"github.com/sallyport/sallyport/pkg/mcpserver"
)

// addFixtures adds what the conformance suite of the protocol calls for.
func addFixtures(o *gateway.Options) {
	tools, resources := mcpserver.Fixtures()
	o.Tools = append(o.Tools, tools...)
	o.Resources = append(o.Resources, resources...)
}
