package machineid

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// FuzzJudge: whatever an address answers, work goes on only by an answer of HTTP 200 that encoding/json reads as validate's ALLOW for this
// very device, to this very request; and no page of a proxy passes for a change.
func FuzzJudge(f *testing.F) {
	const id = "the-request"
	for _, s := range []string{
		`{"allowed":true,"code":"ALLOW","handler":"devices/validate","deviceId":"a","request_id":"the-request"}`, `{"allowed":true,"code":"ALLOW","handler":"devices/validate","deviceId":"b","request_id":"the-request"}`,
		`{"allowed":false,"allowed":true,"code":"ALLOW","handler":"devices/validate","deviceId":"a","request_id":"the-request"}`, `{"allowed":"true","code":"ALLOW"}`, `<html>`, `{}x`, `[]`, "\xff",
		`{"status":"ok","handler":"devices/validate_batch","decisions":[{"deviceId":"a","allowed":true,"code":"ALLOW"}],"request_id":"the-request"}`,
		`{"status":"ok","handler":"devices/revoke","revoked":true,"request_id":"the-request"}`, `{"status":"ok","handler":"devices/revoke","revoked":true,"request_id":"another"}`,
		`{"all\u006fwed":true,"code":"ALLOW","handler":"devices/validate","deviceId":"\u0061","request_id":"the-request"}`, strings.Repeat("[", 100),
	} {
		f.Add(200, []byte(s), "a", id, "application/json", "")
		f.Add(200, []byte(s), "a", "another", "Application/json; charset=utf-8", "1")
	}
	f.Fuzz(func(t *testing.T, status int, body []byte, device, answers, kind, age string) {
		header := http.Header{"X-Request-Id": {answers}, "Content-Type": {kind}}
		if age != "" {
			header.Set("Age", age)
		}
		var theirs map[string]any
		isObject := json.Unmarshal(body, &theirs) == nil
		// proved is the answer to a call of a path, nil if that is not sure.
		proved := func(path string) *answer {
			k, a := &call{path: path, handler: path, requestID: id}, &answer{status: status, header: header, body: body}
			if k.prove(a) != nil {
				if a.object != nil {
					t.Fatalf("HTTP %d %q is not proved, and read", status, body)
				}
				return nil
			}
			if answers != id || age != "" || !strings.HasPrefix(strings.ToLower(strings.TrimSpace(kind)), "application/json") || !isObject || theirs["request_id"] != id ||
				theirs["handler"] != path && (status < 400 || theirs["handler"] != "unknown") {
				t.Fatalf("HTTP %d %q with %v is taken for an answer to %s", status, body, header, path)
			}
			return a
		}
		if a := proved(pathValidate); a != nil {
			if d, err := judgeDecision(a, device); err == nil && d.Allowed {
				if status != 200 || theirs["allowed"] != true || theirs["code"] != "ALLOW" || theirs["handler"] != pathValidate || theirs["deviceId"] != trim(device) {
					t.Fatalf("HTTP %d %q allows %q", status, body, device)
				}
			}
		}
		if a := proved(pathValidateBatch); a != nil {
			if list, err := judgeBatch(a, []string{device}); err == nil && list[0].Allowed {
				given, _ := theirs["decisions"].([]any)
				if status != 200 || theirs["handler"] != pathValidateBatch || len(given) != 1 {
					t.Fatalf("HTTP %d %q allows %q", status, body, device)
				}
				one, _ := given[0].(map[string]any)
				if one["allowed"] != true || one["code"] != "ALLOW" || one["deviceId"] != trim(device) {
					t.Fatalf("HTTP %d %q allows %q", status, body, device)
				}
			}
		}
		if a := proved("devices/revoke"); a != nil {
			if _, err := judgeSuccess(a, "devices/revoke", Object{"revoked": true}); err == nil && (status != 200 || theirs["handler"] != "devices/revoke" || theirs["revoked"] != true) {
				t.Fatalf("HTTP %d %q passes for a revoke", status, body)
			}
		}
	})
}
