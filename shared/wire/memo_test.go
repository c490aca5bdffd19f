package wire

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"machineid/shared/orgkey"
)

// keysOf makes well-formed org keys, all different.
func keysOf(t *testing.T, n int) (keys []string) {
	t.Helper()
	for seed := range n {
		k, err := orgkey.New(bytes.NewReader(bytes.Repeat([]byte{byte(seed), 3, 5, 7, 11}, 100)))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k.Reveal())
	}
	return keys
}

// TestEachHeadIsJudgedByItself: whatever came before on a connection, a head is judged as by a connection that has seen none, and its key is its own. All
// series of four heads, among them ones too long to be remembered, ones at that bound, ones that differ in one byte, and ones with faults.
func TestEachHeadIsJudgedByItself(t *testing.T) {
	keys := keysOf(t, 3)
	head := func(key string, size int, rest string) string {
		h := "Host: a\r\nx-org-key: " + key + "\r\n" + rest
		if size > 0 {
			h += "X-A: " + strings.Repeat("a", size-len(h)-len("X-A: \r\n\r\n")) + "\r\n"
		}
		return h + "\r\n"
	}
	heads := []string{
		head(keys[0], 0, ""),
		head(keys[1], 0, ""),
		head(keys[2], 0, "Connection: close\r\nContent-Length: 7\r\n"),
		head(keys[1], memoMax, ""),
		head(keys[1], memoMax+1, ""),
		head(keys[2], 4*memoMax, "Authorization: b\r\nContent-Length: 9\r\n"),
		head("org_x", 0, ""),
		head(keys[0], 0, "X-A : b\r\n"),
		head(keys[0], memoMax+1, "X-A : b\r\n"),
		"",
	}
	type verdict struct {
		fault, keyErr string
		head          Head
		sum           orgkey.Hash
	}
	judge := func(m *headMemo, raw string) (v verdict) {
		own := []byte(raw) // a read buffer is written over when the next request comes
		if err := m.judge(own); err != nil {
			v.fault = err.Error()
		}
		v.head = m.head
		for _, field := range []*[]byte{&v.head.OrgKey, &v.head.Authorization} {
			*field = slices.Clone(*field)
		}
		if v.fault == "" {
			var err error
			if v.sum, err = m.key(); err != nil {
				v.keyErr = err.Error()
			}
		}
		for i := range own {
			own[i] = '#'
		}
		return v
	}
	want := make([]verdict, len(heads))
	for i, raw := range heads {
		want[i] = judge(new(headMemo), raw)
	}
	for i := range heads {
		for j := range i {
			if reflect.DeepEqual(want[i], want[j]) && want[i].fault == "" && !strings.Contains(heads[i], keys[1]) {
				t.Errorf("heads %d and %d are judged alike, so nothing tells them apart", i, j)
			}
		}
	}
	n := len(heads)
	for series := range n * n * n {
		var m headMemo
		order := []int{series % n, series / n % n, series / n / n}
		for at, i := range order {
			if got := judge(&m, heads[i]); !reflect.DeepEqual(got, want[i]) {
				t.Fatalf("heads %v: number %d is judged %+v, want %+v", order, at, got, want[i])
			}
			if len(m.raw) > memoMax {
				t.Fatalf("%d bytes of a head are kept", len(m.raw))
			}
		}
	}
}

// TestEachRequestHasItsOwnKey: the same over a connection, one request after the other and several in one write.
func TestEachRequestHasItsOwnKey(t *testing.T) {
	keys := keysOf(t, 2)
	p := serve(t, func(ctx *fasthttp.RequestCtx) {
		r := From(ctx)
		sum, err := r.OrgKey()
		whose := "nobody's"
		for i, key := range keys {
			if err == nil && sum == orgkey.Sum([]byte(key)) {
				whose = []string{"first", "second"}[i]
			}
		}
		if err != nil && !errors.Is(err, orgkey.ErrLength) {
			whose = "none"
		}
		r.JSON(ctx, fasthttp.StatusOK, struct {
			Envelope
			Whose string `json:"whose"`
		}{r.Envelope("ok"), whose})
	}, Options{})
	long := "X-A: " + strings.Repeat("a", memoMax)
	ask := func(key string, headers ...string) string {
		return strings.Replace(get("/api/v1/usage", headers...), testKey, key, 1)
	}
	requests := []struct{ raw, whose string }{
		{ask(keys[0]), "first"},
		{ask(keys[1], long), "second"},
		{ask(keys[0]), "first"},
		{ask(keys[0], long), "first"},
		{ask(keys[1]), "second"},
		{ask(keys[0]), "first"},
		{strings.Replace(get("/api/v1/usage"), "x-org-key: "+testKey+"\r\n", "", 1), "nobody's"},
		{ask(keys[1], long), "second"},
		{strings.Replace(get("/api/v1/usage"), "x-org-key: "+testKey+"\r\n", "", 1), "nobody's"},
		{ask(keys[1]), "second"},
	}
	single, atOnce := p.dial(t), p.dial(t)
	var all strings.Builder
	for i, r := range requests {
		single.send(r.raw)
		if a := single.read(); a.body["whose"] != r.whose {
			t.Errorf("request %d is judged by the key of %v, want %s", i, a.body["whose"], r.whose)
		}
		all.WriteString(r.raw)
	}
	go func() { _, _ = atOnce.Write([]byte(all.String())) }()
	for i, r := range requests {
		if a := atOnce.read(); a.body["whose"] != r.whose {
			t.Errorf("request %d of several at once is judged by the key of %v, want %s", i, a.body["whose"], r.whose)
		}
	}
}
