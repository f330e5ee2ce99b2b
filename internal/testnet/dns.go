package testnet

import (
	"cmp"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Fault is the answer to a question instead of the records.
type Fault string

// The faults of a name.
const (
	ServFail Fault = "SERVFAIL"
	Refused  Fault = "REFUSED"
	Silence  Fault = "no answer"
	Bogus    Fault = "SERVFAIL, DNSSEC bogus"
	Truncate Fault = "truncated over UDP"
)

// ResolverFaults are faults of the resolver, whatever the name.
type ResolverFaults struct {
	// NoEDNS is the answer to questions with an OPT record: an rcode other than
	// 0, or -1 for none at all.
	NoEDNS int
	// FailedRecords: the answer about a name with a fault of a code (ServFail, Refused,
	// Bogus) brings the records with it, with the AD bit, as
	// systemd-resolved does.
	FailedRecords bool
	// Forgeries is how many answers to other questions come before each answer
	// over UDP.
	Forgeries int
	// Oversize sends answers of any size over UDP.
	Oversize bool
	// NoValidation takes the AD bit from every answer, and has bogus names answered.
	NoValidation bool
	// Down is what every question gets, "" for the records: Silence where the resolver
	// does not run, ServFail where it reaches no other servers.
	Down Fault
}

// DNS answers for every name there is. It is served over UDP and TCP. It stands for
// a resolver that validates: the AD bit is on answers about names that Secure was
// called for, and on those about the root zone.
type DNS struct {
	addr    string
	servers []*dns.Server

	mu      sync.Mutex
	records map[string][]dns.RR           // by name, in lower case with final dot
	faults  map[string]Fault              // by "name TYPE"
	secure  map[string]bool               // by name: answers have the AD bit
	asked   map[string]int                // by "name TYPE"
	made    map[string]func(n int) string // by "name TYPE": the record of the n-th answer
	server  ResolverFaults
}

func newDNS(wg *sync.WaitGroup) (*DNS, error) {
	d := &DNS{records: make(map[string][]dns.RR), faults: make(map[string]Fault), secure: map[string]bool{".": true}, asked: make(map[string]int), made: make(map[string]func(int) string)}
	if err := d.Add(". 3600 IN NS a.root-servers.net."); err != nil {
		return nil, err
	}
	var pc net.PacketConn
	var l net.Listener
	var err error
	for range 20 { // the port must be free for both
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			return nil, err
		}
		if l, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			break
		}
		pc.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("the fake DNS cannot listen: %w", err)
	}
	d.addr = pc.LocalAddr().String()
	var started sync.WaitGroup
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: d}, {Listener: l, Handler: d}} {
		started.Add(1)
		s.NotifyStartedFunc = started.Done
		d.servers = append(d.servers, s)
		wg.Go(func() { _ = s.ActivateAndServe() })
	}
	started.Wait()
	return d, nil
}

// Addr is where the server listens, "127.0.0.1:port".
func (d *DNS) Addr() string { return d.addr }

func (d *DNS) close() {
	for _, s := range d.servers {
		_ = s.Shutdown()
	}
}

// Add adds records in the syntax of a zone file, with full names.
func (d *DNS) Add(records ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			return fmt.Errorf("record %q: %w", r, err)
		}
		name := strings.ToLower(rr.Header().Name)
		d.records[name] = append(d.records[name], rr)
	}
	return nil
}

// Remove removes the records of a name and type.
func (d *DNS) Remove(name, rrtype string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name = strings.ToLower(dns.Fqdn(name))
	var keep []dns.RR
	for _, rr := range d.records[name] {
		if dns.TypeToString[rr.Header().Rrtype] != rrtype {
			keep = append(keep, rr)
		}
	}
	d.records[name] = keep
	if keep == nil {
		delete(d.records, name)
	}
}

// TXT are the TXT records of a name, each with its strings joined.
func (d *DNS) TXT(name string) (out []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, rr := range d.records[strings.ToLower(dns.Fqdn(name))] {
		if t, ok := rr.(*dns.TXT); ok {
			out = append(out, strings.Join(t.Txt, ""))
		}
	}
	return out
}

// A is the address of a name, "" where it has none.
func (d *DNS) A(name string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, rr := range d.records[strings.ToLower(dns.Fqdn(name))] {
		if a, ok := rr.(*dns.A); ok {
			return a.A.String()
		}
	}
	return ""
}

// Fail lets questions for a name and type end in a fault; "" ends that.
func (d *DNS) Fail(name, rrtype string, f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults[strings.ToLower(dns.Fqdn(name))+" "+rrtype] = f
}

