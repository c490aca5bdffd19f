package machineid

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"strings"
	"testing"
)

// table is sdk/judged.json, which both clients read: what an answer is worth, and what a device's id is.
type table struct {
	RequestID string         `json:"requestId"`
	Headers   map[string]any `json:"headers"`
	Calls     map[string]struct {
		DeviceID  string          `json:"deviceId"`
		DeviceIDs []string        `json:"deviceIds"`
		Whole     json.RawMessage `json:"whole"`
	} `json:"calls"`
	Cases []judgedCase                 `json:"cases"`
	Trim  []struct{ Given, ID string } `json:"trim"`
}

type judgedCase struct {
	Name, Call string
	Verdict    any
	Outcome    Outcome
	Status     int
	Headers    map[string]any
	Set        map[string]any
	Drop       []string
	Text       [][2]any
}

// answer is a case's, in bytes.
func (c *judgedCase) answer(t *table) string {
	whole := Object{}
	must(json.Unmarshal(t.Calls[c.Call].Whole, &whole))
	maps.Copy(whole, c.Set)
	for _, name := range c.Drop {
		delete(whole, name)
	}
	encoded, err := json.Marshal(whole)
	must(err)
	body := string(encoded)
	if c.Text != nil {
		var all strings.Builder
		for _, piece := range c.Text {
			text := strings.NewReplacer("{whole}", string(encoded), "{inner}", string(encoded[1:len(encoded)-1])).Replace(piece[0].(string)) //nolint:errcheck // panics
			all.WriteString(strings.Repeat(text, int(piece[1].(float64))))                                                                   //nolint:errcheck // panics
		}
		body = all.String()
	}
	headers := map[string]any{}
	for _, from := range []map[string]any{t.Headers, c.Headers} {
		maps.Copy(headers, from)
	}
	var lines []string
	for name, value := range headers {
		switch value := value.(type) {
		case nil:
		case []any:
			for _, one := range value {
				lines = append(lines, fmt.Sprintf("%s: %v", name, one))
			}
		default:
			lines = append(lines, fmt.Sprintf("%s: %v", name, value))
		}
	}
	return strings.ReplaceAll(raw(max(c.Status, 200), strings.ReplaceAll(body, t.RequestID, theID), lines...), t.RequestID, theID)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// verdict makes the call of a case and says what came of it.
func (c *judgedCase) verdict(ctx context.Context, t *table, client *Client) (verdict any, outcome Outcome) {
	of := t.Calls[c.Call]
	var err error
	switch c.Call {
	case "validate":
		d := client.Validate(ctx, of.DeviceID)
		if verdict, err = d.Code, d.Err; d.Allowed != (d.Code == CodeAllow) || (err != nil) != (d.Code == CodeSystemUnavailable) {
			return fmt.Sprintf("%+v", d), ""
		}
	case "validate_batch":
		var codes []any
		for _, d := range client.ValidateBatch(ctx, of.DeviceIDs) {
			codes, err = append(codes, d.Code), errors.Join(err, d.Err)
			if d.Allowed != (d.Code == CodeAllow) || (d.Err != nil) != (d.Code == CodeSystemUnavailable) {
				return fmt.Sprintf("%+v", d), ""
			}
		}
		verdict = codes
	case "revoke":
		_, err = client.Revoke(ctx, of.DeviceID)
	case "register":
		_, err = client.Register(ctx, of.DeviceID, RegisterOptions{})
	case "usage":
		_, err = client.Usage(ctx)
	default:
		return "no such call", ""
	}
	if err == nil {
		if verdict == nil {
			verdict = "ok"
		}
		return verdict, ""
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.RequestID == "" || e.Message == "" {
		return fmt.Sprintf("%+v", err), ""
	}
	if strings.HasPrefix(c.Call, "re") {
		outcome = e.Outcome
	}
	return e.Code, outcome
}

func TestJudgedAlike(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../judged.json")
	if err != nil {
		t.Fatal(err)
	}
	var all table
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if len(all.Cases) < 300 || len(all.Trim) < 30 {
		t.Fatalf("only %d cases and %d ids", len(all.Cases), len(all.Trim))
	}
	for _, c := range all.Cases {
		s := newScripted(t, thenClose(c.answer(&all)))
		verdict, outcome := c.verdict(t.Context(), &all, s.client(t, -1, 0))
		if !reflect.DeepEqual(verdict, c.Verdict) || outcome != c.Outcome {
			t.Errorf("%s, %s: %v %s, want %v %s", c.Call, c.Name, verdict, outcome, c.Verdict, c.Outcome)
		}
		if n := len(s.got()); n != 1 {
			t.Errorf("%s, %s: %d requests", c.Call, c.Name, n)
		}
	}
	if _, err := parse([]byte(`{"x":` + strings.Repeat("[", maxDepth-1) + "1" + strings.Repeat("]", maxDepth-1) + "}")); err != nil {
		t.Errorf("a number at the depth at which a list may be: %v", err)
	}
	for text, good := range map[string]bool{
		`{"x":"\ud83d\ude00"}`: true, `{"x":"\ufffd\\ud800 \uD83D\uDE00\u00e9"}`: true, `{"x":"\ud83d"}`: false, `{"x":"\ude00\ud83d"}`: false, `{"x":"\ud83d\u0041"}`: false,
		`{"\udfff":1}`: false, `{"x":"\ud83dx\ude00"}`: false, `{"x":"\\\ud83d"}`: false, `{"x":"\`: false, `{"x":"\ud83d\u`: false,
	} {
		if _, err := parse([]byte(text)); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, one := range all.Trim {
		if got := trim(one.Given); got != one.ID {
			t.Errorf("%q is %q, want %q", one.Given, got, one.ID)
		}
	}
}
