package publisher

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/bench/cputime"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/memory"
	"github.com/stsrelay/stsrelay/relay/acme"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/publish"
)

const (
	servedDomains = 1000
	// asServer in the environment makes the test binary a server with these domains, in a
	// process of its own, so that its CPU time and memory are not those of the clients.
	asServer = "STSRELAY_BENCH_SERVER"
)

// issuer signs certificates as an authority does: by an intermediate, which is sent too.
type issuer struct {
	root, between *x509.Certificate
	key           *ecdsa.PrivateKey
}

func newIssuer() (*issuer, error) {
	var certs []*x509.Certificate
	var keys []*ecdsa.PrivateKey
	for i, name := range []string{"Root", "Intermediate"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		certs, keys = append(certs, c), append(keys, key)
		der, err := x509.CreateCertificate(rand.Reader, c, certs[0], key.Public(), keys[0])
		if err != nil {
			return nil, err
		}
		if certs[i], err = x509.ParseCertificate(der); err != nil {
			return nil, err
		}
	}
	return &issuer{certs[0], certs[1], keys[1]}, nil
}

// put stores a certificate of a name where certmagic will look for it.
func (i *issuer) put(s store.Store, at, name string, serial int64) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 3, 0), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, i.between, key.Public(), i.key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	about, err := json.Marshal(certmagic.CertificateResource{SANs: []string{name}})
	if err != nil {
		return err
	}
	block := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	for k, v := range map[string][]byte{
		certmagic.StorageKeys.SiteCert(at, name):       append(block("CERTIFICATE", der), block("CERTIFICATE", i.between.Raw)...),
		certmagic.StorageKeys.SitePrivateKey(at, name): block("EC PRIVATE KEY", private),
		certmagic.StorageKeys.SiteMeta(at, name):       about,
	} {
		modified := binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano()))
		if err := store.Put(context.Background(), s, append(slices.Clone(store.PrefixACME), k...), append(modified, v...)); err != nil {
			return err
		}
	}
	return nil
}

