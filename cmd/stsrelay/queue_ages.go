package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// writeAges prints how many recipients wait by domain and age, in lines of at most width
// characters; 0: nothing is cut.
func writeAges(w io.Writer, list []operator.DomainSummary, width int) {
	header := []string{"", "T"}
	for _, bound := range queue.AgeBounds() {
		header = append(header, strconv.Itoa(int(bound.Minutes())))
	}
	header = append(header, header[len(header)-1]+"+")
	var all queue.Ages
	rows := [][]string{header, nil}
	for _, d := range list {
		for i, n := range d.Ages {
			all[i] += n
		}
		rows = append(rows, agesRow(d.Domain, d.Ages))
	}
	rows[1] = agesRow("TOTAL", all)

	widths := make([]int, len(header))
	for _, r := range rows {
		for i, cell := range r {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	if counts := sum(widths[1:]) + len(widths) - 1; width > 0 {
		widths[0] = max(min(widths[0], width-counts), narrowest)
	}
	for _, r := range rows {
		var line strings.Builder
		fmt.Fprintf(&line, "%*s", widths[0], human.Shorten(r[0], widths[0]))
		for i, cell := range r[1:] {
			fmt.Fprintf(&line, " %*s", widths[i+1], cell)
		}
		fmt.Fprintln(w, line.String())
	}
}

func agesRow(name string, ages queue.Ages) []string {
	row := []string{name, count(sum(ages[:]))}
	for _, n := range ages {
		row = append(row, count(n))
	}
	return row
}

// count is a number of at most five characters.
func count(n int) string {
	if n < 100_000 {
		return strconv.Itoa(n)
	}
	if n < 10_000_000 {
		return strconv.Itoa(n/1000) + "k"
	}
	return strconv.Itoa(n/1_000_000) + "M"
}

func sum(list []int) (n int) {
	for _, v := range list {
		n += v
	}
	return n
}
