package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build is what is known of this program.
type build struct {
	Version string `json:"version"`
	// Commit is that of the source, with "+changes" where it was changed; "" where the
	// build did not note it.
	Commit   string `json:"commit"`
	Go       string `json:"go"`
	Platform string `json:"platform"` // operating system and architecture, "linux/amd64"
}

// thisBuild returns what the build has noted.
func thisBuild() build {
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	changed := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			changed = s.Value == "true"
		}
	}
	if changed && b.Commit != "" {
		b.Commit += "+changes"
	}
	return b
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print version, commit, Go and platform", Args: noArgs, Example: "  stsrelay version",
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			if a.json {
				return a.printJSON(b)
			}
			commit := ""
			if b.Commit != "" {
				commit = "commit " + b.Commit + ", "
			}
			_, err := fmt.Fprintf(a.out, "stsrelay %s (%s%s, %s)\n", b.Version, commit, b.Go, b.Platform)
			return err
		},
	}
}
