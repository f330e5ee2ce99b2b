package container

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// hex4 is an address as /proc/net/route has it on this machine.
func hex4(addr string) string {
	b := netip.MustParseAddr(addr).As4()
	return fmt.Sprintf("%08X", binary.NativeEndian.Uint32(b[:]))
}

const zero16 = "00000000000000000000000000000000"

func TestLook(t *testing.T) {
	head := "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	line := func(dest, gateway, flags, mask string) string {
		return fmt.Sprintf("eth0\t%s\t%s\t%s\t0\t0\t0\t%s\t0\t0\t0\n", hex4(dest), hex4(gateway), flags, hex4(mask))
	}
	for _, tt := range []struct {
		name    string
		environ []string
		files   map[string]string
		inside  bool
		want    []string
	}{
		{name: "nothing is there"},
		{
			name:  "Docker",
			files: map[string]string{".dockerenv": "", "proc/net/route": head + line("0.0.0.0", "172.17.0.1", "0003", "0.0.0.0") + line("172.17.0.0", "0.0.0.0", "0001", "255.255.0.0")},
			// the connected network has no gateway
			inside: true, want: []string{"172.17.0.1"},
		},
		{
			name:   "Podman, IPv6 as well",
			files:  map[string]string{"run/.containerenv": "", "proc/net/route": head + line("0.0.0.0", "10.88.0.1", "0003", "0.0.0.0"), "proc/net/ipv6_route": zero16 + " 00 " + zero16 + " 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0\n"},
			inside: true, want: []string{"10.88.0.1", "fd00::1"},
		},
		{name: "systemd's interface", environ: []string{"container=oci"}, inside: true},
		{name: "Kubernetes", environ: []string{"PATH=/", "KUBERNETES_SERVICE_HOST=10.96.0.1"}, inside: true},
		{name: "variables that only look like it", environ: []string{"container=", "CONTAINER_NAME=x", "containers=y"}},
		{
			name: "a machine with two ways out, and routes that are none",
			files: map[string]string{
				"proc/net/route": head + line("0.0.0.0", "192.168.1.1", "0003", "0.0.0.0") + line("0.0.0.0", "192.168.1.1", "0003", "0.0.0.0") +
					line("0.0.0.0", "192.168.2.1", "0003", "0.0.0.0") + line("10.0.0.0", "192.168.1.9", "0003", "255.0.0.0") +
					line("0.0.0.0", "192.168.1.8", "0003", "128.0.0.0") + line("0.0.0.0", "0.0.0.0", "0001", "0.0.0.0") +
					line("0.0.0.0", "192.168.1.7", "0002", "0.0.0.0") + "eth0\tcut\n",
				"proc/net/ipv6_route": zero16 + " 00 " + zero16 + " 00 " + zero16 + " ffffffff 00000001 00000000 00200200       lo\n" +
					"20010db8000000000000000000000000 40 " + zero16 + " 00 fe800000000000000000000000000009 00000400 00000002 00000000 00000003     eth0\n" +
					zero16 + " 00 " + zero16 + " 00 fe800000000000000000000000000001 00000400 00000002 00000000 00450003     eth0\nshort\n",
			},
			want: []string{"192.168.1.1", "192.168.2.1", "fe80::1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir() + "/"
			for name, content := range tt.files {
				if err := os.MkdirAll(filepath.Dir(root+name), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(root+name, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := look(tt.environ, root)
			var gateways []string
			for _, g := range got.Gateways {
				gateways = append(gateways, g.String())
			}
			if got.Inside != tt.inside || !slices.Equal(gateways, tt.want) {
				t.Errorf("%+v, want inside %t, gateways %v", got, tt.inside, tt.want)
			}
		})
	}
}
