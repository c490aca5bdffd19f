package cli

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"machineid/cmd/machineid/cli/config"
)

// synonyms are, for each object, the commands that are meant by words that name none: those of the API, and those that people use. A word that could be meant as
// something smaller, or in both directions, is not here: it is better to offer nothing.
var synonyms = map[string]map[string]string{
	"device": {
		"device revoke":  "revoke-batch disable block ban suspend freeze hold pause stop kill halt off deny lock deactivate quarantine",
		"device restore": "unrevoke unrevoke-batch enable unblock unban allow resume unsuspend unfreeze unhold unpause thaw on unlock activate reactivate reinstate",
		"device remove":  "delete rm destroy unregister deregister",
		"device list":    "show get ls devices",
	},
	"key": {
		"key revoke": "delete remove rm disable block ban suspend kill off expire deactivate",
		"key create": "add new make issue generate",
		"key rotate": "renew replace roll",
		"key list":   "show get ls keys",
	},
	"org": {
		"org disable":  "revoke block ban suspend stop kill halt off pause lock deactivate",
		"org freeze":   "hold revoke block ban suspend pause lock",
		"org enable":   "unrevoke restore unblock unban allow unsuspend resume unpause start on unlock activate reactivate reinstate",
		"org unfreeze": "unhold thaw unrevoke restore unblock unban allow unsuspend resume unpause unlock reinstate",
		"org create":   "add new make",
		"org list":     "ls orgs",
		"org show":     "get info describe usage",
		"device list":  "devices",
		"key list":     "keys",
	},
	"plan": {
		"plan set --add": "add create new make",
		"plan set":       "update change edit",
		"plan list":      "show get ls plans",
	},
	"cluster": {
		"cluster status":       "show info health leader state",
		"cluster members":      "list ls nodes",
		"cluster add":          "join",
		"cluster remove":       "rm delete evict kick",
		"cluster init":         "bootstrap begin start create",
		"cluster transfer":     "handover hand-over stepdown step-down",
		"cluster raise-format": "format",
		"cluster readdress":    "address move",
		"edges":                "edges",
		"snapshot save":        "snapshot backup",
	},
	"audit":    {"audit tail": "list ls show log get follow"},
	"operator": {"operator token rotate": "rotate rotate-token"},
	"token":    {"operator token rotate": "renew replace roll new create"},
	"snapshot": {"snapshot save": "create make take new backup", "snapshot inspect": "show check verify info"},
}

// noWayBack are commands that undo nothing and cannot be undone: they are offered only where their object was typed.
var noWayBack = []string{"org delete", "cluster remove", "cluster raise-format", "snapshot restore", "recover"}

// meantBy lists the commands that may have been meant by a word below cmd: what has the same meaning, else what is spelled nearly so. It never crosses from one meaning to another:
// a word that means something elsewhere is no typing error here, and where two commands are equally near nothing is offered.
func meantBy(cmd *cobra.Command, typed string) []string {
	word := strings.ToLower(strings.ReplaceAll(typed, "_", "-"))
	if !cmd.HasParent() {
		return meantAnywhere(cmd, word, wordsBelow(cmd))
	}
	return spelled(word, wordsBelow(cmd))
}

// wordsBelow are the words that mean a command below cmd, and with none those that mean one elsewhere.
func wordsBelow(cmd *cobra.Command) map[string][]string {
	words := map[string][]string{}
	for _, ofObject := range synonyms {
		for _, list := range ofObject {
			for word := range strings.FieldsSeq(list) {
				words[word] = nil
			}
		}
	}
	everyBelow(cmd.Root(), func(sub *cobra.Command) { words[sub.Name()] = nil })
	for meant, list := range synonyms[cmd.Name()] {
		for word := range strings.FieldsSeq(list) {
			words[word] = append(words[word], meant)
		}
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			words[sub.Name()] = []string{pathBelow(sub)}
		}
	}
	for word := range maps.Clone(words) {
		slices.Sort(words[word])
		if back := "un" + word; words[back] == nil && !strings.HasPrefix(word, "un") {
			words[back] = nil
		}
	}
	return words
}

// spelled looks a word up, or the one that it nearly is.
func spelled(word string, words map[string][]string) []string {
	if meant, known := words[word]; known {
		return meant
	}
	const least = 3 // what is shorter is near to everything
	if len(word) < least {
		return nil
	}
	var begun []string
	for name, meant := range words {
		if strings.HasPrefix(name, word) && len(meant) > 0 && strings.HasSuffix(meant[0], " "+name) {
			begun = append(begun, meant[0])
		}
	}
	if len(begun) == 1 {
		return begun
	}
	near := config.NearestAll(word, slices.Collect(maps.Keys(words)), 1+len(word)/8)
	if len(near) == 0 {
		return nil
	}
	for _, name := range near[1:] {
		if !slices.Equal(words[name], words[near[0]]) {
			return nil
		}
	}
	return words[near[0]]
}

// meantAnywhere lists what may have been meant by a word with which a command line begins: a command or an object that is spelled nearly so, or what the word means for each object.
func meantAnywhere(root *cobra.Command, word string, words map[string][]string) (list []string) {
	if i := slices.IndexFunc(root.Commands(), func(sub *cobra.Command) bool { return sub.Name()+"s" == word }); i >= 0 {
		return []string{root.Commands()[i].Name()}
	}
	if direct := spelled(word, words); len(direct) > 0 {
		return direct
	}
	for _, object := range []string{"device", "key", "org", "cluster", "plan", "audit", "token", "snapshot"} {
		for meant, same := range synonyms[object] {
			if slices.Contains(strings.Fields(same), word) {
				list = append(list, meant)
			}
		}
	}
	everyBelow(root, func(sub *cobra.Command) {
		if sub.Name() == word && sub.IsAvailableCommand() && !sub.HasSubCommands() && sub.Parent().Name() != "bench" {
			list = append(list, pathBelow(sub))
		}
	})
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(path string) bool { return slices.Contains(noWayBack, path) })
}

func everyBelow(cmd *cobra.Command, f func(*cobra.Command)) {
	for _, sub := range cmd.Commands() {
		f(sub)
		everyBelow(sub, f)
	}
}

// pathBelow is what is typed for a command after the program's name.
func pathBelow(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}