// TestServer is the server of BenchmarkServing.
func TestServer(t *testing.T) {
	if os.Getenv(asServer) == "" {
		t.Skip("it is for BenchmarkServing")
	}
	const directory = "https://127.0.0.1:1/dir" // nobody is there: all certificates are in the store
	s := (&memory.Place{}).Open()
	i, err := newIssuer()
	if err != nil {
		t.Fatal(err)
	}
	var list []publish.Domain
	var hosts []string
	for n := range servedDomains {
		d := publish.Domain{Name: fmt.Sprintf("d%d.example", n), Policy: &sts.Policy{Mode: sts.ModeEnforce, MX: []string{"mx1.d.example", "mx2.d.example"}, MaxAge: 14 * 24 * time.Hour}}
		list, hosts = append(list, d), append(hosts, publish.PolicyHost(d.Name))
		if err := i.put(s, (&certmagic.ACMEIssuer{CA: directory}).IssuerKey(), hosts[n], int64(n+10)); err != nil {
			t.Fatal(err)
		}
	}
	before := heap()
	c, err := acme.New(acme.Options{Store: s, Directory: directory, Agreed: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := New(Options{Store: s})
	if err := p.Set(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	c.Set(hosts)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	defer running.Wait()
	defer cancel()
	server, err := p.Listen(Addresses{HTTPS: "127.0.0.1:0", Certificate: c.Certificate})
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() { _ = server.Serve() })
	defer func() { _ = server.Shutdown(ctx) }()
	for _, host := range hosts {
		await.Until(t, "the certificate of "+host, func() bool { return c.Of(host) != nil })
	}
	fmt.Printf("ready %s %d\n", server.HTTPSAddr(), heap()-before)
	fmt.Printf("root %x\n", i.root.Raw)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Printf("cpu %d\n", cputime.Used())
	}
}

// heap is the memory in use.
func heap() uint64 {
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// server is one in another process.
type server struct {
	in  io.Writer
	out *bufio.Scanner

	addr  string
	roots *x509.CertPool
	heap  int
}

func startServer(b *testing.B) *server {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServer$", "-test.v")
	cmd.Env = append(os.Environ(), asServer+"=1", "GOMAXPROCS=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s := &server{in: in, out: bufio.NewScanner(out), roots: x509.NewCertPool()}
	s.out.Buffer(nil, 1<<20)
	s.line(b, "ready %s %d", &s.addr, &s.heap)
	var der []byte
	s.line(b, "root %x", &der)
	root, err := x509.ParseCertificate(der)
	if err != nil {
		b.Fatal(err)
	}
	s.roots.AddCert(root)
	return s
}

// line reads the next line of a kind.
func (s *server) line(b *testing.B, format string, to ...any) {
	b.Helper()
	kind, _, _ := strings.Cut(format, " ")
	for s.out.Scan() {
		if _, rest, found := strings.Cut(s.out.Text(), kind+" "); found {
			if _, err := fmt.Sscanf(kind+" "+rest, format, to...); err != nil {
				b.Fatal(err)
			}
			return
		}
	}
	b.Fatal("the server has ended")
}

func (s *server) cpu(b *testing.B) (used time.Duration) {
	b.Helper()
	if _, err := fmt.Fprintln(s.in, "cpu"); err != nil {
		b.Fatal(err)
	}
	s.line(b, "cpu %d", &used)
	return used
}

// One core serves the policies of 1,000 domains over TLS, each with a certificate of its
// own: with connections that stay, with a new one each, and with new ones that resume a
// session. µs-cpu/op is the server's CPU time; answers/s/core is what follows from it.
func BenchmarkServing(b *testing.B) {
	s := startServer(b)
	for _, kind := range []string{"keep-alive", "new-sessions", "resumed"} {
		b.Run(kind, func(b *testing.B) {
			const clients = 8
			var next atomic.Int64
			took := make([][]time.Duration, clients)
			var all sync.WaitGroup
			used := s.cpu(b)
			b.ResetTimer()
			for n := range clients {
				all.Go(func() {
					name := publish.PolicyHost(fmt.Sprintf("d%d.example", n*servedDomains/clients))
					c := &tls.Config{RootCAs: s.roots, ServerName: name}
					if kind == "resumed" {
						c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
					}
					tr := &http.Transport{TLSClientConfig: c, DisableKeepAlives: kind != "keep-alive"}
					defer tr.CloseIdleConnections()
					for next.Add(1) <= int64(b.N) {
						begun := time.Now()
						if err := get(tr, s.addr, name); err != nil {
							b.Error(err)
							return
						}
						took[n] = append(took[n], time.Since(begun))
					}
				})
			}
			all.Wait()
			b.StopTimer()
			each := (s.cpu(b) - used) / time.Duration(b.N)
			sorted := slices.Concat(took...)
			slices.Sort(sorted)
			if len(sorted) == 0 {
				b.Fatal("nothing was answered")
			}
			b.ReportMetric(float64(each.Microseconds()), "µs-cpu/op")
			b.ReportMetric(float64(time.Second/max(each, 1)), "answers/s/core")
			b.ReportMetric(float64(sorted[len(sorted)/2].Microseconds()), "µs-median")
			b.ReportMetric(float64(sorted[len(sorted)*99/100].Microseconds()), "µs-p99")
			b.ReportMetric(float64(s.heap)/(1<<20), "MiB")
		})
	}
}

func get(tr *http.Transport, addr, name string) error {
	req, err := http.NewRequest(http.MethodGet, "https://"+addr+publish.Path, nil)
	if err != nil {
		return err
	}
	req.Host = name
	r, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if text, err := io.ReadAll(r.Body); err != nil || r.StatusCode != http.StatusOK || len(text) == 0 {
		return fmt.Errorf("%d %q %w", r.StatusCode, text, err)
	}
	return nil
}
