package tlsrpt

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/memory"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

func TestWhenAReportIsSent(t *testing.T) {
	o := newHarness(t)
	midnight := noon.Truncate(24 * time.Hour).Add(24 * time.Hour)
	var quarters [4]int
	for i := range 4000 {
		k := reportKey{Day: "2026-11-23", Domain: fmt.Sprintf("d%d.example", i)}
		at := o.dueAt(k)
		after := at.Sub(midnight)
		if after < time.Minute || after >= 4*time.Hour {
			t.Fatalf("due %s after midnight", after)
		}
		quarters[after/time.Hour]++
	}
	for _, n := range quarters {
		if n < 800 {
			t.Errorf("not spread evenly: %v", quarters)
		}
	}
	k := reportKey{Day: "2026-11-23", Domain: "a.example"}
	at, id := o.dueAt(k), o.id(k)
	h := o.receiver("r.example")
	o.publish("a.example", "v=TLSRPTv1; rua=https://r.example/")
	o.count(success)
	o.restart()
	if o.dueAt(k) != at || o.id(k) != id {
		t.Error("the time was drawn again")
	}
	o.at(at.Add(-time.Second))
	if s := o.state(); s.State != Waiting || !s.NextAt.Equal(at) || len(h.Posts()) != 0 {
		t.Errorf("before its time: %+v", s)
	}
	o.at(at)
	if s := o.state(); s.State != Sent || s.ReportID != id {
		t.Errorf("at its time: %+v", s)
	}
	other := newHarness(t)
	if other.id(k) == id {
		t.Error("two relays have the same report-id")
	}
}

func TestCountsAfterTheirReportGoIntoAnother(t *testing.T) {
	for _, how := range []string{"a clock set back", "sent by the operator"} {
		t.Run(how, func(t *testing.T) {
			o := newHarness(t)
			h := o.receiver("r.example")
			o.publish("a.example", "v=TLSRPTv1; rua=https://r.example/")
			sts := Policy{Type: PolicySTS, Strings: []string{"version: STSv1"}}
			o.count(success, Result{Domain: "a.example", Policy: sts, Failure: &Failure{Type: CertificateExpired, MXHost: "mx"}, At: noon})
			if how == "a clock set back" {
				o.at(nextDay)
				o.at(noon)
			} else if err := o.SendNow(t.Context(), "2026-11-23", "a.example", func(s Status) bool { return s.State == Sent }); err != nil {
				t.Fatal(err)
			}
			o.count(success, success, Result{Domain: "a.example", Policy: sts, Failure: &Failure{Type: CertificateExpired, MXHost: "mx"}, At: noon})
			if l := o.list(); len(l) != 2 || l[0].State != Sent || l[1].State != Counting || l[0].ReportID == l[1].ReportID {
				t.Errorf("%+v", l)
			}
			o.at(nextDay)
			o.at(nextDay.Add(time.Hour))
			posts := h.Posts()
			if len(posts) != 2 {
				t.Fatalf("%d posts", len(posts))
			}
			var sums []uint64
			for _, p := range posts {
				r, err := testnet.ReadTLSReport(p.Report)
				if err != nil {
					t.Fatal(err)
				}
				sum := uint64(0)
				for _, p := range r.Policies {
					sum += *p.Summary.Successful*10 + *p.Summary.Failed
				}
				sums = append(sums, sum)
			}
			if sums[0] != 11 || sums[1] != 21 {
				t.Errorf("successes ×10 + failures: %v", sums)
			}
			o.restart()
			o.at(nextDay.Add(20 * time.Hour))
			if n := len(h.Posts()); n != 2 {
				t.Errorf("%d posts after another start", n)
			}
		})
	}
}

// An attempt may end before midnight and its commit come after it.
func TestCountsThatAreWrittenAfterMidnightAreReported(t *testing.T) {
	o := newHarness(t)
	h := o.receiver("r.example")
	o.publish("a.example", "v=TLSRPTv1; rua=https://r.example/")
	o.count(Result{Domain: "other.example", Policy: Policy{Type: PolicyNone}, At: noon})
	o.at(noon.Truncate(24 * time.Hour).Add(24*time.Hour + time.Second))
	o.count(success)
	o.at(nextDay)
	if n := len(h.Posts()); n != 1 {
		t.Errorf("%d posts", n)
	}
}

