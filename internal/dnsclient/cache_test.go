package dnsclient

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Only what mail uses is kept: strangers say how much there is.
func TestOnlyWhatIsUsedIsKept(t *testing.T) {
	z := newZone(t, nil)
	var mx, a, aaaa, txt, key []string
	for i := range 120 {
		mx = append(mx, fmt.Sprintf("a.example. 60 IN MX %d mx%d.example.", 1000-i, i))
		a = append(a, fmt.Sprintf("a.example. 60 IN A 192.0.2.%d", i))
		aaaa = append(aaaa, fmt.Sprintf("a.example. 60 IN AAAA 2001:db8::%x", i))
		txt = append(txt, fmt.Sprintf("a.example. 60 IN TXT \"%s-verification=%d\"", strings.Repeat("x", 200), i))
	}
	txt = append(txt, `a.example. 60 IN TXT "v=spf1 -all"`, `a.example. 60 IN TXT "V=STSv1"`, `a.example. 60 IN TXT ""`)
	key = append(key, `s._domainkey.a.example. 60 IN TXT "k=rsa; p=abc"`)
	z.records(t, "a.example.", "MX", mx...)
	z.records(t, "a.example.", "A", a...)
	z.records(t, "a.example.", "AAAA", aaaa...)
	z.records(t, "a.example.", "TXT", txt...)
	z.records(t, "s._domainkey.a.example.", "TXT", key...)
	z.records(t, "other.example.", "TXT", `other.example. 60 IN TXT "something"`)
	c := newTestClient(t, Options{Servers: []string{z.addr}})
	if got, err := c.MX(t.Context(), "a.example"); err != nil || len(got.Records) != maxMX || got.Records[0].Host != "mx119.example" || got.Records[maxMX-1].Host != "mx20.example" {
		t.Errorf("MX: %v, %v", got, err)
	}
	got, err := c.Addrs(t.Context(), "a.example")
	v4 := slices.DeleteFunc(slices.Clone(got.Addrs), func(x netip.Addr) bool { return !x.Is4() })
	if err != nil || len(got.Addrs) != 32 || len(v4) != 16 {
		t.Errorf("addresses: %v, %v", got, err)
	}
	if got, err := c.TXT(t.Context(), "a.example", false); err != nil || !slices.Equal(got.Records, []string{"v=spf1 -all", "V=STSv1"}) {
		t.Errorf("TXT: %q, %v", got.Records, err)
	}
	if got, err := c.TXT(t.Context(), "s._domainkey.a.example", false); err != nil || len(got.Records) != 1 {
		t.Errorf("a key without version: %q, %v", got.Records, err)
	}
	if got, err := c.TXT(t.Context(), "other.example", false); err != nil || len(got.Records) != 0 {
		t.Errorf("TXT that nobody uses: %q, %v", got.Records, err)
	}
}

func TestAnswersOfHundredsOfRecordsAreRefused(t *testing.T) {
	for _, tt := range []struct {
		n    int
		want bool
	}{{200, true}, {maxRecords + 1, false}, {2000, false}} {
		var asked atomic.Int64
		addr := rude(t, func(q *dns.Msg, udp bool) [][]byte {
			m := goodReply(q)
			if q.Question[0].Name == "." {
				return [][]byte{packed(m)}
			}
			m.Answer = nil
			m.Compress = true
			m.Truncated = udp
			for i := range tt.n {
				if !udp {
					m.Answer = append(m.Answer, must(dns.NewRR(fmt.Sprintf("a.example. 60 IN MX 10 mx%d.a.example.", i))))
				}
			}
			if !udp {
				asked.Add(1)
			}
			return [][]byte{packed(m)}
		})
		c := newTestClient(t, Options{Servers: []string{addr}})
		if mx, err := c.MX(t.Context(), "a.example"); (err == nil) != tt.want || tt.want && len(mx.Records) != maxMX || asked.Load() != 1 {
			t.Errorf("%d records: %d, %v; asked %d times", tt.n, len(mx.Records), err, asked.Load())
		}
	}
}

