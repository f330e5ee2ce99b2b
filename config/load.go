package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/stsrelay/stsrelay/internal/container"
)

// Error is one fault of a configuration, with its place.
type Error struct {
	// File and Line are where it stands; Line 0: not in a file.
	File string
	Line int
	// Key is the dotted path, "delivery.retry" or "listen[0].tls".
	Key string
	// Env is the variable that it came from, "" where it came from the file.
	Env string
	// Value is what stands there, "" where that is not worth telling.
	Value string
	// Problem says what is wrong and what is allowed.
	Problem string
}

func (e *Error) Error() string {
	var b strings.Builder
	switch {
	case e.Env != "":
		b.WriteString("environment variable " + e.Env)
		if e.Value != "" {
			fmt.Fprintf(&b, " = %q", e.Value)
		}
		b.WriteString(": ")
	default:
		if e.File != "" {
			b.WriteString(e.File)
			if e.Line > 0 {
				fmt.Fprintf(&b, ":%d", e.Line)
			}
			b.WriteString(": ")
		}
		if e.Key != "" {
			b.WriteString(e.Key)
			if e.Value != "" {
				fmt.Fprintf(&b, " = %q", e.Value)
			}
			b.WriteString(": ")
		}
	}
	b.WriteString(e.Problem)
	return b.String()
}

// Warning is about a value that works, but probably not as it was meant.
type Warning string

// Load reads the file at path ("": none) and the environment, fills in the
// defaults and checks everything. The error joins an *Error for each thing
// that is wrong.
func Load(path string, environ []string) (*Config, []Warning, error) {
	return load(path, environ, container.Look(environ), false)
}

// Check is Load for the command that checks a configuration. It also refuses what does no
// harm only as long as a listener is on loopback, and what a start needs of the machine
// and does not find.
func Check(path string, environ []string) (*Config, []Warning, error) {
	return load(path, environ, container.Look(environ), true)
}

func load(path string, environ []string, network container.Network, strict bool) (*Config, []Warning, error) {
	l, err := read(path, environ)
	if err != nil {
		return nil, nil, err
	}
	l.network, l.strict = network, strict
	if len(l.errs) == 0 {
		l.complete()
		l.check()
	}
	if len(l.errs) > 0 {
		slices.SortStableFunc(l.errs, func(a, b *Error) int { return a.Line - b.Line })
		errs := make([]error, len(l.errs))
		for i, e := range l.errs {
			errs[i] = e
		}
		return nil, l.warnings, errors.Join(errs...)
	}
	return l.config, l.warnings, nil
}

// FindSocket returns the admin socket of a configuration that Load refuses, from the
// parts of it that can be read: a relay that was started before the file became wrong
// still answers there.
func FindSocket(path string, environ []string) (string, error) {
	l, err := read(path, environ)
	if err != nil {
		return "", err
	}
	return l.config.SocketPath(), nil
}

// read reads file and environment into the defaults, and notes all faults. The error is
// about a file that cannot be read at all.
func read(path string, environ []string) (*loader, error) {
	c := Default()
	l := &loader{config: &c, path: path, lines: make(map[string]int), env: make(map[string]string)}
	if path != "" {
		data, err := os.ReadFile(path)
		if err == nil {
			c.File, err = filepath.Abs(path)
		}
		if err != nil {
			return nil, fmt.Errorf("read the configuration: %w", err)
		}
		l.file(data)
	}
	l.environment(environ)
	for _, kv := range environ {
		if dir, ok := strings.CutPrefix(kv, "CREDENTIALS_DIRECTORY="); ok {
			l.credentials = dir
		}
	}
	return l, nil
}

type loader struct {
	config  *Config
	network container.Network
	strict  bool              // see Check
	path    string            // as the user wrote it
	lines   map[string]int    // key → line in the file
	env     map[string]string // key → variable that set it
	// credentials is the folder of the files that systemd hands over, "" where it is
	// not known.
	credentials string
	errs        []*Error
	warnings    []Warning
}

// fail notes a fault of a key, with the place where the key was set.
func (l *loader) fail(key string, value any, format string, args ...any) {
	e := &Error{Key: key, Problem: fmt.Sprintf(format, args...)}
	if value != nil {
		e.Value = fmt.Sprint(value)
	}
	if env, ok := l.env[key]; ok {
		e.Env = env
	} else {
		e.File = l.path
		e.Line = l.line(key)
	}
	l.errs = append(l.errs, e)
}

// line returns the line of a key, or of the nearest table around it.
func (l *loader) line(key string) int {
	for key != "" {
		for _, k := range []string{key, key + "[0]"} {
			if n, ok := l.lines[k]; ok {
				return n
			}
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return 0
}

func (l *loader) warn(format string, args ...any) {
	l.warnings = append(l.warnings, Warning(fmt.Sprintf(format, args...)))
}

// file reads TOML. The lines before a syntax error count. A byte order mark, which
// editors on Windows write, is skipped.
func (l *loader) file(data []byte) {
	if l.config.Empty = len(data) == 0; l.config.Empty {
		l.warn("%s is empty: all values are the defaults", l.path)
	}
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		l.errs = append(l.errs, &Error{File: l.path, Line: 1, Problem: "it is written in UTF-16; save it as UTF-8"})
		return
	}
	var root map[string]any
	err := toml.Unmarshal(data, &root)
	if err != nil {
		e := l.syntaxError(err)
		l.errs = append(l.errs, e)
		for lines := bytes.SplitAfter(data, []byte("\n")); err != nil; {
			lines = lines[:max(min(e.Line, len(lines))-1, 0)]
			data, root = bytes.Join(lines, nil), nil
			if err = toml.Unmarshal(data, &root); err != nil {
				e = l.syntaxError(err)
			}
		}
	}
	l.findLines(data)
	l.table(reflect.ValueOf(l.config).Elem(), root, "")
	if l.config.DataDir != "" && !filepath.IsAbs(l.config.DataDir) {
		l.config.DataDir = filepath.Join(filepath.Dir(l.config.File), l.config.DataDir)
	}
}

// syntaxError returns a syntax error of TOML with its line.
func (l *loader) syntaxError(err error) *Error {
	if derr, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := derr.Position()
		return &Error{File: l.path, Line: line, Problem: fmt.Sprintf("column %d: %s", column, strings.TrimPrefix(derr.Error(), "toml: "))}
	}
	return &Error{File: l.path, Problem: err.Error()}
}

// findLines notes the line of each key of valid TOML. Array tables have an index.
func (l *loader) findLines(data []byte) {
	p := unstable.Parser{}
	p.Reset(data)
	table := ""
	count := make(map[string]int)
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.KeyValue {
			table = ""
		}
		key := table
		for it := e.Key(); it.Next(); {
			key = strings.TrimPrefix(key+"."+string(it.Node().Data), ".")
			if e.Kind == unstable.ArrayTable && it.IsLast() {
				count[key]++
				key = fmt.Sprintf("%s[%d]", key, count[key]-1)
			}
			if _, ok := l.lines[key]; !ok {
				l.lines[key] = p.Shape(it.Node().Raw).Start.Line
			}
		}
		if e.Kind != unstable.KeyValue {
			table = key
		}
	}
}

// quote lists allowed values for a message.
func quote(values []string) string {
	q := make([]string, len(values))
	for i, v := range values {
		q[i] = strconv.Quote(v)
	}
	if len(q) == 1 {
		return q[0]
	}
	return strings.Join(q[:len(q)-1], ", ") + " or " + q[len(q)-1]
}
