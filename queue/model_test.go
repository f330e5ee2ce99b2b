package queue

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
	"github.com/stsrelay/stsrelay/internal/store/postgres/postgrestest"
	"github.com/stsrelay/stsrelay/internal/store/storetest"
)

// model is what the queue should hold, as simply as it can be said.
type model struct {
	messages map[ID]*modelMessage
	claimed  []*Claim
	canceled []modelCancel // what waits for the end of an attempt
	told     []string      // what the senders of bounced mail were told of, by recipient
}

// modelCancel is a message that is to end, or its recipients of one domain.
type modelCancel struct {
	id     ID
	domain string
	bounce bool
}

func (g modelCancel) matches(w *Claim) bool {
	return g.id == w.Envelope.ID && (g.domain == "" || g.domain == w.Domain)
}

// cancel ends what the operator cancels: at once, or when no attempt of it is
// under way any more. The last word about the same recipients counts.
func (m *model) cancel(gs ...modelCancel) {
	for _, g := range gs {
		m.canceled = slices.DeleteFunc(m.canceled, func(o modelCancel) bool { return o.id == g.id && o.domain == g.domain })
		m.canceled = append(m.canceled, g)
	}
	m.settle()
}

func (m *model) settle() {
	m.canceled = slices.DeleteFunc(m.canceled, func(g modelCancel) bool {
		msg := m.messages[g.id]
		if msg == nil || msg.open(g.domain) == 0 {
			return true
		}
		if slices.ContainsFunc(m.claimed, g.matches) {
			return false
		}
		for i, r := range msg.recipients {
			if msg.ends[i] == Queued && (g.domain == "" || g.domain == r.Domain) {
				msg.ends[i] = Bounced
				if g.bounce {
					m.told = append(m.told, g.id.String()+" "+r.Address)
				}
			}
		}
		if msg.open("") == 0 {
			delete(m.messages, g.id)
		}
		return true
	})
}

type modelMessage struct {
	recipients []Recipient
	ends       []State // by recipient
	attempts   []int
	delayed    []bool          // its sender knows
	asked      map[string]bool // by domain, whether its sender is to be told; until a restart
	at         int             // steps of time before it came
	held       bool
}

// modelDelay is the age from which a message is delayed, modelStep what time moves by.
const (
	modelDelay = 3 * time.Minute
	modelStep  = 4 * time.Minute
)

// modelResults are results as deliveries make them: senders are told of a delay.
func modelResults(w *Claim, s State) []RecipientState {
	results := all(w, s)
	for i := range results {
		results[i].Delayed = w.States[i].Delayed || w.Age >= modelDelay
	}
	return results
}

func (m *modelMessage) open(domain string) (n int) {
	for i, r := range m.recipients {
		if m.ends[i] == Queued && (domain == "" || r.Domain == domain) {
			n++
		}
	}
	return n
}

func (m *model) ids(select_ func(*modelMessage) bool) []ID {
	var ids []ID
	for id, msg := range m.messages {
		if select_(msg) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, ID.Compare) // IDs are made in the order of acceptance
	return ids
}

func (m *model) active(id ID) bool {
	return slices.ContainsFunc(m.claimed, func(w *Claim) bool { return w.Envelope.ID == id })
}

var modelDomains = []string{"a.test", "b.test", "c.test"}

// Random operations on the queue and on a model of it: both must hold the same
// after each of them, whatever restarts lie between, and in the end every
// recipient was delivered, bounced or removed, and the store is empty.
func TestTheQueueAgreesWithItsModel(t *testing.T) {
	t.Parallel()
	for engine, newPlace := range map[string]func() opener{
		"badger": func() opener { return nil },
		"memory": inMemory,
	} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			agree(t, newPlace)
		})
	}
}

// It is not parallel to others: it makes fewer checks, since each operation takes as long
// as the commits of a server.
func TestTheQueueAgreesWithItsModelOnPostgreSQL(t *testing.T) {
	cluster := postgrestest.Start(t, 1)
	checks := flag.Lookup("rapid.checks")
	before := checks.Value.String()
	_ = checks.Value.Set("4")
	defer func() { _ = checks.Value.Set(before) }()
	spaces := 0
	agree(t, func() opener {
		spaces++
		o := postgres.Options{URL: cluster.URL(), Space: fmt.Sprint("space ", spaces)}
		return func() (storetest.Engine, error) { return postgres.Open(context.Background(), o) }
	})
}

