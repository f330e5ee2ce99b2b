package config

import (
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
)

// Error is one thing that is wrong, and where.
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

// Warning is something that works and should be known.
type Warning string

// Load reads the file at path ("": none) and the environment, fills in the
// defaults and checks everything. The error joins an *Error for each thing
// that is wrong.
func Load(path string, environ []string) (*Config, []Warning, error) {
	c := Default()
	l := &loader{config: &c, lines: make(map[string]int), env: make(map[string]string)}
	if path != "" {
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, nil, err
		}
		c.File = abs
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, fmt.Errorf("read the configuration: %w", err)
		}
		if err := l.file(path, data); err != nil {
			return nil, nil, err
		}
	}
	l.environment(environ)
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
	return &c, l.warnings, nil
}

type loader struct {
	config   *Config
	path     string            // as the user wrote it
	lines    map[string]int    // key → line in the file
	env      map[string]string // key → variable that set it
	errs     []*Error
	warnings []Warning
}

// fail notes a problem of the key, with the place that set it.
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

// line is where the key, or the nearest table around it, stands.
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

// file reads TOML. Where it is none, nothing else is told.
func (l *loader) file(path string, data []byte) error {
	l.path = path
	if err := l.findLines(data); err != nil {
		return err
	}
	var root map[string]any
	if err := toml.Unmarshal(data, &root); err != nil {
		return l.syntaxError(err)
	}
	l.table(reflect.ValueOf(l.config).Elem(), root, "")
	return nil
}

// findLines notes on which line each key stands, array tables with an index.
func (l *loader) findLines(data []byte) error {
	p := unstable.Parser{}
	p.Reset(data)
	table := ""
	count := make(map[string]int)
	for p.NextExpression() {
		e := p.Expression()
		var keys []string
		line := 0
		for it := e.Key(); it.Next(); {
			keys = append(keys, string(it.Node().Data))
			if line == 0 {
				line = p.Shape(it.Node().Raw).Start.Line
			}
		}
		key := strings.Join(keys, ".")
		switch e.Kind {
		case unstable.Table:
			table = key
			l.lines[key] = line
		case unstable.ArrayTable:
			table = fmt.Sprintf("%s[%d]", key, count[key])
			count[key]++
			l.lines[table] = line
		case unstable.KeyValue:
			if table != "" {
				key = table + "." + key
			}
			l.lines[key] = line
		}
	}
	if err := p.Error(); err != nil {
		var any map[string]any // the decoder tells the place
		return l.syntaxError(errors.Join(toml.Unmarshal(data, &any), err))
	}
	return nil
}

// syntaxError says where the file is no TOML.
func (l *loader) syntaxError(err error) error {
	if derr, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := derr.Position()
		return &Error{File: l.path, Line: line, Problem: fmt.Sprintf("column %d: %s", column, strings.TrimPrefix(derr.Error(), "toml: "))}
	}
	return &Error{File: l.path, Problem: err.Error()}
}

// quote is for messages that list what is allowed.
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
