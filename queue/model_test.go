package queue

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is what the queue should hold, as simply as it can be said.
type model struct {
	messages map[ID]*modelMessage
	claimed  []*Work
}

type modelMessage struct {
	recipients []Recipient
	ends       []State // by recipient
	attempts   []int
	held       bool
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
	return slices.ContainsFunc(m.claimed, func(w *Work) bool { return w.Envelope.ID == id })
}

var modelDomains = []string{"a.test", "b.test", "c.test"}

// Random operations on the queue and on a model of it: both must hold the same
// after each of them, whatever restarts lie between, and in the end every
// recipient was delivered, bounced or removed, and the store is empty.
func TestTheQueueAgreesWithItsModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(t, Options{Schedule: Schedule{Retry: []time.Duration{time.Minute}, Expire: 24 * time.Hour}})
		defer func() { // the harness of t stops the last one only
			b.stop()
			b.dir = t.TempDir()
			b.start()
		}()
		m := &model{messages: make(map[ID]*modelMessage)}
		pick := func(rt *rapid.T) (Filter, func(ID, *modelMessage) bool) {
			if ids := m.ids(func(*modelMessage) bool { return true }); len(ids) > 0 && rapid.Bool().Draw(rt, "by ID") {
				id := rapid.SampledFrom(ids).Draw(rt, "ID")
				return Filter{IDs: []ID{id}}, func(i ID, _ *modelMessage) bool { return i == id }
			}
			d := rapid.SampledFrom(modelDomains).Draw(rt, "domain")
			return Filter{Domain: d}, func(_ ID, msg *modelMessage) bool { return msg.open(d) > 0 }
		}
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
		}
		end := func(w *Work, s State) { // in the model
			msg := m.messages[w.Envelope.ID]
			if msg == nil {
				return
			}
			for _, r := range w.Recipients {
				msg.ends[r] = s
				msg.attempts[r]++
			}
			if msg.open("") == 0 {
				delete(m.messages, w.Envelope.ID)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"": func(rt *rapid.T) { b.agrees(rt, m) },
			"accept": func(rt *rapid.T) {
				env := Envelope{From: "s@example.org"}
				for i := range rapid.IntRange(1, 5).Draw(rt, "recipients") {
					d := rapid.SampledFrom(modelDomains).Draw(rt, "domain")
					env.Recipients = append(env.Recipients, Recipient{Address: fmt.Sprintf("u%d@%s", i, d), Domain: d})
				}
				id := b.accept("body", env)
				msg := &modelMessage{recipients: env.Recipients, attempts: make([]int, len(env.Recipients))}
				for range env.Recipients {
					msg.ends = append(msg.ends, Queued)
				}
				m.messages[id] = msg
			},
			"claim": func(rt *rapid.T) {
				w := b.try()
				if w == nil {
					return
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
					if other.unit == w.unit {
						rt.Fatal("claimed twice")
					}
				}
				m.claimed = append(m.claimed, w)
			},
			"finish": func(rt *rapid.T) {
				if len(m.claimed) == 0 {
					return
				}
				i := rapid.IntRange(0, len(m.claimed)-1).Draw(rt, "claim")
				w := m.claimed[i]
				m.claimed = slices.Delete(m.claimed, i, i+1)
				s := rapid.SampledFrom([]State{Queued, Delivered, Bounced}).Draw(rt, "result")
				o := Outcome{Results: all(w, s)}
				if s == Queued && rapid.Bool().Draw(rt, "the domain failed") {
					o.DomainFailed = "refused"
				}
				b.Finish(w, o)
				b.sync()
				end(w, s)
			},
			"finish mixed": func(rt *rapid.T) {
				if len(m.claimed) == 0 {
					return
				}
				w := m.claimed[0]
				m.claimed = m.claimed[1:]
				results := all(w, Queued)
				msg := m.messages[w.Envelope.ID]
				for i, r := range w.Recipients {
					results[i].State = rapid.SampledFrom([]State{Queued, Delivered, Bounced}).Draw(rt, "result")
					if msg != nil {
						msg.ends[r] = results[i].State
						msg.attempts[r]++
					}
				}
				if msg != nil && msg.open("") == 0 {
					delete(m.messages, w.Envelope.ID)
				}
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
				want := len(m.messages)
				maps.DeleteFunc(m.messages, ok)
				n, err := b.Remove(t.Context(), f)
				expect(n, err, want-len(m.messages))
			},
			"bounce": func(rt *rapid.T) {
				f, ok := pick(rt)
				want := len(m.messages)
				maps.DeleteFunc(m.messages, func(id ID, msg *modelMessage) bool { return ok(id, msg) && !m.active(id) })
				n, err := b.Bounce(t.Context(), f, func(Message) *NewMessage { return nil })
				expect(n, err, want-len(m.messages))
			},
			"time": func(rt *rapid.T) { b.advance(2 * time.Minute) },
			"restart": func(rt *rapid.T) {
				release()
				b.restart()
			},
		})
		release()
		b.touchedAny(b.Unhold(t.Context(), Filter{}))
		for range 20 { // rests and slow starts let go of it bit by bit
			b.touchedAny(b.Retry(t.Context(), Filter{}))
			for w := b.try(); w != nil; w = b.try() {
				end(w, Delivered)
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
			if s.State != msg.ends[r] || s.Attempts != msg.attempts[r] {
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
