package web

import (
	"net/url"
	"slices"
	"strings"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// field returns the value of a field that a form must have once. Where values are given, it
// must have one of them. The pages send no other forms: what differs was made by somebody who
// would else be told that something was done.
func field(form url.Values, key string, values ...string) (string, error) {
	value, err := optional(form, key, values...)
	if err == nil && value == "" {
		err = operator.Invalid(phrase.Errorf("the form has no field %q", key))
	}
	return value, err
}

// optional is field for one that may be missing, or empty.
func optional(form url.Values, key string, values ...string) (string, error) {
	switch given := form[key]; {
	case len(given) > 1:
		return "", operator.Invalid(phrase.Errorf("the form has the field %q %d times", key, len(given)))
	case len(given) == 0 || given[0] == "":
		return "", nil
	case len(values) > 0 && !slices.Contains(values, given[0]):
		return "", operator.Invalid(phrase.Errorf("the field %q has the value %q, and must have one of these: %s", key, given[0], strings.Join(values, ", ")))
	}
	return strings.TrimSpace(form.Get(key)), nil
}

// once checks that a form has none of its fields twice.
func once(form url.Values, keys ...string) error {
	for _, key := range keys {
		if _, err := optional(form, key); err != nil {
			return err
		}
	}
	return nil
}
