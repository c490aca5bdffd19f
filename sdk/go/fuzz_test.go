package machineid

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// FuzzJudge: whatever an address answers, work goes on only by an answer of HTTP 200 that encoding/json reads as validate's ALLOW for this
// very device; and no page of a proxy passes for a change.
func FuzzJudge(f *testing.F) {
	for _, s := range []string{
		`{"allowed":true,"code":"ALLOW","handler":"devices/validate","deviceId":"a"}`, `{"allowed":true,"code":"ALLOW","handler":"devices/validate","deviceId":"b"}`,
		`{"allowed":false,"allowed":true,"code":"ALLOW","handler":"devices/validate","deviceId":"a"}`, `{"allowed":"true","code":"ALLOW"}`, `<html>`, `{}x`, `[]`, "\xff",
		`{"status":"ok","handler":"devices/validate_batch","decisions":[{"deviceId":"a","allowed":true,"code":"ALLOW"}]}`, `{"status":"ok","handler":"devices/revoke","revoked":true}`,
		`{"all\u006fwed":true,"code":"ALLOW","handler":"devices/validate","deviceId":"\u0061"}`, strings.Repeat("[", 100),
	} {
		f.Add(200, []byte(s), "a")
	}
	f.Fuzz(func(t *testing.T, status int, body []byte, id string) {
		a := &answer{status: status, body: body}
		var theirs map[string]any
		isJSON := json.Unmarshal(body, &theirs) == nil
		if d, err := judgeDecision(a, id); err == nil && d.Allowed {
			if status != 200 || !isJSON || theirs["allowed"] != true || theirs["code"] != "ALLOW" || theirs["handler"] != pathValidate || theirs["deviceId"] != trim(id) {
				t.Fatalf("HTTP %d %q allows %q", status, body, id)
			}
		}
		if list, err := judgeBatch(a, slices.Repeat([]string{id}, 1)); err == nil && list[0].Allowed {
			given, _ := theirs["decisions"].([]any)
			if status != 200 || !isJSON || theirs["handler"] != pathValidateBatch || len(given) != 1 {
				t.Fatalf("HTTP %d %q allows %q", status, body, id)
			}
			one, _ := given[0].(map[string]any)
			if one["allowed"] != true || one["code"] != "ALLOW" || one["deviceId"] != trim(id) {
				t.Fatalf("HTTP %d %q allows %q", status, body, id)
			}
		}
		if _, err := judgeSuccess(a, "devices/revoke", Object{"revoked": true}); err == nil && (status/100 != 2 || !isJSON || theirs["handler"] != "devices/revoke" || theirs["revoked"] != true) {
			t.Fatalf("HTTP %d %q passes for a revoke", status, body)
		}
	})
}
