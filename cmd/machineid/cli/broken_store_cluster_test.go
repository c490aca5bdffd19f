//go:build unix

package cli

// brokenStoreCluster are broken rules of raftstore: who is a member, who leads, and who is let in.
var brokenStoreCluster = []broken{
	{
		rule: "R13", name: "a vote is given though no quorum works", by: "raftstore TestPromoteNeedsAQuorumThatWorks", short: true,
		edits: []edit{{"raftstore/members.go", "\t\tif err := s.working(ctx, append(m.voters(), now), term); err != nil {\n\t\t\treturn nil, err\n\t\t}\n", ""}},
	},
	{
		rule: "R12", name: "half of an even number of voters is a quorum", by: "raftstore TestConfirmNeedsOneVoter",
		edits: []edit{{"raftstore/confirm.go", "\tneed, open := len(voters)/2+1, 0\n", "\tneed, open := (len(voters)+1)/2, 0\n"}},
	},
	{
		rule: "R12", name: "a voter of an older term vouches", by: "raftstore TestConfirmWrongNode",
		edits: []edit{{"raftstore/confirm.go", "\tcase status.Term < term:\n", "\tcase status.Term < term && status.Term == 0:\n"}},
	},
	{
		rule: "R12", name: "a voter of a newer term vouches", by: "raftstore TestConfirmWrongNode",
		edits: []edit{{"raftstore/confirm.go", "\tcase status.Term > term:\n", "\tcase status.Term > term && term == 0:\n"}},
	},
	{
		rule: "R14", name: "a store that is in no cluster vouches", by: "raftstore TestConfirmWrongNode",
		edits: []edit{{"raftstore/confirm.go", "\tif err == nil && status.Cluster == \"\" {\n", "\tif err == nil && term == 0 {\n"}},
	},
	{
		rule: "R14", name: "another life vouches", by: "raftstore TestConfirmWrongNode",
		edits: []edit{{"raftstore/confirm.go", "\t\terr = status.isOf(lifeOf(v.ID), s.clusterName())\n\t}\n\tif err == nil && status", "\t\terr = status.isOf(status.Life(), s.clusterName())\n\t}\n\tif err == nil && status"}},
	},
	{
		rule: "R12", name: "who has no vote vouches", by: "raftstore TestConfirmAsksVoters",
		edits: []edit{{"raftstore/confirm.go", "\t\tif server.Suffrage == raft.Voter {\n", "\t\tif server.Suffrage != raft.Staging {\n"}},
	},
	{
		rule: "R12", name: "a round that is over late serves who came meanwhile", by: "raftstore TestConfirmDeposed",
		edits: []edit{{"raftstore/turns.go", "\t\tt.next, t.current = nil, now\n", "\t\tt.current = now\n"}, {"raftstore/turns.go", "\t\tclose(now.done)\n", "\t\tclose(now.done)\n\t\tt.mu.Lock()\n\t\tt.next = nil\n\t\tt.mu.Unlock()\n"}},
	},
	{
		rule: "R12", name: "a term that was ready counts for the next", by: "raftstore TestEachTermIsAReign",
		edits: []edit{{"raftstore/lead.go", "\treturn term, leads && now == term\n", "\treturn max(term, now), leads\n"}},
	},
	{
		rule: "R9", name: "a barrier that got lost is not sent again", by: "raftstore TestABarrierIsSentAgain",
		edits: []edit{{"raftstore/lead.go", "\t\t\tcase <-retry.C:\n\t\t\t\tbreak wait\n", "\t\t\tcase <-retry.C:\n\t\t\t\tcontinue wait\n"}},
	},
	{
		rule: "R12", name: "two terms' leaders work at once", by: "raftstore TestLead",
		edits: []edit{{"raftstore/lead.go", "\t\t\t<-wait\n", "\t\t\t_ = wait\n"}},
	},
	{
		rule: "R15", name: "two barriers of one term differ", by: "raftstore TestABarrierIsSentAgain",
		edits: []edit{{"raftstore/lead.go", "\t_, _ = rand.Read(bar.reign[:]) // never fails\n", ""}, {"raftstore/lead.go", "\t\tl.store.raft.Apply(bar.encode(), barrierRetry)\n", "\t\t_, _ = rand.Read(bar.reign[:])\n\t\tl.store.raft.Apply(bar.encode(), barrierRetry)\n"}},
	},
	{
		rule: "R13", name: "a change of the membership is based on any configuration", by: "raftstore TestMembershipRace",
		edits: []edit{{"raftstore/members.go", "take(now.index, timeout)", "take(0, timeout)"}},
	},
	{
		rule: "R13", name: "the leader removes itself", by: "raftstore TestMembershipRefuses",
		edits: []edit{{"raftstore/members.go", "\t\tif id == s.cfg.ID {\n\t\t\treturn nil, fmt.Errorf(\"%w: it leads", "\t\tif id == \"\" {\n\t\t\treturn nil, fmt.Errorf(\"%w: it leads"}},
	},
	{
		rule: "R13", name: "a voter leaves though the rest does not work", by: "raftstore TestReplaceRefuses",
		edits: []edit{{"raftstore/members.go", "\t\t\tif err := s.working(ctx, left, term); err != nil {\n", "\t\t\tif err := s.working(ctx, left, term); err != nil && id == \"\" {\n"}},
	},
	{
		rule: "R13", name: "the voter that leaves counts among the rest", by: "raftstore TestMembershipRefuses",
		edits: []edit{{"raftstore/members.go", "return v.ID == server.ID })\n\t\t\tif err", "return v.ID == \"\" })\n\t\t\tif err"}},
	},
	{
		rule: "R9", name: "a change whose caller gave up is refused", by: "raftstore TestMembershipUnknown",
		edits: []edit{{"raftstore/members.go", "\tcase <-ctx.Done():\n\t\treturn outcomeUnknown(context.Cause(ctx))\n", "\tcase <-ctx.Done():\n\t\treturn fmt.Errorf(\"%w: %w\", ErrRefused, context.Cause(ctx))\n"}},
	},
	{
		rule: "R9", name: "a change that raft forgot is refused", by: "raftstore TestAForgottenChangeIsUnknown",
		edits: []edit{{"raftstore/members.go", "\t\treturn outcomeUnknown(ErrClosed)\n", "\t\treturn ErrClosed\n"}},
	},
	{
		rule: "R9", name: "a change that was lost with the leadership was not done", by: "raftstore TestClassifyChange",
		edits: []edit{{"raftstore/members.go", "\tcase errors.Is(err, raft.ErrNotLeader):\n", "\tcase errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost):\n"}},
	},
	{
		rule: "R13", name: "the leadership goes to a voter of another term", by: "raftstore TestWhoWorks",
		edits: []edit{{"raftstore/members.go", " || m.Err != nil || m.Status.Term != term\n", " || m.Err != nil || term == 0\n"}},
	},
	{
		rule: "R13", name: "the leadership goes to who does not answer", by: "raftstore TestMembershipRefuses",
		edits: []edit{{"raftstore/members.go", " || m.Err != nil || m.Status.Term != term\n", " || m.Err == nil && m.Status.Term != term\n"}},
	},
	{
		rule: "R13", name: "the leadership goes to who has no vote", by: "raftstore TestMembershipRefuses",
		edits: []edit{{"raftstore/members.go", "\t\treturn !m.Voter || m.ID == s.cfg.ID ||", "\t\treturn m.ID == s.cfg.ID ||"}},
	},
	{
		rule: "R13", name: "the leadership goes to who gets no entries", by: "raftstore TestAHandOverNeedsWhoKeepsUp",
		edits: []edit{{"raftstore/members.go", "\t\tif err == nil && status.LastIndex >= last {\n", "\t\tif err == nil && last > 0 {\n"}},
	},
	{
		rule: "R13", name: "the leadership goes to the voter that is furthest behind", by: "raftstore TestStalledFollower",
		edits: []edit{{"raftstore/members.go", "slices.MaxFunc(members", "slices.MinFunc(members"}},
	},
	{
		rule: "R13", name: "no entry follows a vote", by: "raftstore TestMembership",
		edits: []edit{{"raftstore/members.go", "\t\t\ts.raft.Apply(emptyPack, barrierRetry)\n", ""}},
	},
	{
		rule: "R13", name: "who has the log has caught up", by: "raftstore TestWhoHasCaughtUp",
		edits: []edit{{"raftstore/ready.go", "status.Applied >= target\n", "status.LastIndex >= target\n"}},
	},
	{
		rule: "R13", name: "who was level once has caught up", by: "raftstore TestWhoHasCaughtUp",
		edits: []edit{{"raftstore/ready.go", "now.Sub(since) >= s.cfg.HeartbeatTimeout {", "now.Sub(since) >= 0 {"}},
	},
	{
		rule: "R13", name: "who is slow has caught up", by: "raftstore TestWhoIsSlowHasNotCaughtUp",
		edits: []edit{{"raftstore/ready.go", "\t\tcase now.Sub(began) >= s.cfg.HeartbeatTimeout:\n", "\t\tcase now.Sub(began) < 0:\n"}},
	},
	{
		rule: "R13", name: "half of the voters work", by: "raftstore TestMembershipRefuses",
		edits: []edit{{"raftstore/ready.go", "len(voters)-len(causes), len(voters)/2+1;", "len(voters)-len(causes), (len(voters)+1)/2;"}},
	},
	{
		rule: "R13", name: "a voter of another term works", by: "raftstore TestWhoWorks",
		edits: []edit{{"raftstore/ready.go", "\t\t\tcase status.Term != term:\n\t\t\t\terr", "\t\t\tcase status.Term == 0:\n\t\t\t\terr"}},
	},
	{
		rule: "R13", name: "a voter that needs a snapshot works", by: "raftstore TestWhoWorks",
		edits: []edit{{"raftstore/ready.go", "\t\t\tcase status.LastIndex+1 < first:\n", "\t\t\tcase status.LastIndex+1 < first && first == 0:\n"}},
	},
	{
		rule: "R13", name: "an address belongs to two", by: "raftstore TestAnAddressIsOneMembers",
		edits: []edit{{"raftstore/admit.go", "\t\t\tcase server.Address == raft.ServerAddress(addr):\n", "\t\t\tcase server.Address == \"\":\n"}},
	},
	{
		rule: "R14", name: "a name belongs to two lives", by: "raftstore TestALostDiskIsAnotherMember",
		edits: []edit{{"raftstore/admit.go", "\t\t\tcase now.ID == id:\n", "\t\t\tcase now.ID == \"\":\n"}},
	},
	{
		rule: "R13", name: "a program that is too old is taken in", by: "raftstore TestNobodyOlderJoinsDuringARaise",
		edits: []edit{{"raftstore/admit.go", "status.newestFormat() < now {", "now < 0 {"}},
	},
	{
		rule: "R13", name: "nobody waits for a raise that may be open", by: "raftstore TestNobodyOlderJoinsDuringARaise",
		edits: []edit{{"raftstore/admit.go", "\tif joiner.newestFormat() >= s.cfg.newestFormat() {\n", "\tif joiner.newestFormat() >= formatFirst {\n"}},
	},
	{
		rule: "R14", name: "a member that answers is exchanged", by: "raftstore TestReplaceRefuses",
		edits: []edit{{"raftstore/admit.go", "\t\tcase err == nil:\n\t\t\treturn fmt.Errorf(\"%w: %s answers", "\t\tcase err == nil && member.ID == \"\":\n\t\t\treturn fmt.Errorf(\"%w: %s answers"}},
	},
	{
		rule: "R14", name: "another cluster's caller is let in", by: "raftstore TestDoor",
		edits: []edit{{"raftstore/door.go", "\tcase own != \"\" && g.Cluster != \"\" && own != g.Cluster:\n", "\tcase own != \"\" && g.Cluster != \"\" && own == \"\":\n"}},
	},
	{
		rule: "R14", name: "a caller is let in that was removed", by: "raftstore TestDoor",
		edits: []edit{{"raftstore/door.go", "applied.index == 0 || g.Members > applied.index {", "applied.index == 0 || g.Members >= applied.index {"}},
	},
	{
		rule: "R14", name: "raft's messages for anyone are read", by: "raftstore TestDoor",
		edits: []edit{{"raftstore/door.go", "\tcase forRaft && (g.To != d.life || g.Cluster == \"\"):\n", "\tcase forRaft && g.To != d.life && g.To.Store != \"\":\n"}},
	},
	{
		rule: "R14", name: "a dialler speaks to another life", by: "raftstore TestDoor",
		edits: []edit{{"raftstore/door.go", ", to.Store != \"\" && w.Life.Store != to.Store:\n", ":\n"}},
	},
	{
		rule: "R14", name: "a dialler speaks to another node", by: "raftstore TestDoor",
		edits: []edit{{"raftstore/door.go", "\tcase to.ID != \"\" && w.Life.ID != to.ID, ", "\tcase "}},
	},
	{
		rule: "R14", name: "a dialler speaks to another cluster", by: "raftstore TestDoor",
		edits: []edit{{"raftstore/door.go", "\tcase own != \"\" && w.Cluster != \"\" && own != w.Cluster:\n", "\tcase own != \"\" && w.Cluster != \"\" && own == \"\":\n"}},
	},
	{
		rule: "R14", name: "a log that went back one is let in", by: "raftstore TestReachIsJudgedInOrder",
		edits: []edit{{"raftstore/door.go", "\tif at.Last < was {\n", "\tif at.Last+1 < was {\n"}},
	},
	{
		rule: "R14", name: "how far a life was is forgotten", by: "raftstore TestReachIsJudgedInOrder",
		edits: []edit{{"raftstore/door.go", "r.applied[l] = max(now, at.Applied)", "r.applied[l] = min(max(now, at.Applied), at.Applied)"}},
	},
	{
		rule: "R14", name: "a caller's log is not judged", by: "raftstore TestReachIsJudgedInOrder",
		edits: []edit{{"raftstore/door.go", "\terr := d.met.meet(v.g.From, at, v.was)\n", "\terr := d.met.meet(v.g.From, at, 0)\n"}},
	},
	{
		rule: "R14", name: "an answer's log is not judged", by: "raftstore TestReachOfAnswers",
		edits: []edit{{"raftstore/status.go", "Last: max(status.LastIndex, status.Applied)}, was)", "Last: max(status.LastIndex, status.Applied)}, min(was, 0))"}},
	},
	{
		rule: "R14", name: "how far a node was is looked up behind its answer", by: "raftstore TestReachOfAnswers",
		edits: []edit{{"raftstore/status.go", "\t\t\twas := a.met.of(at.life)\n\t\t\tstatus, err := a.peers.Status(ctx, at.life, at.addr)\n", "\t\t\tstatus, err := a.peers.Status(ctx, at.life, at.addr)\n\t\t\twas := a.met.of(at.life)\n"}},
	},
	{
		rule: "R14", name: "the connections of who was removed go on", by: "raftstore TestConnectionsOfRemovedNodesEnd",
		edits: []edit{{"raftstore/transport.go", "\t\t\t_ = c.Close()\n\t\t}\n\t}\n}\n\n// Accept", "\t\t}\n\t}\n}\n\n// Accept"}},
	},
	{
		rule: "R14", name: "a dialler does not wait until it is let in", by: "raftstore TestWhoWentBackIsNotConnected",
		edits: []edit{{"raftstore/transport.go", "\t\terr = visit.Admitted(w)\n", "\t\t_ = visit\n"}},
	},
	{
		rule: "R14", name: "a caller that was refused is let in", by: "raftstore TestWhoWentBackIsNotConnected",
		edits: []edit{{"raftstore/transport.go", "\tw = visit.Arrived(at)\n\tif err := writeFrame(c, w); err != nil {\n\t\treturn 0, fmt.Errorf(\"let the caller in: %w\", err)\n\t}\n\tif w.Refused", "\tw = visit.Arrived(at)\n\tif err := writeFrame(c, w); err != nil {\n\t\treturn 0, fmt.Errorf(\"let the caller in: %w\", err)\n\t}\n\tif kind == 0 && w.Refused"}},
	},
	{
		rule: "R12", name: "a late answer is taken for the next one", by: "raftstore TestPeers",
		edits: []edit{{"raftstore/peers.go", "\t\t_ = c.Close()\n\t\treturn NodeStatus{}, fmt.Errorf(\"ask", "\t\tp.keep(at, c)\n\t\treturn NodeStatus{}, fmt.Errorf(\"ask"}},
	},
	{
		rule: "R11", name: "a frame may be of any size", by: "raftstore TestFramesAreBounded",
		edits: []edit{{"raftstore/peers.go", "\tif size > ownMaxFrame {\n", "\tif size > 1<<31 {\n"}},
	},
	{
		rule: "R13", name: "a follower that is sent a snapshot is stalled", by: "raftstore TestWhoIsSentASnapshotIsNotStalled",
		edits: []edit{{"raftstore/followers.go", " || status.LastIndex+1 < first {\n", " || first == 0 {\n"}},
	},
	{
		rule: "R13", name: "a stalled follower moves the leadership each second", by: "raftstore TestStalledFollower",
		edits: []edit{{"raftstore/followers.go", "now.Sub(s.handedOver) >= watchHandover {", "now.Sub(s.handedOver) >= 0 {"}},
	},
	{
		rule: "R10", name: "the leadership goes to a full disk", by: "raftstore TestWhoWorks",
		edits: []edit{{"raftstore/followers.go", "\tif err != nil || to.Status.DiskFull {\n", "\tif err != nil {\n"}},
	},
	{
		rule: "R13", name: "who answers again was silent all the time", by: "raftstore TestSilenceIsCountedInLooks",
		edits: []edit{{"raftstore/autopilot.go", "\t\tdelete(p.silent, id)\n\t\treturn\n", "\t\treturn\n"}},
	},
	{
		rule: "R13", name: "who missed one look is dead", by: "raftstore TestDeadServersAreRemoved",
		edits: []edit{{"raftstore/autopilot.go", "\treturn p.silent[id] >= p.store.cfg.DeadServerAfter\n", "\treturn p.silent[id] > 0\n"}},
	},
	{
		rule: "R13", name: "who answered since is removed as dead", by: "raftstore TestAutopilotTakesTheDeadOnly",
		edits: []edit{{"raftstore/autopilot.go", "\tif !p.dead(dead.ID) || p.ctx.Err() != nil {\n", "\tif p.ctx.Err() != nil {\n"}},
	},
	{
		rule: "R9", name: "a pipeline goes on behind a refusal", by: "raftstore TestPipelineEndsBehindARefusal",
		edits: []edit{{"raftstore/pipeline.go", " || !f.Response().Success || f", " || f"}},
	},
	{
		rule: "R14", name: "a message is read before the cluster's name is kept", by: "raftstore TestDoor",
		edits: []edit{{"raftstore/door.go", "\t\terr = d.enter(v.g.Cluster)\n", "\t\tdefer func() { _ = d.enter(v.g.Cluster) }()\n"}},
	},
	{
		rule: "R14", name: "a dialler does not know how far the other was", by: "raftstore TestReachIsJudgedInOrder",
		edits: []edit{{"raftstore/door.go", "Visit{door: d, g: g, was: g.Known}", "Visit{door: d, g: g}"}},
	},
	{
		rule: "R5", name: "a node that stopped after a fault answers", by: "raftstore TestAFaultSilences",
		edits: []edit{{"raftstore/status.go", " || s.fault.err() != nil || s.packer", " || s.packer"}},
	},
	{
		rule: "R12", name: "a term is ready before its barrier", by: "raftstore TestElectedIsNotReady",
		edits: []edit{{"raftstore/lead.go", "\tif !l.barrier(ctx, term) {\n", "\tl.ready.Store(term)\n\tif !l.barrier(ctx, term) {\n"}},
	},
	{
		rule: "R13", name: "a vote is given to another than was asked for", by: "raftstore TestAVoteIsForWhoWasAsked",
		edits: []edit{{"raftstore/members.go", "\t\tcase now != server:\n", "\t\tcase now.ID == \"\":\n"}},
	},
	{
		rule: "R14", name: "a node of another cluster is taken in", by: "raftstore TestWhoIsOfAnotherClusterIsNotTakenIn",
		edits: []edit{{"raftstore/admit.go", "\tcase status.Cluster != \"\" && status.Cluster != s.clusterName():\n", "\tcase status.Cluster != \"\" && s.clusterName() == \"\":\n"}},
	},
	{
		rule: "R13", name: "a member is let in while the format is raised", by: "raftstore TestAdmittingIsOneAtATime",
		edits: []edit{{"raftstore/admit.go", "(ctx context.Context, id, addr string) error {\n\ts.admitting.Lock()\n\tdefer s.admitting.Unlock()\n\tif err := s.admit(", "(ctx context.Context, id, addr string) error {\n\tif err := s.admit("}},
	},
	{
		rule: "R13", name: "the format is raised while a member is let in", by: "raftstore TestAdmittingIsOneAtATime",
		edits: []edit{{"raftstore/format.go", "\ts.admitting.Lock() // nobody who does not know it becomes a member meanwhile\n\tdefer s.admitting.Unlock()\n", ""}},
	},
	{
		rule: "R13", name: "a stalled follower is not waited for", by: "raftstore TestWhoIsSentASnapshotIsNotStalled",
		edits: []edit{{"raftstore/followers.go", "\tif stuck < s.cfg.StallTimeout {\n", "\tif stuck < 0 {\n"}},
	},
	{
		rule: "R13", name: "autopilot gives votes", by: "raftstore TestAutopilotGivesNoVote",
		edits: []edit{{"raftstore/autopilot.go", "func (keepVotes) CalculatePromotionsAndDemotions(*autopilot.Config, *autopilot.State) autopilot.RaftChanges {\n\treturn autopilot.RaftChanges{}\n", "func (k keepVotes) CalculatePromotionsAndDemotions(c *autopilot.Config, s *autopilot.State) autopilot.RaftChanges {\n\treturn k.Promoter.CalculatePromotionsAndDemotions(c, s)\n"}},
	},
	{
		rule: "R17", name: "a snapshot that stops is waited for while heartbeats go on", by: "raftstore TestASnapshotThatStopsIsToldOf",
		edits: []edit{{"raftstore/pace.go", " || looked >= c.pace.message {", " {"}},
	},
	{
		rule: "R17", name: "heartbeats do not count while a snapshot comes", by: "raftstore TestASnapshotThatStopsIsToldOf",
		edits: []edit{{"raftstore/pace.go", "heard, silent = now, 0", "heard = now"}},
	},
	{
		rule: "R17", name: "a snapshot is sent for as long as raft likes", by: "raftstore TestAVoterThatVanishedInASnapshotIsSentAnother",
		edits: []edit{{"raftstore/pace.go", "sooner(c.set.write.Load(), c.pace.message)", "sooner(c.set.write.Load(), 60*c.pace.message)"}},
	},
	{
		rule: "R17", name: "closing waits for a snapshot under way", by: "raftstore TestCloseEndsASnapshotUnderWay",
		edits: []edit{{"raftstore/store.go", "			_ = c.Close() // now:", "			_ = c // now:"}},
	},
	{
		rule: "R17", name: "a hand-over waits for who hangs", by: "raftstore TestAHandOverToWhoHangsEnds",
		edits: []edit{{"raftstore/pipeline.go", "time.NewTimer(t.handOver)", "time.NewTimer(time.Hour)"}},
	},
	{
		rule: "R11", name: "what does not come of a snapshot is not told", by: "raftstore TestASnapshotThatStopsIsToldOf",
		edits: []edit{{"raftstore/snapshots.go", "s.fsm.watch.begin(receivingState)", "s.fsm.watch.begin(\"idle\")"}},
	},
}
