package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/term"
)

func (a *app) userCommand() *cobra.Command {
	return group("user", "Make what [[user]] needs", a.userHash())
}

func (a *app) userHash() *cobra.Command {
	return &cobra.Command{
		Use: "hash", Short: "Print the bcrypt hash of a password", Args: noArgs,
		Long:    "The password is asked for, or read as one line from standard input when that is\nno terminal.",
		Example: "  stsrelay user hash",
		RunE: func(*cobra.Command, []string) error {
			password, err := a.readPassword()
			if err != nil {
				return err
			}
			hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
			if err != nil {
				return fmt.Errorf("hash the password: %w", err)
			}
			if a.json {
				return a.printJSON(map[string]string{"password_hash": string(hash)})
			}
			_, err = fmt.Fprintln(a.out, string(hash))
			return err
		},
	}
}

func (a *app) readPassword() (string, error) {
	if f, ok := a.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return a.askPassword(int(f.Fd()))
	}
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", errors.New("the password is empty")
	}
	return line, nil
}

func (a *app) askPassword(fd int) (string, error) {
	var entered [2]string
	for i, prompt := range []string{"Password: ", "Again: "} {
		fmt.Fprint(a.err, prompt)
		p, err := term.ReadPassword(fd)
		fmt.Fprintln(a.err)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		entered[i] = string(p)
	}
	switch {
	case entered[0] != entered[1]:
		return "", errors.New("the two passwords differ")
	case entered[0] == "":
		return "", errors.New("the password is empty")
	}
	return entered[0], nil
}
