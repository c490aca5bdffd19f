package dial_test

import (
	"errors"
	"testing"

	"machineid/shared/dial"
)

func TestBaseURL(t *testing.T) {
	for text, want := range map[string]string{
		"http://127.0.0.1:8080": "http://127.0.0.1:8080", "https://a.example": "https://a.example", "http://a/": "http://a", "http://a//": "http://a",
		"http://[::1]:80/b/c/": "http://[::1]:80/b/c", "http://[fe80::1%25eth0]:80": "http://[fe80::1%25eth0]:80", "HTTP://A:1": "http://A:1",
		"https://xn--bcher-kva.example:65535": "https://xn--bcher-kva.example:65535", "http://a/b%2Fc": "http://a/b%2Fc",

		"": "", "a": "", "a:80": "", "//a": "", "ftp://a": "", "http:a": "", "http://": "", "http:///b": "", "http://:80": "",
		"http://u@a": "", "http://u:p@a": "", "http://@a": "", "http://a?": "", "http://a?b": "", "http://a#": "", "http://a#b": "", "http://a/?b": "",
		"http://a:": "", "http://a:0": "", "http://a:65536": "", "http://a:-1": "", "http://a:http": "", "http://a:+1": "",
		"http://bücher.example": "", "http://b\u0000": "", "http://a b": "", " http://a": "", "http://a ": "", "http://a\n": "", "http://::1": "", "http://[::1": "", "http://%e4": "",
	} {
		u, err := dial.BaseURL(text)
		switch {
		case want == "":
			if !errors.Is(err, dial.ErrBaseURL) {
				t.Errorf("%q is taken for %v", text, u)
			}
		case err != nil || u.String() != want:
			t.Errorf("%q: %v, %v, want %s", text, u, err, want)
		}
	}
}
