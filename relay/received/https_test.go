package received

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
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
		{[]byte("hello"), http.StatusUnsupportedMediaType}, {bytes.Repeat([]byte(" "), maxPost+1), http.StatusRequestEntityTooLarge},
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

// deadlineWriter notes the deadline that the handler sets.
type deadlineWriter struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

// SetReadDeadline is for http.ResponseController.
func (d *deadlineWriter) SetReadDeadline(t time.Time) error { d.deadline = t; return nil }

// bodyFunc is a body that does as the function says.
type bodyFunc func() (int, error)

// Read implements io.Reader.
func (f bodyFunc) Read([]byte) (int, error) { return f() }

// The posts of one network take turns, so that slow ones hold up no other network; each has
// its time.
func TestSlowPostsHoldUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		h.settings.Domains = []string{"r.example"}
		handler := h.Handler()
		post := func(from string, body io.Reader) *deadlineWriter {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			w := &deadlineWriter{ResponseRecorder: httptest.NewRecorder()}
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/tlsrpt", body)
			r.RemoteAddr = from
			handler.ServeHTTP(w, r)
			return w
		}
		release := make(chan struct{})
		var slow sync.WaitGroup
		for range 2 * postsAtOnce {
			slow.Go(func() {
				w := post("192.0.2.1:5", bodyFunc(func() (int, error) { <-release; return 0, os.ErrDeadlineExceeded }))
				if left := time.Until(w.deadline); w.Code != http.StatusRequestTimeout || left <= 0 || left > postTime {
					t.Errorf("slow: %d, %s", w.Code, left)
				}
			})
		}
		synctest.Wait()
		if w := post("192.0.2.2:5", strings.NewReader(report("a", "2026-11-18", "1", "r.example", 1, 0))); w.Code != http.StatusCreated {
			t.Errorf("another network: %d", w.Code)
		}
		close(release)
		slow.Wait()
	})
}

func TestAnAddressIsCountedWithItsNetwork(t *testing.T) {
	for address, want := range map[string]string{"192.0.2.1:5": "192.0.2.1", "[2001:db8:1:2:3::4]:5": "2001:db8:1:2::", "x": "x"} {
		if got := networkOf(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
