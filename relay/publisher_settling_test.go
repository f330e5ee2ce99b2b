package relay

import "testing"

// A file of domains that is being written is not read before it stays as it is.
func TestAFileThatIsBeingWrittenIsReadWhenItIsWhole(t *testing.T) {
	files := settling{used: []string{"whole, 20 domains"}}
	for i, look := range []struct {
		now  string
		read bool
	}{
		{"whole, 20 domains", false},
		{"empty", false},
		{"10 domains", false},
		{"whole, 30 domains", false},
		{"whole, 30 domains", true},
		{"whole, 30 domains", false},
		{"empty", false},
		{"whole, 30 domains", false},
		{"whole, 30 domains", false},
		{"gone", false},
		{"gone", true},
	} {
		if got := files.changed([]string{look.now}); got != look.read {
			t.Errorf("look %d, %s: read %t", i, look.now, got)
		}
	}
}
