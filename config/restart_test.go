package config

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

func TestWhatNeedsARestartStaysAsItRuns(t *testing.T) {
	const listeners = "listen (address, tls, min_tls, proxy_protocol)"
	for _, row := range []struct {
		name    string
		change  func(*Config)
		restart []string
	}{
		{"nothing", func(*Config) {}, nil},
		{"what may change", func(c *Config) {
			c.Delivery.Plaintext, c.TLSRPT.Contact, c.DANE.Enabled, c.Log.Level, c.Limits.Hops = "refuse", "x@example.com", false, "debug", 7
			c.Listen[0].RequireTLS, c.Listen[0].ProxyProtocol = true, []Network{}
		}, nil},
		{"all that may not", func(c *Config) {
			c.Hostname, c.DataDir, c.DNS.TrustAD, c.STS.Enabled, c.Admin.HTTP, c.Log.Format = "x", "y", "never", false, "127.0.0.1:1", "text"
			c.Delivery.CAFile, c.Limits.FreeSpace, c.Limits.TrashSize, c.TLSRPT.Enabled = "z", 1, 2, false
		}, []string{"admin", "data_dir", "delivery.ca_file", "dns", "hostname", "limits.free_space", "limits.trash_size", "log.format", "sts.enabled", "tlsrpt.enabled"}},
		{"another address", func(c *Config) { c.Listen[0].Address = "127.0.0.1:26" }, []string{listeners}},
		{"one listener more", func(c *Config) { c.Listen = append(c.Listen, Listen{Address: "127.0.0.1:26"}) }, []string{listeners}},
		{"no listener", func(c *Config) { c.Listen = nil }, []string{listeners}},
		{"TLS of a listener", func(c *Config) { c.Listen[0].TLS = "implicit" }, []string{listeners}},
		{"the version of TLS", func(c *Config) { c.Listen[0].MinTLS = "1.0" }, []string{listeners}},
		{"a load balancer", func(c *Config) { c.Listen[0].ProxyProtocol = []Network{Network(netip.MustParsePrefix("10.0.0.0/8"))} }, []string{listeners}},
	} {
		t.Run(row.name, func(t *testing.T) {
			running, next := Default(), Default()
			row.change(&next)
			want := next
			if restart := KeepRunning(&running, &next); !slices.Equal(restart, row.restart) {
				t.Errorf("got %q, want %q", restart, row.restart)
			}
			if unchanged := Default(); !reflect.DeepEqual(running, unchanged) {
				t.Error("the running configuration has changed")
			}
			if len(row.restart) > 0 {
				want = Default()
			} else if len(want.Listen) > 0 {
				want.Listen[0].ProxyProtocol = nil
			}
			if !reflect.DeepEqual(next, want) {
				t.Errorf("got %+v, want %+v", next, want)
			}
		})
	}
}

func TestAListenerThatRunsTakesTheNewRulesOfItsAddress(t *testing.T) {
	running, next := Default(), Default()
	next.Listen = []Listen{{Address: "127.0.0.1:26"}, {Address: running.Listen[0].Address, TLS: "implicit", RequireTLS: true}}
	KeepRunning(&running, &next)
	if len(next.Listen) != 1 || next.Listen[0].TLS != running.Listen[0].TLS || !next.Listen[0].RequireTLS {
		t.Errorf("%+v", next.Listen)
	}
}
