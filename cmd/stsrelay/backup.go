package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/backup"
)

// backupOptions are the flags of backup.
type backupOptions struct {
	queue, history bool
	recipients     []string
	recipientsFile string
	passphrase     passphrase
}

// backedUp is what backup prints as JSON.
type backedUp struct {
	File       string `json:"file"`
	Records    int    `json:"records"`
	Unreadable int    `json:"unreadable"`
	Files      int    `json:"files"`
	Queue      bool   `json:"queue"`
	History    bool   `json:"history"`
	Encrypted  bool   `json:"encrypted"`
}

func (a *app) backupCommand() *cobra.Command {
	var o backupOptions
	c := &cobra.Command{
		Use: "backup FILE", Short: "Write everything that is not mail into one file", Args: oneArg("FILE"),
		Long: `Write what the relay needs to go on elsewhere into one file: the configuration,
the files that it names (DKIM keys, passwords, certificates), the policy cache,
the counts of TLS reports, and what was told to whom. With --history it has what
became of mail, with --queue the mail too. The relay may run or not. The file -
is standard output.

There are keys and passwords in the file: it is made for your eyes only (0600).
With --recipient or --passphrase it is encrypted with age
(https://age-encryption.org). "stsrelay restore" makes a new data_dir from it.`,
		Example: "  stsrelay backup /backup/relay.backup\n  stsrelay backup --queue --recipient age1… /backup/relay.backup.age",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.backup(cmd.Context(), o, args[0]) },
	}
	f := c.Flags()
	f.BoolVar(&o.queue, "queue", false, "the mail too")
	f.BoolVar(&o.history, "history", false, "the history too: what became of mail")
	f.StringArrayVar(&o.recipients, "recipient", nil, "encrypt for an age recipient (age1…); may be repeated")
	f.StringVar(&o.recipientsFile, "recipients-file", "", "encrypt for the age recipients in a file, one a line")
	o.passphrase.flags(f)
	return c
}

func (a *app) backup(ctx context.Context, o backupOptions, file string) error {
	c, _, err := a.load()
	if err != nil {
		return fmt.Errorf("a backup needs a configuration without errors: it says which files belong to it: %w", err)
	}
	if o.queue && c.Shared() {
		return errors.New("the mail is in PostgreSQL: back up the database with its own tools, or take the mail with \"stsrelay queue export FILE\"; leave --queue out")
	}
	recipients, err := a.recipients(o)
	if err != nil {
		return err
	}
	out := backedUp{File: file, Queue: o.queue, History: o.history, Encrypted: len(recipients) > 0}
	write := func(w io.Writer) error {
		enc, err := backup.Encrypt(w, recipients)
		if err != nil {
			return err
		}
		if err := a.writeBackup(ctx, c, o, enc, file, &out); err != nil {
			return err
		}
		return enc.Close()
	}
	to := a.out
	if file == "-" {
		to, err = a.err, write(a.raw)
	} else {
		err = saveFile(file, write)
	}
	if err != nil {
		return err
	}
	if a.json && file != "-" {
		err = a.printJSON(out)
	} else {
		_, err = fmt.Fprintf(to, "backed up %s of the store and %s to %s\n", human.Plural(out.Records, "record"), human.Plural(out.Files, "file"), file)
	}
	if out.Unreadable > 0 {
		return fmt.Errorf("%s of the store cannot be read, and is not in the backup", human.Plural(out.Unreadable, "record"))
	}
	return err
}

// writeBackup writes the parts of a backup. file is its own name, which is not part of it.
func (a *app) writeBackup(ctx context.Context, c *config.Config, o backupOptions, w io.Writer, file string, out *backedUp) error {
	dataDir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return err
	}
	m := backup.Manifest{WrittenBy: version, CreatedAt: time.Now().UTC().Truncate(time.Second), Hostname: c.Hostname, DataDir: dataDir, Queue: o.queue, History: o.history}
	for _, path := range slices.Concat([]string{c.File}, c.Named) {
		if err := addFiles(&m, path); err != nil {
			return err
		}
	}
	out.Files = len(m.Files)
	b, err := backup.NewWriter(w, m)
	if err != nil {
		return err
	}
	source := a.backupSource(c)
	found, err := source.records(ctx, b)
	if err != nil {
		return err
	}
	out.Records, out.Unreadable = found.Records, found.Unreadable
	if err := b.Data(dataDir, inBackup(dataDir, a.ownFile(file), o.history)); err != nil {
		return err
	}
	if o.queue {
		if err := source.queue(ctx, b); err != nil {
			return err
		}
	}
	return b.Close()
}

// addFiles adds a file that the configuration names, or those in a folder, unless it lies in
// data_dir and comes with that.
func addFiles(m *backup.Manifest, path string) error {
	if path == "" {
		return nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if m.ConfigFile == "" && len(m.Files) == 0 {
		m.ConfigFile = path
	}
	if below(m.DataDir, path) || slices.ContainsFunc(m.Files, func(f backup.File) bool { return f.Path == path }) {
		return nil
	}
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("a file that the configuration names: %w", err)
	}
	if !st.IsDir() {
		m.Files = append(m.Files, backup.File{Path: path})
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		file := filepath.Join(path, e.Name())
		if st, err := os.Stat(file); err == nil && st.Mode().IsRegular() { // it may be a link, as those of certbot are
			m.Files = append(m.Files, backup.File{Path: file})
		}
	}
	return nil
}

