package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/received"
)

// importedFile is what became of the reports in one file.
type importedFile struct {
	File    string            `json:"file"`
	Results []received.Result `json:"results"`
}

func (a *app) receivedImport() *cobra.Command {
	return &cobra.Command{
		Use: "import FILE…", Short: "Take TLS reports out of files", Args: cobra.MinimumNArgs(1),
		Long: `Take TLS reports out of files, while the relay runs: JSON, gzip, zip, a mail
(.eml), an mbox file, or a folder with such files, such as a maildir. The
content says what a file is. A report that is there already is counted once
only. The file - is standard input.`,
		Example: "  stsrelay received import 'gmx.net!example.com!1793491200!1793577599.json.gz'\n  stsrelay received import ~/Maildir\n  cat mail.eml | stsrelay received import -",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			return a.importReports(cmd.Context(), client, args)
		},
	}
}

// importReports imports files and folders. The error says that nothing was found, or that
// a file could not be read.
func (a *app) importReports(ctx context.Context, client *adminapi.Client, names []string) error {
	files := []importedFile{}
	var errs []error
	one := func(name string, in io.Reader) error {
		results, err := client.ImportReports(ctx, in, filepath.Base(name))
		files = append(files, importedFile{name, results})
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		if errors.Is(err, adminapi.ErrNotRunning) {
			return err
		}
		return ctx.Err()
	}
	for _, name := range names {
		if name == "-" {
			if err := one(name, a.in); err != nil {
				return err
			}
			continue
		}
		err := filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && d.Name() == "tmp" && path != name: // of a maildir: mail that is being written
				return fs.SkipDir
			case d.IsDir() || !d.Type().IsRegular() && path != name:
				return nil
			}
			f, err := os.Open(path) //nolint:gosec // the operator may read what they name
			if err != nil {
				return err
			}
			defer f.Close()
			return one(path, f)
		})
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	return errors.Join(append(errs, a.printImported(files))...)
}

// printImported prints what became of files. The error is that no report was in them.
func (a *app) printImported(files []importedFile) error {
	reports := 0
	t := a.table("FILE", "OUTCOME", "DOMAIN", "SENDER", "WHY")
	for _, f := range files {
		for _, r := range f.Results {
			if r.Outcome != received.Unread {
				reports++
			}
			name := f.File
			if len(f.Results) > 1 {
				name += ": " + r.Where
			}
			t.add(name, string(r.Outcome), r.Domain, r.Sender, r.Why)
		}
	}
	if a.json {
		if err := a.printJSON(files); err != nil {
			return err
		}
	} else if len(t.rows) > 1 {
		t.print(a.out)
	}
	if reports == 0 {
		return errors.New("there is no TLS report in it")
	}
	return nil
}
