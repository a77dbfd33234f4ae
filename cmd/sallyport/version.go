package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the release build.
var version = "dev"

type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	OPA     string `json:"opa"`
}

func currentVersion() versionInfo {
	v := versionInfo{Version: version, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Commit = s.Value
		}
	}
	for _, d := range info.Deps {
		if d.Path == "github.com/open-policy-agent/opa" {
			v.OPA = d.Version
		}
	}
	return v
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version of Sallyport and of the OPA inside it",
		Long:    "Print the version of Sallyport, of the OPA inside it, and of the Go that built it.",
		Example: "  sallyport version --output json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := currentVersion()
			return print(c, v, func(w io.Writer) {
				fmt.Fprintf(w, "sallyport %s (OPA %s, %s)\n", v.Version, v.OPA, v.Go)
			})
		},
	}
}
