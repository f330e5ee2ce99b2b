package publisher

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// fileCheck is how often a file is looked at for a change.
const fileCheck = 30 * time.Second

// Certificate is what there is to know of a policy host's certificate.
type Certificate struct {
	// NotBefore and NotAfter bound its life; zero: there is none.
	NotBefore, NotAfter time.Time
	// Problem is why there is none, or why it is not renewed; "": all is well.
	Problem string
	// Next is when the next try is made; zero: none is planned.
	Next time.Time
}

// Files are certificates in a folder, NAME.pem with NAME.key, which are read again when
// they change.
type Files struct {
	// Dir is the folder, and Known reports whether a name is served.
	Dir   string
	Known func(name string) bool
	Now   func() time.Time

	mu   sync.Mutex
	read map[string]*fileCertificate
}

type fileCertificate struct {
	cert     *tls.Certificate
	problem  error
	looked   time.Time
	modified [2]time.Time
}

// Certificate is GetCertificate of tls.Config.
func (f *Files) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if name == "" || !f.Known(name) {
		return nil, fmt.Errorf("nothing is published at %q", name)
	}
	c := f.look(name)
	if c.cert == nil {
		return nil, c.problem
	}
	return c.cert, nil
}

// State returns what there is to know of the certificate of a name.
func (f *Files) State(name string) Certificate {
	c := f.look(name)
	var out Certificate
	if c.cert != nil {
		out.NotBefore, out.NotAfter = c.cert.Leaf.NotBefore, c.cert.Leaf.NotAfter
	}
	if c.problem != nil {
		out.Problem = c.problem.Error()
	}
	return out
}

// look reads the files of a name if they may have changed. A pair that cannot be used
// leaves the one before it in use.
func (f *Files) look(name string) fileCertificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.read[name]
	if c == nil {
		if f.read == nil {
			f.read = make(map[string]*fileCertificate)
		}
		c = &fileCertificate{}
		f.read[name] = c
	}
	now := f.Now()
	if !c.looked.IsZero() && now.Sub(c.looked) < fileCheck {
		return *c
	}
	c.looked = now
	files := [2]string{filepath.Join(f.Dir, name+".pem"), filepath.Join(f.Dir, name+".key")}
	var modified [2]time.Time
	for i, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			c.problem = err
			return *c
		}
		modified[i] = info.ModTime()
	}
	if c.cert != nil && c.problem == nil && modified == c.modified {
		return *c
	}
	cert, err := tls.LoadX509KeyPair(files[0], files[1])
	if err == nil {
		if err = cert.Leaf.VerifyHostname(name); err == nil && now.After(cert.Leaf.NotAfter) {
			err = errors.New("has ended")
		}
	}
	if err != nil {
		c.problem = fmt.Errorf("%s: %w", files[0], err)
		return *c
	}
	c.cert, c.problem, c.modified = &cert, nil, modified
	return *c
}
