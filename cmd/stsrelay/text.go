package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

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
	if f, ok := a.out.(*os.File); ok {
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
				b.WriteString(shorten(c, max(t.width-utf8.RuneCountInString(b.String()), 20)))
				break
			}
			b.WriteString(c)
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2))
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// interactive says that a person at a terminal reads and answers.
func (a *app) interactive() bool {
	in, isFile := a.in.(*os.File)
	errOut, ok := a.err.(*os.File)
	return isFile && ok && term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(errOut.Fd()))
}

// confirm asks, and says whether the answer is yes.
func (a *app) confirm(question string) bool {
	fmt.Fprint(a.err, question)
	line, err := bufio.NewReader(a.in).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return err == nil && (answer == "y" || answer == "yes")
}

// shorten cuts a text to n characters.
func shorten(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	return string(r[:n-1]) + "…"
}

// size is a number of octets for people.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// span is a time span for people, in its two largest units.
func span(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm %ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh %dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd %dh", int(d.Hours())/24, int(d.Hours())%24)
}

// until is a time to come, from now.
func until(t *time.Time) string {
	if t == nil {
		return "-"
	}
	if d := time.Until(*t); d > 0 {
		return "in " + span(d)
	}
	return "now"
}

func ago(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return span(time.Since(*t)) + " ago"
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// sender shows the null sender as it stands in SMTP.
func sender(s string) string {
	if s == "" {
		return "<>"
	}
	return s
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
