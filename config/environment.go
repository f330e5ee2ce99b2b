package config

import (
	"cmp"
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const envPrefix = "STSRELAY_"

// environment sets the keys that STSRELAY_ variables name, such as
// STSRELAY_DELIVERY_EXPIRE and STSRELAY_LISTEN_0_ALLOW. Lists are comma-separated.
func (l *loader) environment(environ []string) {
	environ = slices.Clone(environ)
	slices.SortFunc(environ, func(a, b string) int { return cmp.Compare(byNumber(a), byNumber(b)) }) // index 2 of a list comes before index 10
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		rest, ok := strings.CutPrefix(name, envPrefix)
		if !ok || rest == "CONFIG" || ofKubernetes.MatchString(rest) {
			continue
		}
		key, err := setEnv(reflect.ValueOf(l.config).Elem(), strings.ToLower(rest), "", value)
		if err != nil {
			if key == "" {
				value = "" // what no key takes may be a password under a mistyped name
			}
			l.errs = append(l.errs, &Error{Env: name, Value: value, Problem: err.Error()})
			continue
		}
		l.env[key] = name
	}
}

// ofKubernetes are the variables that Kubernetes sets in every container for a
// service named stsrelay.
var ofKubernetes = regexp.MustCompile(`^(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

var number = regexp.MustCompile(`\d+`)

// byNumber is a sort key: the name of a variable with its numbers padded.
func byNumber(kv string) string {
	name, _, _ := strings.Cut(kv, "=")
	return number.ReplaceAllStringFunc(name, func(n string) string {
		return strings.Repeat("0", max(9-len(n), 0)) + n
	})
}

// setEnv finds the key of a variable's name and sets it. The parts of the name are joined
// by "_", which keys contain too. It returns "" where there is no such key.
func setEnv(v reflect.Value, name, path, value string) (key string, err error) {
	t := v.Type()
	for i := range t.NumField() {
		tag := t.Field(i).Tag.Get("toml")
		if tag == "-" {
			continue
		}
		field := v.Field(i)
		full := strings.TrimPrefix(path+"."+tag, ".")
		if name == tag && !isTable(field.Type()) {
			return full, setText(field, value)
		}
		rest, ok := strings.CutPrefix(name, tag+"_")
		if !ok {
			continue
		}
		if field.Kind() == reflect.Struct {
			return setEnv(field, rest, full, value)
		}
		if field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct && isTable(field.Type()) {
			index, rest, _ := strings.Cut(rest, "_")
			n, err := strconv.Atoi(index)
			if err != nil || n < 0 || n > field.Len() {
				return "", fmt.Errorf("%s needs an index, and there are %d of them: %s%s_%d_…", tag, field.Len(), envPrefix, strings.ToUpper(tag), field.Len())
			}
			if n == field.Len() {
				elem := reflect.New(field.Type().Elem()).Elem()
				switch tag {
				case "listen":
					elem.Set(reflect.ValueOf(defaultListen()))
				case "publish":
					elem.Set(reflect.ValueOf(defaultPublish()))
				}
				field.Set(reflect.Append(field, elem))
			}
			return setEnv(field.Index(n), rest, fmt.Sprintf("%s[%d]", full, n), value)
		}
	}
	return "", fmt.Errorf("there is no such key")
}

// isTable reports whether a type is a table or a list of tables, not a value.
func isTable(t reflect.Type) bool {
	if t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	_, text := reflect.New(t).Interface().(encoding.TextUnmarshaler)
	return t.Kind() == reflect.Struct && !text
}

func setText(v reflect.Value, s string) error {
	if v.Kind() == reflect.Slice {
		out := reflect.MakeSlice(v.Type(), 0, 4)
		for part := range strings.SplitSeq(s, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			e := reflect.New(v.Type().Elem()).Elem()
			if err := setText(e, part); err != nil {
				return err
			}
			out = reflect.Append(out, e)
		}
		v.Set(out)
		return nil
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(s))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("must be true or false")
		}
		v.SetBool(b)
	case reflect.Int:
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("must be a whole number")
		}
		v.SetInt(int64(n))
	}
	return nil
}
