//go:build unix

package cli

// brokenStoreLog are broken rules of raftstore: the log, the folder, packing and the disk.
var brokenStoreLog = []broken{
	{
		rule: "R1", name: "an append is not synced", by: "raftstore TestTheLogShowsWhatIsSynced",
		edits: []edit{{"raftstore/logwrite.go", "\"append log entries %d-%d\", lo, hi), pebble.Sync)", "\"append log entries %d-%d\", lo, hi), pebble.NoSync)"}},
	},
	{
		rule: "R1", name: "an entry shows before it is on disk", by: "raftstore TestTheLogShowsWhatIsSynced",
		edits: []edit{{"raftstore/logwrite.go", "\ts.commit(b, fmt.Sprintf(\"append", "\ts.mu.Lock()\n\tfor _, l := range logs {\n\t\ts.ring.push(l)\n\t}\n\ts.last = max(s.last, hi)\n\ts.mu.Unlock()\n\ts.commit(b, fmt.Sprintf(\"append"}},
	},
	{
		rule: "R7", name: "the end of a conflict stays", by: "raftstore TestLogStore",
		edits: []edit{{"raftstore/logwrite.go", "\tif s.present && s.last > hi && !", "\tif s.present && s.last > hi+1 && !"}},
	},
	{
		rule: "R7", name: "a conflict's second entry stays", by: "raftstore TestLogStore",
		edits: []edit{{"raftstore/logwrite.go", "s.deleteLogs(b, hi+1, s.last)", "s.deleteLogs(b, hi+2, s.last)"}},
	},
	{
		rule: "R7", name: "the record of what emptied the log outlives the next append", by: "raftstore TestLogStore",
		edits: []edit{{"raftstore/logwrite.go", "\t\terr := b.Delete([]byte(keyEmptied), nil)\n", "\t\tvar err error\n"}},
	},
	{
		rule: "R7", name: "the boundary is forgotten with the first append", by: "raftstore TestLogBoundary",
		edits: []edit{{"raftstore/logwrite.go", "s.boundary.Index > 0 && lo > s.boundary.Index+1\n", "s.boundary.Index > 0 && lo > s.boundary.Index\n"}},
	},
	{
		rule: "R1", name: "a gap of one is taken", by: "raftstore TestLogStore",
		edits: []edit{{"raftstore/logwrite.go", "\tcase s.present && lo > s.last+1:\n", "\tcase s.present && lo > s.last+2:\n"}},
	},
	{
		rule: "R7", name: "what a snapshot covers is appended", by: "raftstore TestLogStore",
		edits: []edit{{"raftstore/logwrite.go", "\tcase lo <= s.boundary.Index:\n", "\tcase lo < s.boundary.Index:\n"}},
	},
	{
		rule: "R7", name: "a gap behind what was emptied is taken", by: "raftstore TestLogStore",
		edits: []edit{{"raftstore/logwrite.go", "lo != s.emptied.lo && lo != s.emptied.hi+1:\n", "lo < s.emptied.lo:\n"}},
	},
	{
		rule: "R7", name: "a gap behind the boundary is taken", by: "raftstore TestLogStore",
		edits: []edit{{"raftstore/logwrite.go", "s.boundary.Index > 0 && lo != s.boundary.Index+1:\n", "s.boundary.Index > 0 && lo < s.boundary.Index+1:\n"}},
	},
	{
		rule: "R2", name: "the log is truncated one beyond the state", by: "raftstore TestLogStore",
		edits: []edit{{"raftstore/logwrite.go", "head && !tail && hi > durable {", "head && !tail && hi > durable+1 {"}},
	},
	{
		rule: "R2", name: "the log does not know what is durable", by: "raftstore TestDurableBehindTheSync",
		edits: []edit{{"raftstore/open.go", "\ts.log.durable = func() uint64 { return s.fsm.durable.Load().applied.Index }\n", ""}},
	},
	{
		rule: "R7", name: "a tail is cut without a sync", by: "raftstore TestNothingIsAcknowledgedBehindAFault",
		edits: []edit{{"raftstore/logwrite.go", "\tif head && !tail {\n\t\tdurability", "\tif head || tail {\n\t\tdurability"}},
	},
	{
		rule: "R7", name: "what emptied the log is not recorded", by: "raftstore TestLogStore",
		edits: []edit{{"raftstore/logwrite.go", "\t} else if all {\n", "\t} else if all && hi == 0 {\n"}},
	},
	{
		rule: "R7", name: "a conflict right after an install takes the boundary", by: "raftstore TestCrash",
		edits: []edit{{"raftstore/logwrite.go", "\tdropBoundary := head && !all && s", "\tdropBoundary := head && s"}},
	},
	{
		rule: "R5", name: "an append begins after a fault", by: "raftstore TestNothingIsAcknowledgedBehindAFault",
		edits: []edit{{"raftstore/logwrite.go", "\ts.fault.halt()\n\tif err := s.checkAppend", "\tif err := s.checkAppend"}},
	},
	{
		rule: "R7", name: "there is no entry at the boundary", by: "raftstore TestCrashAtEachNameOfAnInstall",
		edits: []edit{{"raftstore/logstore.go", "\tcase index > 0 && index == boundary.Index:\n", "\tcase index == 0 && index == boundary.Index:\n"}},
	},
	{
		rule: "R7", name: "a missing entry is another error", by: "raftstore TestLogStore",
		edits: []edit{{"raftstore/logstore.go", "\tdefault:\n\t\treturn raft.ErrLogNotFound\n", "\tdefault:\n\t\treturn fmt.Errorf(\"entry %d: %w\", index, raft.ErrLogNotFound)\n"}},
	},
	{
		rule: "R7", name: "what emptied the log is forgotten by a restart", by: "raftstore TestLogStore",
		edits: []edit{{"raftstore/logstore.go", "\t\ts.emptied = span{lo: p.Index, hi: p.Term}\n", "\t\t_ = p\n"}},
	},
	{
		rule: "R4", name: "a vote is not synced", by: "raftstore TestNothingIsAcknowledgedBehindAFault",
		edits: []edit{{"raftstore/stable.go", "\tdurability := pebble.Sync\n", "\tdurability := pebble.NoSync\n"}},
	},
	{
		rule: "R7", name: "a state is installed at index 1", by: "raftstore TestLogStore",
		edits: []edit{{"raftstore/reconcile.go", "\tif at.Index <= 1 {\n", "\tif at.Index < 1 {\n"}},
	},
	{
		rule: "R7", name: "the log is reconciled with the same state again", by: "raftstore TestLogStore",
		edits: []edit{{"raftstore/reconcile.go", "\tif s.installed >= generation {\n", "\tif s.installed > generation {\n"}},
	},
	{
		rule: "R7", name: "the entry that the state stands for stays in the log", by: "raftstore TestInstallThenAppend",
		edits: []edit{{"raftstore/reconcile.go", "\t\ts.deleteLogs(b, s.first, min(at.Index, s.last))\n", "\t\ts.deleteLogs(b, s.first, min(at.Index-1, s.last))\n"}},
	},
	{
		rule: "R7", name: "the log does not learn which state it belongs to", by: "raftstore TestLogStore",
		edits: []edit{{"raftstore/reconcile.go", "\t\tb.Set([]byte(keyInstalled), binary.BigEndian.AppendUint64(nil, generation), nil),\n", "\t\tb.LogData(binary.BigEndian.AppendUint64(nil, generation), nil),\n"}},
	},
	{
		rule: "R7", name: "the whole log goes with an install", by: "raftstore TestInstallThenAppend",
		edits: []edit{{"raftstore/reconcile.go", "\t\ts.deleteLogs(b, s.first, min(at.Index, s.last))\n", "\t\ts.deleteLogs(b, s.first, s.last)\n"}, {"raftstore/reconcile.go", "\tcase !s.present || s.last <= at.Index:\n", "\tcase !s.present || s.first <= at.Index:\n"}},
	},
	{
		rule: "R1", name: "a hole between state and log is taken", by: "raftstore TestCheckState",
		edits: []edit{{"raftstore/reconcile.go", "\tif first > at.Index+1 ||", "\tif first > at.Index+2 ||"}},
	},
	{
		rule: "R1", name: "a state one beyond the log is taken", by: "raftstore TestCheckState",
		edits: []edit{{"raftstore/reconcile.go", "\tif at.Index > max(last, boundary.Index) {\n", "\tif at.Index > max(last, boundary.Index)+1 {\n"}},
	},
	{
		rule: "R8", name: "the log of another node is taken", by: "raftstore TestCheckState",
		edits: []edit{{"raftstore/reconcile.go", "\tcase l.Term != at.Term:\n", "\tcase l.Term < at.Term && l.Term == 0:\n"}},
	},
	{
		rule: "R4", name: "a log without a term is taken", by: "raftstore TestCheckState",
		edits: []edit{{"raftstore/reconcile.go", "\tif !started {\n", "\tif !started && last == 0 {\n"}},
	},
	{
		rule: "R1", name: "any emptied log fits any state", by: "raftstore TestCheckState",
		edits: []edit{{"raftstore/reconcile.go", "\tif last == 0 && emptied.lo > 0 && (at.Index == emptied.lo-1 || at.Index >= emptied.hi) {\n", "\tif last == 0 && emptied.lo > 0 {\n"}},
	},
	{
		rule: "R8", name: "a bootstrap is not synced", by: "raftstore TestCrash",
		edits: []edit{{"raftstore/reconcile.go", "\"write the first log entry\", pebble.Sync)", "\"write the first log entry\", pebble.NoSync)"}},
	},
	{
		rule: "R1", name: "the ring holds entries with a gap", by: "raftstore TestRing",
		edits: []edit{{"raftstore/ring.go", "\tif r.n > 0 && l.Index != r.at(r.n-1).Index+1 {\n", "\tif r.n > 0 && l.Index < r.first() {\n"}},
	},
	{
		rule: "R1", name: "the ring keeps the newest entry that was truncated", by: "raftstore TestRing",
		edits: []edit{{"raftstore/ring.go", "\tfor r.n > 0 && r.first() <= index {\n", "\tfor r.n > 0 && r.first() < index {\n"}},
	},
	{
		rule: "R1", name: "the ring keeps the first entry of a conflict", by: "raftstore TestRing",
		edits: []edit{{"raftstore/ring.go", "\tfor r.n > 0 && r.at(r.n-1).Index >= index {\n", "\tfor r.n > 0 && r.at(r.n-1).Index > index {\n"}},
	},
	{
		rule: "R13", name: "a format is raised that a member does not know", by: "raftstore TestRaiseFormat",
		edits: []edit{{"raftstore/format.go", "\tcase to > newest:\n", "\tcase to > newest && newest == 0:\n"}},
	},
	{
		rule: "R13", name: "a format is raised though a member does not answer", by: "raftstore TestRaiseFormat",
		edits: []edit{{"raftstore/format.go", "\t\tif m.Err != nil {\n", "\t\tif m.Err != nil && to > formatNewest {\n"}},
	},
	{
		rule: "R5", name: "an unknown format is applied", by: "raftstore TestRaiseFormat",
		edits: []edit{{"raftstore/format.go", "\tif err := d.cfg.tooNew(format); err != nil {\n\t\treturn err\n\t}\n\tif v", "\tif format > formatNewest {\n\t\treturn nil\n\t}\n\tif v"}},
	},
	{
		rule: "R9", name: "a command is sent whose caller gave up", by: "raftstore TestPackerAsksOnceMore",
		edits: []edit{{"raftstore/packer.go", "if pr.ctx.Err() != nil { // its", "if pr.ctx == nil { // its"}},
	},
	{
		rule: "R9", name: "a command may be reused while it is copied", by: "raftstore TestPackerGivesUpBehindTheCopy",
		edits: []edit{{"raftstore/packer.go", "\tp.copyMu.Lock() // the packer may be copying cmd\n\tdefer p.copyMu.Unlock()\n", ""}},
	},
	{
		rule: "R9", name: "a command that was taken is not sent", by: "raftstore TestPackerContext",
		edits: []edit{{"raftstore/packer.go", "\tif pr.state == proposalCancelled {\n\t\tp.mu.Unlock()\n", "\tif pr.state != proposalQueued {\n\t\tp.mu.Unlock()\n"}},
	},
	{
		rule: "R9", name: "one more entry is in flight", by: "raftstore TestPackerPacksWhatWaits",
		edits: []edit{{"raftstore/packer.go", "\tif p.inFlight < entriesInFlight {", "\tif p.inFlight <= entriesInFlight {"}},
	},
	{
		rule: "R9", name: "a pack has one command too many", by: "raftstore TestPackerLimits",
		edits: []edit{{"raftstore/packer.go", "len(pack) < min(most, MaxPackCommands) &&", "len(pack) <= min(most, MaxPackCommands) &&"}},
	},
	{
		rule: "R9", name: "a pack has no bound of bytes", by: "raftstore TestPackerLimits",
		edits: []edit{{"raftstore/packer.go", " && bytes+len(pr.cmd) <= MaxPackBytes; pr", "; pr"}},
	},
	{
		rule: "R9", name: "bytes that were answered are never given back", by: "raftstore TestPackerContext",
		edits: []edit{{"raftstore/party.go", "p.rooms[at].bytes -= n", "p.rooms[at].bytes -= 0 * n"}},
	},
	{
		rule: "R9", name: "outcomes are mixed up", by: "raftstore TestPackerPacksWhatWaits",
		edits: []edit{{"raftstore/packer.go", "out.outcomes[i]}", "out.outcomes[len(out.outcomes)-1-i]}"}},
	},
	{
		rule: "R9", name: "an answer without outcomes is an answer", by: "raftstore TestOutcomesAreOfTheirCommands",
		edits: []edit{{"raftstore/packer.go", "\tif !ok || len(out.outcomes) != n {\n", "\tif !ok {\n"}},
	},
	{
		rule: "R9", name: "an outcome that came after all is unknown", by: "raftstore TestPackerGivesUpBehindTheCopy",
		edits: []edit{{"raftstore/packer.go", "\tcase a := <-pr.answer: // it came after all\n\t\treturn a.result, a.err\n", "\tcase <-pr.answer: // it came after all\n\t\treturn Result{}, outcomeUnknown(cause)\n"}},
	},
	{
		rule: "R9", name: "closing leaves open what was never sent", by: "raftstore TestPackerClose",
		edits: []edit{{"raftstore/packer.go", "answer{err: fmt.Errorf(\"not sent: %w\", ErrClosed)}", "answer{err: outcomeUnknown(ErrClosed)}"}},
	},
	{
		rule: "R15", name: "commands go ahead of the barrier", by: "raftstore TestNothingIsProposedAheadOfTheBarrier",
		edits: []edit{{"raftstore/propose.go", "\tif _, leads := s.Leading(); !leads {", "\tif _, leads := s.Leading(); !leads && s.packer.closing() {"}},
	},
	{
		rule: "R10", name: "a full disk refuses a revoke", by: "raftstore TestNearlyFullDisk",
		edits: []edit{{"raftstore/propose.go", "\tcase o.Essential:\n", "\tcase o.Essential && s == nil:\n"}},
	},
	{
		rule: "R10", name: "a full disk refuses nothing", by: "raftstore TestNearlyFullDisk",
		edits: []edit{{"raftstore/propose.go", "\treturn spending{}, s.space.refuse()\n", "\treturn spending{}, nil\n"}},
	},
	{
		rule: "R9", name: "a command that a shutdown met was not done", by: "raftstore TestPackerClasses",
		edits: []edit{{"raftstore/propose.go", "\t\terrors.Is(err, raft.ErrEnqueueTimeout):\n", "\t\terrors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrRaftShutdown):\n"}},
	},
	{
		rule: "R9", name: "a command that was lost with the leadership was not done", by: "raftstore TestPackerClasses",
		edits: []edit{{"raftstore/propose.go", "\t\terrors.Is(err, raft.ErrEnqueueTimeout):\n", "\t\terrors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipLost):\n"}},
	},
	{
		rule: "R10", name: "a disk that was just full is open at once", by: "raftstore TestFullDiskRecovers",
		edits: []edit{{"raftstore/space.go", "\theld := fulls > 0 && since < resumeAfter && !", "\theld := fulls > 0 && since < 0 && !"}},
	},
	{
		rule: "R10", name: "the store opens with the room of the ballast", by: "raftstore TestFullDiskRecovers",
		edits: []edit{{"raftstore/space.go", "\tif held || usage.AvailBytes < resume+uint64(missing) {", "\tif held || usage.AvailBytes < resume {"}},
	},
	{
		rule: "R10", name: "the store opens in spite of a write that met a full disk", by: "raftstore TestAFullDiskCountsMoreThanALook",
		edits: []edit{{"raftstore/space.go", "\topened := s.fulls == fulls && s.closed.Swap(false)\n", "\topened := s.closed.Swap(false)\n"}},
	},
	{
		rule: "R10", name: "the store opens without a ballast", by: "raftstore TestDiskThatDoesNotTell",
		edits: []edit{{"raftstore/space.go", "the ballast could not be made again\", slog.Any(\"cause\", err)) })\n\t\t\treturn\n", "the ballast could not be made again\", slog.Any(\"cause\", err)) })\n"}},
	},
	{
		rule: "R10", name: "a write that met a full disk closes nothing", by: "raftstore TestDiskThatDoesNotTell",
		edits: []edit{{"raftstore/space.go", "\ts.closed.Store(true)\n\ts.mu.Unlock()\n\t//", "\ts.mu.Unlock()\n\t//"}},
	},
	{
		rule: "R10", name: "a full disk is open when the node starts", by: "raftstore TestFullAtStart",
		edits: []edit{{"raftstore/space.go", "\ts.closed.Store(usage.AvailBytes < low)\n", "\ts.closed.Store(usage.AvailBytes < low && low == 0)\n"}},
	},
	{
		rule: "R10", name: "a disk that says nothing is full", by: "raftstore TestDiskThatDoesNotTell",
		edits: []edit{{"raftstore/space.go", "(fulls > 0 && since < resumeAfter) || time.Since(s.told) < resumeAfter {", "fulls >= 0 {"}},
	},
	{
		rule: "R10", name: "a disk that says nothing is open at once", by: "raftstore TestDiskThatDoesNotTell",
		edits: []edit{{"raftstore/space.go", " || time.Since(s.told) < resumeAfter {", " {"}},
	},
	{
		rule: "R10", name: "the ballast is a hole", by: "raftstore TestFillingTheBallastGivesUp",
		edits: []edit{{"raftstore/ballast.go", "\t\terr = b.fill(f, size)\n", "\t\t_, err = f.WriteAt([]byte{1}, size-1)\n"}},
	},
	{
		rule: "R10", name: "the ballast has no size", by: "raftstore TestNearlyFullDisk",
		edits: []edit{{"raftstore/ballast.go", "\t\t_, err = f.WriteAt([]byte{1}, size-1) // preallocating leaves the size as it was\n", ""}},
	},
	{
		rule: "R10", name: "the ballast is not synced", by: "raftstore TestBallastIsSynced",
		edits: []edit{{"raftstore/ballast.go", "\t\terr = f.Sync()\n", "\t\terr = nil\n"}},
	},
	{
		rule: "R10", name: "the ballast's name is not synced", by: "raftstore TestBallastIsSynced",
		edits: []edit{{"raftstore/ballast.go", "\tif err = (layout{fs: b.fs}).syncDir(b.dir); err != nil {\n\t\treturn err\n\t}\n", ""}},
	},
	{
		rule: "R10", name: "the ballast's end is not synced", by: "raftstore TestBallastIsSynced",
		edits: []edit{{"raftstore/ballast.go", "errors.Join(b.remove(), (layout{fs: b.fs}).syncDir(b.dir))", "b.remove()"}},
	},
	{
		rule: "R10", name: "filling the ballast goes on while the disk is full", by: "raftstore TestFillingTheBallastGivesUp",
		edits: []edit{{"raftstore/ballast.go", "\t\tif b.released.Load() {\n", "\t\tif b.released.Load() && size == 0 {\n"}},
	},
	{
		rule: "R10", name: "a ballast that is too large stays", by: "raftstore TestBallastSize",
		edits: []edit{{"raftstore/ballast.go", "\tcase info.Size() > wanted:\n", "\tcase info.Size() > wanted && wanted < 0:\n"}},
	},
	{
		rule: "R11", name: "a pause counts", by: "raftstore TestPauseDoesNotEndTheProcess",
		edits: []edit{{"raftstore/watch.go", "\t\t\top.age = min(op.age, w.cfg.StuckWarn)\n", "\t\t\top.age += since\n"}},
	},
	{
		rule: "R11", name: "a pause gives no new chance", by: "raftstore TestPauseDoesNotEndTheProcess",
		edits: []edit{{"raftstore/watch.go", "\t\t\top.age = min(op.age, w.cfg.StuckWarn)\n", "\t\t\top.age += interval\n"}},
	},
	{
		rule: "R11", name: "the first look counts in full", by: "raftstore TestStuckWriteEndsTheProcess",
		edits: []edit{{"raftstore/watch.go", "\t\tcase op.seen:\n", "\t\tdefault:\n"}},
	},
	{
		rule: "R11", name: "a leader syncs its state as fast as its log", by: "raftstore TestSyncOfTheStateMayTakeLonger",
		edits: []edit{{"raftstore/watch.go", "\tif leads && name != syncingState {\n", "\tif leads {\n"}},
	},
	{
		rule: "R11", name: "a leader has a follower's time", by: "raftstore TestStuckWriteEndsTheProcess",
		edits: []edit{{"raftstore/watch.go", "\tif leads && name != syncingState {\n", "\tif leads && name == \"\" {\n"}},
	},
	{
		rule: "R11", name: "a long write gets no further", by: "raftstore TestWatchCountsWhatItSaw",
		edits: []edit{{"raftstore/watch.go", "\tw.ops[slot] = operation{name: w.ops[slot].name}\n", ""}},
	},
	{
		rule: "R11", name: "a write that is over hangs", by: "raftstore TestStuckWriteIsTold",
		edits: []edit{{"raftstore/watch.go", "\tw.ops[slot] = operation{}\n", ""}},
	},
	{
		rule: "R11", name: "only the oldest write ends the process", by: "raftstore TestSyncOfTheStateMayTakeLonger",
		edits: []edit{{"raftstore/watch.go", "w.ops[i].name != \"\" && w.ops[i].age >= l {", "&w.ops[i] == oldest && w.ops[i].age >= l {"}},
	},
	{
		rule: "R5", name: "the second fault goes on", by: "raftstore TestNobodyGoesOnAfterAFault",
		edits: []edit{{"raftstore/fault.go", "\truntime.Goexit()\n}\n\n// halt", "\truntime.Gosched()\n}\n\n// halt"}},
	},
	{
		rule: "R5", name: "a fault halts nothing", by: "raftstore TestNothingIsAcknowledgedBehindAFault",
		edits: []edit{{"raftstore/fault.go", "\tif f.cause.Load() != nil {\n\t\tf.fail", "\tif f.cause.Load() != nil && f.hook == nil {\n\t\tf.fail"}},
	},
	{
		rule: "R2", name: "a trim leaves its few entries as the rule", by: "raftstore TestTrim",
		edits: []edit{{"raftstore/trim.go", "\tif rerr := s.raft.ReloadConfig(usual); rerr != nil {\n", "\tif rerr := error(nil); rerr != nil {\n"}},
	},
	{
		rule: "R7", name: "an install that a crash cut is not completed", by: "raftstore TestCrashDuringInstall",
		edits: []edit{{"raftstore/open.go", "\tcase p.Index > 0 && s.log.installed < p.Generation:\n", "\tcase p.Index > 0 && s.log.installed > p.Generation:\n"}},
	},
	{
		rule: "R8", name: "a STATE that was put back is taken", by: "raftstore TestOpenRefuses",
		edits: []edit{{"raftstore/open.go", "\tcase s.log.installed > p.Generation:\n", "\tcase s.log.installed > p.Generation+1<<20:\n"}},
	},
	{
		rule: "R8", name: "the log of another store is taken", by: "raftstore TestOpenRefuses",
		edits: []edit{{"raftstore/open.go", "\tcase id.Store != s.ident.Store:\n", "\tcase id.Store == \"\" && s.ident.Store == \"\":\n"}},
	},
	{
		rule: "R8", name: "the state of another cluster is opened", by: "raftstore TestOpenRefuses",
		edits: []edit{{"raftstore/open.go", "\tif meta.cluster != \"\" && meta.cluster != s.ident.Cluster {\n", "\tif meta.cluster != \"\" && s.ident.Cluster == \"\" {\n"}},
	},
	{
		rule: "R8", name: "a log that does not say whose it is is taken", by: "raftstore TestOpenRefuses",
		edits: []edit{{"raftstore/open.go", "\t\tif started, err := s.log.started(); err != nil || started {\n", "\t\tif _, err := s.log.started(); err != nil {\n"}},
	},
	{
		rule: "R5", name: "an append is acknowledged after a fault", by: "raftstore TestNothingIsAcknowledgedBehindAFault",
		edits: []edit{{"raftstore/logwrite.go", "\ts.fault.halt()\n\ts.synced", "\tif what[0] != 'a' {\n\t\ts.fault.halt()\n\t}\n\ts.synced"}},
	},
	{
		rule: "R4", name: "a vote that could not be kept is given", by: "raftstore TestNothingIsAcknowledgedBehindAFault",
		edits: []edit{{"raftstore/stable.go", "\ts.commit(b, fmt.Sprintf(\"keep %s\", key), durability)\n", "\t_ = b.Commit(durability)\n"}},
	},
	{
		rule: "R5", name: "keeping a vote begins after a fault", by: "raftstore TestNothingIsAcknowledgedBehindAFault",
		edits: []edit{{"raftstore/stable.go", "\ts.fault.halt()\n", ""}},
	},
	{
		rule: "R8", name: "who has a term begins a cluster", by: "raftstore TestWhoHasVotedBeginsNoCluster",
		edits: []edit{{"raftstore/begin.go", "\tcase s.ident.Cluster != \"\" || term > 0:\n", "\tcase s.ident.Cluster != \"\":\n"}},
	},
	{
		rule: "R5", name: "a failed commit of the log goes on", by: "raftstore TestACommitThatFailsIsAFault",
		edits: []edit{{"raftstore/logwrite.go", "\tif err := b.Commit(durability); err != nil {\n\t\ts.fault.fail(fmt.Errorf(\"%s: %w\", what, err))\n\t}\n", "\t_ = b.Commit(durability)\n"}},
	},
	{
		rule: "R1", name: "what is read from the log is Pebble's memory", by: "raftstore TestWhatWasReadStays",
		edits: []edit{{"raftstore/logstore.go", "\tout := append(make([]byte, 0, len(v)), v...) // v dies with closer\n", "\tout := v\n"}},
	},
	{
		rule: "R7", name: "the log is reconciled without a sync", by: "raftstore TestNothingIsAcknowledgedBehindAFault",
		edits: []edit{{"raftstore/reconcile.go", "with the state at %d\", at.Index), pebble.Sync)", "with the state at %d\", at.Index), pebble.NoSync)"}},
	},
	{
		rule: "R5", name: "an install begins after a fault", by: "raftstore TestNothingIsAcknowledgedBehindAFault",
		edits: []edit{{"raftstore/reconcile.go", "\ts.fault.halt()\n\tif s.installed", "\tif s.installed"}},
	},
	{
		rule: "R9", name: "closing does not wait for what is under way", by: "raftstore TestCloseWaitsForWhatIsUnderWay",
		edits: []edit{{"raftstore/store.go", "errors.Join(s.packer.drain(ctx), s.lead.end(ctx))", "s.lead.end(ctx)"}},
	},
	{
		rule: "R3", name: "what follows a pack's last command is ignored", by: "raftstore TestADamagedPackHasNoEffect",
		edits: []edit{{"raftstore/pack.go", "\tif len(rest) > 0 {\n", "\tif len(rest) > len(data) {\n"}},
	},
}
