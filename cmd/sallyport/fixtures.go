//go:build !conformance

package main

import "github.com/sallyport/sallyport/pkg/gateway"

// addFixtures adds what the conformance suite of the protocol calls for: in this
// build nothing.
func addFixtures(*gateway.Options) {}
