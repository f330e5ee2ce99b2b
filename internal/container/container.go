// Package container finds out whether the process runs in a container, and the addresses
// of its default gateways.
//
// A container engine hands connections to a container from the gateway of the
// container's network where it cannot keep the client's own address: Docker does
// so with all connections over IPv6, and with those of its own host. Such an address
// is not that of a client.
package container

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Network is the result of Look.
type Network struct {
	// Inside reports whether the process runs in a container.
	Inside bool
	// Gateways are those of Gateways.
	Gateways []netip.Addr
}

// Look finds out where the process runs. A container is recognised by the file
// that Docker (/.dockerenv) or Podman (/run/.containerenv) puts into it, or by a
// variable: "container" of systemd's container interface, which the relay's own
// image sets too, and KUBERNETES_SERVICE_HOST. The gateways are known on Linux
// only.
func Look(environ []string) Network {
	return look(environ, "/")
}

// Gateways returns the default gateways of this machine or container, IPv4 and
// IPv6, without zones.
func Gateways() []netip.Addr { return gateways("/") }

// look is Look below another root, which ends in a slash.
func look(environ []string, root string) Network {
	n := Network{Inside: slices.ContainsFunc(environ, func(kv string) bool {
		name, value, _ := strings.Cut(kv, "=")
		return value != "" && (name == "container" || name == "KUBERNETES_SERVICE_HOST")
	})}
	for _, file := range []string{".dockerenv", "run/.containerenv"} {
		if _, err := os.Stat(root + file); err == nil {
			n.Inside = true
		}
	}
	n.Gateways = gateways(root)
	return n
}

func gateways(root string) (out []netip.Addr) {
	for file, parse := range map[string]func([]string) (netip.Addr, bool){"proc/net/route": route4, "proc/net/ipv6_route": route6} {
		f, err := os.Open(root + file)
		if err != nil {
			continue // not Linux, or without that family
		}
		out = append(out, inTable(f, parse)...)
		_ = f.Close()
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// inTable returns the gateways of a table of routes, one route a line.
func inTable(table io.Reader, parse func(fields []string) (netip.Addr, bool)) (out []netip.Addr) {
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		if a, ok := parse(strings.Fields(lines.Text())); ok {
			out = append(out, a)
		}
	}
	return out
}

// viaGateway are the flags RTF_UP and RTF_GATEWAY of a route that is in use.
const viaGateway = 0x1 | 0x2

// route4 reads a line of /proc/net/route: the gateway of a default route. Its
// addresses are 32-bit numbers in this machine's order of octets.
func route4(f []string) (a netip.Addr, ok bool) {
	if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
		return a, false
	}
	flags, err := strconv.ParseUint(f[3], 16, 32)
	if err != nil || flags&viaGateway != viaGateway {
		return a, false
	}
	gateway, err := strconv.ParseUint(f[2], 16, 32)
	if err != nil {
		return a, false
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(gateway))
	a = netip.AddrFrom4(b)
	return a, !a.IsUnspecified()
}

// route6 reads a line of /proc/net/ipv6_route.
func route6(f []string) (a netip.Addr, ok bool) {
	if len(f) < 9 || f[0] != strings.Repeat("0", 32) || f[1] != "00" {
		return a, false
	}
	flags, err := strconv.ParseUint(f[8], 16, 32)
	if err != nil || flags&viaGateway != viaGateway {
		return a, false
	}
	b, err := hex.DecodeString(f[4])
	if err != nil {
		return a, false
	}
	a, ok = netip.AddrFromSlice(b)
	return a, ok && !a.IsUnspecified()
}
