package raftstore

import (
	"strings"
	"testing"
)

func TestCheckAddress(t *testing.T) {
	for _, good := range []string{"127.0.0.1:7072", "[::1]:1", "a1.example.com:65535", "a1:7072", "[fe80::1%eth0]:7072"} {
		if err := CheckAddress(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "a1", ":7072", "a1:", "a1:0", "a1:65536", "a1:-1", "a1:+1", "a1:http", "0.0.0.0:7072", "[::]:7072", "::1:7072", "a1:7072:1", strings.Repeat("a", 254) + ":1",
	} {
		if err := CheckAddress(bad); err == nil {
			t.Errorf("%.20q was taken", bad)
		}
	}
}
