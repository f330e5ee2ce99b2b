package sts

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"
)

// shelf is a store whose contents are given.
type shelf struct {
	keys   []string
	values [][]byte
}

func (*shelf) Put(context.Context, []byte, []byte) error { return nil }
func (*shelf) Delete(context.Context, []byte) error      { return nil }

func (s *shelf) Get(key []byte) ([]byte, error) {
	if i := slices.Index(s.keys, string(key)); i >= 0 {
		return s.values[i], nil
	}
	return nil, nil
}

func (s *shelf) Scan(_ []byte, fn func(key, value []byte) error) error {
	for i, k := range s.keys {
		if err := fn([]byte(k), s.values[i]); err != nil {
			return err
		}
	}
	return nil
}

const usualPolicy = "version: STSv1\r\nmode: enforce\r\nmx: mail.%d.example\r\nmx: *.%d.example\r\nmx: backup.mail.example.net\r\nmax_age: 604800\r\n"

// full is a shelf with n policies of the usual size.
func full(t testing.TB, n int) *shelf {
	t.Helper()
	s := &shelf{}
	m := manager(t, ManagerOptions{Store: s, MaxDomains: 2 * n})
	now := time.Now()
	for i := range n {
		text := fmt.Sprintf(usualPolicy, i, i)
		p, _, err := parsePolicy(text)
		if err != nil {
			t.Fatal(err)
		}
		domain := fmt.Sprintf("%d.example", i)
		m.keepPolicy(t.Context(), domain, "20261123T120000", nil, &Fetched{Policy: p, Text: text}, ask, now)
		e, err := m.cache.get(domain)
		if err != nil {
			t.Fatal(err)
		}
		value, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		s.keys, s.values = append(s.keys, domain), append(s.values, value)
	}
	return s
}

func manager(t testing.TB, o ManagerOptions) *Manager {
	t.Helper()
	m, err := NewManager(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func BenchmarkOpenOf100000Policies(b *testing.B) {
	s := full(b, 100_000)
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		m := manager(b, ManagerOptions{Store: s})
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
		runtime.KeepAlive(m)
	}
}

func BenchmarkANewDomainInAFullCache(b *testing.B) {
	m := manager(b, ManagerOptions{Store: full(b, 100_000)})
	text := fmt.Sprintf(usualPolicy, 1, 1)
	p, _, err := parsePolicy(text)
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		m.keepPolicy(b.Context(), fmt.Sprintf("new%d.example", i), "1", nil, &Fetched{Policy: p, Text: text}, ask, time.Now())
	}
}

func BenchmarkLookupOfADomainWithoutARecord(b *testing.B) {
	m := manager(b, ManagerOptions{
		Store:     &shelf{},
		LookupTXT: func(context.Context, string, bool) ([]string, error) { return nil, ErrNoTXT },
	})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Lookup(b.Context(), "example.org"); err != nil {
			b.Fatal(err)
		}
	}
}
