package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/stsrelay/stsrelay/internal/human"
	"golang.org/x/term"
)

// table prints rows in aligned columns. The last column is not padded, and is
// cut so that a line fits into width.
type table struct {
	width int
	rows  [][]string
}

// table returns a table that is as wide as the terminal, else 120 characters.
func (a *app) table(header ...string) *table {
	t := &table{width: 120, rows: [][]string{header}}
	if f, ok := a.raw.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			t.width = width
		}
	}
	return t
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(w io.Writer) {
	widths := make([]int, len(t.rows[0]))
	for _, r := range t.rows {
		for i, c := range r {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for _, r := range t.rows {
		var b strings.Builder
		for i, c := range r {
			if i == len(r)-1 {
				b.WriteString(human.Shorten(c, max(t.width-utf8.RuneCountInString(b.String()), 20)))
				break
			}
			b.WriteString(c)
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2))
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// interactive reports whether there is a person at a terminal who can answer.
func (a *app) interactive() bool {
	in, isFile := a.in.(*os.File)
	errOut, ok := a.rawErr.(*os.File)
	return isFile && ok && term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(errOut.Fd()))
}

// confirm asks a question, and reports whether the answer is yes.
func (a *app) confirm(question string) bool {
	fmt.Fprint(a.err, question)
	line, err := bufio.NewReader(a.in).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return err == nil && (answer == "y" || answer == "yes")
}