// Each answers every question for a name and type with another record: that which
// record makes, in the syntax of a zone file, for the n-th question.
func (d *DNS) Each(name, rrtype string, record func(n int) string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.made[strings.ToLower(dns.Fqdn(name))+" "+rrtype] = record
}

// Secure gives the answers about a name the AD bit.
func (d *DNS) Secure(name string, on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.secure[strings.ToLower(dns.Fqdn(name))] = on
}

// Asked is how often a name and type was asked for.
func (d *DNS) Asked(name, rrtype string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[strings.ToLower(dns.Fqdn(name))+" "+rrtype]
}

// SetResolver gives the resolver faults; the zero value ends them.
func (d *DNS) SetResolver(f ResolverFaults) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.server = f
}

// ServeDNS implements dns.Handler.
func (d *DNS) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	d.mu.Lock()
	defer d.mu.Unlock()
	udp := w.RemoteAddr().Network() == "udp"
	m := d.answer(q, udp)
	if m == nil {
		return
	}
	size := dns.MinMsgSize
	if opt := q.IsEdns0(); opt != nil {
		size = int(opt.UDPSize())
		if m.IsEdns0() == nil {
			m.SetEdns0(dns.DefaultMsgSize, false)
		}
	}
	if udp && !d.server.Oversize {
		m.Truncate(size)
	}
	for range d.server.Forgeries {
		if udp {
			_ = w.WriteMsg(forgery(m))
		}
	}
	_ = w.WriteMsg(m)
}

// forgery is m as the answer to another question.
func forgery(m *dns.Msg) *dns.Msg {
	f := m.Copy()
	f.Question[0].Name = "forged." + f.Question[0].Name
	f.Rcode, f.Answer = dns.RcodeNameError, nil
	return f
}

// answer is nil where nothing is answered.
func (d *DNS) answer(q *dns.Msg, udp bool) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable, m.Compress = true, true
	if len(q.Question) != 1 {
		m.Rcode = dns.RcodeFormatError
		return m
	}
	if f := d.server.NoEDNS; f != 0 && q.IsEdns0() != nil {
		if f < 0 {
			return nil
		}
		m.Rcode = f
		return m
	}
	name := strings.ToLower(q.Question[0].Name)
	key := name + " " + dns.TypeToString[q.Question[0].Qtype]
	d.asked[key]++
	fault := cmp.Or(d.server.Down, d.faults[key])
	if d.server.NoValidation && fault == Bogus {
		fault = ""
	}
	switch fault {
	case Silence:
		return nil
	case Truncate:
		if udp {
			m.Truncated = true
			return m
		}
	}
	if record := d.made[key]; record != nil {
		rr, err := dns.NewRR(record(d.asked[key]))
		if err != nil {
			m.Rcode = dns.RcodeServerFailure
		} else {
			m.Answer = append(m.Answer, rr)
		}
		return m
	}
	if fault == "" || fault == Truncate || d.server.FailedRecords {
		d.find(m, name)
	}
	m.AuthenticatedData = !d.server.NoValidation && (m.AuthenticatedData || fault != "" && d.server.FailedRecords)
	switch fault {
	case ServFail, Bogus:
		m.Rcode = dns.RcodeServerFailure
	case Refused:
		m.Rcode = dns.RcodeRefused
	}
	if fault == Bogus && q.IsEdns0() != nil {
		m.SetEdns0(dns.DefaultMsgSize, false)
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeDNSBogus})
	}
	return m
}

// find puts the records of a name into m, those behind aliases too.
func (d *DNS) find(m *dns.Msg, name string) {
	qtype := m.Question[0].Qtype
	m.AuthenticatedData = d.secure[name]
	for range 10 {
		next := ""
		for _, rr := range d.records[name] {
			if t := rr.Header().Rrtype; t == qtype {
				m.Answer = append(m.Answer, rr)
			} else if c, ok := rr.(*dns.CNAME); ok {
				m.Answer = append(m.Answer, rr)
				next = strings.ToLower(c.Target)
			}
		}
		if next == "" {
			break
		}
		name = next
		m.AuthenticatedData = m.AuthenticatedData && d.secure[name]
	}
	if len(m.Answer) == 0 {
		soa, _ := dns.NewRR(". 60 IN SOA a.root. b.root. 1 1 1 1 60")
		m.Ns = append(m.Ns, soa)
		if !d.exists(name) {
			m.Rcode = dns.RcodeNameError
		}
	}
}

// exists reports whether there is a name, or one below it.
func (d *DNS) exists(name string) bool {
	if len(d.records[name]) > 0 {
		return true
	}
	for n := range d.records {
		if strings.HasSuffix(n, "."+name) {
			return true
		}
	}
	return false
}
