package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// typingErrors is how many characters of a word may be wrong for a name to be suggested.
func typingErrors(word string) int { return min(2, (len(word)+1)/2) }

// noCommand is the error of a command that is not there below cmd, with those that may be
// meant.
func noCommand(cmd *cobra.Command, word string) error {
	below := ""
	if cmd.HasParent() {
		below = fmt.Sprintf(" below %q", cmd.Name())
	}
	return usageError{fmt.Errorf("there is no command %q%s%s", word, below, didYouMean(cmd, word))}
}

// didYouMean returns a line for each command below cmd that may be meant by word.
func didYouMean(cmd *cobra.Command, word string) (lines string) {
	for _, c := range similarCommands(cmd, word) {
		lines += fmt.Sprintf("\ndid you mean: %s (%s)", c.CommandPath(), c.Short)
	}
	return lines
}

// similarCommands returns the commands below cmd whose names are like word; else those further
// down that have it for a name.
func similarCommands(cmd *cobra.Command, word string) (found []*cobra.Command) {
	cmd.SuggestionsMinimumDistance = typingErrors(word)
	names := cmd.SuggestionsFor(word)
	for _, c := range cmd.Commands() {
		for _, name := range names {
			if c.Name() == name {
				found = append(found, c)
			}
		}
	}
	if len(found) > 0 {
		return found
	}
	for _, group := range cmd.Commands() {
		for _, c := range group.Commands() {
			if c.Name() == word && c.IsAvailableCommand() {
				found = append(found, c)
			}
		}
	}
	return found
}

// flagError is the error of a flag of cmd, with the flags that may be meant where it is not
// there.
func flagError(cmd *cobra.Command, err error) error {
	missing, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || len(missing.GetSpecifiedName()) < 2 {
		return usageError{err}
	}
	// cobra finds similar names of commands only.
	names := &cobra.Command{SuggestionsMinimumDistance: typingErrors(missing.GetSpecifiedName())}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		names.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
	})
	text := err.Error()
	for _, name := range names.SuggestionsFor(missing.GetSpecifiedName()) {
		text += fmt.Sprintf("\ndid you mean: --%s (%s)", name, cmd.Flags().Lookup(name).Usage)
	}
	return usageError{errors.New(text)}
}

// helpOf is the command that shows the help of cmd.
func helpOf(cmd *cobra.Command) string {
	if cmd.Name() == "help" {
		cmd = cmd.Root()
	}
	root, path, _ := strings.Cut(cmd.CommandPath(), " ")
	return strings.TrimSpace(root + " help " + path)
}
