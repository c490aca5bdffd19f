package api_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

// TestRotateOperatorToken: the new token is good and the old one is not, at once; what is logged and kept holds neither.
func TestRotateOperatorToken(t *testing.T) {
	n := start(t)
	n.held.all = true
	next := strings.Repeat("New~", 10)
	for _, bad := range []string{`{}`, `{"token":7}`, `{"token":"` + next[:31] + `"}`, `{"token":"` + strings.Repeat("x", 257) + `"}`, `{"token":"` + next + ` x"}`, `{"token":"` + next + `é"}`} {
		n.operate("POST", "token/rotate", bad).want(400, `"param":"token"`)
	}
	as := func(token, path, body string) *answer {
		method := "POST"
		if body == "" {
			method = "GET"
		}
		return n.do(method, "operator/"+path, body, "Authorization: Bearer "+token)
	}
	as("x"+operatorToken, "token/rotate", `{"token":"`+next+`"}`).want(401, "invalid_operator_token")
	as(operatorToken, "token/rotate", `{"token":"`+next+`"}`).want(200, `"changed":true`)
	raw, err := proto.Marshal(n.store.lastCommand())
	if err != nil || strings.Contains(string(raw), next) || strings.Contains(string(raw), operatorToken) || strings.Contains(n.log.String(), next) {
		t.Errorf("a token is in the log: %v", err)
	}
	as(operatorToken, "orgs", "").want(401)
	as(operatorToken, "token/rotate", `{"token":"`+next+`"}`).want(401)
	as(next, "orgs", "").want(200)
	as(next, "token/rotate", `{"token":"`+next+`"}`).want(200, `"changed":false`)
	as(next, "audit?limit=1", "").want(200, `"action":"operator.token_rotated","actor":{"type":"operator","id":"`+operatorID+`"}`, `"before":{"operatorToken":"`+operatorID+`"}`)
	n.held.mutate(t)
}
