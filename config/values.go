package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written "50MiB", "1GiB" or "10485760".
type Size int64

var units = []struct {
	name string
	n    int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(text []byte) error {
	t := strings.TrimSpace(string(text))
	factor := int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(t, u.name); ok {
			t, factor = strings.TrimSpace(n), u.n
			break
		}
	}
	n, err := strconv.ParseInt(t, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return errors.New(`must be a size such as "50MiB" or "1GiB"`)
	}
	*s = Size(n * factor)
	return nil
}

// MarshalText writes a size in the largest unit that fits.
func (s Size) MarshalText() ([]byte, error) {
	for i := 3; i >= 0; i-- {
		if u := units[i]; int64(s) >= u.n && int64(s)%u.n == 0 {
			return fmt.Appendf(nil, "%d%s", int64(s)/u.n, u.name), nil
		}
	}
	return strconv.AppendInt(nil, int64(s), 10), nil
}

// Duration is a time span, written "1m", "120h" or "5d".
type Duration time.Duration

// UnmarshalText reads a time span.
func (d *Duration) UnmarshalText(text []byte) error {
	t := strings.TrimSpace(string(text))
	bad := errors.New(`must be a time such as "30s", "5m", "120h" or "5d"`)
	if days, ok := strings.CutSuffix(t, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return bad
		}
		*d = Duration(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	v, err := time.ParseDuration(t)
	if err != nil || v < 0 {
		return bad
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes a time span without idle zeros.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Network is an address block, or a single address.
type Network netip.Prefix

// UnmarshalText reads "10.0.0.0/8" or "10.0.0.1".
func (n *Network) UnmarshalText(text []byte) error {
	t := strings.TrimSpace(string(text))
	if a, err := netip.ParseAddr(t); err == nil && a.Zone() == "" {
		a = a.Unmap()
		*n = Network(netip.PrefixFrom(a, a.BitLen()))
		return nil
	}
	p, err := netip.ParsePrefix(t)
	if err != nil {
		return errors.New(`must be a network such as "10.0.0.0/8" or an address`)
	}
	if p.Addr().Is4In6() { // clients over IPv4 have IPv4 addresses: it would hold nobody
		if p.Bits() < 96 {
			return errors.New(`must be a network of IPv4 or of IPv6 addresses, such as "10.0.0.0/8"`)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p.Masked() != p {
		return fmt.Errorf("has bits behind its length set; did you mean %s?", p.Masked())
	}
	*n = Network(p)
	return nil
}

// MarshalText writes the network.
func (n Network) MarshalText() ([]byte, error) { return netip.Prefix(n).MarshalText() }
