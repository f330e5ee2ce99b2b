package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/sts/publish"
)

func (a *app) publishExport() *cobra.Command {
	return &cobra.Command{
		Use: "export DIR", Short: "Write the policies as files, for a web server of your own", Args: oneArg("DIR"),
		Long: `Write each policy to DIR/mta-sts.DOMAIN/.well-known/mta-sts.txt, for those who
serve them with a web server of their own (IIS, nginx, GitHub Pages). It must
serve them as text/plain and without a redirect, with a certificate for
mta-sts.DOMAIN. Files that are there already are written anew.`,
		Example: "  stsrelay publish export /var/www",
		RunE: func(_ *cobra.Command, args []string) error {
			_, domains, err := a.loadPublished(nil)
			if err != nil {
				return err
			}
			files := make([]string, 0, len(domains))
			for _, d := range domains {
				file := filepath.Join(args[0], publish.PolicyHost(d.Name), filepath.FromSlash(publish.Path))
				if err := writePolicy(file, publish.Text(d.Policy)); err != nil {
					return fmt.Errorf("%s: %w", d.Name, err)
				}
				files = append(files, file)
			}
			if a.json {
				return a.printJSON(map[string]any{"files": files})
			}
			fmt.Fprintf(a.out, "%s written below %s\n", human.Plural(len(files), "policy file"), args[0])
			return nil
		},
	}
}

// writePolicy writes a file as a whole: a sender never reads half of it. A web server
// must be able to read it.
func writePolicy(file, text string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // it is public
		return err
	}
	temp := file + ".new"
	if err := os.WriteFile(temp, []byte(text), 0o644); err != nil { //nolint:gosec // it is public
		return err
	}
	return os.Rename(temp, file)
}
