package api

import (
	"testing"

	"machineid/authority/state/statepb"
)

// TestWhatAgentsCanChange: whoever carries an agent's key may flood whatever it reaches, so each such call must be one whose entries in the audit are bounded. What is
// added here has a flood of its own in authority/state: TestAnAgentsAuditIsBounded.
func TestWhatAgentsCanChange(t *testing.T) {
	bounded := map[string]bool{"devices/register": true}
	for path, c := range calls {
		scopes, ok := c.access.(keyed)
		if !ok {
			continue // no key
		}
		for scope := range scopes {
			if scope != statepb.Key_ADMIN && !bounded[path] {
				t.Errorf("%s is open to a key of scope %v, and nothing bounds what that writes into the audit", path, scope)
			}
		}
	}
}
