package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// documented is a command of the program in the documentation.
type documented struct {
	file  string
	line  string   // as it stands there
	words []string // behind the name of the program
	block bool     // it stands in a block, and not within a sentence
}

// notRun are the commands of blocks that are not run here, by how they begin, and why.
var notRun = map[string]string{
	"serve":               "it runs until it is stopped; TestALogThatNobodyReads and others run it",
	"demo":                "it brings its own relay; demo_test.go runs it",
	"check":               "it asks the DNS of the reader; check_test.go runs it in a small Internet",
	"setup":               "it asks the DNS at its end; setup_test.go runs it",
	"report setup":        "it asks the DNS; report_test.go runs it",
	"history show <":      "there is no such message",
	"history show 01":     "there is no such message",
	"history evidence":    "there is no such message; history has tests of its own",
	"queue import":        "its file comes by ssh; queue_transfer_test.go runs it",
	"queue export --data": "it wants a relay that does not run; queue_transfer_test.go runs it",
	"queue drain":         "it wants a second relay",
	"queue rescue":        "it wants a damaged store; queue_rescue_test.go runs it",
	"publish":             "it is about the reader's own domains",
	"trace":               "it waits for an attempt",
	"undo":                "there is nothing to undo",
	"backup":              "it has tests of its own",
	"restore":             "it has tests of its own",
	"top":                 "it runs until it is stopped",
	"openapi":             "it has tests of its own",
}

// Every command of the program in the documentation exists, with its flags and as many
// arguments as it takes. Those of blocks are run against a relay, but for those above.
func TestTheCommandsInTheDocumentation(t *testing.T) {
	file, ids := operated(t)
	commands := documentedCommands(t)
	if len(commands) < 60 {
		t.Fatalf("%d commands only", len(commands))
	}
	ran := 0
	for _, d := range commands {
		if err := parseDocumented(d); err != nil {
			t.Errorf("%s: %q: %v", d.file, d.line, err)
			continue
		}
		if !d.block || notRunWhy(d.words) != "" {
			continue
		}
		args := make([]string, 0, len(d.words)+2)
		for _, w := range d.words {
			args = append(args, strings.NewReplacer("DOMAIN", "a.example", "ID", ids[0]).Replace(w))
		}
		t.Chdir(t.TempDir()) // for files that it writes
		if r := command(t, "", append(args, "--config", file)...); r.status > 1 {
			t.Errorf("%s: %q ends with %d: %s", d.file, d.line, r.status, r.err)
		}
		ran++
	}
	if ran < 10 {
		t.Errorf("%d commands were run only", ran)
	}
	t.Logf("%d commands, %d run", len(commands), ran)
}

func notRunWhy(words []string) string {
	line := strings.Join(words, " ")
	for begin, why := range notRun {
		if strings.HasPrefix(line, begin) {
			return why
		}
	}
	return ""
}

// parseDocumented reports what is wrong with a command.
func parseDocumented(d documented) error {
	a := newApp(strings.NewReader(""), new(strings.Builder), new(strings.Builder), nil)
	root := a.command()
	c, rest, err := root.Find(d.words)
	if err != nil {
		return err
	}
	// Values that stand for those of the reader cannot be parsed as numbers or times.
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Value.Type() != "bool" {
			f.Value = anything{f.Value}
		}
	})
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	if !d.block && len(c.Flags().Args()) == 0 || c.Args == nil {
		return nil // a sentence may name a command without its arguments
	}
	if strings.Contains(d.line, "…") || strings.Contains(d.line, "...") {
		return nil
	}
	return c.Args(c, c.Flags().Args())
}

// anything is a flag that takes any value.
type anything struct{ pflag.Value }

func (anything) Set(string) error { return nil }

var (
	inBlock  = regexp.MustCompile(`^(?:    |\t)(?:sudo )?(?:docker exec (?:-\w+ )*\w+ )?(?:\./|/)?stsrelay ([a-z].*)$`)
	behind   = regexp.MustCompile(`(?:&&|\|) (?:\./|/)?stsrelay ([a-z][^|&]*)`)
	inText   = regexp.MustCompile("`(?:docker exec \\w+ )?(?:\\./|/)?stsrelay ([a-z][^`]*)`")
	shellEnd = regexp.MustCompile(`\s*(?:[|;>]|&&|\s#).*$`)
)

// documentedCommands finds the commands in all pages.
func documentedCommands(t *testing.T) (all []documented) {
	t.Helper()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, "../../README.md", "../../SECURITY.md") {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		fence := ""
		for line := range strings.Lines(string(text)) {
			line = strings.TrimRight(line, "\n")
			if kind, ok := strings.CutPrefix(line, "```"); ok {
				if fence != "" {
					kind = ""
				} else if kind == "" {
					kind = "text"
				}
				fence = kind
				continue
			}
			add := func(command string, block bool) {
				command = strings.NewReplacer("[", "", "]", "").Replace(command) // what may be left out
				command = shellEnd.ReplaceAllString(command, "")
				if words := shellWords(command); len(words) > 0 {
					all = append(all, documented{filepath.Base(f), line, words, block})
				}
			}
			if fence == "sh" {
				line = "    " + line
			}
			if fence == "" || fence == "sh" {
				if m := inBlock.FindStringSubmatch(line); m != nil {
					add(m[1], true)
				}
				if strings.HasPrefix(line, "    ") {
					for _, m := range behind.FindAllStringSubmatch(line, -1) {
						add(m[1], true)
					}
				}
				for _, m := range inText.FindAllStringSubmatch(line, -1) {
					add(m[1], false)
				}
			}
		}
	}
	return all
}

// shellWords splits a command as a shell does, as far as the documentation needs it.
func shellWords(s string) (words []string) {
	quote, word, begun := rune(0), "", false
	for _, r := range s {
		switch {
		case r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, begun = r, true
		case quote == 0 && r == ' ':
			if begun || word != "" {
				words = append(words, word)
			}
			word, begun = "", false
		default:
			word += string(r)
		}
	}
	if begun || word != "" {
		words = append(words, word)
	}
	return words
}
