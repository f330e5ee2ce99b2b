// Package pgtest starts PostgreSQL for tests and the demo: a primary and synchronous
// standbys, in temporary folders, reached by unix sockets. It uses the programs that the
// machine has, and no system service.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Missing is wrapped by the error of Programs.
var Missing = errors.New("PostgreSQL is not installed here; with Debian: apt-get install postgresql")

// Programs returns the folder of PostgreSQL's programs, of the newest version. The error
// wraps Missing.
func Programs() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is good
	slices.SortFunc(found, func(a, b string) int { return release(a) - release(b) })
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1]), nil
	}
	if p, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(p), nil
	}
	return "", Missing
}

func release(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // 0 where it is no number
	return n
}

// Cluster is a primary and its standbys.
type Cluster struct {
	dir   string
	bin   string
	owner *account // nil: the one of this process
	// Nodes are all servers. Which of them is the primary changes by Promote.
	Nodes []*Node
}

// account is the user of the system that servers run as.
type account struct{ uid, gid int }

// Node is one server.
type Node struct {
	c       *Cluster
	name    string
	process *exec.Cmd
	log     log
	ended   chan struct{}
}

// Start starts a primary with standbys in a folder of its own below dir ("": the system's
// temporary folder). Commits wait for one of the standbys.
func Start(dir string, standbys int) (c *Cluster, err error) {
	bin, err := Programs()
	if err != nil {
		return nil, err
	}
	if dir, err = os.MkdirTemp(dir, "pg"); err != nil {
		return nil, err
	}
	c = &Cluster{dir: dir, bin: bin}
	defer func() {
		if err != nil {
			c.Stop()
		}
	}()
	if err := c.own(); err != nil {
		return nil, err
	}
	primary := c.node("a")
	if err := c.run("initdb", "-D", primary.data(), "-U", "stsrelay", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"); err != nil {
		return nil, err
	}
	if err := primary.configure(standbys); err != nil {
		return nil, err
	}
	if err := primary.Start(); err != nil {
		return nil, err
	}
	for range standbys {
		if err := c.Join(primary); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Join starts another standby of primary.
func (c *Cluster) Join(primary *Node) error {
	n := c.node(string(rune('a' + len(c.Nodes))))
	if err := c.run("pg_basebackup", "-D", n.data(), "-d", primary.conninfo(), "-c", "fast", "-X", "stream", "--no-sync"); err != nil {
		return err
	}
	if err := n.follow(primary); err != nil {
		return err
	}
	return n.Start()
}

// own lets another user have the folder if this is root: PostgreSQL does not run as root.
func (c *Cluster) own() error {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return err
		}
	}
	uid, uerr := strconv.Atoi(u.Uid)
	gid, gerr := strconv.Atoi(u.Gid)
	if err := errors.Join(uerr, gerr); err != nil {
		return err
	}
	c.owner = &account{uid, gid}
	return os.Chown(c.dir, uid, gid)
}

// log is what a server has written.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (c *Cluster) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, program), args...) //nolint:gosec // the programs of PostgreSQL
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = c.attributes()
	return cmd
}

