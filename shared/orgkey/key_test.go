package orgkey

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestAKeyShowsNowhere prints a key in every way there is: none may show a part of its secret, in any notation.
func TestAKeyShowsNowhere(t *testing.T) {
	k, err := Parse([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	holder := struct {
		K Key
		P *Key
		M map[string]Key
	}{k, &k, map[string]Key{"k": k}}

	outputs := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "%t", "%60s", "%e"} {
		outputs["key "+verb] = fmt.Sprintf(verb, k)
		outputs["pointer "+verb] = fmt.Sprintf(verb, &k)
		outputs["struct "+verb] = fmt.Sprintf(verb, holder)
	}
	for _, v := range []any{k, &k, holder} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		outputs[fmt.Sprintf("json of %T", v)] = string(text)
	}
	for name, h := range map[string]func(*bytes.Buffer) slog.Handler{
		"slog json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(h(&b)).Info("x", slog.Any("key", k), slog.Any("holder", holder))
		outputs[name] = b.String()
	}
	secret := k.Reveal()[12:20]
	for name, out := range outputs {
		for _, shown := range []string{
			secret,
			fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret),
			strings.Trim(fmt.Sprintf("%d", []byte(secret)), "[]"),
			strings.Trim(fmt.Sprintf("%o", []byte(secret)), "[]"),
			strings.Trim(fmt.Sprintf("%b", []byte(secret)), "[]"),
			strings.Trim(fmt.Sprintf("%U", []byte(secret)), "[]"),
		} {
			if strings.Contains(out, shown) {
				t.Errorf("%s shows the key: %s", name, out)
			}
		}
		if !strings.Contains(out, hidden) {
			t.Errorf("%s lacks ***: %s", name, out)
		}
	}
}

func TestAKeyIsNotReadBack(t *testing.T) {
	var k Key
	if err := json.Unmarshal([]byte(`"`+sample+`"`), &k); err == nil || !k.IsZero() {
		t.Errorf("Unmarshal gave %v, %v", k, err)
	}
}

func TestEqual(t *testing.T) {
	a, err := Parse([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	same, b := a, a
	b.b[20]++
	if !a.Equal(same) || a.Equal(b) || a.Equal(Key{}) {
		t.Error("Key.Equal is wrong")
	}
	if !a.Hash().Equal(Sum([]byte(sample))) || a.Hash().Equal(b.Hash()) || !(Hash{}).IsZero() || a.Hash().IsZero() {
		t.Error("Hash.Equal or Hash.IsZero is wrong")
	}
}
