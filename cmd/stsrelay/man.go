package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCommand writes the man pages, for those who make packages.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write the man pages of all commands into a folder", Args: oneArg("DIR"), Hidden: true,
		Long: `Write the man pages of all commands into a folder, which is made if it is not
there. They come from the texts of "stsrelay help". The packages have them.
Their date is that of SOURCE_DATE_EPOCH, if it is set.`,
		Example: "  stsrelay man ./man && man ./man/stsrelay-queue.1",
		RunE: func(cmd *cobra.Command, args []string) error {
			date := time.Now()
			for _, kv := range a.environ {
				if v, ok := strings.CutPrefix(kv, "SOURCE_DATE_EPOCH="); ok {
					n, err := strconv.ParseInt(v, 10, 64)
					if err != nil {
						return usageError{fmt.Errorf("SOURCE_DATE_EPOCH=%s is no time in seconds", v)}
					}
					date = time.Unix(n, 0)
				}
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil { //nolint:gosec // man pages are for all
				return err
			}
			cmd.Root().DisableAutoGenTag = true // the date in the header is enough
			date = date.UTC()
			return doc.GenManTree(cmd.Root(), &doc.GenManHeader{Section: "1", Source: "stsrelay " + version, Manual: "stsrelay", Date: &date}, args[0])
		},
	}
}
