package container

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Volume is where a folder of a container lies.
type Volume int

// The kinds of Volume.
const (
	// Lasting is a volume with a name, or a folder of the host; also where it is not known.
	Lasting Volume = iota
	// Anonymous is a volume that the engine made because the image asks for one, and nobody
	// named one: the next container gets another.
	Anonymous
	// Layer is the container's own file system, which goes with it.
	Layer
)

// VolumeOf returns where a folder lies, for a process in a container. It is known on Linux
// only, and of Docker's and Podman's volumes with the driver "local".
func VolumeOf(dir string) Volume {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return Lasting
	}
	defer f.Close()
	if dir, err = filepath.Abs(dir); err != nil {
		return Lasting
	}
	return volumeOf(f, dir)
}

// anonymous is the root of such a volume: its name is a random number of 256 bits.
var anonymous = regexp.MustCompile(`/volumes/[0-9a-f]{64}/_data$`)

// volumeOf reads the mounts of proc_pid_mountinfo(5): the fourth field is the root of the
// mount in its file system, the fifth where it is mounted.
func volumeOf(mounts io.Reader, dir string) Volume {
	at, root := "", ""
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 5 {
			continue
		}
		holds := f[4] == "/" || dir == f[4] || strings.HasPrefix(dir, f[4]+"/")
		if holds && len(f[4]) >= len(at) {
			at, root = f[4], f[3]
		}
	}
	switch {
	case at == "/":
		return Layer
	case anonymous.MatchString(root):
		return Anonymous
	}
	return Lasting
}
