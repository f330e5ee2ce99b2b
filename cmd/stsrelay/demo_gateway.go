package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/stsrelay/stsrelay/config"
)

const (
	// demoFolder begins the names of the folders of demos.
	demoFolder = "stsrelay-demo-"
	// gatewayName is a socket in the demo's folder: through it, commands of other processes
	// reach the hosts of the demo's Internet, which listen on free ports and not on 25 and
	// 443. A client sends an address and LF, gets "ok" or an error and LF, and is connected.
	gatewayName = "internet.sock"
)

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// gateway connects others to a fake Internet.
type gateway struct {
	listener net.Listener
	dial     dialFunc
	stop     context.CancelFunc
	served   sync.WaitGroup
}

func openGateway(dir string, dial dialFunc) (*gateway, error) {
	l, err := net.Listen("unix", filepath.Join(dir, gatewayName))
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	g := &gateway{listener: l, dial: dial, stop: stop}
	g.served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.served.Go(func() { g.serve(ctx, c) })
		}
	})
	return g, nil
}

// close ends all connections, and waits for that.
func (g *gateway) close() {
	_ = g.listener.Close()
	g.stop()
	g.served.Wait()
}

func (g *gateway) serve(ctx context.Context, c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	in := bufio.NewReader(c)
	address, err := in.ReadString('\n')
	if err != nil {
		return
	}
	to, err := g.dial(ctx, "tcp", strings.TrimSpace(address))
	if err != nil {
		fmt.Fprintln(c, err)
		return
	}
	defer to.Close()
	defer context.AfterFunc(ctx, func() { _ = to.Close() })()
	fmt.Fprintln(c, "ok")
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(c, to) // one side has ended: so does the other
		_ = c.Close()
	}()
	_, _ = io.Copy(to, in)
	_ = to.Close()
	<-back
}

// dialFor returns what opens the connections of a command: those of a demo go into its
// Internet. nil: net.Dialer.
func (a *app) dialFor(c *config.Config) dialFunc {
	file := filepath.Join(c.DataDir, gatewayName)
	if a.dial != nil || !strings.HasPrefix(filepath.Base(c.DataDir), demoFolder) {
		return a.dial
	}
	if _, err := os.Stat(file); err != nil {
		return nil
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return throughGateway(ctx, file, network, address)
	}
}

func throughGateway(ctx context.Context, file, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", file)
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(c, address)
	answer, err := readLine(c)
	if err == nil && answer != "ok" {
		err = &net.OpError{Op: "dial", Net: network, Err: errors.New(answer)}
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// readLine reads a line, and nothing of what follows it.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(r, b); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
}
