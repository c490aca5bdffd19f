//go:build unix

package cli

// brokenStoreState are broken rules of raftstore: the state, snapshots, histories and backups.
var brokenStoreState = []broken{
	{
		rule: "R2", name: "the state counts as durable before it is synced", by: "raftstore TestDurableBehindTheSync",
		edits: []edit{{"raftstore/persist.go", "\tif !f.knobs.truncateUnsynced {\n", "\tf.durable.Store(&meta)\n\tif !f.knobs.truncateUnsynced {\n"}},
	},
	{
		rule: "R6", name: "a checkpoint that the log no longer reaches back to is sent again", by: "raftstore TestALiveSnapshotIsRenewed",
		edits: []edit{{"raftstore/snapshots.go", " || s.out.meta.applied.Index+1 < first {", " || first == 0 {"}},
	},
	{
		rule: "R12", name: "a backup takes a checkpoint of before", by: "raftstore TestBackupHoldsWhatWasAcknowledged",
		edits: []edit{{"raftstore/snapshots.go", " || s.out.meta.applied.Index < least ||", " ||"}},
	},
	{
		rule: "R6", name: "a checkpoint is removed under who reads it", by: "raftstore TestOpenLiveSnapshot",
		edits: []edit{{"raftstore/snapshots.go", "\tif out.refs--; out.refs > 0 {\n", "\tif out.refs--; out.refs > 1 {\n"}},
	},
	{
		rule: "R6", name: "a removed checkpoint is sent", by: "raftstore TestBackupOfANodeThatIsBehind",
		edits: []edit{{"raftstore/snapshots.go", "\tif s.out == out {\n", "\tif s.out != out {\n"}},
	},
	{
		rule: "R6", name: "what is applied is listed, durable or not", by: "raftstore TestDurableBehindTheSync",
		edits: []edit{{"raftstore/snapshots.go", "\tm := s.fsm.durable.Load()\n", "\tm := &stateMeta{applied: *s.fsm.applied.Load(), conf: s.fsm.configuration()}\n"}},
	},
	{
		rule: "R3", name: "the position goes back over what was applied meanwhile", by: "raftstore TestThePositionNeverGoesBack",
		edits: []edit{{"raftstore/persist.go", "\tif at.Index > applied.Index { // never back (raft issue 248)\n", "\tif at != applied {\n"}},
	},
	{
		rule: "R3", name: "the position moves beside a batch under way", by: "raftstore TestThePositionNeverGoesBack",
		edits: []edit{{"raftstore/persist.go", "\tf.mu.Lock()\n\tdefer f.mu.Unlock()\n\tst, err", "\tst, err"}},
	},
	{
		rule: "R2", name: "the position that raft truncates up to is not written", by: "raftstore TestPersistPassesBarriers",
		edits: []edit{{"raftstore/persist.go", "st.db.Set(keyApplied, encodePosition(at), pebble.NoSync)", "st.db.LogData(nil, pebble.NoSync)"}},
	},
	{
		rule: "R3", name: "an entry is applied twice", by: "raftstore TestARepetitionChangesNothing",
		edits: []edit{{"raftstore/fsm.go", "\t\tif l.Index <= applied.Index {\n", "\t\tif l.Index < applied.Index {\n"}},
	},
	{
		rule: "R3", name: "the applied position is not in the batch", by: "raftstore TestCommitted",
		edits: []edit{{"raftstore/fsm.go", "\tf.set(b, keyApplied, encodePosition(at))\n\tif err", "\tif at.Index%2 == 0 {\n\t\tf.set(b, keyApplied, encodePosition(at))\n\t}\n\tif err"}},
	},
	{
		rule: "R3", name: "an entry counts as applied before its effects show", by: "raftstore TestAppliedWhenItShows",
		edits: []edit{{"raftstore/fsm.go", "\tf.set(b, keyApplied, encodePosition(at))\n\tif err", "\tf.publish(at)\n\tf.set(b, keyApplied, encodePosition(at))\n\tif err"}},
	},
	{
		rule: "R3", name: "the machine is told before the effects show", by: "raftstore TestCommitted",
		edits: []edit{{"raftstore/fsm.go", "\tf.commit(b, applied, conf)\n\tf.tell(answers[from:])\n", "\tf.tell(answers[from:])\n\tf.commit(b, applied, conf)\n"}},
	},
	{
		rule: "R3", name: "an entry of a long batch is told of twice", by: "raftstore TestALongBatchIsToldOnce",
		edits: []edit{{"raftstore/fsm.go", "\t\t\tb, from = st.db.NewIndexedBatch(), i+1\n", "\t\t\tb = st.db.NewIndexedBatch()\n"}},
	},
	{
		rule: "R3", name: "the newest configuration is not in the batch", by: "raftstore TestBallastSize",
		edits: []edit{{"raftstore/fsm.go", "\t\t\tf.set(b, keyConf, conf.encode())\n", ""}},
	},
	{
		rule: "R8", name: "entries of another cluster are applied", by: "raftstore TestTheBarrierOfAnotherCluster",
		edits: []edit{{"raftstore/fsm.go", "\tcase *known != name:\n", "\tcase *known != name && name == \"\":\n"}},
	},
	{
		rule: "R3", name: "a raised format is not in the state", by: "raftstore TestRaiseFormat",
		edits: []edit{{"raftstore/fsm.go", "\t\t\tf.set(b, keyFormat, binary.AppendUvarint(nil, uint64(format)))", "\t\t\t_ = binary.AppendUvarint(nil, uint64(format))"}},
	},
	{
		rule: "R6", name: "an installed state does not count as durable", by: "raftstore TestInstallThenAppend",
		edits: []edit{{"raftstore/fsm.go", "\tf.durable.Store(&m)\n\tf.publish", "\tif next == nil {\n\t\tf.durable.Store(&m)\n\t}\n\tf.publish"}},
	},
	{
		rule: "R6", name: "an older snapshot is installed", by: "raftstore TestReceiveRefuses",
		edits: []edit{{"raftstore/install.go", "\tcase at.Index <= applied.Index:\n", "\tcase at.Index < 1:\n"}},
	},
	{
		rule: "R6", name: "the log is reconciled before the commit point", by: "raftstore TestCrashDuringInstall",
		edits: []edit{{"raftstore/install.go", "\ts.at(\"before the commit point\")\n", "\tif err := s.log.reconcile(generation, at); err != nil {\n\t\treturn err\n\t}\n\ts.at(\"before the commit point\")\n"}},
	},
	{
		rule: "R6", name: "the old state's files stay", by: "raftstore TestInstallThenAppend",
		edits: []edit{{"raftstore/install.go", "\t\tif !replaced {\n", "\t\tif !replaced || generation > 0 {\n"}},
	},
	{
		rule: "R6", name: "a state of an unknown format is installed", by: "raftstore TestInstallOfAFormat",
		edits: []edit{{"raftstore/install.go", "\t\terr = errors.Join(s.dbs.raise(db, meta.format), s.dbs.raise(s.log.db, meta.format))\n", "\t\terr = nil\n"}},
	},
	{
		rule: "R6", name: "an install does not raise the log's format", by: "raftstore TestInstallOfAFormat",
		edits: []edit{{"raftstore/install.go", "errors.Join(s.dbs.raise(db, meta.format), s.dbs.raise(s.log.db, meta.format))", "s.dbs.raise(db, meta.format)"}},
	},
	{
		rule: "R8", name: "a snapshot of another cluster is taken", by: "raftstore TestReceiveRefuses",
		edits: []edit{{"raftstore/sink.go", "\tcase cluster != \"\" && got.cluster != cluster:\n", "\tcase cluster == \"\" && got.cluster != cluster && got.applied.Index == 0:\n"}},
	},
	{
		rule: "R6", name: "a snapshot's configuration is not compared", by: "raftstore TestReceiveComparesTheConfiguration",
		edits: []edit{{"raftstore/sink.go", "\tcase got.conf.index != s.meta.conf.index:\n", "\tcase got.conf.index != s.meta.conf.index && got.conf.index == 0:\n"}},
	},
	{
		rule: "R6", name: "a snapshot's position is not compared", by: "raftstore TestReceiveRefuses",
		edits: []edit{{"raftstore/sink.go", "\tcase got.applied != s.meta.applied:\n", "\tcase got.applied.Index == 0:\n"}},
	},
	{
		rule: "R6", name: "a received file's checksum is not compared", by: "raftstore TestReceiveRefuses",
		edits: []edit{{"raftstore/sink.go", "\t\tif u.crc != binary.BigEndian.Uint32(b) {\n", "\t\tif u.crc == 0 && f.Size > 0 {\n"}},
	},
	{
		rule: "R6", name: "a received file is not synced", by: "raftstore TestCrashDuringInstall",
		edits: []edit{{"raftstore/sink.go", "\t\tif err := u.file.Sync(); err != nil {\n", "\t\tif err := error(nil); err != nil {\n"}},
	},
	{
		rule: "R6", name: "a snapshot that is cut short is whole", by: "raftstore TestReceiveRefuses",
		edits: []edit{{"raftstore/sink.go", "\tif !u.done() {\n", "\tif u.header == nil {\n"}},
	},
	{
		rule: "R6", name: "an archive of a later format is read", by: "raftstore TestReceiveRefuses",
		edits: []edit{{"raftstore/archive.go", "\tif h.Format != archiveFormat {\n", "\tif h.Format < archiveFormat {\n"}},
	},
	{
		rule: "R12", name: "a view is of what the last one saw", by: "raftstore TestViewsShareASnapshot",
		edits: []edit{{"raftstore/view.go", "sh != nil && sh.at.Index >= applied {", "sh != nil {"}},
	},
	{
		rule: "R6", name: "a view is closed under another", by: "raftstore TestViewDuringInstall",
		edits: []edit{{"raftstore/view.go", "\tif sh.refs--; sh.refs > 0 {\n", "\tif sh.refs--; sh.refs > 1 {\n"}},
	},
	{
		rule: "R6", name: "the machine reads what is the store's own", by: "raftstore TestView",
		edits: []edit{{"raftstore/view.go", "\tif bytes.Compare(opts.LowerBound, firstMachineKey) < 0 {\n", "\tif bytes.Compare(opts.LowerBound, firstMachineKey) > 0 {\n"}},
	},
	{
		rule: "R15", name: "a reign that is over wrote on", by: "raftstore TestJudge",
		edits: []edit{{"raftstore/history.go", "\tcase named >= 0 && named != at:\n", "\tcase named > at:\n"}},
	},
	{
		rule: "R15", name: "what was not applied is vouched for", by: "raftstore TestJudge",
		edits: []edit{{"raftstore/history.go", "\tcase index > applied || at < 0:\n", "\tcase at < 0:\n"}},
	},
	{
		rule: "R15", name: "nobody's reign is somebody's", by: "raftstore TestJudge",
		edits: []edit{{"raftstore/history.go", " && r.ID == id && id != (ReignID{}) {", " && r.ID == id {"}},
	},
	{
		rule: "R15", name: "a barrier of another term begins a reign", by: "raftstore TestHistoryOfALog",
		edits: []edit{{"raftstore/history.go", "bar.term == l.Term && (newest", "(newest"}},
	},
	{
		rule: "R15", name: "each barrier begins a reign", by: "raftstore TestHistoryOfALog",
		edits: []edit{{"raftstore/history.go", " && (newest.Term != l.Term || newest.ID == ReignID{}):\n", ":\n"}},
	},
	{
		rule: "R15", name: "a barrier behind commands begins none", by: "raftstore TestHistoryOfALog",
		edits: []edit{{"raftstore/history.go", "(newest.Term != l.Term || newest.ID == ReignID{}):\n", "newest.Term != l.Term:\n"}},
	},
	{
		rule: "R15", name: "reigns that left come back", by: "raftstore TestHistoryOfALog",
		edits: []edit{{"raftstore/history.go", "\t\tif err := b.Delete(reignKey(r.First), nil); err != nil {\n", "\t\tif err := b.LogData(reignKey(r.First), nil); err != nil {\n"}},
	},
	{
		rule: "R15", name: "reigns are in memory alone", by: "raftstore TestHistoryOfALog",
		edits: []edit{{"raftstore/history.go", "\tf.set(b, reignKey(next.First), next.encode())\n", ""}},
	},
	{
		rule: "R15", name: "a reign begins one late", by: "raftstore TestJudge",
		edits: []edit{{"raftstore/history.go", "return reigns[i].First > index }) - 1\n", "return reigns[i].First >= index }) - 1\n"}},
	},
	{
		rule: "R12", name: "a backup does not wait for what was acknowledged", by: "raftstore TestBackupBehindANewLeader",
		edits: []edit{{"raftstore/backup.go", "\tfor s.Applied().Index < leader.LastIndex {\n", "\tfor s.Applied().Index < leader.Applied {\n"}},
	},
	{
		rule: "R12", name: "the term may end while a backup asks", by: "raftstore TestBackupTrustsALeader",
		edits: []edit{{"raftstore/backup.go", "now != leader.Term {\n\t\treturn fmt", "now < leader.Term {\n\t\treturn fmt"}},
	},
	{
		rule: "R12", name: "who does not lead is asked for a backup", by: "raftstore TestBackupTrustsALeader",
		edits: []edit{{"raftstore/backup.go", "\tif leader.State != raft.Leader.String() {\n", "\tif leader.State == \"\" {\n"}},
	},
	{
		rule: "R12", name: "nobody vouches for a backup's leader", by: "raftstore TestBackupOfADeposedLeader",
		edits: []edit{{"raftstore/backup.go", "leader.Term); err != nil {", "leader.Term); err != nil && leader.Term == 0 {"}},
	},
	{
		rule: "R2", name: "what is durable goes back", by: "raftstore TestWhatIsDurableNeverGoesBack",
		edits: []edit{{"raftstore/persist.go", "\tif f.durable.Load().applied.Index < meta.applied.Index {\n", "\tif f.durable.Load() != nil {\n"}},
	},
	{
		rule: "R6", name: "what is installed is not looked at again", by: "raftstore TestAnInstallLooksAtWhatItInstalls",
		edits: []edit{{"raftstore/install.go", "\tif err == nil && meta.applied != at {\n", "\tif err == nil && at.Index == 0 {\n"}},
	},
	{
		rule: "R14", name: "a log that an install emptied went back", by: "raftstore TestReachBehindAnInstall",
		edits: []edit{{"raftstore/status.go", "Reach{Applied: applied, Last: max(last, applied)}", "Reach{Applied: applied, Last: last}"}},
	},
}
