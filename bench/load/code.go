package load

import (
	"strconv"
	"sync"

	"machineid/shared/decision"
)

// Code is what became of a request: a decision, the error that an answer names, or why there was no answer. Decisions are their own
// numbers; the others are numbered as they appear.
type Code uint16

// Codes that this package gives.
const (
	codeOK       Code = Code(decision.Allow) + 1 + iota // a call other than validate succeeded
	codeNotSent                                         // it was due and no connection became free before the end
	codeTimeout                                         // no answer within the timeout
	codeRefused                                         // nobody listens there
	codeNoDial                                          // no connection for another reason
	codeLost                                            // the connection ended before the answer
	codeNoAnswer                                        // what came is no answer of this API
	ownCodes
)

// allow is short for the one permission.
const allow = Code(decision.Allow)

// names of codes, those of this package and those that answers brought. It grows with what servers send, so it is bounded.
var names = struct {
	sync.RWMutex
	list []string
	by   map[string]Code
}{by: map[string]Code{}}

const maxCodes = 200

func init() {
	names.list = make([]string, ownCodes)
	for _, c := range decision.Codes() {
		names.list[c] = c.String()
	}
	for c, name := range map[Code]string{
		codeOK: "ok", codeNotSent: "not_sent", codeTimeout: "timeout", codeRefused: "connection_refused", codeNoDial: "no_connection",
		codeLost: "connection_lost", codeNoAnswer: "no_answer_of_this_api",
	} {
		names.list[c] = name
	}
	for c, name := range names.list {
		names.by[name] = Code(c)
	}
}

// String is the name in reports.
func (c Code) String() string {
	names.RLock()
	defer names.RUnlock()
	if int(c) >= len(names.list) {
		return "code_" + strconv.Itoa(int(c))
	}
	return names.list[c]
}

// named returns the code of a name.
func named(name []byte) Code {
	switch string(name) { // what nearly every answer says, without a lock
	case "ALLOW":
		return allow
	case "DEVICE_REVOKED":
		return Code(decision.DeviceRevoked)
	case "DEVICE_NOT_FOUND":
		return Code(decision.DeviceNotFound)
	}
	names.RLock()
	c, known := names.by[string(name)]
	names.RUnlock()
	if known {
		return c
	}
	names.Lock()
	defer names.Unlock()
	if c, known = names.by[string(name)]; known {
		return c
	}
	if len(names.list) >= maxCodes {
		return codeNoAnswer
	}
	c = Code(len(names.list))
	names.list = append(names.list, string(name))
	names.by[string(name)] = c
	return c
}
