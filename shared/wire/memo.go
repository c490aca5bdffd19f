package wire

import (
	"bytes"

	"github.com/valyala/fasthttp"

	"machineid/shared/orgkey"
)

// memoMax is the largest head that a connection remembers, in bytes.
const memoMax = 1 << 10

// headMemo is the last head of a connection with what was found out about it. An agent that asks again on its connection sends
// the same bytes again: comparing them costs a tenth of judging them and of hashing the key. It holds nothing that the
// connection's own read buffer does not hold, and ends with the connection.
type headMemo struct {
	raw   []byte
	head  Head // points into raw
	fault error

	keyed  bool
	sum    orgkey.Hash
	keyErr error
}

// judge is CheckHead, but for a head that is the same as the last.
func (m *headMemo) judge(raw []byte) error {
	if len(raw) != 0 && bytes.Equal(raw, m.raw) {
		return m.fault
	}
	m.keyed = false
	if len(raw) > memoMax {
		m.raw = m.raw[:0]
		m.fault = CheckHead(raw, &m.head)
		return m.fault
	}
	m.raw = append(m.raw[:0], raw...)
	m.fault = CheckHead(m.raw, &m.head)
	return m.fault
}

// key returns the hash of the org key, or none and what is wrong with its form.
func (m *headMemo) key() (orgkey.Hash, error) {
	if !m.keyed {
		key := Trim(m.head.OrgKey)
		m.keyed, m.keyErr, m.sum = true, orgkey.Check(key), orgkey.Hash{}
		if m.keyErr == nil {
			m.sum = orgkey.Sum(key)
		}
	}
	return m.sum, m.keyErr
}

// memoOf is the memo of the request's connection, or own where it is served without a listener of ours.
func memoOf(ctx *fasthttp.RequestCtx, own *headMemo) *headMemo {
	if c, ok := ctx.Conn().(*conn); ok {
		return &c.memo
	}
	own.raw = own.raw[:0]
	return own
}
