// Package drain is how a relay reaches another one that takes its mail: HTTPS with the token
// to act of the other's web page. The queue decides what is sent, and when again.
package drain

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/queue"
)

// The paths on the other relay.
const (
	PathTake   = "/v1/drain/take"   // POST an export, with ?run=
	PathForget = "/v1/drain/forget" // POST with ?run=
)

// Target is another relay.
type Target struct {
	base  *url.URL
	token string
	http  *http.Client
}

// Options configures New. URL and Token are required.
type Options struct {
	// URL is "https://host:port"; "http://" only to a loopback address.
	URL string
	// Token is the other relay's admin.act_token_file.
	Token string
	// Authorities are certificates in PEM form that are trusted; "": those of the system. The
	// other relay's own certificate may be one.
	Authorities string
}

// New returns a Target. Nothing is opened yet.
func New(o Options) (*Target, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%q is not a relay such as https://relay2.example.com:8025", o.URL)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return nil, fmt.Errorf("%q: only https:// keeps the token and the mail from being read on the way", o.URL)
	}
	if strings.TrimSpace(o.Token) == "" {
		return nil, errors.New("the token of the other relay is missing: name the file with its admin.act_token_file")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.Authorities != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(o.Authorities)) {
			return nil, errors.New("there is no certificate in PEM form among the authorities")
		}
	}
	return &Target{base: u, token: strings.TrimSpace(o.Token), http: &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: config, DialContext: (&net.Dialer{Timeout: 15 * time.Second}).DialContext, TLSHandshakeTimeout: 15 * time.Second,
			ResponseHeaderTimeout: 5 * time.Minute, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token is for this host
	}}, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// String returns the address of the other relay.
func (t *Target) String() string { return t.base.Scheme + "://" + t.base.Host }

// Close closes the connections that are idle.
func (t *Target) Close() { t.http.CloseIdleConnections() }

// Send hands over an export; see queue.DrainOptions.
func (t *Target) Send(ctx context.Context, run string, export io.Reader) (taken queue.Taken, err error) {
	body, err := t.post(ctx, PathTake, run, export)
	if err != nil {
		return taken, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&taken); err != nil {
		return taken, fmt.Errorf("the answer of %s: %w", t, err)
	}
	return taken, nil
}

// Forget tells the other relay that a run has ended.
func (t *Target) Forget(ctx context.Context, run string) error {
	body, err := t.post(ctx, PathForget, run, nil)
	if err != nil {
		return err
	}
	return body.Close()
}

func (t *Target) post(ctx context.Context, path, run string, body io.Reader) (io.ReadCloser, error) {
	u := *t.base
	u.Path, u.RawQuery = path, url.Values{"run": {run}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+t.token)
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := t.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
	err = fmt.Errorf("%s answered %s: %s", t, resp.Status, strings.TrimSpace(string(said)))
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusConflict:
		return nil, err
	}
	if resp.StatusCode < http.StatusInternalServerError {
		return nil, fmt.Errorf("%w: %w", queue.ErrDrainRefused, err)
	}
	return nil, err
}