// A count that comes when its report is due already is waited for while it is
// being written.
func TestAReportThatIsDueBeforeItsCountIsWrittenWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var place memory.Place
		s := place.Open()
		defer s.Close()
		r, err := New(Options{Store: s, Now: func() time.Time { return nextDay }})
		if err != nil {
			t.Fatal(err)
		}
		writing, write := make(chan bool), make(chan bool)
		var b store.Batch
		r.Count(&b, success)
		b.Do(1, 0, func(store.Txn) error {
			close(writing)
			<-write
			return nil
		})
		counted := make(chan error, 1)
		s.Submit(&b, func(err error) { counted <- err })
		<-writing
		began := make(chan error, 1)
		go func() {
			s, err := r.closeCounts(t.Context(), reportKey{Day: DayOf(noon), Domain: success.Domain})
			if err == nil && s.State != Waiting {
				err = fmt.Errorf("the report is %s", s.State)
			}
			began <- err
		}()
		synctest.Wait()
		select {
		case err := <-began:
			t.Errorf("it did not wait: %v", err)
			began <- nil
		default:
		}
		close(write)
		if err := errors.Join(<-counted, <-began); err != nil {
			t.Error(err)
		}
	})
}

func TestMissedDaysAreSentAndOldOnesDropped(t *testing.T) {
	o := newHarness(t)
	h := o.receiver("r.example")
	o.publish("a.example", "v=TLSRPTv1; rua=https://r.example/")
	for i := range 10 {
		r := success
		r.At = noon.AddDate(0, 0, i)
		o.count(r)
	}
	o.at(noon.AddDate(0, 0, 10)) // it was down for ten days
	posts := h.Posts()
	if len(posts) != 7 {
		t.Errorf("%d reports of missed days", len(posts))
	}
	if l := o.list(); len(l) != 7 || l[6].Day != "2026-11-26" || l[0].State != Sent {
		t.Errorf("%+v", l)
	}
	o.at(noon.AddDate(0, 0, 30))
	left := 0
	if err := o.store.ScanKeys(store.PrefixReport, nil, func(k []byte) error {
		if !bytes.Equal(k, seedKey()) {
			left++
		}
		return nil
	}); err != nil || left > 0 {
		t.Errorf("%d records are left of old days, %v", left, err)
	}
}

// What the tally remembers of a day is forgotten with it.
func TestADayThatWasForgottenIsCountedAnew(t *testing.T) {
	o := newHarness(t)
	o.count(success)
	o.at(noon.AddDate(0, 0, 30))
	if got := read(t, o.store, "2026-11-23"); len(got) != 0 {
		t.Fatalf("not forgotten: %+v", got)
	}
	o.at(noon) // the clock is set back
	o.count(success)
	got := read(t, o.store, "2026-11-23")
	if len(got) != 1 || got[0].Policies[0].Policy.Type != PolicyNone || got[0].Policies[0].Successes != 1 {
		t.Errorf("%+v", got)
	}
	if l := o.list(); len(l) != 1 || l[0].Sessions != 1 {
		t.Errorf("%+v", l)
	}
}

func TestWhatIsDroppedUnsentIsTold(t *testing.T) {
	o := newHarness(t)
	h := o.receiver("r.example")
	h.Answer(testnet.Answer{Status: 500})
	o.publish("a.example", "v=TLSRPTv1; rua=https://r.example/")
	o.publish("b.example", "v=TLSRPTv1; rua=https://r.example/")
	o.count(success)
	o.at(nextDay) // and is to be tried again
	late := success
	late.Domain = "b.example"
	o.count(late)
	o.restart()
	o.at(nextDay.AddDate(0, 0, 20))
	if got := o.log.String(); len(o.list()) != 0 || len(h.Posts()) != 1 || !strings.Contains(got, "too old to be sent") || !strings.Contains(got, "reports=2") {
		t.Errorf("%d posts, %+v; %s", len(h.Posts()), o.list(), got)
	}
}
