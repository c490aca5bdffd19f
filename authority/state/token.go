package state

import (
	"bytes"
	"crypto/sha256"

	"machineid/authority/state/statepb"
)

// rotateToken puts another operator's token in the place of the one that it was asked with: of two at once one wins, and the
// other's token is none any more. Asked for again it changes nothing.
func (t *tx) rotateToken(c *statepb.RotateToken) Outcome {
	old := t.m.Cluster()
	switch {
	case old == nil, len(c.GetNewHash()) != sha256.Size:
		return Outcome{Refusal: TokenMoved}
	case bytes.Equal(old.GetOperatorTokenHash(), c.GetNewHash()):
		return Outcome{}
	case !bytes.Equal(old.GetOperatorTokenHash(), c.GetOldHash()):
		return Outcome{Refusal: TokenMoved}
	}
	next := clone(old) // others read the old one
	next.OperatorTokenHash = c.GetNewHash()
	t.putCluster(next)
	t.audit(OrgID{}, "operator.token_rotated", t.named(TokenID(c.GetNewHash())), Setting("operatorToken", Text(TokenID(c.GetOldHash())), Text(TokenID(c.GetNewHash()))))
	return Outcome{Changed: true}
}