// The bound of the cache is one of memory: what it counts is about what is used.
func TestTheCacheIsBoundedByMemory(t *testing.T) {
	const limit = 4 << 20
	for name, make := range map[string]func(i int) *answer{
		"one address": func(int) *answer {
			return &answer{ttl: time.Hour, records: records{n: 1, addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}
		},
		"large TXT": func(i int) *answer {
			a := &answer{ttl: time.Hour}
			for j := range 60 {
				a.records.add(&dns.TXT{Txt: []string{fmt.Sprintf("v=%d %d", i, j), strings.Repeat("x", 900)}})
			}
			return a
		},
		"MX": func(i int) *answer {
			a := &answer{ttl: time.Hour}
			for j := range 200 {
				a.records.add(&dns.MX{Mx: strings.Repeat("label.", 30) + fmt.Sprintf("%d.%d.", i, j)})
			}
			a.records.finish()
			return a
		},
		"failures": func(i int) *answer {
			return &answer{ttl: time.Hour, err: &Error{Name: fmt.Sprintf("%0200d.example", i), EDE: strings.Repeat("x", 200), Server: "127.0.0.1:53"}}
		},
	} {
		c := newCache(limit, time.Now)
		before := heap()
		for i := range 20_000 {
			c.put(question{name: fmt.Sprintf("name-%d.example.", i), qtype: dns.TypeMX}, make(i))
			if i >= 500 && len(c.entries) < i/2 {
				break // it is full for long
			}
		}
		used := heap() - before
		t.Logf("%s: %d entries, counted %d KiB, used %d KiB", name, len(c.entries), c.octets>>10, used>>10)
		if c.octets > limit || used > limit*5/4 {
			t.Errorf("%s: counted %d, used %d", name, c.octets, used)
		}
		runtime.KeepAlive(c)
	}
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// A family that is never answered is not waited for at each attempt, where the
// other tells all that is needed.
func TestASilentFamilyIsRemembered(t *testing.T) {
	z := newZone(t, nil)
	silent := func(*dns.Msg, bool) bool { return false }
	for _, name := range []string{"a.example.", "dead.example."} {
		z.set(name, "AAAA", silent)
		z.set(name, "A", silent)
	}
	z.records(t, "a.example.", "A", "a.example. 1 IN A 192.0.2.1")
	z.rcode("fails.example.", "AAAA", dns.RcodeServerFailure)
	z.records(t, "fails.example.", "A", "fails.example. 1 IN A 192.0.2.1")
	now := time.Now()
	c := newTestClient(t, Options{Servers: []string{z.addr}, Timeout: 50 * time.Millisecond, Attempts: 1, Now: func() time.Time { return now }})
	for _, tt := range []struct {
		host  string
		after time.Duration
		kept  bool
	}{
		{"a.example", time.Minute, true}, {"a.example", silence - time.Second, true}, {"a.example", silence + time.Second, false},
		{"dead.example", time.Minute, false},  // whether it has addresses hangs on it
		{"fails.example", time.Minute, false}, // which costs no time
	} {
		now = now.Add(time.Hour)
		_, _ = c.Addrs(t.Context(), tt.host)
		now = now.Add(tt.after)
		if _, kept := c.cache.get(newQuestion(tt.host, dns.TypeAAAA)); kept != tt.kept {
			t.Errorf("%s after %s: kept %t", tt.host, tt.after, kept)
		}
	}
	// So is a record, where who asks says that it may.
	z.set("_mta-sts.a.example.", "TXT", silent)
	for _, remember := range []bool{false, true} {
		now = now.Add(time.Hour)
		_, _ = c.TXT(t.Context(), "_mta-sts.a.example", false)
		if remember {
			c.RememberSilentTXT("_mta-sts.a.example")
		}
		now = now.Add(time.Minute)
		before := z.asked.Load()
		_, _ = c.TXT(t.Context(), "_mta-sts.a.example", false)
		if asked := z.asked.Load() > before; asked == remember {
			t.Errorf("remembered %t: asked again %t", remember, asked)
		}
	}
}

// What is told of an answer is the same whether it was asked for or comes from the cache.
func TestAnAnswerIsToldInWords(t *testing.T) {
	z := newZone(t, nil)
	z.records(t, "a.example.", "MX", "a.example. 60 IN MX 10 mx.example.")
	c := newTestClient(t, Options{Servers: []string{z.addr}})
	var told []string
	ctx := WithObserver(t.Context(), func(o *Observation) { told = append(told, o.String()) })
	for range 2 {
		if _, err := c.MX(ctx, "A.example."); err != nil {
			t.Fatal(err)
		}
	}
	ended, end := context.WithCancel(ctx)
	end()
	if _, err := c.MX(ended, "b.example"); err == nil {
		t.Error("an answer after the end")
	}
	if len(told) != 3 || told[0] != "a.example MX [AD]: 10 mx.example" || told[1] != told[0] || !strings.HasPrefix(told[2], "b.example MX [not signed]: ") {
		t.Errorf("%q", told)
	}
}