func below(dir, path string) bool { return strings.HasPrefix(path, dir+string(filepath.Separator)) }

// inBackup returns which files of data_dir are in a backup: not the store, which comes by its
// records, and not those in own, which are the backup itself.
func inBackup(dataDir string, own []fs.FileInfo, history bool) func(name string, info fs.FileInfo) bool {
	store := filepath.Base(relay.StoreDir(dataDir))
	return func(name string, info fs.FileInfo) bool {
		switch first, _, _ := strings.Cut(name, "/"); first {
		case store, store + ".identity":
			return false
		case "history":
			return history
		}
		return !slices.ContainsFunc(own, func(o fs.FileInfo) bool { return os.SameFile(o, info) })
	}
}

// ownFile returns what file a backup is written to, by whatever name; nothing for a pipe.
func (a *app) ownFile(file string) (own []fs.FileInfo) {
	if file == "-" {
		if out, ok := a.raw.(*os.File); ok {
			if info, err := out.Stat(); err == nil {
				own = append(own, info)
			}
		}
		return own
	}
	if info, err := os.Stat(file + partSuffix); err == nil {
		own = append(own, info)
	}
	return own
}

// backupSource is where the records and the mail come from: the relay, or the store of one
// that does not run.
type backupSource struct {
	client *adminapi.Client
	dir    string
}

func (a *app) backupSource(c *config.Config) backupSource {
	return backupSource{adminapi.NewClient(c.SocketPath()), relay.StoreDir(c.DataDir)}
}

func (s backupSource) records(ctx context.Context, b *backup.Writer) (backup.Records, error) {
	body, err := s.client.StoreRecords(ctx)
	if err == nil {
		defer body.Close()
		return b.Store(body)
	}
	if !errors.Is(err, adminapi.ErrNotRunning) {
		return backup.Records{}, err
	}
	return streamed(s.writeRecords, b.Store)
}

func (s backupSource) writeRecords(w io.Writer) error {
	from, err := badger.OpenSalvage(s.dir, version)
	if err != nil {
		return err
	}
	defer from.Close()
	if from.Damage != nil {
		return fmt.Errorf("%w; take out the mail with \"stsrelay queue rescue\"", from.Damage)
	}
	out := backup.NewRecordWriter(w)
	err = from.Walk(func(r store.Record) error {
		if !backup.Kept(r.Key) {
			return nil
		}
		value, err := r.Read()
		if _, damaged := errors.AsType[*store.ValueError](err); damaged {
			out.Unreadable(r.Key)
			return nil
		}
		if err != nil {
			return err
		}
		return out.Add(r.Key, value)
	})
	if err == nil {
		_, err = out.Close()
	}
	return err
}

func (s backupSource) queue(ctx context.Context, b *backup.Writer) error {
	add := func(r io.Reader) (queue.Transfer, error) {
		return streamed(func(w io.Writer) error { _, err := copyExport(w, r); return err }, func(r io.Reader) (queue.Transfer, error) { return queue.Transfer{}, b.Queue(r) })
	}
	body, err := s.client.Export(ctx)
	if err == nil {
		defer body.Close()
		_, err = add(body)
		return err
	}
	if !errors.Is(err, adminapi.ErrNotRunning) {
		return err
	}
	from, err := badger.OpenSalvage(s.dir, version)
	if err != nil {
		return err
	}
	defer from.Close()
	_, err = streamed(func(w io.Writer) error { _, err := queue.Rescue(from, w); return err }, add)
	return err
}

// streamed runs two functions at the same time, of which one writes what the other reads.
func streamed[T any](write func(io.Writer) error, read func(io.Reader) (T, error)) (T, error) {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.CloseWithError(write(w))
	}()
	out, err := read(r)
	_ = r.Close()
	<-done
	return out, err
}

// recipients returns for whom the backup is encrypted.
func (a *app) recipients(o backupOptions) (out []age.Recipient, err error) {
	secret, err := o.passphrase.read(a, true)
	if err != nil {
		return nil, err
	}
	if secret != "" {
		if len(o.recipients) > 0 || o.recipientsFile != "" {
			return nil, usageError{errors.New("a backup is encrypted for recipients or with a passphrase, not both")}
		}
		r, err := age.NewScryptRecipient(secret)
		return []age.Recipient{r}, err
	}
	for _, s := range o.recipients {
		found, err := age.ParseRecipients(strings.NewReader(s))
		if err != nil {
			return nil, fmt.Errorf("--recipient %s: %w", s, err)
		}
		out = append(out, found...)
	}
	if o.recipientsFile != "" {
		f, err := os.Open(o.recipientsFile)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		found, err := age.ParseRecipients(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.recipientsFile, err)
		}
		out = append(out, found...)
	}
	return out, nil
}
