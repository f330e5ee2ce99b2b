package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/stsrelay/stsrelay/config"
)

// passphrase is the flags for a passphrase: asked for on the terminal, or read from a file.
type passphrase struct {
	ask  bool
	file string
}

func (p *passphrase) flags(f *pflag.FlagSet) {
	f.BoolVar(&p.ask, "passphrase", false, "encrypted with a passphrase, which is asked for")
	f.StringVar(&p.file, "passphrase-file", "", "encrypted with the passphrase in this file")
}

// read returns the passphrase, "" for none; twice asks again, for a new one.
func (p *passphrase) read(a *app, twice bool) (string, error) {
	if p.file != "" {
		secret, err := config.ReadSecret(p.file)
		if err != nil {
			return "", fmt.Errorf("--passphrase-file: %s %w", p.file, err)
		}
		return secret, nil
	}
	if !p.ask {
		return "", nil
	}
	f, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return "", errors.New("standard input is no terminal: use --passphrase-file")
	}
	if twice {
		return a.askPassword(int(f.Fd()))
	}
	fmt.Fprint(a.err, "Passphrase: ")
	secret, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(a.err)
	return string(secret), err
}
