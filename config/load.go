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
		if n, ok := l.lines[key]; ok {
			return n
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return 0
}

func (l *loader) warn(format string, args ...any) {
	l.warnings = append(l.warnings, Warning(fmt.Sprintf(format, args...)))
}

// file reads TOML. Syntax errors end it; values of a wrong type and unknown
// keys are told together.
func (l *loader) file(path string, data []byte) error {
	l.path = path
	if err := l.findLines(data); err != nil {
		return err
	}
	if l.lines["listen[0]"] > 0 {
		l.config.Listen = nil
	}
	d := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	err := d.Decode(l.config)
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		for _, e := range strict.Errors {
			line, _ := e.Position()
			l.unknownKey(line, e.Key())
		}
		return nil
	}
	if decode, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, _ := decode.Position()
		l.errs = append(l.errs, &Error{File: path, Line: line, Key: strings.Join(decode.Key(), "."), Problem: l.typeProblem(decode)})
		return nil
	}
	if err != nil {
		return &Error{File: path, Problem: err.Error()}
	}
	l.listenDefaults()
	return nil
}

// listenDefaults fills in what a listener of the file leaves out.
func (l *loader) listenDefaults() {
	def := defaultListen()
	for i := range l.config.Listen {
		li := &l.config.Listen[i]
		if li.TLS == "" {
			li.TLS = def.TLS
		}
		if li.MinTLS == "" {
			li.MinTLS = def.MinTLS
		}
		if _, set := l.lines[fmt.Sprintf("listen[%d].allow", i)]; !set {
			li.Allow = def.Allow
		}
	}
}

// typeProblem says what a key wants, where TOML only says what it got.
func (l *loader) typeProblem(e *toml.DecodeError) string {
	msg := strings.TrimPrefix(e.Error(), "toml: ")
	t := fieldType(reflect.TypeFor[Config](), e.Key())
	if t == nil || len(e.Key()) == 0 {
		return msg
	}
	switch t.Kind() {
	case reflect.Bool:
		return "must be true or false"
	case reflect.Int:
		return "must be a whole number"
	case reflect.String:
		return "must be a text in quotes"
	}
	switch t {
	case reflect.TypeFor[Size]():
		return `must be a size in quotes such as "50MiB"`
	case reflect.TypeFor[Duration](), reflect.TypeFor[[]Duration]():
		return `must be a time in quotes such as "5m" or "120h" (a list of them for retry)`
	case reflect.TypeFor[[]Network]():
		return `must be a list of networks such as ["10.0.0.0/8"]`
	case reflect.TypeFor[[]string]():
		return `must be a list of texts such as ["a", "b"]`
	}
	return msg
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
		return l.syntaxError(data, err)
	}
	return nil
}

// syntaxError lets the decoder say where the file is no TOML.
func (l *loader) syntaxError(data []byte, err error) error {
	var any map[string]any
	if derr, ok := errors.AsType[*toml.DecodeError](toml.Unmarshal(data, &any)); ok {
		line, column := derr.Position()
		return &Error{File: l.path, Line: line, Problem: fmt.Sprintf("column %d: %s", column, strings.TrimPrefix(derr.Error(), "toml: "))}
	}
	return &Error{File: l.path, Problem: err.Error()}
}

func (l *loader) unknownKey(line int, key []string) {
	problem := "there is no such key"
	if near := nearest(key); near != "" {
		problem += fmt.Sprintf("; did you mean %q?", near)
	}
	l.errs = append(l.errs, &Error{File: l.path, Line: line, Key: strings.Join(key, "."), Problem: problem})
}

// nearest finds the key that was probably meant.
func nearest(key []string) string {
	t := reflect.TypeFor[Config]()
	if len(key) > 1 {
		if t = fieldType(t, key[:len(key)-1]); t == nil {
			return ""
		}
	}
	if t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return ""
	}
	word := key[len(key)-1]
	best, bestDistance := "", 1+len(word)/3
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("toml")
		if d := distance(word, name); name != "-" && d <= bestDistance {
			best, bestDistance = name, d
		}
	}
	return best
}

// fieldType finds the type that a key path leads to, nil if to none.
func fieldType(t reflect.Type, key []string) reflect.Type {
	for _, k := range key {
		if t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return nil
		}
		found := false
		for i := range t.NumField() {
			if f := t.Field(i); f.Tag.Get("toml") == k {
				t, found = f.Type, true
				break
			}
		}
		if !found {
			return nil
		}
	}
	return t
}

// distance is the number of letters to change, add or leave out.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := prev
			if a[i] != b[j] {
				cost = 1 + min(prev, row[j], row[j+1])
			}
			prev, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
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