// agree compares the queue with its model, on stores of newPlace.
func agree(t *testing.T, newPlace func() opener) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBenchOn(t, newPlace(), Options{Schedule: Schedule{Retry: []time.Duration{10 * time.Minute}, Expire: 24 * time.Hour, DelayWarning: modelDelay}})
		defer func() { // the harness of t stops the last one only
			b.stop()
			b.dir, b.place = t.TempDir(), newPlace()
			b.start()
		}()
		m := &model{messages: make(map[ID]*modelMessage)}
		pick := func(rt *rapid.T) (Filter, func(ID, *modelMessage) bool) {
			var f Filter
			ids, by := m.ids(func(*modelMessage) bool { return true }), rapid.IntRange(0, 2).Draw(rt, "by domain, ID or both")
			if by > 0 && len(ids) > 0 {
				f.IDs = []ID{rapid.SampledFrom(ids).Draw(rt, "ID")}
			}
			if by != 1 || len(ids) == 0 {
				f.Domain = rapid.SampledFrom(modelDomains).Draw(rt, "domain")
			}
			return f, func(id ID, msg *modelMessage) bool {
				return (f.IDs == nil || f.IDs[0] == id) && (f.Domain == "" || msg.open(f.Domain) > 0)
			}
		}
		picked := func(f Filter, ok func(ID, *modelMessage) bool, bounce bool) (gs []modelCancel) {
			for id, msg := range m.messages {
				if ok(id, msg) {
					gs = append(gs, modelCancel{id, f.Domain, bounce})
				}
			}
			return gs
		}
		var told notices
		expect := func(n int, err error, want int) {
			if err != nil || n != want {
				rt.Fatalf("touched %d, want %d; %v", n, want, err)
			}
		}
		release := func() {
			for _, w := range m.claimed {
				b.Release(w)
			}
			m.claimed = nil
			b.applyCanceled()
			m.settle()
		}
		steps := 0
		end := func(w *Claim, results ...RecipientState) { // in the model
			msg := m.messages[w.Envelope.ID]
			if msg == nil {
				return
			}
			for i, r := range w.Recipients {
				msg.ends[r] = results[i].State
				msg.attempts[r]++
				msg.delayed[r] = results[i].Delayed
			}
			if msg.open("") == 0 {
				delete(m.messages, w.Envelope.ID)
			}
		}
		claim := func(rt *rapid.T) *Claim {
			w := b.try()
			if w == nil {
				return nil
			}
			msg := m.messages[w.Envelope.ID]
			if msg == nil || msg.held || len(w.Recipients) != msg.open(w.Domain) {
				rt.Fatalf("claimed %v of %+v", w.Recipients, msg)
			}
			for i, r := range w.Recipients {
				if msg.ends[r] != Queued || w.States[i].Attempts != msg.attempts[r] {
					rt.Fatalf("recipient %d is %s after %d attempts, claimed as %+v", r, msg.ends[r], msg.attempts[r], w.States[i])
				}
			}
			for _, other := range m.claimed {
				if other.group == w.group {
					rt.Fatal("claimed twice")
				}
			}
			if slices.ContainsFunc(m.canceled, func(g modelCancel) bool { return g.matches(w) }) {
				rt.Fatal("claimed although it was given up")
			}
			if w.Kind == DelayNotice {
				knows := !slices.ContainsFunc(w.Recipients, func(r int) bool { return !msg.delayed[r] })
				if knows || msg.asked[w.Domain] || time.Duration(steps-msg.at)*modelStep < modelDelay {
					rt.Fatalf("claimed to tell of %+v", msg)
				}
			}
			m.claimed = append(m.claimed, w)
			return w
		}
		// finishing takes a claim to end it; one that only tells ends here.
		finishing := func(rt *rapid.T) *Claim {
			if len(m.claimed) == 0 {
				return nil
			}
			i := rapid.IntRange(0, len(m.claimed)-1).Draw(rt, "claim")
			w := m.claimed[i]
			m.claimed = slices.Delete(m.claimed, i, i+1)
			if w.Kind != DelayNotice {
				return w
			}
			var notices []NewMessage
			if rapid.Bool().Draw(rt, "a notice is owed") {
				notices = []NewMessage{{Keep: func(*store.Batch) {}}}
			}
			b.DelayNotified(w, notices)
			b.sync()
			if msg := m.messages[w.Envelope.ID]; msg != nil {
				msg.asked[w.Domain] = true
				for _, r := range w.Recipients {
					msg.delayed[r] = msg.delayed[r] || notices != nil
				}
			}
			return nil
		}
		rt.Repeat(map[string]func(*rapid.T){
			"": func(rt *rapid.T) {
				b.applyCanceled()
				m.settle()
				b.agrees(rt, m)
				if got, want := told.lines(), slices.Sorted(slices.Values(m.told)); !slices.Equal(got, want) {
					rt.Fatalf("notices tell of %v, want %v", got, want)
				}
			},
			"accept": func(rt *rapid.T) {
				env := Envelope{From: "s@example.org", TLSOptional: rapid.Bool().Draw(rt, "free")}
				for i := range rapid.IntRange(1, 5).Draw(rt, "recipients") {
					d := rapid.SampledFrom(modelDomains).Draw(rt, "domain")
					env.Recipients = append(env.Recipients, Recipient{Address: fmt.Sprintf("u%d@%s", i, d), Domain: d})
				}
				id := b.accept("body", env)
				n := len(env.Recipients)
				msg := &modelMessage{recipients: env.Recipients, attempts: make([]int, n), delayed: make([]bool, n), asked: make(map[string]bool), at: steps}
				for range env.Recipients {
					msg.ends = append(msg.ends, Queued)
				}
				m.messages[id] = msg
			},
			"claim": func(rt *rapid.T) { claim(rt) },
			"finish": func(rt *rapid.T) {
				w := finishing(rt)
				if w == nil {
					return
				}
				s := rapid.SampledFrom([]State{Queued, Delivered, Bounced}).Draw(rt, "result")
				o := Outcome{Results: modelResults(w, s)}
				if s == Queued && rapid.Bool().Draw(rt, "the domain failed") {
					o.DomainBackoff = DomainBackoff{Reason: Reason{Code: "connect", Text: "refused"}, PolicyOnly: rapid.Bool().Draw(rt, "for what is bound")}
				}
				b.Finish(w, o)
				b.sync()
				end(w, o.Results...)
			},
			"outage": func(rt *rapid.T) { // senders are to be told of a delay then
				if w := claim(rt); w != nil && w.Kind != DelayNotice {
					m.claimed = m.claimed[:len(m.claimed)-1]
					o := Outcome{Results: modelResults(w, Queued), DomainBackoff: DomainBackoff{Reason: Reason{Code: "connect", Text: "refused"}}}
					b.Finish(w, o)
					b.sync()
					end(w, o.Results...)
					b.advance(modelStep)
					steps++
				}
			},
			"finish mixed": func(rt *rapid.T) {
				w := finishing(rt)
				if w == nil {
					return
				}
				results := modelResults(w, Queued)
				for i := range results {
					results[i].State = rapid.SampledFrom([]State{Queued, Delivered, Bounced}).Draw(rt, "result")
				}
				end(w, results...)
				b.Finish(w, Outcome{Results: results})
				b.sync()
			},
			"release": func(rt *rapid.T) {
				if len(m.claimed) > 0 {
					b.Release(m.claimed[0])
					m.claimed = m.claimed[1:]
				}
			},
			"hold": func(rt *rapid.T) {
				f, ok := pick(rt)
				want := 0
				for id, msg := range m.messages {
					if ok(id, msg) && !msg.held {
						msg.held = true
						want++
					}
				}
				n, err := b.Hold(t.Context(), f, "model")
				expect(n, err, want)
			},
			"unhold": func(rt *rapid.T) {
				f, ok := pick(rt)
				want := 0
				for id, msg := range m.messages {
					if ok(id, msg) && msg.held {
						msg.held = false
						want++
					}
				}
				n, err := b.Unhold(t.Context(), f)
				expect(n, err, want)
			},
			"retry": func(rt *rapid.T) {
				f, ok := pick(rt)
				want := 0
				for id, msg := range m.messages {
					if ok(id, msg) && !msg.held {
						want++
					}
				}
				n, err := b.Retry(t.Context(), f)
				expect(n, err, want)
			},
			"remove": func(rt *rapid.T) {
				f, ok := pick(rt)
				gs := picked(f, ok, false)
				n, err := b.Remove(t.Context(), f)
				expect(n, err, len(gs))
				if f.Domain != "" {
					m.cancel(gs...)
					return
				}
				maps.DeleteFunc(m.messages, ok) // at once, whoever delivers it
			},
			"bounce": func(rt *rapid.T) {
				f, ok := pick(rt)
				gs := picked(f, ok, true)
				n, err := b.Bounce(t.Context(), f, "model", func(msg Message) *NewMessage { told.make(msg); return nil })
				expect(n, err, len(gs))
				m.cancel(gs...)
			},
			"time": func(rt *rapid.T) {
				b.advance(modelStep)
				steps++
			},
			"restart": func(rt *rapid.T) {
				release()
				b.restart()
				for _, msg := range m.messages {
					clear(msg.asked)
				}
			},
		})
		release()
		b.touchedAny(b.Unhold(t.Context(), Filter{}))
		for range 20 { // back-offs and slow starts let go of it bit by bit
			b.touchedAny(b.Retry(t.Context(), Filter{}))
			for w := b.try(); w != nil; w = b.try() {
				end(w, all(w, Delivered)...)
				b.finish(w, Delivered)
			}
		}
		b.agrees(rt, m)
		if len(m.messages) != 0 || b.keys([]byte("b"))+b.keys([]byte("e")) != 0 {
			rt.Fatalf("%d messages and %d keys are left in the end", len(m.messages), b.keys([]byte("e")))
		}
	})
}

