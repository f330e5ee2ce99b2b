package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/relay"
	"github.com/stsrelay/stsrelay/relay/backup"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// restoreOptions are the flags of restore.
type restoreOptions struct {
	dataDir                string
	queue, keepFiles, only bool
	identities             []string
	passphrase             passphrase
}

// restored is what restore prints as JSON.
type restored struct {
	Backup    backup.Manifest    `json:"backup"`
	Octets    int64              `json:"octets"`
	DataDir   string             `json:"data_dir,omitempty"`
	Records   int                `json:"records"`
	Files     []string           `json:"files"`
	Kept      []string           `json:"kept"`
	Elsewhere []string           `json:"elsewhere"`
	Mail      *operator.Transfer `json:"mail,omitempty"`
}

func (a *app) restoreCommand() *cobra.Command {
	var o restoreOptions
	c := &cobra.Command{
		Use: "restore FILE", Short: "Make data_dir and configuration files from a backup", Args: oneArg("FILE"),
		Long: `Make a new data_dir from a backup, and the files that its configuration names
where they lay. The whole backup is read and checked before anything is written.
data_dir is that of the backup unless --data-dir names another; it must be
empty.

Mail that is in the backup comes with --queue, held: what was delivered since
the backup would be delivered a second time. Look at "stsrelay queue list",
remove what has arrived, and let the rest go with "stsrelay queue release".`,
		Example: "  stsrelay restore --check /backup/relay.backup\n  stsrelay restore --queue --identity key.txt /backup/relay.backup.age",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.restore(cmd.Context(), o, args[0]) },
	}
	f := c.Flags()
	f.StringVar(&o.dataDir, "data-dir", "", "restore into this folder")
	f.BoolVar(&o.queue, "queue", false, "the mail too, held")
	f.BoolVar(&o.keepFiles, "keep-files", false, "keep files outside of data_dir that are there with another content")
	f.BoolVar(&o.only, "check", false, "only read the backup and say what it holds")
	f.StringArrayVar(&o.identities, "identity", nil, "decrypt with the age key in this file; may be repeated")
	o.passphrase.flags(f)
	return c
}

func (a *app) restore(ctx context.Context, o restoreOptions, file string) error {
	identities, err := a.identities(o)
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := backup.Open(f, identities)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	out := restored{Backup: b.Manifest, Octets: b.Octets, Files: []string{}, Kept: []string{}, Elsewhere: []string{}}
	if o.only {
		return a.restored(&out, o)
	}
	out.DataDir = o.dataDir
	if out.DataDir == "" {
		out.DataDir = b.Manifest.DataDir
	}
	if out.DataDir, err = filepath.Abs(out.DataDir); err != nil {
		return err
	}
	owner := ownerOf(out.DataDir)
	done, err := b.Restore(ctx, backup.RestoreOptions{
		DataDir: out.DataDir, Queue: o.queue, KeepFiles: o.keepFiles,
		OpenStore: func(dataDir string) (backup.ClosableStore, error) {
			return badger.Open(badger.Options{Dir: relay.StoreDir(dataDir), FreeSpace: store.Floor, Version: version})
		},
	})
	if err != nil {
		return err
	}
	if err := owner.give(out.DataDir); err != nil {
		return fmt.Errorf("everything was restored, but the files do not belong to the owner of %s: %w", out.DataDir, err)
	}
	out.Records = done.Records.Records
	out.Files, out.Kept, out.Elsewhere = append(out.Files, done.Files...), append(out.Kept, done.Kept...), append(out.Elsewhere, done.Elsewhere...)
	if done.Mail != nil {
		t := operator.NewTransfer(*done.Mail)
		out.Mail = &t
	}
	return a.restored(&out, o)
}

// restored prints what was restored, and what is left to do.
func (a *app) restored(r *restored, o restoreOptions) error {
	if a.json {
		return a.printJSON(r)
	}
	m := r.Backup
	fmt.Fprintf(a.out, "backup of %s, made %s by stsrelay %s: whole, %s\n", m.Hostname, m.CreatedAt.Format("2006-01-02 15:04 MST"), m.WrittenBy, human.Size(r.Octets))
	if o.only {
		fmt.Fprintf(a.out, "data_dir %s, mail %s, history %s; files beside it:\n", m.DataDir, yesNo(m.Queue), yesNo(m.History))
		for _, f := range m.Files {
			fmt.Fprintf(a.out, "  %s\n", f.Path)
		}
		return nil
	}
	fmt.Fprintf(a.out, "restored %s of the store into %s\n", human.Plural(r.Records, "record"), r.DataDir)
	for _, list := range []struct {
		names []string
		what  string
	}{
		{r.Files, "written"},
		{r.Kept, "kept as they are, with another content than in the backup"},
		{r.Elsewhere, "not written, since systemd or the container's engine makes them"},
	} {
		if len(list.names) > 0 {
			fmt.Fprintf(a.out, "%s: %s\n", list.what, strings.Join(list.names, ", "))
		}
	}
	switch {
	case r.Mail != nil:
		fmt.Fprintf(a.out, "%s restored, all held: look at \"stsrelay queue list\" before \"stsrelay queue release\"; %d damaged, %d unreadable when the backup was made\n",
			human.Plural(r.Mail.Messages, "message"), r.Mail.Damaged, r.Mail.Unreadable)
	case m.Queue:
		fmt.Fprintln(a.out, "the mail in the backup was left out: --queue restores it, held")
	}
	if r.DataDir != m.DataDir && m.ConfigFile != "" {
		fmt.Fprintf(a.out, "the configuration is of a relay with its data in %s: set data_dir = %q\n", m.DataDir, r.DataDir)
	}
	return nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// identities returns what decrypts the backup.
func (a *app) identities(o restoreOptions) (out []age.Identity, err error) {
	for _, name := range o.identities {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		found, err := age.ParseIdentities(f)
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("--identity %s: %w", name, err)
		}
		out = append(out, found...)
	}
	secret, err := o.passphrase.read(a, false)
	if err != nil || secret == "" {
		return out, err
	}
	i, err := age.NewScryptIdentity(secret)
	if err != nil {
		return nil, err
	}
	return append(out, i), nil
}
