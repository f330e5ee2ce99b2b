package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func (a *app) queueExport() *cobra.Command {
	var dataDir string
	c := &cobra.Command{
		Use: "export FILE", Short: "Write all messages into one file", Args: oneArg("FILE"),
		Long: `Write all messages with the state of their recipients into one file with
checksums, while the relay runs: for a backup, or to move to another machine.
The file holds mail; it is made for your eyes only (0600). The file - is
standard output.

To move: queue pause, queue export, stop the relay, queue import on the new one.
What is delivered after the export is in the file all the same, and would be
delivered a second time from there.

With --data-dir the store of a relay that does not run is read, and nothing in
it is changed: the data_dir of a relay, or a store that was moved away after
"queue rescue". Damage costs the messages that it hits, which are named, and the
exit status is 1 then.`,
		Example: "  stsrelay queue export /backup/queue.export\n  stsrelay queue export --data-dir /var/lib/stsrelay /backup/queue.export",
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("data-dir") {
				return a.exportOffline(dataDir, args[0])
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			body, err := client.Export(cmd.Context())
			if err != nil {
				return err
			}
			defer body.Close()
			p := a.progress("export", 0, human.Size)
			if args[0] == "-" {
				t, err := copyExport(a.raw, p.reader(body))
				p.end()
				if err != nil {
					return err
				}
				return a.exported(a.err, t, "standard output")
			}
			t, err := saveExport(args[0], p.reader(body))
			p.end()
			if err != nil {
				return err
			}
			return a.exported(a.out, t, args[0])
		},
	}
	c.Flags().StringVar(&dataDir, "data-dir", "", "read the store below this folder; its relay does not run")
	return c
}

// exportOffline exports from the store of a relay that does not run. dir is a data_dir, or
// a store's folder itself.
func (a *app) exportOffline(dir, file string) error {
	storeDir := relay.StoreDir(dir)
	if _, err := os.Stat(filepath.Join(dir, "MANIFEST")); err == nil {
		storeDir = dir
	}
	damage, found, err := a.takeOut(storeDir, file)
	if err != nil {
		return err
	}
	to, name := a.out, file
	if file == "-" {
		to, name = a.err, "standard output"
	}
	if err := a.rescued(to, "exported", damage, found, name); err != nil {
		return err
	}
	missing := len(found.Lost)
	if damage != nil {
		missing = max(missing, damage.Expected-found.Messages)
	}
	if missing > 0 {
		return fmt.Errorf("%s could not be read and is not in the file; it stays in the store as it is", human.Plural(missing, "message"))
	}
	return nil
}

// copyExport copies an export and checks it: one that was cut short is no backup.
func copyExport(to io.Writer, from io.Reader) (queue.Transfer, error) {
	t, err := queue.CheckExport(io.TeeReader(from, to))
	switch {
	case err != nil:
		return t, fmt.Errorf("the export was cut short: %w", err)
	case !t.Whole():
		return t, fmt.Errorf("the export did not arrive whole: %v", t.Problems)
	}
	return t, nil
}

// saveExport writes an export to a file, see saveFile.
func saveExport(name string, from io.Reader) (t queue.Transfer, err error) {
	err = saveFile(name, func(w io.Writer) (err error) {
		t, err = copyExport(w, from)
		return err
	})
	return t, err
}

// partSuffix ends the name of a file that is not whole yet.
const partSuffix = ".part"

// saveFile writes a new file. It has its name only when it is whole and on the disk.
func saveFile(name string, write func(io.Writer) error) error {
	if _, err := os.Lstat(name); err == nil {
		return fmt.Errorf("%s is there already; name another file", name)
	}
	// A file that exists already could be a link to another file, or belong to an export
	// that is under way.
	part := name + partSuffix
	f, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: another command writes it, or one was cut off; remove it if none does, or name another file", part)
	}
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, name)
	}
	if err != nil {
		_ = os.Remove(part)
	}
	return err
}

func (a *app) exported(to io.Writer, t queue.Transfer, name string) error {
	out := operator.NewTransfer(t)
	var err error
	if a.json && to == a.out {
		err = a.printJSON(out)
	} else {
		_, err = fmt.Fprintf(to, "exported %s, %s, to %s\n", human.Plural(t.Messages, "message"), human.Size(t.Octets), name)
	}
	if t.Unreadable > 0 {
		return fmt.Errorf("%s could not be read in the store and stay there: see the log of the relay", human.Plural(t.Unreadable, "message"))
	}
	return err
}
