package tlsrpt

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Neighbor is the store of another relay, which counts there. The reports are made from
// the own store alone, so that a domain gets one a day.
type Neighbor interface {
	// Rows returns the first rows of a range, most of them at most.
	Rows(ctx context.Context, r store.Range, most int) ([]store.Row, error)
	// Fence lets the writer of that store begin anew what it has not written yet, which
	// gives some milliseconds in which nothing changes.
	Fence(ctx context.Context) error
	// Move deletes what is in the ranges and makes the changes of b in the own store, in
	// one transaction. The error wraps store.ErrChanged if the ranges do not have exactly these
	// rows any more.
	Move(ctx context.Context, b *store.Batch, ranges []store.Range, rows []store.Row) error
}

const (
	// page is how many rows are moved at a time, if the counts of one policy are not more.
	page = 2000
	// gatherTries is how often a page is read again that changes all the time.
	gatherTries = 50
)

// gatherEnded moves the counts of the days before today into this store.
func (r *Reporter) gatherEnded(ctx context.Context, today string) error {
	return r.eachNeighbor(ctx, func(n Neighbor) error {
		ended, err := n.Rows(ctx, store.Range{From: dayKey(""), To: dayKey(today)}, 1000)
		if err != nil {
			return err
		}
		for _, row := range ended {
			day := string(row.Key[len(dayKey("")):])
			if err := r.gatherRange(ctx, n, below(countsPrefix(day))); err != nil {
				return err
			}
			if err := forgetDay(ctx, n, day); err != nil {
				return err
			}
		}
		return nil
	})
}

// gather moves the counts of a day into this store, for one domain or ("") for all.
func (r *Reporter) gather(ctx context.Context, day, domain string) error {
	return r.eachNeighbor(ctx, func(n Neighbor) error {
		return r.gatherRange(ctx, n, below(selection(day, domain)))
	})
}

func (r *Reporter) eachNeighbor(ctx context.Context, fn func(Neighbor) error) error {
	if r.o.Neighbors == nil {
		return nil
	}
	list, err := r.o.Neighbors(ctx)
	for _, n := range list {
		if err == nil {
			err = fn(n)
		}
	}
	if err != nil {
		return fmt.Errorf("gather the counts of the other relays: %w", err)
	}
	return nil
}

// below is the range of the keys with a prefix, which ends with "/".
func below(prefix []byte) store.Range {
	end := append([]byte{}, prefix...)
	end[len(end)-1]++
	return store.Range{From: prefix, To: end}
}

// gatherRange moves the counts in a range, a page of whole policies at a time.
func (r *Reporter) gatherRange(ctx context.Context, n Neighbor, of store.Range) error {
	for try := 0; ; {
		end, err := r.movePage(ctx, n, of)
		switch {
		case errors.Is(err, store.ErrChanged) && try < gatherTries:
			try++
			if err := n.Fence(ctx); err != nil {
				return err
			}
		case err != nil || end == nil:
			return err
		default:
			of.From, try = end, 0
		}
	}
}

// movePage moves the first policies of a range. It returns where the rest begins, nil for
// none.
func (r *Reporter) movePage(ctx context.Context, n Neighbor, of store.Range) (end []byte, err error) {
	rows, err := policyRows(ctx, n, of)
	if err != nil || len(rows.list) == 0 {
		return nil, err
	}
	moved := store.Range{From: of.From, To: of.To}
	if rows.end != nil {
		moved.To = rows.end
	}
	var b store.Batch
	size := 0
	for i := range rows.list {
		size += len(rows.list[i].Key) + len(rows.list[i].Value)
	}
	counted := parsePolicies(rows.list)
	// A policy that is new here has records of its domain and its day, too.
	b.Do(2*len(rows.list)+8, 2*size+8192, func(txn store.Txn) error {
		for _, c := range counted {
			if err := r.tally.add(txn, c.key, c.counts); err != nil {
				return err
			}
		}
		return nil
	})
	return rows.end, n.Move(ctx, &b, []store.Range{moved}, rows.list)
}

// policyPage is the rows of whole policies; end is where the next policy begins, nil for
// none.
type policyPage struct {
	list []store.Row
	end  []byte
}

func policyRows(ctx context.Context, n Neighbor, of store.Range) (p policyPage, err error) {
	for most := page; ; most *= 2 {
		p.list, err = n.Rows(ctx, of, most)
		if err != nil || len(p.list) < most {
			return p, err
		}
		last := policyOf(p.list[len(p.list)-1].Key)
		for i := range p.list {
			if string(policyOf(p.list[i].Key)) == string(last) && i > 0 {
				p.list, p.end = p.list[:i], last
				return p, nil
			}
			if i == 0 && string(policyOf(p.list[i].Key)) == string(last) {
				break // one policy has more rows than a page
			}
		}
	}
}

// policyOf is the part of a key that names the policy.
func policyOf(k []byte) []byte {
	rest := k[len(store.PrefixReport):]
	parts := strings.SplitN(string(rest), "/", 6)
	if len(parts) < 6 {
		return k
	}
	return k[:len(k)-len(parts[5])-1]
}

// policyCounts are the counts of one policy with the day and the domain.
type policyCounts struct {
	key    reportKey
	counts *Counts
}

func parsePolicies(rows []store.Row) (list []policyCounts) {
	p := reader{yield: func(k reportKey, c *Counts) bool {
		list = append(list, policyCounts{k, c})
		return true
	}}
	for i := range rows {
		_ = p.add(rows[i].Key, rows[i].Value) // yield always wants more
	}
	p.emit()
	return list
}

// forgetDay deletes what is left of a day whose counts were moved.
func forgetDay(ctx context.Context, n Neighbor, day string) error {
	counts, domains := below(countsPrefix(day)), below(append(key("d", day), '/'))
	for {
		rows, err := n.Rows(ctx, domains, page)
		if err != nil {
			return err
		}
		of := domains
		if len(rows) == page {
			of.To = append(append([]byte{}, rows[page-1].Key...), 0)
		}
		ranges := []store.Range{counts, of}
		if len(rows) < page {
			number := store.Range{From: dayKey(day), To: append(dayKey(day), 0)}
			last, err := n.Rows(ctx, number, 1)
			if err != nil {
				return err
			}
			ranges, rows = append(ranges, number), append(rows, last...)
		}
		err = n.Move(ctx, new(store.Batch), ranges, rows)
		if errors.Is(err, store.ErrChanged) {
			return nil // somebody has counted: the next look finds it
		}
		if err != nil || len(ranges) == 3 {
			return err
		}
	}
}
