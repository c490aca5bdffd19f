//go:build unix

package cli

// The files that most edits are in.
const (
	edgeLink     = "edge/link.go"
	edgeMemory   = "edge/memory.go"
	edgeSession  = "edge/session.go"
	edgeTime     = "edge/time.go"
	edgeValidate = "edge/validate.go"
	hubFetch     = "authority/hub/fetch.go"
	hubHistory   = "authority/hub/history.go"
	hubHandover  = "authority/hub/handover.go"
	hubHorizon   = "authority/hub/horizon.go"
	hubReign     = "authority/hub/reign.go"
	hubServe     = "authority/hub/serve.go"
	hubLimits    = "authority/hub/limits.go"
	hubSession   = "authority/hub/session.go"
	timekeeper   = "authority/timekeeper.go"
)

// The stalls.
var (
	dispatchStalls = edit{"authority/hub/hub.go", "	ch := newChange(n.index, h.cfg.Clock.Now())\n", `	if len(n.concerns) > 0 {
		<-time.After(20 * time.Millisecond)
	}
	ch := newChange(n.index, h.cfg.Clock.Now())
`}
	recallReads = "	if now >= clock.Time(e.lease.Load()) {\n		return 0\n	}\n	m := e.memory.Load()\n" +
		"	code, _ := m.judge(q, now, e.time.at(now), nil)\n	return code\n"
	fetchNotes = `	for i, f := range list {
		if orgs[i] != (state.OrgID{}) {
			note(s, &hasher, orgs[i], f.GetDeviceId())
		}
	}
`
	fetchReads  = "	if err == nil {\n		err = h.look(func(rd state.Reader, index uint64) error {\n"
	fetchEnds   = "	if err != nil {\n		h.say(ctx, slog.LevelWarn, s, \"fetches not answered\""
	fetchStalls = []edit{
		{hubFetch, "	\"log/slog\"\n", "	\"log/slog\"\n	\"time\"\n"},
		{hubFetch, fetchEnds, "	<-time.After(50 * time.Millisecond)\n" + fetchEnds},
	}
	judgesByItsOwn = edit{"authority/time.go", "func (n *Node) Now() int64 { return max(n.hub.Told(), n.begins.Latest()) }", "func (n *Node) Now() int64 { return n.time() }"}
	neverCleared   = edit{edgeLink, "		l.e.caches.clear()\n", ""}
)

