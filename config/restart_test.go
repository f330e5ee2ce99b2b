package config

import (
	"reflect"
	"slices"
	"testing"
)

// What cannot change while the relay runs stays as it was, and is named; all else changes.
func TestWhatCountsFromTheNextStart(t *testing.T) {
	running, next := Default(), Default()
	next.Hostname, next.DataDir, next.DNS.TrustAD, next.Delivery.CAFile = "b.example", "/b", "never", "/b.pem"
	next.STS.Enabled, next.DANE.Enabled, next.TLSRPT.Enabled = false, false, false
	next.Limits.TrashSize, next.Limits.FreeSpace, next.Limits.Rate = 1, 2, 3
	next.Admin.HTTP, next.Log.Format, next.Log.Level = "127.0.0.1:1", "text", "debug"
	next.Delivery.Plaintext, next.TLSRPT.Contact = "refuse", "x@b.example"
	next.Users = []User{{Name: "a"}}
	changed := next.KeepRunning(&running)
	want := []string{"admin", "data_dir", "delivery.ca_file", "dns", "hostname", "limits.free_space", "limits.trash_size", "log.format", "sts.enabled", "tlsrpt.enabled"}
	if !slices.Equal(changed, want) {
		t.Errorf("%q, want %q", changed, want)
	}
	in := Default()
	in.DANE.Enabled, in.Limits.Rate, in.Log.Level, in.Delivery.Plaintext, in.TLSRPT.Contact = false, 3, "debug", "refuse", "x@b.example"
	in.Users = []User{{Name: "a"}}
	if !reflect.DeepEqual(next, in) {
		t.Errorf("in force is %+v\nwant %+v", next, in)
	}
	if changed := next.KeepRunning(&in); len(changed) != 0 {
		t.Errorf("%q have changed", changed)
	}
}

func TestListenersThatRunStay(t *testing.T) {
	running, next := Default(), Default()
	running.Listen = []Listen{{Address: "127.0.0.1:1", TLS: "none"}, {Address: "127.0.0.1:2", TLS: "starttls"}}
	for _, tt := range []struct {
		name    string
		listen  []Listen
		want    []Listen
		changed bool
	}{
		{"the same", running.Listen, running.Listen, false},
		{"other rules", []Listen{{Address: "127.0.0.1:2", TLS: "starttls"}, {Address: "127.0.0.1:1", TLS: "none", Auth: true}},
			[]Listen{{Address: "127.0.0.1:1", TLS: "none", Auth: true}, {Address: "127.0.0.1:2", TLS: "starttls"}}, false},
		{"other TLS", []Listen{{Address: "127.0.0.1:1", TLS: "implicit"}, {Address: "127.0.0.1:2", TLS: "starttls"}}, running.Listen, true},
		{"TLS where there was none, and no mail without", []Listen{{Address: "127.0.0.1:1", TLS: "starttls", RequireTLS: true}, {Address: "127.0.0.1:2", TLS: "starttls", RequireTLS: true}},
			[]Listen{running.Listen[0], {Address: "127.0.0.1:2", TLS: "starttls", RequireTLS: true}}, true},
		{"one less", running.Listen[:1], running.Listen, true},
		{"another address", []Listen{{Address: "127.0.0.1:1", TLS: "none"}, {Address: "127.0.0.1:3", TLS: "starttls"}}, running.Listen, true},
	} {
		next.Listen = tt.listen
		changed := next.KeepRunning(&running)
		if (len(changed) == 1) != tt.changed || !reflect.DeepEqual(next.Listen, tt.want) {
			t.Errorf("%s: %q, %+v", tt.name, changed, next.Listen)
		}
	}
}
