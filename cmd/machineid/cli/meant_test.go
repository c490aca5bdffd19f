package cli

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// What commands do to who may run, of those that change it.
var (
	givesRights = []string{"device restore", "key create", "org enable", "org unfreeze", "org create", "cluster add", "cluster promote"}
	takesRights = []string{"device revoke", "device remove", "key revoke", "org disable", "org freeze", "org delete", "cluster demote", "cluster remove"}
	// endsThings are those that end what they are called for, for good.
	endsThings = []string{"device remove", "key revoke", "org delete", "cluster remove"}
)

// Words by what they mean, whatever the object.
var (
	wordsThatGive = []string{"unrevoke", "unrevoke-batch", "restore", "enable", "unfreeze", "thaw", "unblock", "unban", "unhold", "resume", "allow", "on", "activate", "reinstate", "undisable", "unlock", "re-enable", "grant", "promote"}
	wordsThatTake = []string{"revoke", "revoke-batch", "disable", "freeze", "block", "ban", "hold", "suspend", "deny", "off", "kill", "stop", "deactivate", "lock", "demote", "reject"}
	wordsThatEnd  = []string{"delete", "remove", "rm", "destroy", "drop", "purge"}
)

// TestTheWordsOfTheAPIAreUnderstood: who types what the API or a person calls a thing is told the command.
func TestTheWordsOfTheAPIAreUnderstood(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]string{
		"device unrevoke": "device restore", "device unrevoke_batch": "device restore", "device unrevok": "device restore", "device revoke_batch": "device revoke",
		"device delete": "device remove", "device disable": "device revoke", "device enable": "device restore", "key delete": "key revoke", "key unrevoke": "", "key enable": "",
		"org thaw": "org unfreeze", "org hold": "org freeze", "org unhold": "org unfreeze", "org remove": "", "plan add": "plan set --add", "plan delete": "", "device revok": "device revoke",
		"device urevoke": "", "device rerevoke": "", "org nfreeze": "", "device re": "", "cluster remote": "", "operator rotate": "operator token rotate", "audit list": "audit tail",
		"cluster join": "cluster add", "devices": "device", "orgs": "org", "delete": "device remove, or machineid key revoke", "org thwa": "org unfreeze",
	} {
		code, _, errs := commandLine(strings.Fields(typed)...)
		_, got, _ := strings.Cut(strings.SplitN(errs, "\n", 2)[0], "did you mean machineid ")
		if got = strings.TrimSuffix(got, "?"); code != exitUsage || got != want {
			t.Errorf("%s: exit code %d, meant %q, want %q: %s", typed, code, got, want, errs)
		}
	}
}

// slips are a word with each typing error of one kind in it: a letter left out, doubled, swapped with the next, or another.
func slips(word string) (list []string) {
	for i := range word {
		list = append(list, word[:i]+word[i+1:], word[:i]+word[i:i+1]+word[i:], word[:i]+"q"+word[i+1:])
		if i+1 < len(word) {
			list = append(list, word[:i]+word[i+1:i+2]+word[i:i+1]+word[i+2:])
		}
	}
	return list
}

// TestNoProposalIsTheOpposite walks over all objects with words of each meaning, and with what is nearly such a word: nothing is offered that does the opposite, or that ends for good what was not to be ended.
func TestNoProposalIsTheOpposite(t *testing.T) {
	t.Parallel()
	root := newRootCommand(bareEnviron(), &standard{})
	offered, seen := 0, 0
	everyObject := []*cobra.Command{root}
	everyBelow(root, func(cmd *cobra.Command) {
		if cmd.HasSubCommands() {
			everyObject = append(everyObject, cmd)
		}
		seen++
	})
	for _, path := range slices.Concat(givesRights, takesRights) {
		if cmd, rest, err := root.Find(strings.Fields(path)); err != nil || len(rest) > 0 || cmd == root {
			t.Errorf("there is no command %q", path)
		}
	}
	for object, ofObject := range synonyms {
		for meant := range ofObject {
			if cmd, _, err := root.Find(strings.Fields(strings.Split(meant, " --")[0])); err != nil || cmd == root {
				t.Errorf("synonyms of %s: there is no command %q", object, meant)
			}
		}
	}
	for _, cmd := range everyObject {
		known := wordsBelow(cmd) // once: meantBy makes it anew
		meantBy := func(typed string) []string {
			if !cmd.HasParent() {
				return meantAnywhere(cmd, typed, known)
			}
			return spelled(typed, known)
		}
		for kind, words := range map[string][]string{"gives": wordsThatGive, "takes": wordsThatTake, "ends": wordsThatEnd} {
			for _, word := range words {
				near := map[string]bool{word: true}
				for _, slip := range slips(word) {
					near[slip] = true
				}
				for typed := range maps.Keys(near) {
					if i := slices.IndexFunc(cmd.Commands(), func(sub *cobra.Command) bool { return sub.Name() == typed }); i >= 0 {
						continue // it is one
					}
					for _, meant := range meantBy(typed) {
						offered++
						if kind == "gives" && slices.Contains(takesRights, meant) || kind != "gives" && slices.Contains(givesRights, meant) {
							t.Errorf("%s %s: %q is the opposite", cmd.CommandPath(), typed, meant)
						}
						if kind == "takes" && slices.Contains(endsThings, meant) && meant != "key revoke" {
							t.Errorf("%s %s: %q is more", cmd.CommandPath(), typed, meant)
						}
						if cmd.HasParent() && strings.HasPrefix(meant, "org ") && cmd.Name() != "org" || !cmd.HasParent() && slices.Contains(noWayBack, meant) {
							t.Errorf("%s %s: %q is of something bigger", cmd.CommandPath(), typed, meant)
						}
					}
				}
			}
		}
	}
	if offered < 500 || seen < 50 {
		t.Errorf("%d commands were offered, %d are there", offered, seen)
	}
}

// TestFlagsThatAreMeant: a proposal is a flag of the command itself, and never the opposite of what was typed.
func TestFlagsThatAreMeant(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]string{
		"device revoke --device d": "it is given without one: machineid device revoke ORG [DEVICE]...", "key revoke --key-id k": "given without one", "device revoke --devices d": "not a flag of machineid device revoke",
		"device list --operator-ulr x": "did you mean --operator-url?", "authority --secure": "remove it", "authority --no-insecure": "remove it", "edge --no-limits": "remove it",
	} {
		code, _, errs := commandLine(strings.Fields(typed)...)
		if code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%s: exit code %d: %s", typed, code, errs)
		}
	}
}
