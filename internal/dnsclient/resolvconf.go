package dnsclient

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"
)

// readResolvConf returns the name servers of a resolv.conf file; changed is
// false where the file is as it was at the time seen.
func readResolvConf(file string, seen *time.Time) (addrs []netip.Addr, changed bool, err error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, false, fmt.Errorf("read the DNS servers: %w; set dns.servers", err)
	}
	if st.ModTime().Equal(*seen) {
		return nil, false, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, false, fmt.Errorf("read the DNS servers: %w; set dns.servers", err)
	}
	*seen = st.ModTime()
	addrs = parseResolvConf(data)
	if len(addrs) == 0 {
		// The default of resolv.conf(5).
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	return addrs, true, nil
}

func parseResolvConf(data []byte) (addrs []netip.Addr) {
	sc := bufio.NewScanner(bytes.NewReader(data))
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			addrs = append(addrs, a)
		}
	}
	return addrs
}
