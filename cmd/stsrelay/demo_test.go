package main

import (
	"strings"
	"testing"
)

func TestDemo(t *testing.T) {
	r := command(t, "", "demo")
	if r.status != 0 || strings.Count(r.out, "✓") < 8 || !strings.Contains(r.out, "All of it happened") {
		t.Errorf("%+v", r)
	}
}

func TestDemoPublish(t *testing.T) {
	r := command(t, "", "demo", "publish")
	if r.status != 0 || strings.Count(r.out, "✓") != 6 || !strings.Contains(r.out, "All of it happened") {
		t.Errorf("%+v", r)
	}
}

func TestDemoAsJSON(t *testing.T) {
	r := command(t, "", "demo", "--json")
	var got struct {
		OK     bool
		Scenes []struct {
			Title          string
			Results, Notes []string
		}
	}
	unmarshal(t, r.out, &got)
	if r.status != 0 || !got.OK || len(got.Scenes) != 7 || len(got.Scenes[1].Results) != 1 || !strings.Contains(strings.Join(got.Scenes[1].Notes, "\n"), "STARTTLS") {
		t.Errorf("%+v", r)
	}
}
