package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/mailbox"
)

// keySetup is the output of `report setup` for one key.
type keySetup struct {
	Domain   string `json:"domain"`
	Selector string `json:"selector"`
	KeyFile  string `json:"key_file"`
	// Created reports whether the key file was made now.
	Created bool `json:"created"`
	// Configured reports whether the configuration names the key.
	Configured bool `json:"configured"`
	// Name and Record are the TXT record to publish.
	Name   string `json:"record_name"`
	Record string `json:"record"`
	// Published reports whether the record is in the DNS. Problem is what is wrong with
	// it, Warning what keeps some receivers from believing it.
	Published bool   `json:"published"`
	Problem   string `json:"problem,omitempty"`
	Warning   string `json:"warning,omitempty"`

	kinds []string // of mail that the key signs
}

func (a *app) reportSetup() *cobra.Command {
	var kind, selector, file string
	c := &cobra.Command{
		Use: "setup", Short: "Make the DKIM key that signs reports, and check its DNS record", Args: noArgs,
		Long: `Mailed reports must be signed by DKIM in the domain of tlsrpt.sender. Where the
configuration has no key for that yet, one is made beside the configuration
file, and the lines to add are printed. The TXT record to publish is printed in
any case, and compared with what the DNS has. Exit 1 until all is in place.`,
		Example: "  stsrelay report setup",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := a.load()
			if err != nil {
				return err
			}
			keys, err := setupKeys(cfg, kind, selector, file)
			if err != nil {
				return err
			}
			for i := range keys {
				if err := checkPublished(cmd.Context(), cfg, &keys[i]); err != nil {
					return err
				}
			}
			return a.printSetup(cfg, keys)
		},
	}
	c.Flags().StringVar(&kind, "type", dkim.RSA, `kind of a new key: "rsa" (2048 bits), which every receiver knows, or "ed25519"`)
	c.Flags().StringVar(&selector, "selector", "tlsrpt", "selector of a new key")
	c.Flags().StringVar(&file, "key-file", "", "where a new key goes (default dkim-SELECTOR.pem beside the configuration file)")
	return c
}

// setupKeys returns the keys that sign reports. If there is none it makes one.
func setupKeys(c *config.Config, kind, selector, file string) ([]keySetup, error) {
	var keys []keySetup
	for _, k := range c.DKIM {
		if strings.EqualFold(k.Domain, c.ReportDomain()) && slices.Contains(k.Sign, "reports") {
			s, err := describeKey(k.Domain, k.Selector, k.KeyFile, k.Sign)
			if err != nil {
				return nil, err
			}
			s.Configured = true
			keys = append(keys, s)
		}
	}
	if len(keys) > 0 {
		return keys, nil
	}
	if _, err := mailbox.ParseDomain(selector); err != nil {
		return nil, usageError{fmt.Errorf("--selector: %w", err)}
	}
	if file == "" {
		folder := "."
		if c.File != "" {
			folder = filepath.Dir(c.File)
		}
		file = filepath.Join(folder, "dkim-"+selector+".pem")
	}
	created, err := makeKey(kind, file)
	if err != nil {
		return nil, err
	}
	s, err := describeKey(c.ReportDomain(), selector, file, []string{"reports"})
	s.Created = created
	return []keySetup{s}, err
}

// makeKey makes a key file, unless there is one from an earlier call.
func makeKey(kind, file string) (created bool, err error) {
	data, err := dkim.Generate(kind)
	if err != nil {
		return false, usageError{fmt.Errorf("--type: %w", err)}
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("make the key file: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return false, fmt.Errorf("write the key file: %w", err)
	}
	return true, nil
}

func describeKey(domain, selector, file string, kinds []string) (keySetup, error) {
	k, err := dkim.Load(domain, selector, file)
	if err != nil {
		return keySetup{}, err
	}
	record, err := k.Record(dkim.Services(kinds)...)
	return keySetup{Domain: domain, Selector: selector, KeyFile: file, Name: k.RecordName(), Record: record, kinds: kinds}, err
}

// checkPublished compares the record with that in the DNS.
func checkPublished(ctx context.Context, c *config.Config, s *keySetup) error {
	k, err := dkim.Load(s.Domain, s.Selector, s.KeyFile)
	if err != nil {
		return err
	}
	resolver, err := dnsclient.New(dnsclient.Options{Servers: c.DNS.Servers, TrustAD: c.DNS.TrustAD})
	if err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	defer func() { _ = resolver.Close() }() // nothing was written
	found, err := k.Problem(ctx, resolver.FreshTXT, s.kinds)
	switch {
	case err != nil:
		s.Problem = "whether it is published cannot be told now: " + err.Error()
	case found.Works:
		s.Published, s.Warning = true, found.Text
	default:
		s.Published, s.Problem = found.Text == "", found.Text
	}
	return nil
}

var errSetup = errors.New("mailed reports are not ready yet; do what is said above and run this again")

func (a *app) printSetup(c *config.Config, keys []keySetup) error {
	ready := true
	for _, k := range keys {
		ready = ready && k.Configured && k.Published
	}
	if a.json {
		if err := a.printJSON(map[string]any{"ready": ready, "sender": c.TLSRPT.Sender, "keys": keys}); err != nil {
			return err
		}
	} else {
		for _, k := range keys {
			a.printKey(c, &k)
		}
	}
	if !ready {
		return errSetup
	}
	if !a.json {
		fmt.Fprintln(a.out, "All is in place: reports are mailed, and signed.")
	}
	return nil
}

func (a *app) printKey(c *config.Config, k *keySetup) {
	if k.Created {
		fmt.Fprintf(a.out, "A new key was written to %s (keep it secret; the relay's user must be able to read it).\n\n", k.KeyFile)
	}
	if !k.Configured {
		file := c.File
		if file == "" {
			file = "the configuration file"
		}
		fmt.Fprintf(a.out, "Add this to %s, then run: stsrelay reload\n\n[[dkim]]\ndomain = %q\nselector = %q\nkey_file = %q\nsign = [\"reports\"]\n\n", file, k.Domain, k.Selector, k.KeyFile)
	}
	if k.Warning != "" {
		fmt.Fprintf(a.out, "WARNING: the key %s is published, but %s. Publish this TXT record instead:\n\n%s. IN TXT %s\n\n", k.Name, k.Warning, k.Name, zoneText(k.Record))
		return
	}
	if k.Published {
		fmt.Fprintf(a.out, "The key %s is published.\n", k.Name)
		return
	}
	fmt.Fprintf(a.out, "Publish this TXT record (%s):\n\n%s. IN TXT %s\n\n", k.Problem, k.Name, zoneText(k.Record))
}

// zoneText returns a TXT value in the form of a zone file: strings of at most 255
// octets.
func zoneText(s string) string {
	var parts []string
	for len(s) > 255 {
		parts, s = append(parts, fmt.Sprintf("%q", s[:255])), s[255:]
	}
	return strings.Join(append(parts, fmt.Sprintf("%q", s)), " ")
}
