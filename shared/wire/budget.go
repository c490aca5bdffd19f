package wire

import (
	"strconv"
	"time"
)

// BudgetHeader carries what is left of a request's time from hop to hop, in milliseconds. A duration and not a time of day,
// since clocks differ; what the network takes is not counted and is the caller's to allow for.
const BudgetHeader = "MachineID-Timeout-Ms"

// Headers that an edge adds to what it passes on.
const (
	EdgeHeader   = "MachineID-Edge"   // EdgeHeader carries the token of the edge's session. Only with one that is in force are the others believed.
	ClientHeader = "MachineID-Client" // ClientHeader carries the address of the edge's client.
)

// KeyOrgHeader carries, in an answer to an edge alone, the id of the org whose key the call came with, in hexadecimal digits. It goes no further.
const KeyOrgHeader = "MachineID-Key-Org"

// Headers between authority nodes.
const (
	NodeHeader      = "MachineID-Node"       // NodeHeader carries the token by which nodes of a cluster know each other, on what one hands on to the leader.
	PeerHeader      = "MachineID-Peer"       // PeerHeader carries the address that the handing node was called from.
	NoClusterHeader = "MachineID-No-Cluster" // NoClusterHeader, in an answer, says that this node is in no cluster yet: nothing was done.
	NotLeadHeader   = "MachineID-Not-Leader" // NotLeadHeader, in an answer, says that this node does not lead: nothing was done.
)

// DoubtHeader says in an answer with a backup why it may lack changes that were acknowledged before it was asked for.
const DoubtHeader = "MachineID-Doubt"

// DefaultBudget is what a request has in all: known clients give up at 10 s.
const DefaultBudget = 8 * time.Second

// Budget is what a request has left, from the value of its BudgetHeader. The header counts only if the caller is trusted
// (an edge): others get DefaultBudget, as do those that sent none. It never exceeds DefaultBudget. A trusted header that
// is no number leaves nothing: refusing is always safe, acting too late is not.
func Budget(value []byte, trusted bool) time.Duration {
	if !trusted || value == nil {
		return DefaultBudget
	}
	ms := 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0
		}
		if ms = ms*10 + int(c-'0'); ms >= int(DefaultBudget/time.Millisecond) {
			ms = int(DefaultBudget / time.Millisecond) // more digits only make it more
		}
	}
	return time.Duration(ms) * time.Millisecond
}

// AppendBudget appends the value of BudgetHeader for what is left, rounded down; nothing left is 0.
func AppendBudget(dst []byte, left time.Duration) []byte {
	return strconv.AppendInt(dst, max(left.Milliseconds(), 0), 10)
}
