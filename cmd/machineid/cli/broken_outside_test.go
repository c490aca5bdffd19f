//go:build unix

package cli

const spoolGo = "shared/spool/spool.go"

// brokenOutside are broken rules of I14: nothing outside stops the switch, and no caller another.
var brokenOutside = []broken{
	{
		rule: "I14", name: "what is left of a deleted org is looked for from its beginning", by: "authority/state TestNoCommandPaysForWhatOthersRemoved",
		edits: []edit{{"authority/state/gone.go", "	if r.from != nil {\n		return r.from\n	}\n	return key\n", "	return key\n"}},
	},
	{
		rule: "I14", name: "queues are looked through from their beginning", by: "authority/state TestNoCommandPaysForWhatOthersRemoved",
		edits: []edit{{"authority/state/queues.go", "h[key[0]] = key }", "h[key[0]] = key[:1] }"}},
	},
	{
		rule: "I14", name: "devices that have ended are counted with each command", by: "authority/state TestNoCommandPaysForWhatOthersRemoved",
		edits: []edit{{"authority/state/ended.go", "		t.m.recent.keepEnded(id, e)\n", ""}},
	},
	{
		rule: "I14", name: "two large commands are under way at once", by: "raftstore TestPackerLargeCommands",
		edits: []edit{{"raftstore/packer.go", "p.resting = p.resting || lane == laneLarge && len(pack) > had", "p.resting = p.resting && len(pack) > had"}},
	},
	{
		rule: "I14", name: "batches of devices are no large commands", by: "authority/state TestLarge",
		edits: []edit{{"authority/state/commands.go", "		return many(c.RevokeBatch)\n", "		return false\n"}},
	},
	{
		rule: "I14", name: "the log's memtables take the room of the state's blocks", by: "raftstore TestBlocksKeepTheirRoom",
		edits: []edit{{"raftstore/pebble.go", "pebble.NewCache(cfg.CacheBytes + 2*2*stateMemTableBytes)", "pebble.NewCache(cfg.CacheBytes)"}},
	},
	{
		rule: "I14", name: "one org's bodies take all the room", by: "shared/wire TestStrangersTakeNoRoomFromTheKnown",
		edits: []edit{{"shared/wire/bodies.go", "has+n > p.most/partyShare {", "has+n > p.most {"}},
	},
	{
		rule: "I14", name: "what is sent after the last answer is read for ever", by: "shared/wire TestLeavingHasAnEnd",
		edits: []edit{{"shared/wire/conn.go", "for left := leaveMost; left > 0; {", "for left := leaveMost; left != 1; {"}},
	},
	{
		rule: "I14", name: "a wrong operator's token costs nothing where it is a decision", by: "edge TestOperatorsValidates",
		edits: []edit{{"edge/proxy.go", "		status = fasthttp.StatusUnauthorized //", "		_ = fasthttp.StatusUnauthorized //"}},
	},
	{
		rule: "I14", name: "an org has any number of long reads", by: "authority/api TestTurnsAreBounded",
		edits: []edit{{"authority/api/turns.go", "l != nil && l.inside >= readsOfOne:", "l != nil && l.inside >= readsAll:"}},
	},
	{
		rule: "I14", name: "long reads take a whole core", by: "authority/api TestTurnsGoRound",
		edits: []edit{{"authority/api/turns.go", "time.AfterFunc(min(restShare*had, restMost), func() {", "time.AfterFunc(0*had, func() {"}},
	},
	{
		rule: "I14", name: "a turn lasts as long as its records take", by: "authority/api TestATurnEnds",
		edits: []edit{{"authority/api/turns.go", "had < sliceTime && rd.records < sliceRecords", "rd.records < sliceRecords"}},
	},
	{
		rule: "I14", name: "a short read does not rest", by: "authority/api TestAShortReadRests",
		edits: []edit{{"authority/api/turns.go", "t.rest(time.Since(rd.began))", "t.free++"}},
	},
	{
		rule: "I14", name: "many orgs have any number of long reads", by: "authority/api TestLongReadsAreBoundedInAll",
		edits: []edit{{"authority/api/turns.go", "t.all >= readsAll", "t.all < 0"}},
	},
	{
		rule: "I14", name: "what a scan visits is not counted", by: "authority/state TestPaced",
		edits: []edit{{"authority/state/read.go", "; ok = it.Next() {\n		if err := r.record(); err != nil {\n			return err\n		}\n", "; ok = it.Next() {\n"}},
	},
	{
		rule: "I14", name: "batches of an org are applied side by side", by: "authority/api TestBatchesOfAnOrg",
		edits: []edit{{"authority/api/settle.go", "	case *statepb.Command_RevokeBatch, *statepb.Command_UnrevokeBatch:\n", "	case nil:\n"}},
	},
	{
		rule: "I14", name: "a frame is decoded whatever it holds", by: "shared/link TestARefusedFrameTakesNothing",
		edits: []edit{{"shared/link/codec.go", "	if err := check(m.ProtoReflect().Descriptor().FullName(), b.ReadOnlyData()); err != nil {\n		return err\n	}\n", ""}},
	},
	{
		rule: "I14", name: "an edge that acknowledges nothing keeps its session", by: "authority/hub TestAMuteEdgeIsEnded",
		edits: []edit{{"authority/hub/change.go", "			if s.lapse(ch, now) {\n", "			if s.lapse(ch, now) && ch.index == 0 {\n"}},
	},
	{
		rule: "I14", name: "what waits for a session no more is kept with it", by: "authority/hub TestAMuteEdgeIsEnded",
		edits: []edit{{hubSession, "	if !found {\n		return false\n	}\n	if at == 0 {\n", "	if !found || len(s.waits) > 0 {\n		return false\n	}\n	if at == 0 {\n"}},
	},
	{
		rule: "I14", name: "time is reserved behind whoever fills the queue", by: "authority TestTimeIsReservedWhileTheQueueIsFull",
		edits: []edit{{"authority/authority.go", ", Urgent: state.Leads(cmd),", ","}},
	},
	{
		rule: "I14", name: "one address takes the place of all others", by: "authority/hub TestLimitsHold",
		edits: []edit{{hubServe, " && r.hosts.room(host, h.cfg.Limits.PerAddress, h.cfg.Limits.Edges)\n", "\n"}},
	},
	{
		rule: "I14", name: "one site takes the place of all others", by: "authority/hub TestASiteIsBounded",
		edits: []edit{{hubLimits, "(site == host || t[site] < budget.Site(perHost, all))", "site != \"\""}},
	},
	{
		rule: "I14", name: "connections to the link have no bound in all", by: "authority/hub TestConnectionsAreBoundedInAll",
		edits: []edit{{hubLimits, "len(c.at) >= spare*l.Edges || ", ""}},
	},
	{
		rule: "I14", name: "one site takes all connections", by: "shared/listener TestASiteIsBounded",
		edits: []edit{{"shared/listener/listener.go", "			bound = budget.Site(bound, l.opts.Max)\n", "			bound = 0\n"}},
	},
	{
		rule: "I14", name: "an answer waits for the next request's body", by: "shared/wire TestClock",
		edits: []edit{{"shared/wire/server.go", "c.outbox.follows = c.opening.lost", "c.outbox.follows = false"}},
	},
	{
		rule: "I14", name: "a part of a head keeps a connection for as long as it idles", by: "shared/wire TestClock",
		edits: []edit{{"shared/wire/server.go", "			c.active()\n", "			_ = c.active\n"}},
	},
	{
		rule: "I14", name: "a hit waits for the miss behind it", by: "edge TestAHitDoesNotWaitForAMiss",
		edits: []edit{{"edge/validate.go", "			wire.Waits(ctx)\n", ""}},
	},
	{
		rule: "I14", name: "whoever logs waits for who reads", by: "shared/spool TestAStalledStreamHoldsNobody", short: true,
		edits: []edit{{spoolGo, "		go w.drain(w.idle)\n", "		w.mu.Unlock()\n		w.drain(w.idle)\n		w.mu.Lock()\n"}},
	},
	{
		rule: "I14", name: "the log that waits has no bound", by: "shared/spool TestAStalledStreamHoldsNobody",
		edits: []edit{{spoolGo, "len(w.queue)+len(p) > Room {", "len(w.queue) < 0 {"}},
	},
	{
		rule: "I14", name: "a reader of the log that dies ends the process", by: "cmd/machineid/cli TestALogReaderThatDies",
		edits: []edit{{"cmd/machineid/cli/serve.go", "	signal.Ignore(syscall.SIGPIPE)\n", ""}},
	},
	{
		rule: "I14", name: "a stop waits for what hangs", by: "cmd/machineid/cli TestAStopThatHangs",
		edits: []edit{{"cmd/machineid/cli/serve.go", "		os.Exit(exitStuck)\n", "		<-returned\n"}},
	},
	{
		rule: "I2", name: "what an operator did late is done again", by: "authority/api TestIdempotencyKeyOfTheOperator", short: true,
		edits: []edit{{"authority/api/once.go", "r.caller == nil && !r.onBehalf()", "r.caller == nil"}},
	},
	{
		rule: "I2", name: "an end of access that has not come is sent again", by: "cmd/machineid/cli TestWhatIsTriedAgain",
		edits: []edit{{"cmd/machineid/cli/client.go", "err != nil || at.After(time.Now()) {", "err != nil || at.IsZero() {"}},
	},
	{
		rule: "I2", name: "the attempts of one change go by several names", by: "cmd/machineid/cli TestWhatIsTriedAgain",
		edits: []edit{{"cmd/machineid/cli/client.go", "(\"Idempotency-Key\", a.key)", "(\"Idempotency-Key\", rand.Text())"}},
	},
	{
		rule: "I14", name: "a caller waits for a leader that hangs", by: "authority TestAnEarlierLeaderIsWaitedForWhileItAnswers",
		edits: []edit{{"authority/peers.go", "&& k.answers(ctx, old.id) {", "&& (k.answers(ctx, old.id) || ctx.Err() == nil) {"}},
	},
	{
		rule: "I14", name: "an address that does not answer takes the time of the next", by: "shared/dial TestNoAddressTakesTheTimeOfTheOthers",
		edits: []edit{{"shared/dial/dial.go", "				next.Reset(stagger)\n", "				next.Reset(most)\n"}},
	},
	{
		rule: "I14", name: "a voter waits for a snapshot of a host that has vanished", by: "raftstore TestAVoterInASnapshotVotes",
		edits: []edit{{"raftstore/pace.go", "if silent >= c.pace.silence || looked", "if looked"}, {"raftstore/pace.go", "		silent++\n", ""}, {"raftstore/pace.go", "heard, silent = now, 0", "heard = now"}, {"raftstore/pace.go", "heard, silent := c.pace.heard(), 0", "heard := c.pace.heard()"}},
	},
	{
		rule: "I2", name: "an empty name of a change counts as none", by: "authority/api TestIdempotencyKeyForms",
		edits: []edit{{"authority/api/once.go", "if r.http.IsGet() || key == nil {", "if r.http.IsGet() || len(key) == 0 {"}},
	},
	{
		rule: "I11", name: "an end is taken that no answer can tell", by: "shared/timestamp TestParse",
		edits: []edit{{"shared/timestamp/timestamp.go", "ms < Min || ms > Max {", "ms < Min {"}},
	},
	{
		rule: "I14", name: "whoever renames again and again fills the audit", by: "authority/state TestAuditIsBounded",
		edits: []edit{{"authority/state/audit.go", "	if w.GetEntries() < most {\n", "	if w.GetEntries() < most<<20 {\n"}},
	},
	{
		rule: "I14", name: "an agent whose devices end and come anew fills the audit", by: "authority/state TestAnAgentsAuditIsBounded",
		edits: []edit{{"authority/state/audit.go", "	if t.bounded() {\n", "	if t.dry && t.bounded() {\n"}},
	},
	{
		rule: "I14", name: "what bounds an agent bounds an admin", by: "authority/state TestAnAgentsAuditIsBounded",
		edits: []edit{{"authority/state/audit.go", " && t.cmd.GetCaller() != nil && t.scope != statepb.Key_ADMIN\n", " && t.cmd.GetCaller() != nil\n"}},
	},
	{
		rule: "I14", name: "a flood of names leaves out ends", by: "authority/state TestAuditIsBounded",
		edits: []edit{{"authority/state/commands.go", "t.auditSome(endKind(before, out.Device), ", "t.auditSome(describes, "}},
	},
	{
		rule: "I2", name: "what was asked for with a token that was rotated is done", by: "authority/state TestOperatorIsJudgedAgain",
		edits: []edit{{"authority/state/once.go", "if shown := t.cmd.GetOperatorHash(); len(shown) > 0 &&", "if shown := t.cmd.GetOperatorHash(); len(shown) > 64 &&"}},
	},
	{
		rule: "I2", name: "a node is removed with a token that was rotated", by: "authority/api TestARotatedTokenChangesNothing",
		edits: []edit{{"authority/api/cluster.go", "		if err := r.judgedAgain(ctx); err != nil {\n			return nil, err\n		}\n", ""}},
	},
}
