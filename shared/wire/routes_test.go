package wire

import (
	"strings"
	"testing"
)

func TestRoutesAreWellFormed(t *testing.T) {
	if len(Routes()) == 0 {
		t.Fatal("no routes")
	}
	validates := 0
	for _, r := range Routes() {
		if r.Path == "" || strings.Trim(r.Path, "/") != r.Path || strings.ContainsAny(r.Path, "%?#. ") {
			t.Errorf("path %q", r.Path)
		}
		if !r.Get && !r.Post && !r.Delete {
			t.Errorf("%s serves no method", r.Path)
		}
		if r.MaxBody <= 0 || r.MaxBody > MaxBatchBody {
			t.Errorf("%s: limit %d", r.Path, r.MaxBody)
		}
		want := r.Path
		if r.Path == "org/create" {
			want = "org_create"
		}
		if r.Operator {
			want = ""
		}
		if r.Operator != strings.HasPrefix(r.Path, "operator/") {
			t.Errorf("%s: operator %v", r.Path, r.Operator)
		}
		if r.Handler != want {
			t.Errorf("%s: handler %q", r.Path, r.Handler)
		}
		if len(r.Query) > 0 && !r.Get {
			t.Errorf("%s has a query and no GET", r.Path)
		}
		if r.Validate {
			validates++
		}
		for _, suffix := range []string{"", "/"} {
			path := Base + strings.Replace(r.Path, "*", "a-1.b_~", 1) + suffix
			if got := Match([]byte(path)); got != r {
				t.Errorf("Match(%s) = %v", path, got)
			}
			if got := r.Param([]byte(path)); r.isPattern() && got != "a-1.b_~" {
				t.Errorf("the parameter of %s: %q", path, got)
			}
		}
	}
	if validates != 1 {
		t.Errorf("%d validate routes", validates)
	}
}

func TestMatchRefuses(t *testing.T) {
	for _, path := range []string{
		"", "/", "/api", "/api/v1", "/api/v1/", "/api/v1//", "/api/v1/x", "api/v1/usage", "//api/v1/usage", "/api//v1/usage",
		"/api/v1//usage", "/api/v1/usage//", "/api/v1/usage/x", "/api/v1/usag", "/api/v1/usages", "/api/v1/Usage", "/Api/v1/usage",
		"/api/v2/usage", "/api/v1/usage%2f", "/api/v1/%75sage", "/api/v1/./usage", "/api/v1/devices/../usage", "/api/v1/usage;x",
		"/api/v1/usage\x00", "/api/v1/devices%2Fvalidate", "/api/v1/devices//validate", "/api/v1/devices/validate//", "/api/v1/devices",
		"*", "http://a/api/v1/usage",
		"/api/v1/operator/cluster/members/*", "/api/v1/operator/cluster/members/a/b", "/api/v1/operator/cluster/members/a%20b",
		"/api/v1/operator/cluster/members/a//", "/api/v1/operator/orgs/a%62c", "/api/v1/operator/orgs/a%2Fb", "/api/v1/operator/orgs/a%00", "/api/v1/operator/orgs/a+b", "/api/v1/operator/orgs/a;b", "/api/v1/operator/orgs/%2e%2e", "/api/v1/operator/orgs/\xc3\xa4",
		"/api/v1/operator/orgs/..", "/api/v1/operator/orgs/./", "/api/v1/operator/cluster/members/../promote", "/api/v1/operator/cluster/members//promote", "/api/v1/operator/cluster/members/a/promote/x",
	} {
		if r := Match([]byte(path)); r != nil {
			t.Errorf("Match(%q) = %s", path, r.Path)
		}
	}
}

func TestMethods(t *testing.T) {
	for _, c := range []struct {
		path, allow string
	}{{"devices/validate", "GET, HEAD, POST"}, {"usage", "GET, HEAD"}, {"devices/revoke", "POST"}} {
		r := Match([]byte(Base + c.path))
		if r.Allow() != c.allow {
			t.Errorf("%s: Allow %q, want %q", c.path, r.Allow(), c.allow)
		}
		for _, m := range []string{"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "get", "Post", ""} {
			if want := strings.Contains(c.allow, m) && m != "" && m != "HEAD"; r.Allows([]byte(m)) != want {
				t.Errorf("%s %s: allowed %v", m, c.path, !want)
			}
		}
	}
}

func TestSplitTarget(t *testing.T) {
	for _, c := range []struct{ target, path, query string }{
		{"/a/b", "/a/b", ""},
		{"/a/b?", "/a/b", ""},
		{"/a?b=c?d", "/a", "b=c?d"},
		{"/a#b?c", "/a#b", "c"},
		{"/?a", "/", "a"},
		{"*", "*", ""},
		{"", "", ""},
		{"http://host/a?b", "/a", "b"},
		{"HTTPS://host:1/a?b", "/a", "b"},
		{"http://host", "http://host", ""},
		{"http://host?/a", "http://host", "/a"},
		{"http:///a", "http:///a", ""},
		{"ftp://host/a", "ftp://host/a", ""},
		{"host:443", "host:443", ""},
		{"//host/a", "//host/a", ""},
		{"/http://host/a", "/http://host/a", ""},
	} {
		path, query := SplitTarget([]byte(c.target))
		if string(path) != c.path || string(query) != c.query {
			t.Errorf("SplitTarget(%q) = %q, %q, want %q, %q", c.target, path, query, c.path, c.query)
		}
	}
}
