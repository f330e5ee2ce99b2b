package container

import (
	"strings"
	"testing"
)

func TestWhereAFolderLies(t *testing.T) {
	const overlay = "601 500 0:55 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/X\n602 601 0:59 / /proc rw - proc proc rw\n"
	id := strings.Repeat("0123456789abcdef", 4)
	for name, tt := range map[string]struct {
		mounts string
		want   Volume
	}{
		"no volume":                              {overlay, Layer},
		"Docker's anonymous":                     {overlay + "700 601 254:0 /var/lib/docker/volumes/" + id + "/_data /var/lib/stsrelay rw,relatime master:1 - ext4 /dev/vda rw\n", Anonymous},
		"Podman's anonymous":                     {overlay + "700 601 254:0 /home/u/.local/share/containers/storage/volumes/" + id + "/_data /var/lib/stsrelay rw - ext4 /dev/vda rw\n", Anonymous},
		"a named volume":                         {overlay + "700 601 254:0 /var/lib/docker/volumes/stsrelay/_data /var/lib/stsrelay rw - ext4 /dev/vda rw\n", Lasting},
		"a folder of the host, mounted above":    {overlay + "700 601 254:0 /srv/relay /var/lib rw - ext4 /dev/vda rw\n", Lasting},
		"another folder with the same beginning": {overlay + "700 601 254:0 /srv/relay /var/lib/sts rw - ext4 /dev/vda rw\n", Layer},
		"not Linux":                              {"", Lasting},
	} {
		if got := volumeOf(strings.NewReader(tt.mounts), "/var/lib/stsrelay"); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}
