// Package deploy_test holds the files of this folder to each other, to the Dockerfile and
// to README.
package deploy_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/stsrelay/stsrelay/config"
)

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

type service struct {
	Environment     map[string]string
	Ports           []string
	Volumes         []string
	StopGracePeriod string   `yaml:"stop_grace_period"`
	ReadOnly        bool     `yaml:"read_only"`
	Tmpfs           []string `yaml:"tmpfs"`
	CapDrop         []string `yaml:"cap_drop"`
	CapAdd          []string `yaml:"cap_add"`
	SecurityOpt     []string `yaml:"security_opt"`
	DependsOn       []string `yaml:"depends_on"`
	Healthcheck     struct {
		Test              []string
		Interval, Timeout time.Duration
		StartPeriod       time.Duration `yaml:"start_period"`
	}
	Networks yaml.Node
}

type compose struct {
	Services map[string]service
	Volumes  map[string]any
	Configs  map[string]struct{ Content string }
	Networks map[string]struct {
		IPAM struct{ Config []struct{ Subnet string } }
	}
}

// The relay of compose.yaml runs as the Dockerfile and README have it.
func TestComposeRunsTheImageAsTheDockerfileHasIt(t *testing.T) {
	var c compose
	if err := yaml.Unmarshal([]byte(read(t, "compose.yaml")), &c); err != nil {
		t.Fatal(err)
	}
	s, dockerfile, readme := c.Services["stsrelay"], read(t, "../Dockerfile"), read(t, "../README.md")
	for _, u := range []service{s, c.Services["unbound"]} {
		if !u.ReadOnly || !slices.Equal(u.Tmpfs, []string{"/tmp"}) || !slices.Equal(u.CapDrop, []string{"ALL"}) || !slices.Equal(u.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("not hardened: %+v", u)
		}
	}
	if !slices.Equal(s.CapAdd, []string{"NET_BIND_SERVICE"}) {
		t.Errorf("cap_add %v", s.CapAdd)
	}
	if s.StopGracePeriod != "30s" || !strings.Contains(readme, "--stop-timeout 30 ") {
		t.Errorf("stop_grace_period %q, and README's --stop-timeout", s.StopGracePeriod)
	}
	if !slices.Equal(s.Ports, []string{"0.0.0.0:25:25"}) || !strings.Contains(readme, "-p "+s.Ports[0]+" ") || !strings.Contains(dockerfile, "EXPOSE 25\n") {
		t.Errorf("ports %v", s.Ports)
	}
	volume, path, _ := strings.Cut(s.Volumes[0], ":")
	if _, ok := c.Volumes[volume]; !ok || !strings.Contains(dockerfile, "VOLUME "+path+"\n") || !strings.Contains(readme, ":"+path+" ") {
		t.Errorf("volumes %v of %v", s.Volumes, c.Volumes)
	}
	h := s.Healthcheck
	if want := `--interval=` + h.Interval.String() + ` --timeout=` + h.Timeout.String() + ` --start-period=` + h.StartPeriod.String() + ` CMD ["` + strings.Join(h.Test[1:], `", "`) + `"]`; !strings.Contains(dockerfile, want) {
		t.Errorf("the Dockerfile has no HEALTHCHECK %s", want)
	}
	// The variables are keys, with values that are taken.
	environ := []string{"STSRELAY_DATA_DIR=" + t.TempDir()}
	for name, value := range s.Environment {
		environ = append(environ, name+"="+value)
	}
	loaded, _, err := config.Load("../config/container.toml", environ)
	if err != nil {
		t.Fatal(err)
	}
	// The resolver is the one beside it, has that address, and validates.
	var at struct {
		Relay struct {
			Address string `yaml:"ipv4_address"`
		}
	}
	resolver := c.Services["unbound"]
	if err := resolver.Networks.Decode(&at); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(loaded.DNS.Servers, []string{at.Relay.Address + ":53"}) || loaded.DNS.TrustAD != "always" || !slices.Equal(s.DependsOn, []string{"unbound"}) {
		t.Errorf("it asks %v, the resolver has %s", loaded.DNS.Servers, at.Relay.Address)
	}
	conf := c.Configs["unbound"].Content
	for _, want := range []string{"module-config: \"validator iterator\"\n", "trust-anchor-file: ", "access-control: " + c.Networks["relay"].IPAM.Config[0].Subnet + " allow\n"} {
		if !strings.Contains(conf, want) {
			t.Errorf("unbound's configuration lacks %q", want)
		}
	}
}

// What the packages install is right, and belongs together.
func TestTheUnitAndItsConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stsrelay.toml")
	if err := os.WriteFile(file, []byte(read(t, "stsrelay.toml")), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	unit := read(t, "stsrelay.service")
	if c.DataDir != "/var/lib/stsrelay" || !strings.Contains(unit, "\nStateDirectory="+filepath.Base(c.DataDir)+"\n") {
		t.Errorf("data_dir %s is not the unit's", c.DataDir)
	}
	for _, want := range []string{"Type=notify", "WatchdogSec=30", "User=stsrelay", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE", "TimeoutStopSec=30", "ExecStart=/usr/bin/stsrelay serve --config /etc/stsrelay/stsrelay.toml"} {
		if !strings.Contains(unit, "\n"+want+"\n") {
			t.Errorf("the unit lacks %s", want)
		}
	}
	var p struct {
		Contents []struct{ Src, Dst, Type string }
		Scripts  map[string]string
	}
	if err := yaml.Unmarshal([]byte(read(t, "nfpm.yaml")), &p); err != nil {
		t.Fatal(err)
	}
	installed := make(map[string]string)
	for _, f := range p.Contents {
		installed[f.Dst] = f.Type
	}
	for path, kind := range map[string]string{"/usr/bin/stsrelay": "", "/usr/lib/systemd/system/stsrelay.service": "", "/etc/stsrelay/stsrelay.toml": "config|noreplace", "/var/lib/stsrelay": "dir"} {
		if got, ok := installed[path]; !ok || got != kind {
			t.Errorf("the packages have %s as %q, want %q", path, got, kind)
		}
	}
	for _, script := range p.Scripts {
		if !strings.HasPrefix(read(t, filepath.Join("..", script)), "#!/bin/sh\n") {
			t.Errorf("%s is no script", script)
		}
	}
}
