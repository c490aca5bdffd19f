package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"machineid/cmd/machineid/cli/config"
	"machineid/shared/timestamp"
)

// maxGrace is how long a replaced key may go on.
const maxGrace = 720 * time.Hour

// checkMoment judges a time that a flag gives.
func checkMoment(flag, text string) error {
	if _, err := timestamp.Parse(text); err != nil {
		return usageError{fmt.Errorf("--%s: %q is no time from the year 1 to 9999 in UTC; give one like 2030-01-02T15:04:05Z", flag, text)}
	}
	return nil
}

func newKeyCommand(settings *config.Settings, env environment) *cobra.Command {
	parent, sub := commandsOf(settings, env, "key", "Look at an org's keys, make, rotate and revoke them")
	sub("list ORG", "List an org's keys, dead ones too", cobra.ExactArgs(1), keyList)
	var scope, name, expires string
	create := sub("create ORG", "Make a key; it is shown this once", cobra.ExactArgs(1), func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
		body := map[string]any{"scope": scope, "name": name}
		if !slices.Contains([]string{"admin", "agent", "validate"}, scope) {
			return usageError{fmt.Errorf("--scope: %q is no scope; choose admin, agent or validate", scope)}
		}
		if expires != "" {
			if err := checkMoment("expires-at", expires); err != nil {
				return err
			}
			body["expiresAt"] = expires
		}
		return tellKey(ctx, cmd, f, args[0], "org/keys", body)
	})
	create.Flags().StringVar(&scope, "scope", "agent", "what the key may: a `SCOPE`, admin, agent or validate")
	create.Flags().StringVar(&name, "name", "", "the key's `NAME`, for people")
	create.Flags().StringVar(&expires, "expires-at", "", "when the key ends: a `TIME` like 2030-01-02T15:04:05Z")
	var grace time.Duration
	rotate := sub("rotate ORG KEY_ID", "Put a new key in the place of another, which goes on for the grace", cobra.ExactArgs(2),
		func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
			if grace > maxGrace {
				return usageError{fmt.Errorf("--grace: %v is too long; choose 720h at most", grace)}
			}
			if grace < 0 || grace%time.Second != 0 {
				return usageError{fmt.Errorf("--grace: %v is no number of seconds; give one such as 1h, or 0s", grace)}
			}
			return tellKey(ctx, cmd, f, args[0], "org/keys/rotate", map[string]any{"keyId": args[1], "graceSeconds": int64(grace / time.Second)})
		})
	rotate.Flags().DurationVar(&grace, "grace", 24*time.Hour, "how long the old key goes on, at most 720h; 0s ends it at once")
	sub("revoke ORG KEY_ID", "End a key at once", cobra.ExactArgs(2), func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
		return changeFor(ctx, cmd, f, args[0], "org/keys/revoke", map[string]any{"keyId": args[1]}, "key "+shown(args[1])+" is revoked")
	})
	return parent
}

func keyList(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
	client := f.client()
	client.org = args[0]
	var answer struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := client.call(ctx, http.MethodGet, "org/keys", nil, &answer); err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if f.output == "json" {
		return printJSON(w, answer.Keys)
	}
	return table(w, "KEY_ID SCOPE NAME MADE ENDS REVOKED", answer.Keys, func(raw json.RawMessage) ([]string, error) {
		var k struct {
			KeyID, Scope                          string
			Name, CreatedAt, ExpiresAt, RevokedAt *string
		}
		err := json.Unmarshal(raw, &k)
		return []string{shown(k.KeyID), cell(k.Scope), text(k.Name), text(k.CreatedAt), text(k.ExpiresAt), text(k.RevokedAt)}, err
	})
}

// tellKey makes a call that makes a key, and shows it.
func tellKey(ctx context.Context, cmd *cobra.Command, f *operatorFlags, org, path string, body any) error {
	client := f.client()
	client.org = org
	var raw json.RawMessage
	late, err := client.change(ctx, http.MethodPost, path, body, &raw)
	if err != nil {
		return err
	}
	var made struct {
		KeyID, OrgAPIKey, Scope string
		Name, ExpiresAt         *string
		CreatedAt               string
		Replaced                *struct{ KeyID, ExpiresAt string }
		Propagation             propagationView
	}
	if err := json.Unmarshal(raw, &made); err != nil {
		return unreadable(err)
	}
	w := cmd.OutOrStdout()
	shows(w, "key %s is made, and was shown to nobody: 'machineid key revoke %[2]s %[1]s' ends it, %[3]s makes another",
		plain(made.KeyID), plain(org), createKey(org, made.Scope, unless(made.Name), unless(made.ExpiresAt)))
	if f.output == "json" {
		return printChange(w, raw, late)
	}
	printf(w, "key id  %s\nscope   %s\nends    %s\nkey     %s\n\nThe key is not shown again.\n", made.KeyID, made.Scope, text(made.ExpiresAt), made.OrgAPIKey)
	switch old := made.Replaced; {
	case old == nil:
	case old.ExpiresAt <= made.CreatedAt: // both of one form
		printf(w, "Key %s has ended.\n", old.KeyID)
	default:
		printf(w, "Key %s goes on until %s.\n", old.KeyID, old.ExpiresAt)
	}
	printf(w, "%s\n", made.Propagation.told(late))
	return nil
}

// createKey is the command that makes a key like another, which may have a name and an end.
func createKey(org, scope, name, ends string) string {
	words := []string{"'machineid key create", org}
	for _, flag := range [][2]string{{"scope", scope}, {"name", name}, {"expires-at", ends}} {
		if flag[1] != "" && flag[1] == plain(flag[1]) {
			words = append(words, "--"+flag[0], config.Word(flag[1]))
		}
	}
	return strings.Join(words, " ") + "'"
}

// unless is an optional text, "" if there is none.
func unless(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