func (c *Cluster) run(program string, args ...string) error {
	out, err := c.command(program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

func (c *Cluster) node(name string) *Node {
	n := &Node{c: c, name: name}
	c.Nodes = append(c.Nodes, n)
	return n
}

func (n *Node) data() string { return filepath.Join(n.c.dir, n.name) }

// Port is the number in the name of the socket: the sockets of all nodes are in the folder
// of the cluster.
func (n *Node) Port() string { return strconv.Itoa(5000 + int(n.name[0])) }

func (n *Node) conninfo() string {
	return fmt.Sprintf("host=%s port=%s user=stsrelay dbname=postgres", n.c.dir, n.Port())
}

func (n *Node) configure(standbys int) error {
	text := fmt.Sprintf("listen_addresses = ''\nunix_socket_directories = '%s'\nmax_connections = 200\nshared_buffers = 64MB\nmax_wal_senders = 10\nwal_receiver_timeout = 5s\nwal_retrieve_retry_interval = 500ms\nmax_wal_size = 512MB\nwal_keep_size = 256MB\n", n.c.dir)
	if standbys > 0 {
		text += "synchronous_standby_names = 'ANY 1 (*)'\n"
	}
	return n.appendConf("postgresql.conf", text)
}

func (n *Node) appendConf(file, text string) error {
	f, err := os.OpenFile(filepath.Join(n.data(), file), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// follow lets n, which does not run, be a standby of primary.
func (n *Node) follow(primary *Node) error {
	if err := n.appendConf("postgresql.conf", fmt.Sprintf("primary_conninfo = '%s application_name=%s'\n", primary.conninfo(), n.name)); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(n.data(), "standby.signal"), os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	err = f.Close()
	if o := n.c.owner; o != nil {
		err = errors.Join(err, os.Chown(f.Name(), o.uid, o.gid))
	}
	return err
}

// Start starts a node that does not run, and waits until it answers.
func (n *Node) Start() error {
	cmd := n.c.command("postgres", "-D", n.data(), "-p", n.Port())
	cmd.Stdout, cmd.Stderr = &n.log, &n.log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	n.process, n.ended = cmd, ended
	deadline := time.Now().Add(30 * time.Second)
	for n.c.run("pg_isready", "-h", n.c.dir, "-p", n.Port(), "-q") != nil {
		select {
		case <-ended:
			return fmt.Errorf("postgres ended: %s", n.log.String())
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return errors.New("postgres does not answer")
		}
	}
	return nil
}

// Kill ends a node at once, as a power failure does for its processes.
func (n *Node) Kill() { n.signal(syscall.SIGKILL) }

// Shutdown ends a node without waiting for its clients.
func (n *Node) Shutdown() { n.signal(syscall.SIGQUIT) }

func (n *Node) signal(sig syscall.Signal) {
	if n.process == nil {
		return
	}
	_ = n.process.Process.Signal(sig) // it may have ended
	<-n.ended
	n.process = nil
}

// Running reports whether the node runs.
func (n *Node) Running() bool { return n.process != nil }

// Promote makes a standby the primary, and the other nodes that run its standbys.
func (n *Node) Promote() error {
	if err := n.c.run("pg_ctl", "-D", n.data(), "-w", "promote"); err != nil {
		return err
	}
	for _, other := range n.c.Nodes {
		if other == n || !other.Running() {
			continue
		}
		if err := other.appendConf("postgresql.conf", fmt.Sprintf("primary_conninfo = '%s application_name=%s'\n", n.conninfo(), other.name)); err != nil {
			return err
		}
		if err := n.c.run("pg_ctl", "-D", other.data(), "reload"); err != nil {
			return err
		}
	}
	return nil
}

// Latest returns the running standby that has received most.
func (c *Cluster) Latest() (*Node, error) {
	var best *Node
	bestLSN := int64(-1)
	for _, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		out, err := n.Query("select case when pg_is_in_recovery() then pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')::bigint else -1 end")
		if err != nil {
			return nil, err
		}
		lsn, err := strconv.ParseInt(out, 10, 64)
		if err != nil {
			return nil, err
		}
		if lsn > bestLSN {
			best, bestLSN = n, lsn
		}
	}
	if best == nil {
		return nil, errors.New("no standby runs")
	}
	return best, nil
}

// Query runs SQL by psql, and returns what it prints.
func (n *Node) Query(sql string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := n.c.command("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", n.conninfo(), "-c", sql)
	cmd := exec.CommandContext(ctx, c.Path, c.Args[1:]...) //nolint:gosec // psql
	cmd.Dir, cmd.Env, cmd.SysProcAttr = c.Dir, c.Env, c.SysProcAttr
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// Log returns what the node has logged.
func (n *Node) Log() string { return n.log.String() }

// URL returns the DSN of all nodes: the one that can be written to is used.
func (c *Cluster) URL() string {
	var hosts, ports []string
	for _, n := range c.Nodes {
		hosts, ports = append(hosts, c.dir), append(ports, n.Port())
	}
	return fmt.Sprintf("host=%s port=%s user=stsrelay dbname=postgres target_session_attrs=read-write", strings.Join(hosts, ","), strings.Join(ports, ","))
}

// Stop ends all nodes and removes the folder.
func (c *Cluster) Stop() {
	for _, n := range slices.Backward(c.Nodes) {
		n.Shutdown()
	}
	_ = os.RemoveAll(c.dir)
}