// brokenRules are tried one after the other.
var brokenRules = []broken{
	{
		rule: "I1.1", name: "a lease counts from the renewal and not from the proof", by: "authority/hub TestGrantsCountFromTheProof",
		edits: []edit{{hubSession, "left := min(t.Lease, t.Lease-received.Sub(proof))", "left := t.Lease"}},
	},
	{
		rule: "I1.2", name: "a lease that is booked late is longer than a lease", by: "authority/hub TestAGrantIsNeverMoreThanALease",
		edits: []edit{{hubSession, "left := min(t.Lease, t.Lease-received.Sub(proof))", "left := t.Lease - received.Sub(proof)"}},
	},
	{
		rule: "I1.2", name: "a Hello is not booked", by: "authority/hub TestHelloIsBookedAsAFullLease",
		edits: []edit{{hubServe, "leaseEnd: max(now.Add(h.cfg.Times.Stretched()), r.inheritedEnd),", "leaseEnd: now,"}},
	},
	{
		rule: "I1.2", name: "a lease is booked without the stretch", by: "authority/hub TestGrantsCountFromTheProof",
		edits: []edit{{hubSession, "s.leaseEnd = max(s.leaseEnd, proof.Add(t.Stretched()))", "s.leaseEnd = max(s.leaseEnd, proof.Add(t.Lease))"}},
	},
	{
		rule: "I1.3", name: "a lease counts from its grant and not from when it was asked for", by: "edge TestALeaseCountsFromWhenItWasAsked",
		edits: []edit{{edgeSession, "until := g.GetAskedAtNs() + g.GetGrantedNs()", "until := int64(s.e.clock.Now()) + g.GetGrantedNs()"}},
	},
	{
		rule: "I1.3", name: "a grant of more than a lease is taken", by: "edge TestAGrantOfMoreThanALeaseIsNone",
		edits: []edit{{edgeSession, "granted > int64(min(s.lease, grantMax)) {", "granted > int64(grantMax) {"}},
	},
	{
		rule: "I1.3", name: "a grant is taken that was asked for in the future", by: "edge TestAGrantOfMoreThanALeaseIsNone",
		edits: []edit{{edgeSession, " || asked > int64(s.e.clock.Now()) || granted <= 0", " || granted <= 0"}},
	},
	{
		rule: "I1", name: "answers without a lease", by: "edge TestWithoutALeaseNothingIsAnswered", short: true,
		edits: []edit{{edgeValidate, "	if now >= clock.Time(e.lease.Load()) {\n		return 0\n", "	if e.memory.Load() == nil {\n		return 0\n"}},
	},
	{
		rule: "I1", name: "answers on waking", by: "edge TestAPausedEdgeAnswersNothingOnWaking",
		edits: []edit{{edgeValidate, "	if now >= clock.Time(e.lease.Load()) {\n		return 0\n", "	if e.memory.Load() == nil {\n		return 0\n"}},
	},
	{
		rule: "I1", name: "a question counts from its head", by: "edge TestTheClockIsReadWhenARequestIsThere",
		edits: []edit{{"shared/wire/bodies.go", "		r.Whole = time.Now() // I1\n", "		_ = time.Now()\n"}},
	},
	{
		rule: "I1", name: "answers without a lease, over a cluster",
		edits: []edit{{edgeValidate, "	if now >= clock.Time(e.lease.Load()) {\n		return 0\n", "	if e.memory.Load() == nil {\n		return 0\n"}},
	},
	{
		rule: "I1", name: "a decision of a batch that ends in a panic is a permission", by: "edge TestBatchOutlivesAPanic",
		edits: []edit{{"edge/validatebatch.go", "			code := decision.SystemUnavailable\n", "			code := decision.Allow\n"}},
	},
	{
		rule: "I2", name: "a call is carried out whose connection a stop has ended", by: "shared/wire TestWhatIsCutIsNotServed",
		edits: []edit{{"shared/wire/server.go", "	if timed && !c.begin() {\n", "	if timed && !c.begin() && r == nil {\n"}},
	},
	{
		rule: "I2", name: "a change does not wait",
		edits: []edit{{"authority/hub/change.go", "	if err := wait(ctx, older); err != nil {", "	if err := wait(ctx, older[:0]); err != nil {"}},
	},
	{
		rule: "I2", name: "a call that changes nothing returns at once",
		edits: []edit{{"authority/api/settle.go", "	p, err := r.api.cfg.Hub.Settle(ctx, index)\n", `	var p hub.Propagation
	if out.Changed {
		p, err = r.api.cfg.Hub.Settle(ctx, index)
	}
`}},
	},
	{
		rule: "I2", name: "a look does not wait",
		edits: []edit{{"authority/api/settle.go", "	if !settle || s.orgID == (state.OrgID{}) && !s.everyone {", "	if !settle || s.orgID != (state.OrgID{}) && !s.everyone {"}},
	},
	{
		rule: "I2", name: "what billing saw is told at once", by: "authority/api TestNothingIsToldTooEarly",
		edits: []edit{{"authority/api/billing.go", "		l.r.saw = max(l.r.saw, s.mark.Index)\n", ""}},
	},
	{
		rule: "I2", name: "the plans are told at once", by: "authority/api TestNothingIsToldTooEarly",
		edits: []edit{{"authority/api/operate.go", "		s.everyone = true\n		p, err := s.Plans()\n", "		p, err := s.Plans()\n"}},
	},
	{
		rule: "I2", name: "a batch of all waits for its own changes only", by: "authority/api TestNothingIsToldTooEarly",
		edits: []edit{{
			"authority/api/batch.go", "	if err := r.settleOrg(ctx, &sum.propagation, sum.propagation.Index, wire.OutcomeCommitted); err != nil {\n",
			"	if err := ctx.Err(); err != nil {\n",
		}},
	},
	{
		rule: "I2", name: "a change of a key waits for itself only", by: "authority/api TestNothingIsToldTooEarly",
		edits: []edit{{"authority/api/keys.go", "r.commitAmong(ctx, cmd)", "r.commit(ctx, cmd)"}},
	},
	{
		rule: "I2", name: "a seat is given on before it is free everywhere", by: "cmd/machineid/cli TestASeatIsGivenOnWhenItIsFree",
		edits: []edit{{
			"authority/api/settle.go", "	if late := r.settleOrg(ctx, &d.propagation, index, outcome); late != nil {\n",
			"	if late := ctx.Err(); late != nil && index > 0 && outcome != \"\" {\n",
		}},
	},
	{
		rule: "I2", name: "an operator is told how a plan stands at once", by: "authority/api TestNothingIsToldTooEarly",
		edits: []edit{{
			"authority/api/operate.go", "r.commitAmong(ctx, &statepb.Command{Change: &statepb.Command_UpdateOrg",
			"r.commit(ctx, &statepb.Command{Change: &statepb.Command_UpdateOrg",
		}},
	},
	{
		rule: "I2", name: "who was told is known of another reign's change", by: "authority/hub TestProgressOfAnotherReign",
		edits: []edit{{"authority/hub/progress.go", "	if ch != nil && ch.reign == r {\n", "	if ch != nil {\n"}},
	},
	{
		rule: "I2", name: "a session that broke does not count",
		edits: []edit{{hubSession, "	if s.replaced || s.returned {\n		return\n	}\n	ch.expect", "	if s.replaced || s.returned || s.broken {\n		return\n	}\n	ch.expect"}},
	},
	{
		rule: "I2", name: "what the session before owed is forgotten", by: "authority/hub TestTheSameProcessSettlesWhatItOwed",
		edits: []edit{{
			hubSession, "	s.waits = slices.DeleteFunc(waits, func(ch *change) bool { return !ch.handOver(old, s) })\n",
			"	for _, ch := range waits {\n		ch.acknowledged(old)\n	}\n",
		}},
	},
	{
		rule: "I2", name: "an acknowledgement settles its own index only", by: "authority/hub TestAStormOfChanges",
		edits: []edit{{hubSession, "s.waits[n].index <= index {", "s.waits[n].index == index {"}},
	},
	{
		rule: "I2", name: "all processes have one id", by: "edge TestARestartedEdgeRemembersNothing",
		edits: []edit{{"edge/edge.go", "	_, _ = rand.Read(e.process[:]) // never fails\n", "	_, _ = rand.Read(nil)\n"}},
	},
	{
		rule: "I3", name: "no floors, at an edge", by: "edge TestAnIdleEntryIsNoStaler",
		edits: []edit{{edgeMemory, "	if s.index < m.floor(hash).Load() {\n", "	if s.index < 0 {\n"}},
	},
	{
		rule: "I3", name: "no floors",
		edits: []edit{{edgeMemory, "	if s.index < m.floor(hash).Load() {\n", "	if s.index < 0 {\n"}},
	},
	{
		rule: "I3", name: "no floors for keys",
		edits: []edit{
			{edgeMemory, "k != nil && k.sum == q.sum && m.counts(k.stamp, k.hash, now) {", "k != nil && k.sum == q.sum {"},
			{edgeMemory, "k, ok := m.keys.Get(hash); ok && k.sum == q.sum && m.counts(k.stamp, hash, now) {", "k, ok := m.keys.Get(hash); ok && k.sum == q.sum {"},
		},
	},
	{
		rule: "I3", name: "no floors for devices asked for lately", by: "edge TestRecentIsJudged",
		edits: []edit{{edgeMemory, "d != nil && d.is(k, q.device) && m.counts(d.stamp(), hash, now) {", "d != nil && d.is(k, q.device) {"}},
	},
	{
		rule: "I3", name: "a request stalls between lease and floor", harmless: true,
		edits: []edit{{edgeValidate, recallReads, `	if now >= clock.Time(e.lease.Load()) {
		return 0
	}
	<-time.After(200 * time.Millisecond)
	m := e.memory.Load()
	code, _ := m.judge(q, now, e.time.at(now), nil)
	return code
`}},
	},
	{
		rule: "I3", name: "the floor is read before the lease",
		edits: []edit{{edgeValidate, recallReads, `	m := e.memory.Load()
	if m == nil {
		return 0
	}
	code, _ := m.judge(q, now, e.time.at(now), nil)
	<-time.After(200 * time.Millisecond)
	if now >= clock.Time(e.lease.Load()) {
		return 0
	}
	return code
`}},
	},
	{
		rule: "I4", name: "the way from key to org is not judged",
		edits: []edit{{edgeMemory, "o != nil && m.counts(o.stamp, k.orgHash, now) {\n		return o\n	}\n	if o, ok", "o != nil {\n		return o\n	}\n	if o, ok"}},
	},
	{
		rule: "I4", name: "a head that comes again is judged by the key of the one between", by: "shared/wire TestEachRequestHasItsOwnKey", short: true,
		edits: []edit{{"shared/wire/memo.go", "		m.raw = m.raw[:0]\n		m.fault", "		m.fault"}},
	},
	{
		rule: "I5", name: "a fetch stalls behind its reading", harmless: true, edits: fetchStalls,
	},
	{
		rule: "I5", name: "interest is recorded after the reading",
		edits: []edit{
			fetchStalls[0],
			{hubFetch, fetchNotes + fetchReads, fetchReads},
			{hubFetch, fetchEnds, "	<-time.After(50 * time.Millisecond)\n" + fetchNotes + fetchEnds},
		},
	},
	{
		rule: "I5", name: "a key is told of that opens an org in which no interest was recorded", by: "authority/hub TestAKeyNewerThanTheQuestion",
		edits: []edit{{hubFetch, "		if org != state.OrgID(k.GetOrgId()) {\n			return nil, errNotNoted\n		}\n", ""}},
	},
	{
		rule: "I5", name: "a hit extends its time",
		edits: []edit{{edgeMemory, "			if m.counts(d.stamp(), hash, now) {\n", `			if m.counts(d.stamp(), hash, now) {
				longer := new(deviceEntry)
				*longer = *d
				longer.expires = now.Add(m.ttl)
				c.Set(hash, longer, 1)
`}},
	},
	{
		rule: "I5", name: "an entry's time counts from its answer", by: "edge TestExpiryCountsFromTheFetch",
		edits: []edit{{edgeSession, "expires: sent.Add(s.memory.ttl)", "expires: s.e.clock.Now().Add(s.memory.ttl)"}},
	},
	{
		rule: "I6", name: "interest is forgotten too early",
		edits: []edit{{hubReign, "newDirectory(clock.Stretch(h.cfg.Times.CacheTTL, h.cfg.Times.Bound), began)", "newDirectory(h.cfg.Times.CacheTTL/10, began)"}},
	},
	{
		rule: "I6", name: "interest is forgotten by this node's clock", by: "authority/hub TestInterestOutlastsTheSlowestEdge",
		edits: []edit{{hubReign, "newDirectory(clock.Stretch(h.cfg.Times.CacheTTL, h.cfg.Times.Bound), began)", "newDirectory(h.cfg.Times.CacheTTL, began)"}},
	},
	{
		rule: "I6", name: "a dispatch stalls", harmless: true, edits: []edit{dispatchStalls},
	},
	{
		rule: "I6", name: "a grant carries what was applied", by: "authority/hub TestAGrantDoesNotRunAheadOfTheDispatch", short: true,
		edits: []edit{{hubServe, "	dispatched := h.dispatched\n", `	dispatched := h.dispatched
	h.feed.mu.Lock()
	if n := len(h.feed.items); n > 0 {
		dispatched = h.feed.items[n-1].index
	}
	h.feed.mu.Unlock()
`}},
	},
	{
		rule: "I7", name: "what an edge says it holds is not taken",
		edits: []edit{{hubServe, "		r.directory.hold(slot, hello.GetHeld())\n", ""}},
	},
	{
		rule: "I7", name: "what an edge missed is not sent again",
		edits: []edit{{hubServe, "invals: replay,", "invals: replay[:0],"}},
	},
	{
		rule: "I7", name: "a ring that does not reach back says that nothing was missed",
		edits: []edit{{"authority/hub/ring.go", "	if index < p.since {\n		return nil, false\n	}\n", ""}},
	},
	{
		rule: "I7", name: "an edge keeps a memory that does not fit",
		edits: []edit{{edgeLink, "	return !w.GetReset_() && m != nil", "	return m != nil"}},
	},
	{
		rule: "I7", name: "a new memory is in force under the lease of before", by: "edge TestAllocatedAcrossPagesTheLeaseGoesFirst",
		edits: []edit{{
			edgeLink, "	l.e.lease.Store(0)\n	l.e.memory.Store(l.memory)\n",
			"	l.e.memory.Store(l.memory)\n	l.e.lease.Store(0)\n",
		}},
	},
	{
		rule: "I7", name: "the caches are never cleared", harmless: true, edits: []edit{neverCleared},
	},
	{
		rule: "I7", name: "what was written before a reset counts after it",
		edits: []edit{neverCleared, {edgeMemory, "	if s.epoch != m.epoch || now >= s.expires {\n", "	if now >= s.expires {\n"}},
	},
	{
		rule: "I7", name: "an older term is accepted", by: "edge TestAnOldTermIsRefused",
		edits: []edit{{edgeLink, "case c == 0 && w.GetTerm() < l.term && !anew:", "case c == 0 && w.GetTerm() < 1 && !anew:"}},
	},
	{
		rule: "I7", name: "sessions are taken before the dispatch has caught up", by: "authority/hub TestNoSessionBeforeTheDispatchHasCaughtUp",
		edits: []edit{{hubHandover, "		if h.dispatched >= r.begun {\n", "		if h.dispatched < 1<<62 {\n"}},
	},
	{
		rule: "I7", name: "a Hello takes the place of a later one", by: "authority/hub TestAnOvertakenHelloIsRefused",
		edits: []edit{{hubServe, "return s != nil && s.number > hello.GetSession()\n", "return s != nil && s.number > 1<<62\n"}},
	},
	{
		rule: "I7", name: "an edge that knows of more is taken", by: "authority/hub TestAnEdgeThatKnowsMoreIsTurnedAway",
		edits: []edit{{hubHistory, "err != nil || term != r.term {", "err != nil && term == r.term {"}},
	},
	{
		rule: "I11", name: "a grant's time counts as it was cut", by: "edge TestTheAuthorityMayBeAMillisecondAhead",
		edits: []edit{{edgeTime, "(ms+1)*int64(time.Millisecond)", "ms*int64(time.Millisecond)"}},
	},
	{
		rule: "I11", name: "what a frame says of the time is not taken", by: "edge TestWhatIsHeardOfIsThere",
		edits: []edit{{edgeSession, "	s.e.time.hear(f.GetNowMs())\n", ""}},
	},
	{
		rule: "I11", name: "an edge's time falls with a later lease", by: "edge TestTimeDoesNotFall",
		edits: []edit{{edgeTime, "return t.latest.Raise((int64(now) + t.ahead.Load()) / int64(time.Millisecond))", "return max((int64(now)+t.ahead.Load())/int64(time.Millisecond), 1)"}},
	},
	{
		rule: "I11", name: "what an edge counted by the lease before is forgotten", by: "edge TestWhatWasCountedStays",
		edits: []edit{{edgeTime, "	t.at(now)\n	t.ahead", "	t.ahead"}},
	},
	{
		rule: "I11", name: "leases are forgotten before they end", by: "authority/hub TestHorizon",
		edits: []edit{{hubHorizon, "asked.Add(z.span))", "asked.Add(z.span/2))"}},
	},
	{
		rule: "I11", name: "the clocks of edges are taken for as fast as one's own", by: "authority/hub TestHorizon",
		edits: []edit{{hubHorizon, "int64(z.rate * float64(at.Sub(z.origin)))", "int64(at.Sub(z.origin))"}},
	},
	{
		rule: "I11", name: "only the newest lease counts", by: "authority/hub TestHorizon",
		edits: []edit{{hubHorizon, "	w.list = append(w.list[:n], counting{value, until})\n", "	w.list = append(w.list[:0], counting{value, until})\n"}},
	},
	{
		rule: "I11", name: "an edge with another leader's lease is taken for current", by: "authority/hub TestAnEdgeOfAnotherLeaderIsWhereItWasPut",
		edits: []edit{{hubHorizon, "		z.points.add(ms, end)\n", "		_, _ = ms, end\n"}},
	},
	{
		rule: "I11", name: "leases are given in a time that is not reserved", by: "authority/hub TestNothingIsGrantedInATimeThatMayNotBeTold",
		edits: []edit{{hubHorizon, "	if ms, ok = z.time(); !ok {\n", "	if ms, ok = z.time(); ms == 0 {\n"}},
	},
	{
		rule: "I11", name: "frames do not say what time it is", by: "authority/hub TestFramesCarryTheTime",
		edits: []edit{{hubServe, "		f.NowMs = h.frameTime() // after all that it tells was done\n", ""}},
	},
	{
		rule: "I11", name: "frames say less than is reserved, where the time is beyond it", by: "authority/hub TestFramesSayWhatIsReserved",
		edits: []edit{{hubServe, "		ms = max(min(ms, h.cfg.State.Reserved()), h.cfg.State.Time())\n", "		ms = h.cfg.State.Time()\n"}},
	},
	{
		rule: "I11", name: "a new leader begins at its own clock", by: "authority TestALaterLeaderBeginsWhereTimeWasReserved",
		edits: []edit{{"authority/time.go", "begins := max(n.state.Time(), n.state.Reserved())\n", "begins := int64(0)\n"}},
	},
	{
		rule: "I11", name: "a call that comes before a new leader has begun is judged by its own clock", by: "authority TestTheFirstCallOfATermIsNotBehind",
		edits: []edit{
			{"authority/time.go", "	n.beginTime()\n", ""},
			{"authority/authority.go", "	ctx, end := context.WithCancel(ctx)\n	var work sync.WaitGroup\n	work.Go(func() { n.keepReserved(ctx) })\n", "	n.beginTime()\n	ctx, end := context.WithCancel(ctx)\n	var work sync.WaitGroup\n	work.Go(func() { n.keepReserved(ctx) })\n"},
		},
	},
	{
		rule: "I11", name: "more is told than is reserved", by: "authority TestWhatIsToldIsReserved",
		edits: []edit{{"authority/time.go", "return max(min(n.Now(), n.state.Reserved()), n.state.Time()) }", "return n.Now() }"}},
	},
	{
		rule: "I11", name: "edges are told more than is reserved", by: "authority TestWhatIsToldIsReserved",
		edits: []edit{{"authority/time.go", "now <= reserved && fits\n", "fits\n"}},
	},
	{
		rule: "I11", name: "a new leader's validate tells of ends before edges know", by: "cmd/machineid/cli TestANewLeaderTellsNoEndTooEarly",
		edits: []edit{{"authority/api/validate.go", "mayEnd && r.api.cfg.Hub.EdgesMayBeBehind() {", "mayEnd && s.now == 0 {"}},
	},
	{
		rule: "I11", name: "a new leader's validate tells of who was swept", by: "authority/api TestNoEndIsToldWhileEdgesMayBeBehind",
		edits: []edit{{"authority/api/validate.go", "code == decision.DeviceNotFound || ", ""}},
	},
	{
		rule: "I12", name: "a request that was handed to another cluster's node is served", by: "authority TestAForeignHopIsRefused",
		edits: []edit{{"authority/forward.go", "leads && !n.fromStranger(ctx) {", "leads {"}},
	},
	{
		rule: "I2", name: "a revoked key is forgotten while edges may hold it", by: "authority/state TestRotateKeepsAnEarlierEnd",
		edits: []edit{{"authority/state/orgkeys.go", "if diedAt(k) > t.now-deadKeysStay || i > 0", "if i > 0"}},
	},
	{
		rule: "I11", name: "each leader begins further ahead than the last", by: "authority TestLeadersDoNotRunAhead",
		edits: []edit{{"authority/time.go", "	return max(now, wall+window.Milliseconds())\n", "	return now + window.Milliseconds()\n"}},
	},
	{
		rule: "I11", name: "a leader judges by leases of an earlier term of its own", by: "authority TestATermBeginsWhereTimeWasReserved",
		edits: []edit{{"authority/time.go", "max(n.hub.Told(), n.begins.Latest()) }", "n.hub.Told() }"}},
	},
	{
		rule: "I11", name: "a term's time is begun twice at once", by: "authority TestNobodyIsToldWhileATermsTimeIsBegun",
		edits: []edit{{"authority/time.go", "	n.timing.Lock()\n	defer n.timing.Unlock()\n", ""}},
	},
	{
		rule: "I11", name: "a clock is judged by one reading and used by another", by: "authority TestAClockIsReadOnce",
		edits: []edit{{"authority/time.go", "	if wall, fits = n.wall(); fits {\n		now = max(now, wall)\n", "	if wall, fits = n.wall(); fits {\n		now = max(now, n.cfg.Wall().UnixMilli())\n"}},
	},
	{
		rule: "I11", name: "answers are judged by more than may be told", by: "authority/api TestWhatIsToldAndWhatIsStamped",
		edits: []edit{{"authority/api/settle.go", "max(r.api.cfg.Told(), s.mark.Time)", "max(r.api.cfg.Now(), s.mark.Time)"}},
	},
	{
		rule: "I11", name: "an edge that was put somewhere hides one that is behind it", by: "authority/hub TestTheLeastCounts",
		edits: []edit{{hubHorizon, "		ms = min(ms, point)\n", "		ms = point\n"}},
	},
	{
		rule: "I11", name: "what is reserved may become less", by: "authority/state TestReserveTime",
		edits: []edit{{"authority/state/commands.go", "c.GetUntilMs() <= old.GetReservedMs() {", "c.GetUntilMs() == old.GetReservedMs() {"}},
	},
	{
		rule: "I11", name: "what a frame says of the time is not taken, and an entitlement is ended", by: "cmd/machineid/cli TestAnEntitlementThatIsEndedIsOver",
		edits: []edit{{edgeSession, "	s.e.time.hear(f.GetNowMs())\n", ""}},
	},
	{
		rule: "I11", name: "nobody looks after the time of edges, and a key is rotated", by: "cmd/machineid/cli TestARotationWithoutGraceIsInForce",
		edits: []edit{judgesByItsOwn, {edgeSession, "	s.e.time.hear(f.GetNowMs())\n", ""}},
	},
	{
		rule: "I11", name: "the authority judges by its own time", by: "cmd/machineid/cli TestAnEndThatIsToldIsOver",
		edits: []edit{judgesByItsOwn},
	},
	{
		rule: "I11", name: "nobody looks after the time of edges",
		edits: []edit{judgesByItsOwn, {edgeSession, "	s.e.time.hear(f.GetNowMs())\n", ""}},
	},
	{
		rule: "I11", name: "a new leader begins at its own clock, behind one that was ahead", by: "cmd/machineid/cli TestTimeGoesOnOverACrash",
		edits: []edit{{"authority/time.go", "begins := max(n.state.Time(), n.state.Reserved())\n", "begins := int64(0)\n"}},
	},
	{
		rule: "I12", name: "a foreign cluster is accepted", by: "edge TestAnEdgeKeepsToItsCluster",
		edits: []edit{{edgeLink, "	if f := l.cluster.refuses(w, addr); f != nil {\n", "	if f := l.cluster.refuses(w, addr); f != nil && f.replaced {\n"}},
	},
	{
		rule: "I12", name: "a replaced cluster is accepted again", by: "edge TestASuccessorIsTaken",
		edits: []edit{{"edge/cluster.go", "!replaced && slices.ContainsFunc", "slices.ContainsFunc"}},
	},
	{
		rule: "I13", name: "an edge's history is not judged", by: "cmd/machineid/cli TestAnOlderCopyIsPutBack", short: true,
		edits: []edit{{hubHistory, "	case known && verdict == raftstore.VerdictSame:\n", "	case hello.GetLastIndex() <= h.dispatched:\n"}},
	},
	{
		rule: "I13", name: "what was fetched is not judged", by: "cmd/machineid/cli TestAnOlderCopyIsPutBack",
		edits: []edit{{hubHistory, "max(hello.GetLastIndex(), hello.GetReadIndex())", "hello.GetLastIndex()"}},
	},
	{
		rule: "I13", name: "a deposed node tells what its successor wrote", by: "authority/hub TestNothingOfALaterLeaderIsTold",
		edits: []edit{{"authority/hub/hub.go", "by.ID != r.id {", "by.ID != r.id && r.closing {"}},
	},
	{
		rule: "I13", name: "a term is taken for a reign", by: "cmd/machineid/cli TestAnOlderCopyIsPutBack",
		edits: []edit{{"raftstore/history.go", "r.Term == term && r.ID == id && id != (ReignID{})", "r.Term == term"}},
	},
	{
		rule: "I13", name: "an older term is accepted without a proof", by: "edge TestIncarnationsAreInOrder",
		edits: []edit{{edgeLink, "anew := w.GetProven() && w.GetReset_()", "anew := w.GetReset_()"}},
	},
	{
		rule: "I13", name: "an older term is accepted and the memory stays", by: "edge TestIncarnationsAreInOrder",
		edits: []edit{{edgeLink, "anew := w.GetProven() && w.GetReset_()", "anew := w.GetProven()"}},
	},
	{
		rule: "I13", name: "commands ahead of a barrier count to the reign before", by: "raftstore TestHistoryOfALog",
		edits: []edit{{"raftstore/history.go", "	case commands > 0 && newest.Term != l.Term:\n", ""}},
	},
	{
		rule: "I2", name: "a deposed node vouches for what it reads", by: "authority/hub TestADeposedNodeVouchesForNothing",
		edits: []edit{{"authority/hub/change.go", "	if term, leads := h.store.Leading(); !leads || term != reign {\n", "	if term, leads := h.store.Leading(); leads && term > 1<<62 && term != reign {\n"}},
	},
	{
		rule: "I8", name: "a lease longer than the new leader's is not booked", by: "authority/hub TestAnEdgeMovesWithALongerLease",
		edits: []edit{{hubServe, "leaseEnd: max(now.Add(h.cfg.Times.Stretched()), r.inheritedEnd),", "leaseEnd: now.Add(h.cfg.Times.Stretched()),"}},
	},
	{
		rule: "I8", name: "a hand-over that is taken back late gives leases", by: "authority/hub TestAHandoverTakenBackTooLate",
		edits: []edit{{hubHandover, "	if h.reign != r || ctx.Err() != nil {\n", "	if h.reign != r {\n"}},
	},
	{
		rule: "I8", name: "an equal record of a later term is one's own", by: "authority/hub TestAnEqualRecordOfALaterTermIsNotOnesOwn",
		edits: []edit{{hubReign, "if now, leads := h.store.Leading(); !leads || now != term || !proto", "if !proto"}},
	},
	{
		rule: "I8", name: "a new leader does not wait",
		edits: []edit{{hubReign, "r.holdUntil = began.Add(wait.Stretched())", "r.holdUntil = began"}},
	},
	{
		rule: "I8", name: "a new leader waits by its own times", by: "authority/hub TestChangesAreHeldAfterAnOpenRecord",
		edits: []edit{{hubReign, "r.holdUntil = began.Add(wait.Stretched())", "r.holdUntil = began.Add(h.cfg.Times.Stretched())"}},
	},
	{
		rule: "I8", name: "a new leader counts by the smaller bound on clocks", by: "authority/hub TestTheLargerBoundCounts",
		edits: []edit{{hubReign, "wait.Bound = max(wait.Bound, h.cfg.Times.Bound)", "wait.Bound = min(wait.Bound, h.cfg.Times.Bound)"}},
	},
	{
		rule: "I8", name: "leases that a list names end by the smaller bound on clocks", by: "authority/hub TestTheLargerBoundCounts",
		edits: []edit{{hubReign, "heirs(last, wait, more, began)", "heirs(last, h.cfg.Times, more, began)"}},
	},
	{
		rule: "I8", name: "of those on a list not the last one counts", by: "authority/hub TestTheLastOfTheHeirsCounts",
		edits: []edit{{hubReign, "r.inheritedEnd = max(r.inheritedEnd, end)", "r.inheritedEnd = end"}},
	},
	{
		rule: "I8", name: "no lease out is recorded while one is",
		edits: []edit{{hubHandover, "		if d := s.stop(now); d > 0 {\n", "		if d := s.stop(now); d < 0 {\n"}},
	},
	{
		rule: "I8", name: "no lease out is recorded before the own wait is over", by: "authority/hub TestStopRecordsClosedOnlyIfNoLeaseIsOut",
		edits: []edit{{hubHandover, "	if now < r.holdUntil || len(left)", "	if len(left)"}},
	},
	{
		rule: "I8", name: "leases are given behind the list of who holds one", by: "authority/hub TestAGrantRacesWithStop",
		edits: []edit{{hubSession, "	defer s.mu.Unlock()\n	s.stopped = true\n", "	defer s.mu.Unlock()\n"}},
	},
	{
		rule: "I8", name: "who has joined counts as moved", by: "authority/hub TestACleanHandoverStallsNothing",
		edits: []edit{{hubHandover, "	if ack.GetIndex() < r.begun && !ack.GetGaveBack() {\n", "	if r == nil {\n"}},
	},
	{
		rule: "I8", name: "who has not moved is not waited for", by: "authority/hub TestAnEdgeThatDoesNotMove",
		edits: []edit{{hubReign, "	if len(r.inherited) > 0 {\n", "	if len(r.inherited) > 1<<20 {\n"}},
	},
	{
		rule: "I8", name: "who has not moved is left off the next list", by: "authority/hub TestHandoversInARow",
		edits: []edit{{hubHandover, "		if d := end.Sub(now); d > 0 {\n", "		if d := end.Sub(now); d < 0 {\n"}},
	},
	{
		rule: "I8", name: "leases are given again without a record", by: "authority/hub TestAHandoverThatFails",
		edits: []edit{{hubHandover, "	if !h.open(ctx, r.term, open) {\n", "	if open == nil {\n"}},
	},
	{
		rule: "I8", name: "the shorter of two times is recorded", by: "authority/hub TestTheLongerTimesAreRecorded",
		edits: []edit{{hubReign, "		open = longer(own, last)\n", "		open = own\n"}},
	},
	{
		rule: "I11", name: "a clock that is known to be wrong is believed while others are away", by: "cmd/machineid/cli TestAClockKnownToBeWrongStampsNothing",
		edits: []edit{{timekeeper, "return &comparison{off: *before, sure: true}", "return &comparison{sure: true}"}},
	},
	{
		rule: "I11", name: "a clock that is set while others are away counts as before", by: "cmd/machineid/cli TestAClockThatJumpsWhileANodeIsAway", short: true,
		edits: []edit{{timekeeper, "	off := c.off + c.moved(wall, at)\n", "	off := c.off\n"}},
	},
	{
		rule: "I11", name: "wrong clocks outvote the others while some are away", by: "cmd/machineid/cli TestTwoOfFiveClocksAreWrong",
		edits: []edit{{timekeeper, "tells && len(all) == len(members):", "tells:"}},
	},
	{
		rule: "I11", name: "what is known of a clock is not counted off", by: "cmd/machineid/cli TestTwoOfFiveClocksAreWrong",
		edits: []edit{{timekeeper, "				ahead -= *off\n", "				ahead -= 0\n"}},
	},
	{
		rule: "I11", name: "a node that begins does not learn of its clock", by: "authority TestCompare",
		edits: []edit{{timekeeper, "	case len(known) > 0: //", "	case len(known) > 1<<20: //"}},
	},
	{
		rule: "I11", name: "of two clocks the one that is ahead counts", by: "cmd/machineid/cli TestOfTwoClocksThatDisagree",
		edits: []edit{{timekeeper, "ahead[(len(ahead)-1)/2]", "ahead[len(ahead)/2]"}},
	},
	{
		rule: "I11", name: "two clocks that disagree can tell", by: "authority TestCompare",
		edits: []edit{{timekeeper, "len(ahead) == 2 && !isOff(milliseconds(last-first))", "len(ahead) == 2 && last >= first"}},
	},
	{
		rule: "I11", name: "a clock that nobody has judged counts", by: "authority TestClockFits",
		edits: []edit{{timekeeper, "	if c == nil || c.none {\n		return false\n", "	if c == nil {\n		return false\n"}},
	},
	{
		rule: "I11", name: "the only voter waits for a listener", by: "authority TestCompare",
		edits: []edit{{timekeeper, "	case sole: //", "	case sole && voters == 0: //"}},
	},
	{
		rule: "I11", name: "the leadership goes to a node whose clock is off", by: "cmd/machineid/cli TestHandOversDoNotChaseEachOther",
		edits: []edit{{"raftstore/members.go", "		why := m.Status.Unfit\n", "		why := \"\"\n"}},
	},
	{
		rule: "I11", name: "the leadership goes to a full disk from a leader that is well", by: "raftstore TestWhoIsFitToLead",
		edits: []edit{{"raftstore/members.go", " && m.Status.DiskFull && !full {\n", " && m.Status.DiskFull && !full && term == 0 {\n"}},
	},
	{
		rule: "I11", name: "a wrong clock leads for lack of a disk with room", by: "raftstore TestWhoIsFitToLead",
		edits: []edit{{"raftstore/members.go", "(members[own].Status.DiskFull || members[own].Status.Unfit != \"\")", "members[own].Status.DiskFull"}},
	},
	{
		rule: "I2", name: "a grant overtakes what does not fit into its frame", by: "authority/hub TestFramesToEdgesAreBounded",
		edits: []edit{{hubSession, "s.invals[n:]; len(s.invals) == 0 {", "s.invals[n:]; n > 0 {"}},
	},
	{
		rule: "I2", name: "a session that is ended for what it does not acknowledge does not count", by: "authority/hub TestAMuteEdgeIsEnded",
		edits: []edit{{hubSession, "	s.broken = true\n", "	s.broken, s.returned = true, true\n"}},
	},
	{
		rule: "I7", name: "what comes while an edge resumes is not sent again", by: "authority/hub TestNothingIsMissedWhileAnEdgeResumes",
		edits: []edit{{hubServe, "		replay = append(replay, rest...)\n", "		replay = append(replay, rest[:0]...)\n"}},
	},
	{
		rule: "I2", name: "a change that may have been done is sent again without its name", by: "authority TestWhatIsSentAgain",
		edits: []edit{{"authority/forward.go", " && len(in.Head.IdempotencyKey) > 0", ""}},
	},
	{
		rule: "I2", name: "what a second attempt is refused for stands for the first", by: "authority TestWhatIsSentAgain",
		edits: []edit{{"authority/forward.go", "case again && resp", "case again && deadline.IsZero() && resp"}},
	},
}
