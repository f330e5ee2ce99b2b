package publish

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Record is a DNS record to publish.
type Record struct {
	// Name is without final dot.
	Name string `json:"name"`
	// Type is "A", "AAAA", "CAA", "CNAME" or "TXT".
	Type string `json:"type"`
	// Value is the address, the name without final dot, the text as one string, or of a CAA
	// record what stands in a zone file.
	Value string `json:"value"`
	// Why says what the record is for.
	Why string `json:"why"`
}

// Host is the relay as the world sees it.
type Host struct {
	// Name is what the CNAME records of policy hosts point to.
	Name string
	// Addresses are those of Name. They are told where a policy host cannot be a CNAME.
	Addresses []netip.Addr
}

// Records are the records that d needs. The record with the id comes last: it is set
// when the policy is served (RFC 8461, 3.1).
func Records(d Domain, host Host) []Record {
	out := hostRecords(d, host)
	id := Record{Name: "_mta-sts." + d.Name, Type: "TXT", Value: RecordText(ID(Text(d.Policy))), Why: "announces the policy; its id changes when the policy does. Set it last, when the policy is served"}
	if d.Record != "" && d.Record != id.Name {
		id.Type, id.Value, id.Why = "CNAME", d.Record, "announces the policy by the record of its publisher, who changes the id there. Set it last, when the policy is served"
	}
	if len(d.RUA) > 0 {
		out = append(out, Record{Name: "_smtp._tls." + d.Name, Type: "TXT", Value: "v=TLSRPTv1; rua=" + strings.Join(d.RUA, ","), Why: "asks senders for reports of what fails (RFC 8460)"})
	}
	return append(out, id)
}

// hostRecords are the records that lead to the policy host.
func hostRecords(d Domain, host Host) (out []Record) {
	const why = "leads to the relay, which serves the policy"
	name := PolicyHost(d.Name)
	if host.Name != name {
		return []Record{{Name: name, Type: "CNAME", Value: host.Name, Why: why}}
	}
	for _, a := range host.Addresses {
		kind := "A"
		if a.Is6() {
			kind = "AAAA"
		}
		out = append(out, Record{Name: name, Type: kind, Value: a.String(), Why: why})
	}
	return out
}

// SharedRecords are the TXT records that domains have CNAME records to, each once.
func SharedRecords(domains []Domain) (out []Record) {
	for _, d := range domains {
		if d.Record == "" {
			continue
		}
		r := Record{Name: d.Record, Type: "TXT", Value: RecordText(ID(Text(d.Policy))), Why: "the id of the policy of all domains whose _mta-sts record is a CNAME to here"}
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Record) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// RecordText is the TXT record with an id (RFC 8461, 3.1).
func RecordText(id string) string { return "v=STSv1; id=" + id + ";" }
