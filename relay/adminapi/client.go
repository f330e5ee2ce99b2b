// Package adminapi is how programs reach the operator of a running relay: HTTP and
// JSON on a unix socket, and its client, which the command line uses. It decides
// nothing: each handler reads the request, calls relay/operator, and writes the
// answer. docs/admin-api.md lists the paths.
package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"

	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/relay/received"
)

// ErrNotRunning is the error of a client on whose socket nobody answers.
var ErrNotRunning = errors.New("the relay is not running")

// Client talks to a relay on this machine.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client for a socket. Nothing is opened yet.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext:       dial,
		DisableKeepAlives: true, // a command asks once or twice, and nobody closes what is idle
	}}}
}

// Get decodes the answer to a GET into v.
func (c *Client) Get(ctx context.Context, path string, query url.Values, v any) error {
	body, err := c.Open(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	return json.NewDecoder(body).Decode(v)
}

// Do sends in as JSON and decodes the answer into out; either may be nil.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	data, err := json.Marshal(in)
	if err != nil {
		return err
	}
	body, err := c.Open(ctx, method, path, nil, data)
	if err != nil {
		return err
	}
	defer body.Close()
	if out == nil {
		return nil
	}
	return json.NewDecoder(body).Decode(out)
}

// Open returns the body of the answer, which the caller closes. An answer with an
// error is returned as an error with the same text. The caller escapes IDs and
// domains in the path.
func (c *Client) Open(ctx context.Context, method, path string, query url.Values, in []byte) (io.ReadCloser, error) {
	return c.send(ctx, method, path, query, bytes.NewReader(in))
}

// send is Open with a body that need not be in memory.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, in io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://stsrelay"+path+"?"+query.Encode(), in)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode/100 == 2 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var refusal struct{ Error string }
	if json.NewDecoder(resp.Body).Decode(&refusal) != nil || refusal.Error == "" {
		return nil, fmt.Errorf("the relay answered %s", resp.Status)
	}
	if resp.StatusCode == http.StatusBadRequest {
		return nil, &invalidError{refusal.Error}
	}
	return nil, errors.New(refusal.Error)
}

// ErrInvalid is wrapped by the error of a request with a value that cannot be: a wrong ID,
// time or word.
var ErrInvalid = errors.New("the request is not valid")

type invalidError struct{ text string }

func (e *invalidError) Error() string        { return e.text }
func (e *invalidError) Is(target error) bool { return target == ErrInvalid }

func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("the socket %s belongs to another user: run the command as that user or as root", c.socket)
	case errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("%w: the path %s is too long for a socket", ErrNotRunning, c.socket)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nobody answers on %s; start it with: stsrelay serve (or name its configuration with --config)", ErrNotRunning, c.socket)
	}
	return err
}

// Export returns the stream of the whole queue, which the caller closes.
func (c *Client) Export(ctx context.Context) (io.ReadCloser, error) {
	return c.Open(ctx, http.MethodGet, "/v1/queue/export", nil, nil)
}

// StoreRecords returns the stream of what the store holds that is no mail, which the caller
// closes.
func (c *Client) StoreRecords(ctx context.Context) (io.ReadCloser, error) {
	return c.Open(ctx, http.MethodGet, "/v1/store", nil, nil)
}

// Import sends an export file.
func (c *Client) Import(ctx context.Context, file io.Reader, hold bool) (operator.Transfer, error) {
	query := url.Values{}
	if hold {
		query.Set("hold", "true")
	}
	var t operator.Transfer
	body, err := c.send(ctx, http.MethodPost, "/v1/queue/import", query, file)
	if err != nil {
		return t, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&t); err != nil {
		return t, fmt.Errorf("the answer of the relay: %w", err)
	}
	return t, nil
}

// ImportReports sends a file with TLS reports. name is its name.
func (c *Client) ImportReports(ctx context.Context, file io.Reader, name string) ([]received.Result, error) {
	var results []received.Result
	body, err := c.send(ctx, http.MethodPost, "/v1/received", url.Values{"name": {name}}, file)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&results); err != nil {
		return nil, fmt.Errorf("the answer of the relay: %w", err)
	}
	return results, nil
}
