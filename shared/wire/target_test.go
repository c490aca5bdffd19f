package wire

import "testing"

func TestValidHost(t *testing.T) {
	for host, want := range map[string]bool{
		"a": true, "a.example": true, "a:80": true, "a:": true, "127.0.0.1:8080": true, "[::1]": true, "[::1]:80": true, "[2001:DB8::1]:": true, "a_b": true,
		"%61": true, "a,b": true, "xn--a": true, "a.": true,
		"": false, ":80": false, "a@b": false, "user:pass@b": false, "@a": false, "a b": false, "a/b": false, "a?b": false, "a#b": false, "a:8o": false, "a:80:80": false,
		"[::1": false, "[]": false, "[::1]a": false, "[1.2.3.4]": false, "[fe80::1%25eth0]": false, "[a]": false, "a[": false, "%6": false, "%zz": false,
		"a\\b": false, "a\"": false, "<a>": false, "α": false, "http://a": false, "a, b": false,
	} {
		if validHost([]byte(host)) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}

func TestValidTarget(t *testing.T) {
	for _, c := range []struct {
		method, target string
		want           bool
	}{
		{"GET", "/", true},
		{"GET", "/a?b=http://u@c", true},
		{"GET", "http://a/b", true},
		{"GET", "HTTPS://a:1", true},
		{"GET", "http://a?b", true},
		{"OPTIONS", "*", true},
		{"CONNECT", "a:80", true},
		{"GET", "//a@b/c", true},
		{"GET", "*", false},
		{"GET", "", false},
		{"GET", "a", false},
		{"GET", "a:80", false},
		{"GET", "http://u@a/b", false},
		{"GET", "http://u:p@a", false},
		{"GET", "http:///b", false},
		{"GET", "http://?b", false},
		{"GET", "http://:80/", false},
		{"CONNECT", "u@a:80", false},
		{"GET", "http:/a", false},
	} {
		if validTarget([]byte(c.method), []byte(c.target)) != c.want {
			t.Errorf("%s %s: %v", c.method, c.target, !c.want)
		}
	}
}
