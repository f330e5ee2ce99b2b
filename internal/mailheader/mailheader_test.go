package mailheader

import (
	"bytes"
	"slices"
	"testing"
)

func TestFields(t *testing.T) {
	for _, tt := range []struct {
		name, in            string
		fields, names, vals []string
	}{
		{name: "none", in: ""},
		{"one", "Subject: a\r\n", []string{"Subject: a\r\n"}, []string{"subject"}, []string{"a"}},
		{"folded", "A: 1\r\n\t2\r\n 3\r\nB:4\r\n", []string{"A: 1\r\n\t2\r\n 3\r\n", "B:4\r\n"}, []string{"a", "b"}, []string{"1\t2 3", "4"}},
		{"folded behind the colon", "A:\r\n b\r\n", []string{"A:\r\n b\r\n"}, []string{"a"}, []string{"b"}},
		{"line feeds alone", "A: 1\n 2\nB: 3", []string{"A: 1\n 2\n", "B: 3"}, []string{"a", "b"}, []string{"1 2", "3"}},
		{"a blank before the colon", "A : 1\r\n", []string{"A : 1\r\n"}, []string{"a"}, []string{"1"}},
		{"no fields", " x\r\nno colon\r\na b: c\r\nä: d\r\n", []string{" x\r\n", "no colon\r\n", "a b: c\r\n", "ä: d\r\n"}, []string{"", "", "", ""}, []string{"", "", "c", "d"}},
		{"a colon in the value", "A: b: c\r\n", []string{"A: b: c\r\n"}, []string{"a"}, []string{"b: c"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var fields, names, vals []string
			for f := range Fields([]byte(tt.in)) {
				fields, names, vals = append(fields, string(f)), append(names, Name(f)), append(vals, Value(f))
			}
			if !slices.Equal(fields, tt.fields) || !slices.Equal(names, tt.names) || !slices.Equal(vals, tt.vals) {
				t.Errorf("fields %q, names %q, values %q", fields, names, vals)
			}
		})
	}
}

func FuzzFields(f *testing.F) {
	f.Add([]byte("A: 1\r\n 2\r\nB: 3\n\nno field"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var all []byte
		for field := range Fields(b) {
			if len(field) == 0 {
				t.Fatal("an empty field")
			}
			all = append(all, field...)
		}
		if !bytes.Equal(all, b) {
			t.Errorf("put together it is %q", all)
		}
	})
}

func TestNamesAndValues(t *testing.T) {
	for _, tt := range []struct {
		field, name, value string
	}{
		{"Message-ID: <1@a.example>\r\n", "message-id", "<1@a.example>"},
		{"FROM :\t anna@a.example \r\n", "from", "anna@a.example"},
		{"X-Other: x\r\n", "x-other", "x"},
		{"Subject: one\r\n two\r\n", "subject", "one two"},
		{"Date: \r\n \r\n", "date", ""},
		{"Date:\n", "date", ""},
		{"no field\r\n", "", ""},
		{"two words: x\r\n", "", "x"},
	} {
		field := []byte(tt.field)
		if name, value := Name(field), Value(field); name != tt.name || value != tt.value || HasValue(field) != (value != "") {
			t.Errorf("%q: name %q, value %q, %t", tt.field, name, value, HasValue(field))
		}
	}
}
