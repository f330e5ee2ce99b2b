package alert

import "strings"

// kinds are the kinds of alerts: each is the first word of a key.
var kinds = []string{
	NotAccepting, "certificate", "certificate-file", "certificate-acme", "disk", "dkim", "domain", "domains", "fleet", "held", "history", "log", "outage", "publish", "received", ResolverSilent, "store", "unreadable",
}

// kind is what an alert is about, in one word.
func (a *Alert) kind() string {
	kind, _, _ := strings.Cut(a.Key, " ")
	return kind
}

// Kinds returns the number of alerts of the last look by kind, also those of which there is
// none.
func (m *Monitor) Kinds() map[string]float64 {
	out := make(map[string]float64, len(kinds))
	for _, k := range kinds {
		out[k] = 0
	}
	present, _ := m.last()
	for i := range present {
		out[present[i].kind()]++
	}
	return out
}
