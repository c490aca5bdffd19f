package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// speaksHTTP finds what only those who make calls know: methods, headers, paths, members of bodies.
var speaksHTTP = regexp.MustCompile(`\b(GET|POST|PUT|PATCH|DELETE|HTTP)\b|Retry-After|Idempotency-Key|Authorization|X-MachineID-Org|header|\bsend\b|JSON|query string|` +
	`\b(devices|org|orgs|operator|billing)/[a-z]|planTier|accessUntil|graceSeconds|graceDays|keyId|deviceIds?\b|expiresAt|externalId|ttlSeconds`)

// notAsked are messages of calls that no command makes, or about what no command sends, by a part of them.
var notAsked = []string{
	"x-org-key", "nextCursor", "sign", "the plan pro", "ttlSeconds", "metadata", "stands behind the #", "the address with which the org pays", "of a propagation", "no change has this index",
	"ask for another with org/recover", "Idempotency-Key is malformed", "scope is none that this call knows", "send either deviceIds", "enabled is missing", "deviceId is missing", "pro is missing",
	"plan is missing", "token is missing", "ask in several calls", "is no string", "is no integer", "is neither true nor false", "is no object", "is no array", "is no valid JSON object", "the body cannot be read",
	"deviceIds is missing or empty", "is larger than ", "redirect", "Method", "Content-",
	"billing/checkout", "has made a key",
}

// TestMessagesAreInCommands: whatever the API says, the command line says it in commands and flags.
func TestMessagesAreInCommands(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, pattern := range []string{"../../../authority/api/*.go", "../../../shared/wire/errors.go", "../../../shared/wire/bodies.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				lit, ok := n.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					return true
				}
				text, err := strconv.Unquote(lit.Value)
				if err != nil || !strings.Contains(text, ": ") || strings.Count(text, " ") < 4 || strings.Contains(text, "%") {
					return true // no message for people
				}
				for _, part := range notAsked {
					if strings.Contains(text, part) {
						return true
					}
				}
				seen++
				for _, path := range []string{"operator/orgs/x", "org/keys"} {
					e := &refusedError{status: 400, Message: text, Param: strings.Fields(text)[0], Path: path, Code: "missing_params"}
					if strings.Contains(text, "the system cannot answer") {
						e.Code, e.Outcome = "system_unavailable", "unknown"
					}
					if said := e.Error(); speaksHTTP.MatchString(said) {
						t.Errorf("%s: %q is said as %q: %q", file, text, said, speaksHTTP.FindString(said))
					}
				}
				return true
			})
		}
	}
	if seen < 30 {
		t.Errorf("only %d messages were looked at", seen)
	}
}
