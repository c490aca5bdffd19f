//go:build unix

package cli

const forwardGo = "authority/forward.go"

// brokenFair are broken rules of I14 where one caller's work would be everybody's wait.
var brokenFair = []broken{
	{
		rule: "I14", name: "who asks for the document takes room for bodies", by: "shared/wire TestTheDocumentTakesNoRoom",
		edits: []edit{{"shared/wire/bodies.go", "if ctx.Response.IsBodyStream() || r.Route == nil {", "if ctx.Response.IsBodyStream() {"}},
	},
	{
		rule: "I14", name: "one party takes all places", by: "shared/wire TestNoPartyTakesAllPlaces",
		edits: []edit{{"shared/wire/crowd.go", "int64(max(places/2, 1))", "int64(max(places, 1))"}},
	},
	{
		rule: "I14", name: "one org's misses take all places in which validates wait", by: "edge TestNoPartyTakesAllWaitingPlaces",
		edits: []edit{{"edge/edge.go", "wire.NewCrowd(maxWaiting, 0)", "wire.NewCrowd(2*maxWaiting, 0)"}},
	},
	{
		rule: "I14", name: "each key of an org has places of its own", by: "edge TestNoPartyTakesAllWaitingPlaces",
		edits: []edit{{"edge/limits.go", "exists, got.key.org)", "exists, orgID{})"}},
	},
	{
		rule: "I14", name: "each key of an org that makes only calls has connections of its own", by: "edge TestNoPartyTakesAllConnections",
		edits: []edit{{"edge/limits.go", "said == wire.Good, org)", "said == wire.Good, orgID{})"}},
	},
	{
		rule: "I14", name: "an edge is not told whose key it is", by: "authority/api TestAnEdgeIsToldWhoseKeyItIs",
		edits: []edit{{"authority/api/api.go", "if r.byEdge && r.caller != nil {", "if r.byEdge && r.caller != nil && r.org.Version() == 0 {"}},
	},
	{
		rule: "I14", name: "a node that hands on does not say whose key it is", by: "authority TestAnEdgeIsToldWhoseKeyItIsByEveryNode",
		edits: []edit{{forwardGo, "len(org) > 0 {", "len(org) < 0 {"}},
	},
	{
		rule: "I14", name: "a call that is over keeps its connection's place", by: "edge TestNoPartyTakesAllConnections",
		edits: []edit{{"edge/proxy.go", "	defer p.crowd.Leave(who)\n", ""}},
	},
	{
		rule: "I14", name: "one org's calls take all connections to the leader", by: "authority TestNoPartyTakesAllConnectionsToTheLeader",
		edits: []edit{{"authority/authority.go", "wire.NewCrowd(forwardConns, forwardCrowd)", "wire.NewCrowd(2*forwardConns, forwardCrowd)"}},
	},
	{
		rule: "I14", name: "all keys that are dead for long go with one command", by: "authority/state TestNoCommandPaysForWhatOthersRemoved",
		edits: []edit{{"authority/state/orgkeys.go", "dead[:min(len(dead)-deadKeysMax, forgetMax)]", "dead[:len(dead)-deadKeysMax]"}},
	},
	{
		rule: "I14", name: "dead keys go with all that they asked for", by: "authority/state TestNoCommandPaysForWhatOthersRemoved",
		edits: []edit{{"authority/state/orgkeys.go", "i > 0 && next-first > left {", "i > 0 && first > next {"}},
	},
	{
		rule: "I14", name: "the keys of a deleted org go with one command", by: "authority/state TestNoCommandPaysForWhatOthersRemoved",
		edits: []edit{{"authority/state/gone.go", "range ring[:min(len(ring), left)] {", "range ring {"}},
	},
	{
		rule: "I9", name: "a decision waits for its party's others for longer than its time", by: "edge TestADecisionEndsInTime",
		edits: []edit{{"edge/proxy.go", "p.crowd.EnterWithin(who, leftOf(r))", "p.crowd.Enter(who)"}},
	},
	{
		rule: "I2", name: "a node that comes to lead begins anew what may have been done", by: "authority TestANodeThatComesToLead",
		edits: []edit{{forwardGo, "		case l == nil && !lost:\n", "		case l == nil:\n"}},
	},
	{
		rule: "I14", name: "what a node sends to itself stays open", by: "authority TestANodeThatComesToLead",
		edits: []edit{{forwardGo, "			defer l.hop.Break()\n", ""}},
	},
	{
		rule: "I14", name: "a stop waits for an earlier leader", by: "authority TestAnEarlierLeaderIsWaitedForWhileItAnswers",
		edits: []edit{{"authority/peers.go", "			case <-k.over:\n				return\n", ""}},
	},
	{
		rule: "I14", name: "small changes go in the order of the calls, whose ever they are", by: "raftstore TestPackerTurns",
		edits: []edit{{"raftstore/party.go", "	l.turns.MoveToBack(pr.party.queues[pr.lane].turn)\n", ""}},
	},
	{
		rule: "I14", name: "one party's changes take all the room", by: "raftstore TestPackerRoomOfOneParty",
		edits: []edit{{"raftstore/party.go", "of.bytes[at]+n > r.maxBytes/partyShare {", "of.bytes[at]+n > r.maxBytes {"}},
	},
	{
		rule: "I14", name: "changes are nobody's in particular", by: "authority TestTreated",
		edits: []edit{{"authority/authority.go", ", For: state.For(cmd)}", "}"}},
	},
	{
		rule: "I14", name: "large commands rest for as long as they took, whatever that is", by: "raftstore TestPackerRestsAfterLargeCommands",
		edits: []edit{{"raftstore/packer.go", "min(2*took, largeRest)", "2*took"}},
	},
	{
		rule: "I14", name: "large commands always rest as long", by: "raftstore TestPackerRestsAfterLargeCommands",
		edits: []edit{{"raftstore/packer.go", "min(2*took, largeRest)", "largeRest + 0*took"}},
	},
	{
		rule: "I14", name: "who revokes without end takes what is left of the disk", by: "raftstore TestAFloodOnAFullDisk",
		edits: []edit{{"raftstore/propose.go", "		return s.space.spend(o.For, bytes+proposalOverhead)\n", "		return spending{}, nil\n"}},
	},
	{
		rule: "I14", name: "what leading depends on has no room of its own on the disk", by: "raftstore TestAFloodOnAFullDisk",
		edits: []edit{{"raftstore/propose.go", "	case o.Urgent:\n		return spending{}, nil\n", ""}},
	},
	{
		rule: "I14", name: "one org's revokes take all that others may of a full disk", by: "raftstore TestAFloodOnAFullDiskLeavesOthersRoom",
		edits: []edit{{"raftstore/allowance.go", "if n > a.left || of != (Party{}) && a.spent[of]+n > a.left-n {", "if n > a.left {"}},
	},
	{
		rule: "I14", name: "one org's revokes take half of a full disk after each look", by: "raftstore TestAllowance",
		edits: []edit{{"raftstore/allowance.go", "	if anew || a.spent == nil {\n", "	if anew = true; anew || a.spent == nil {\n"}},
	},
	{
		rule: "I14", name: "what comes back of a disk is still counted as taken", by: "raftstore TestAllowance",
		edits: []edit{{"raftstore/allowance.go", "	if total <= gone {\n", "	if gone >= 0 || total <= gone {\n"}},
	},
	{
		rule: "I14", name: "what was not sent takes room of a full disk", by: "raftstore TestWhatIsNotSentTakesNoRoom",
		edits: []edit{{"raftstore/propose.go", "if !Unknown(err) && taken.bytes > 0 {", "if Unknown(err) && taken.bytes > 0 {"}},
	},
	{
		rule: "I14", name: "what an operator asks of an org takes the org's share", by: "authority/state TestFor",
		edits: []edit{{"authority/state/commands.go", "len(token) >= len(OrgID{}) {", "len(token) < 0 {"}},
	},
	{
		rule: "I14", name: "each address of a host is a party of its own", by: "authority/state TestFor",
		edits: []edit{{"authority/state/commands.go", "budget.SiteBits", "128"}},
	},
	{
		rule: "I14", name: "a try to make the ballast takes what is left from the off switch", by: "raftstore TestAFullDiskThatIsMetAgain",
		edits: []edit{{"raftstore/space.go", "known := !anew && s.ballast.size.Load() == 0", "known := !anew && s.ballast.size.Load() < 0"}},
	},
	{
		rule: "I14", name: "what is under way takes no room of the disk", by: "raftstore TestWhatIsSpared",
		edits: []edit{{"raftstore/space.go", "		left -= diskBytes * int64(s.pending())\n", ""}},
	},
	{
		rule: "I2", name: "what is sent over a connection that has ended is not known", by: "authority TestALeaderThatIsStartedAnew",
		edits: []edit{{"shared/wire/hop.go", "	if c.used && gone(c.Conn) {\n", "	if c.used && gone(c.Conn) && c.h == nil {\n"}},
	},
	{
		rule: "I14", name: "an edge asks without end", by: "authority/hub TestAnEdgeThatAsksWithoutEnd",
		edits: []edit{{"authority/hub/work.go", "	for wait > 0 {\n", "	for wait < 0 {\n"}},
	},
	{
		rule: "I14", name: "one session's fetches are read ahead of all others'", by: "authority/hub TestReadingGoesRound",
		edits: []edit{{"authority/hub/work.go", "semaphore.NewWeighted(w.ofOne)", "semaphore.NewWeighted(workersMax)"}},
	},
	{
		rule: "I14", name: "a session has any number of workers", by: "authority/hub TestWorkersAreBounded",
		edits: []edit{{"authority/hub/workers.go", "	case w.n < workersMax:\n", "	case w.n >= 0:\n"}},
	},
	{
		rule: "I14", name: "the slot of an overtaken Hello is lost", by: "authority/hub TestSlotsComeBack",
		edits: []edit{{hubServe, "	if h.overtaken(hello) {\n		r.freeSlot(slot)\n", "	if h.overtaken(hello) {\n"}},
	},
	{
		rule: "I14", name: "the slot of a Hello is lost that comes while the time cannot be told", by: "authority/hub TestSlotsComeBack",
		edits: []edit{{hubServe, "!h.horizon.welcomed(s.leaseEnd) {\n		r.freeSlot(slot)\n", "!h.horizon.welcomed(s.leaseEnd) {\n"}},
	},
	{
		rule: "I14", name: "next sessions are bounded by memory alone", by: "authority/hub TestRoomForTheNextSession",
		edits: []edit{{hubServe, "		return r.taken() < 2*h.cfg.Limits.Edges\n", "		return true\n"}},
	},
	{
		rule: "I14", name: "a connection stays whose edge does not read", by: "authority/hub TestAConnectionIsCut",
		edits: []edit{{hubServe, "	case s.deaf.Load(), s.sending.Load():\n", "	case s.deaf.Load():\n"}},
	},
	{
		rule: "I14", name: "a connection stays whose edge was refused", by: "authority/hub TestAConnectionIsCut",
		edits: []edit{{hubServe, "	case s.refused.Load():\n		h.conns.cutSoon(address)\n", ""}},
	},
	{
		rule: "I14", name: "why a stream has ended is not asked", by: "authority/hub TestAConnectionIsCut",
		edits: []edit{{hubServe, "	if ctx.Err() != nil && in.over.Err() == nil {\n", "	if ctx.Err() != nil {\n"}},
	},
	{
		rule: "I14", name: "a connection stays whose first frame was refused", by: "authority/hub TestAConnectionIsCut",
		edits: []edit{{"authority/hub/hello.go", "		if h.unread(err) {\n			h.conns.cutSoon(address)\n", "		if h.unread(err) {\n"}},
	},
	{
		rule: "I14", name: "a connection stays that brings no Hello", by: "authority/hub TestAConnectionIsCut",
		edits: []edit{{"authority/hub/hello.go", "		h.metrics.refused[refusedLate].Inc()\n		h.conns.cutSoon(address)\n", "		h.metrics.refused[refusedLate].Inc()\n"}},
	},
	{
		rule: "I14", name: "a directory stays as large as it was", by: "authority/hub TestTheDirectoryShrinks",
		edits: []edit{{"authority/hub/reign.go", "		r.directory.shrink(n)\n", ""}},
	},
	{
		rule: "I14", name: "what has lapsed is taken over", by: "authority/hub TestTakeOverLeavesWhatHasLapsed",
		edits: []edit{{hubSession, "bool { return !ch.handOver(old, s) })\n", "bool { ch.handOver(old, s); return false })\n"}},
	},
	{
		rule: "I14", name: "all that edges ask is read at once", by: "authority/hub TestReadingGoesRound",
		edits: []edit{{"authority/hub/work.go", "reading: semaphore.NewWeighted(reads),", "reading: semaphore.NewWeighted(reads + fetchMax),"}},
	},
	{
		rule: "I14", name: "a frame's fetches are read in one go", by: "authority/hub TestReadingGoesRound",
		edits: []edit{{"authority/hub/work.go", "slices.Chunk(list, readSlice)", "slices.Chunk(list, max(len(list), readSlice))"}},
	},
}
