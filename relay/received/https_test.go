package received

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestReportsArePosted(t *testing.T) {
	h := newHarness(t)
	s := httptest.NewTLSServer(h.Handler())
	defer s.Close()
	post := func(body []byte) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	one := []byte(report("sender.example", "2026-11-18", "1", "r.example", 3, 0))
	if got := post(one); got != http.StatusNotFound {
		t.Errorf("without domains: %d", got)
	}
	h.settings.Domains = []string{"r.example"}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write(one)
	_ = w.Close()
	for i, tt := range []struct {
		body []byte
		want int
	}{
		{z.Bytes(), http.StatusCreated}, {one, http.StatusCreated}, // the second is there already
		{[]byte("hello"), http.StatusUnsupportedMediaType}, {bytes.Repeat([]byte(" "), maxPost+1), http.StatusServiceUnavailable},
		{[]byte(report("sender.example", "2026-11-18", "1", "other.example", 3, 0)), http.StatusNotFound},
	} {
		if got := post(tt.body); got != tt.want {
			t.Errorf("post %d: %d, want %d", i, got, tt.want)
		}
	}
	list := h.records(t)
	if len(list) != 1 || list[0].Via != ByHTTPS || list[0].Proof() != "not verifiable" {
		t.Errorf("%+v", list)
	}
	for range postsAnHour {
		post(one)
	}
	if got := post(one); got != http.StatusTooManyRequests {
		t.Errorf("one too many: %d", got)
	}
	h.now = h.now.Add(time.Hour)
	if got := post(one); got != http.StatusCreated {
		t.Errorf("an hour later: %d", got)
	}
}

func TestAnAddressIsCountedWithItsNetwork(t *testing.T) {
	for address, want := range map[string]string{"192.0.2.1:5": "192.0.2.1", "[2001:db8:1:2:3::4]:5": "2001:db8:1:2::", "x": "x"} {
		if got := networkOf(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
