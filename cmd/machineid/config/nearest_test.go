package config

import "testing"

func TestNearest(t *testing.T) {
	candidates := []string{"authority", "cache-entries", "cache-ttl", "http", "id", "max-wait", "ops"}
	for name, want := range map[string]string{
		"max-wait":     "max-wait",
		"maxwait":      "max-wait",
		"max-wiat":     "max-wait",
		"authorty":     "authority",
		"htpp":         "http",
		"cache-entry":  "cache-entries",
		"cachettl":     "cache-ttl",
		"ip":           "id",
		"xy":           "",
		"colour":       "",
		"http-address": "",
		"":             "",
	} {
		if got := Nearest(name, candidates); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", name, got, want)
		}
	}
}
