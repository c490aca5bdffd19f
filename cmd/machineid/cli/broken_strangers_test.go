//go:build unix

package cli

// brokenStrangers are broken rules of I14: nobody gets anything by what proves nothing, and nobody who fills a table shuts others out.
var brokenStrangers = []broken{
	{
		rule: "I14", name: "a first look reads any number of keys", by: "authority/state TestALookReadsFewKeys",
		edits: []edit{{"authority/state/orgkeys.go", "		most = lookKeysMax\n", "		most--\n"}},
	},
	{
		rule: "I14", name: "a call tells of members that others have changed", by: "authority/api TestWhoChangedAMemberIsTold",
		edits: []edit{{"authority/api/note.go", "	if id != allMembers {\n", "	if id == \"\" {\n"}},
	},
	{
		rule: "I14", name: "a recovery proves the key that came with it", by: "authority/api TestNothingIsProposedBeforeAProof",
		edits: []edit{{"shared/wire/routes.go", `{Path: "org/recover", Proves: ProvesNothing,`, `{Path: "org/recover", Proves: ProvesKey,`}},
	},
	{
		rule: "I14", name: "who shows a good key to a call that does not look at it has no limit", by: "edge TestStrangersAreLimited",
		edits: []edit{{"edge/limits.go", "	if r.Route.Proves == wire.ProvesNothing && !r.Route.Validate && !r.Route.Decides {\n", "	if r.Route == nil {\n"}},
	},
	{
		rule: "I14", name: "what is refused is proposed", by: "authority/api TestNothingIsProposedBeforeAProof",
		edits: []edit{{"authority/api/settle.go", "	if err := r.first(ctx, cmd); err != nil {\n		return done{}, err\n	}\n", ""}},
	},
	{
		rule: "I2", name: "an old view refuses a change", by: "authority/api TestWhatRacesIsDecidedWhereItIsApplied",
		edits: []edit{{"authority/api/first.go", "	return r.look(ctx, r.refuses(cmd))\n", `	view, err := r.api.cfg.Store.View()
	if err != nil {
		return err
	}
	_, _, err = r.through(ctx, view, r.refuses(cmd))
	return err
`}},
	},
	{
		rule: "I14", name: "what is refused counts what has ended", by: "authority/state TestALookCountsNobody",
		edits: []edit{{"authority/state/tx.go", "h.seats.GetEnding() > 0 && !t.dry {", "h.seats.GetEnding() > 0 {"}},
	},
	{
		rule: "I14", name: "a look refuses where a seat may be free", by: "authority/state TestALookCountsNobody",
		edits: []edit{{"authority/state/first.go", "if err != nil || ended {", "if err != nil || ended && err != nil {"}},
	},
	{
		rule: "I14", name: "what has ended lets a key at its cap fill the log", by: "authority/state TestWhatHasEndedIsSweptByARefusal",
		edits: []edit{{"authority/state/commands.go", "	t.sweep(h)\n	return t.onDevice(h,", "	return t.onDevice(h,"}},
	},
	{
		rule: "I14", name: "whoever fills the queue of recoveries shuts others out", by: "authority/recovery TestAFullQueue",
		edits: []edit{{"authority/recovery/queue.go", "		if i == len(q.waiting) {\n", "		if i >= 0 {\n"}},
	},
	{
		rule: "I14", name: "hosts of a site are counted apart", by: "shared/budget TestASiteIsCounted",
		edits: []edit{{"shared/budget/address.go", "	if wait != 0 || !addr.Is6() {\n", "	if wait != 0 || addr.IsValid() {\n"}},
	},
	{
		rule: "I14", name: "who makes up edges takes the sessions of others", by: "authority/hub TestAFullMeterShutsNobodyOut",
		edits: []edit{{"authority/hub/meter.go", "		case m.room:\n			m.makeRoom()\n", ""}},
	},
	{
		rule: "I14", name: "what one key asked for pushes out another's", by: "authority/state TestAKeyForgetsItsOwn",
		edits: []edit{{"authority/state/keys.go", "onceQueue{org, string(keyHash[:shareSize])}", "onceQueue{org, string(make([]byte, shareSize))}"}},
	},
	{
		rule: "I14", name: "what a client writes beside its gateway is believed", by: "edge TestHowGatewaysWrite",
		edits: []edit{{"edge/address.go", "		if one && also != said {\n", "		if one && !also.IsValid() {\n"}},
	},
}
