package config

import "testing"

func TestNearest(t *testing.T) {
	candidates := []string{"authority", "authority-http", "cache-entries", "cache-ttl", "http", "id", "insecure", "limits", "max-wait", "ops"}
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
		// The opposite is no typing error.
		"secure":        "",
		"no-insecure":   "",
		"no-limits":     "",
		"un-insecure":   "",
		"insecur":       "insecure",
		"authorty-http": "authority-http",
	} {
		if got := Nearest(name, candidates); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", name, got, want)
		}
	}
}
