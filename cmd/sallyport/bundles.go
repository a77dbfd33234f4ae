package main

import (
	"context"
	"crypto/tls"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/policy"
)

// policyOptions are the bundles as the settings have them. Secrets are asked for
// when they are needed.
func policyOptions(set config.Settings, secrets func() config.Secrets) policy.Options {
	o := policy.Options{
		Bundle: set.Policy.Bundle, Custom: set.Policy.Custom, Timeout: set.Policy.Timeout,
		Keys: map[string]policy.Key{}, RequireSigned: set.Policy.RequireSigned,
		KeepDir: filepath.Join(set.StateDir, "bundles"),
	}
	for id, key := range set.Policy.Keys {
		o.Keys[id] = policy.Key{Algorithm: key.Algorithm, Scope: key.Scope, Text: func() (string, error) {
			if key.Secret() {
				return secrets().Secret(key.Key)
			}
			return key.Key, nil
		}}
	}
	o.Bundles = bundleSources(set.Policy.Bundles, set.Policy.Services, secrets)
	return o
}

func bundleSources(bundles []config.BundleSource, services map[string]config.BundleService, secrets func() config.Secrets) []policy.Source {
	var all []policy.Source
	for _, b := range bundles {
		source := policy.Source{
			Name: b.Name, Path: b.Path, Signing: (*policy.Signing)(b.Signing), Resource: b.Resource,
			MinDelay: seconds(b.Polling.MinDelay), MaxDelay: seconds(b.Polling.MaxDelay), LongPoll: seconds(b.Polling.LongPoll),
			Limit: int64(b.Limit), Persist: b.Persist,
		}
		if b.Service != "" {
			source.Service = bundleService(services[b.Service], secrets)
		}
		all = append(all, source)
	}
	return all
}

func bundleService(s config.BundleService, secrets func() config.Secrets) *policy.Service {
	service := &policy.Service{
		URL: s.URL, OCI: s.OCI, Headers: seconds(s.Headers), Timeout: seconds(s.Download),
		CACert: s.CACert, SystemCAs: s.SystemCA, Scheme: s.Scheme,
	}
	if s.Token != "" {
		service.Token = func() (string, error) { return secrets().Secret(s.Token) }
	}
	if s.Cert != "" {
		service.Certificate = func() (*tls.Certificate, error) { return secrets().Certificate(s.Cert, s.Key) }
	}
	return service
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// shadowOptions are the bundles of the shadow, which are held to the same keys and
// kept in a place of their own.
func shadowOptions(set config.Settings, secrets func() config.Secrets) policy.Options {
	o := policyOptions(set, secrets)
	o.Bundle, o.Custom = set.Shadow.Bundle, set.Shadow.Custom
	o.Bundles = bundleSources(set.Shadow.Bundles, set.Policy.Services, secrets)
	o.KeepDir = filepath.Join(set.StateDir, "shadow-bundles")
	return o
}

// ofBundles tells what is wrong with bundles as problems of the configuration:
// where on disk, and by which setting they are there.
func ofBundles(err error, set config.Settings, from config.Origins) error {
	return problemsOf(err, set, from, func(f policy.Fault) string { return settingOf(f, set.Policy) })
}

// ofShadow is ofBundles for those of the shadow.
func ofShadow(err error, set config.Settings, from config.Origins) error {
	return problemsOf(err, set, from, func(f policy.Fault) string {
		shadow := config.PolicySettings{Bundle: set.Shadow.Bundle, Bundles: set.Shadow.Bundles}
		return strings.Replace(settingOf(f, shadow), "policy", "shadow", 1)
	})
}

func problemsOf(err error, set config.Settings, from config.Origins, settingOf func(policy.Fault) string) error {
	var faults policy.Faults
	if !errors.As(err, &faults) {
		return err
	}
	problems := &config.Problems{Settings: &set, Origins: from}
	for _, f := range faults {
		key, message := settingOf(f), f.Message
		if f.File == "" && f.Bundle != "" {
			message = f.Bundle + ": " + message
		}
		p := from.Problem(key, message, f.Remedy)
		if f.File != "" {
			p.File, p.Line, p.Column = f.File, f.Line, f.Column
		}
		problems.List = append(problems.List, p)
	}
	return problems
}

// settingOf is the setting by which a bundle is there.
func settingOf(f policy.Fault, set config.PolicySettings) string {
	switch {
	case f.Bundle == "":
		return "policy"
	case f.Bundle == set.Bundle:
		return "policy.bundle"
	case slices.ContainsFunc(set.Bundles, func(b config.BundleSource) bool { return b.Name == f.Name && (b.Path == "" || b.Path == f.Bundle) }):
		return "policy.bundles." + f.Name
	}
	return "policy.custom"
}

// bundleChanged puts on record what happened to a bundle of a server.
func (s *stack) bundleChanged(c policy.BundleChange) {
	event := audit.Event{Type: audit.Bundle, Subject: c.Bundle, Detail: c.Detail}
	if c.Detail != "" {
		event.Failure = "bundle_" + string(c.Kind)
	} else {
		event.Detail = string(c.Kind) + " " + c.Revision
	}
	if err := s.audit.Write(context.Background(), event); err != nil {
		s.log.Error("change of a bundle not on record", "problem", err)
	}
}