func (b *bench) touchedAny(_ int, err error) {
	if err != nil {
		b.Fatal(err)
	}
}

// agrees compares all that the queue tells with the model.
func (b *bench) agrees(rt *rapid.T, m *model) {
	b.sync()
	var want Counts
	domains := make(map[string]DomainSummary)
	for _, msg := range m.messages {
		want.Messages++
		want.Recipients += msg.open("")
		if msg.held {
			want.Held++
		}
		for _, d := range modelDomains {
			if n := msg.open(d); n > 0 {
				s := domains[d]
				s.Messages++
				s.Recipients += n
				domains[d] = s
			}
		}
	}
	if got := b.Counts(); got != want {
		rt.Fatalf("counts %+v, want %+v", got, want)
	}
	ids := m.ids(func(*modelMessage) bool { return true })
	i := 0
	err := b.List(b.Context(), Filter{}, func(got Message) bool {
		if i >= len(ids) || got.ID != ids[i] {
			rt.Fatalf("listed %s as number %d of %v", got.ID, i, ids)
		}
		msg := m.messages[got.ID]
		state := Queued
		if m.active(got.ID) {
			state = Active
		}
		if msg.held {
			state = Held
		}
		if got.State != state {
			rt.Fatalf("%s is %s, want %s", got.ID, got.State, state)
		}
		for r, s := range got.States {
			if s.State != msg.ends[r] || s.Attempts != msg.attempts[r] || s.Delayed != msg.delayed[r] {
				rt.Fatalf("%s: recipient %d is %+v, want %s after %d", got.ID, r, s, msg.ends[r], msg.attempts[r])
			}
		}
		i++
		return true
	})
	if err != nil || i != len(ids) {
		rt.Fatalf("%d of %d listed, %v", i, len(ids), err)
	}
	for _, s := range b.Summary() {
		if w := domains[s.Domain]; w.Messages != s.Messages || w.Recipients != s.Recipients {
			rt.Fatalf("summary %+v, want %+v", s, w)
		}
		delete(domains, s.Domain)
	}
	if len(domains) != 0 {
		rt.Fatalf("not in the summary: %v", domains)
	}
}
