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

// table prints rows in aligned columns. The last column is not padded.
type table struct {
	// width is that of the terminal: the widest columns are cut so that lines fit into
	// it, but never a column with the header ID, which commands take. 0: nothing is cut.
	width int
	rows  [][]string
}

// narrowest is the width to which a column is cut at most.
const narrowest = 6

// table returns a table that fits into the terminal. Where standard output is none,
// programs read it, and nothing is cut.
func (a *app) table(header ...string) *table {
	return &table{rows: [][]string{header}, width: a.columns()}
}

// columns is the width of the terminal, 0 where standard output is none.
func (a *app) columns() int {
	if f, ok := a.terminal(); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return width
		}
	}
	return 0
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// widths returns those of the columns.
func (t *table) widths() []int {
	widths := make([]int, len(t.rows[0]))
	for _, r := range t.rows {
		for i, c := range r {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	total := 2 * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for t.width > 0 && total > t.width {
		widest := -1
		for i, w := range widths {
			if t.rows[0][i] != "ID" && w > narrowest && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
		total--
	}
	return widths
}

func (t *table) print(w io.Writer) {
	widths := t.widths()
	for _, r := range t.rows {
		var b strings.Builder
		for i, c := range r {
			c = human.Shorten(c, widths[i])
			b.WriteString(c)
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2))
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// shortest is the number of characters that an ID is cut to at most: those are the time
// in milliseconds.
const shortest = 10

// shortIDs cuts the IDs in the first column of t to what tells them apart, where t is
// for a terminal.
func (t *table) shortIDs() {
	if t.width == 0 {
		return
	}
	for n := shortest; ; n++ {
		seen := make(map[string]bool, len(t.rows))
		longest := 0
		for _, r := range t.rows[1:] {
			seen[r[0][:min(n, len(r[0]))]] = true
			longest = max(longest, len(r[0]))
		}
		if len(seen) < len(t.rows)-1 && n < longest {
			continue
		}
		for _, r := range t.rows[1:] {
			r[0] = r[0][:min(n, len(r[0]))]
		}
		return
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
