package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"machineid/cmd/machineid/cli/config"
	"machineid/shared/dial"
	"machineid/shared/hint"
	"machineid/shared/wire"
)

// refusedError is an answer other than success.
type refusedError struct {
	status                              int
	Code, Message, Outcome, Param, Path string
	keyID                               string
	retryAfter                          time.Duration

	org  string         // that the call was for; "": it was for none
	body map[string]any // of the call
}

func (e *refusedError) Error() string {
	if e.Message != "" {
		return plain(e.filled(spoken(e)))
	}
	return fmt.Sprintf("a balancer answers (%d %s), and no authority node behind it", e.status, http.StatusText(e.status))
}

// strangerError says that what answers at an address is no authority node.
type strangerError struct{ error }

func strange(format string, args ...any) error {
	return strangerError{fmt.Errorf(format+": name authority nodes in --operator-url, by the addresses of their --http (port 7070 if not set)", args...)}
}

// balancers are the codes by which a proxy says that what stands behind it does not answer (RFC 9110, 15.6).
var balancers = []int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}

// refusedBy is what an answer to the request with this id says other than success; nil if that is what it says.
func refusedBy(resp *http.Response, raw []byte, path, id string) error {
	var said struct{ Status, Error, Message, Outcome, Param, KeyID string }
	ours := isObject(resp, raw) && json.Unmarshal(raw, &said) == nil && (said.Status != "" || said.Error != "")
	if ours {
		if err := answered(resp, raw, path, id); err != nil {
			return err
		}
	}
	e := &refusedError{status: resp.StatusCode, Path: path, retryAfter: retryAfter(resp)}
	if ours {
		e.Code, e.Message, e.Outcome, e.Param, e.keyID = said.Error, said.Message, said.Outcome, said.Param, said.KeyID
	}
	switch {
	case ours && resp.StatusCode == http.StatusOK:
		return nil
	case ours && said.Error == "not_found" && strings.HasPrefix(path, "operator/"), said.Param == "x-org-key":
		return strange("is an edge, not an authority node, by its answer")
	case !ours && dial.NoNode(resp.StatusCode) != "":
		return strange("%s", dial.NoNode(resp.StatusCode))
	case !ours && !slices.Contains(balancers, resp.StatusCode) && resp.StatusCode != http.StatusTooManyRequests:
		e.Message = fmt.Sprintf("what answers there says %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	case !ours && resp.StatusCode == http.StatusTooManyRequests:
		e.Message = "asked too often"
	}
	return e
}

// retryAfter is how long an answer asks to wait, 0 if it does not. The form with a date is of others, and not read.
func retryAfter(resp *http.Response) time.Duration {
	n, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// foreignSpeech recognises who does not speak HTTP/1, nil if that is not what is wrong.
func foreignSpeech(err error) error {
	if who := dial.Foreign(err); who != "" {
		return strange("%s", who)
	}
	return nil
}

// reason is an error of the network without what only programs call it.
func reason(err error) error {
	if call, ok := errors.AsType[*url.Error](err); ok {
		err = call.Err
	}
	return dial.Reason(err)
}

// spoken is a message of the API in the words of the command line: commands and flags.
func spoken(e *refusedError) string {
	said := e.Message
	switch {
	case e.Code == "secret_already_shown":
		return fmt.Sprintf("key %s is made, and the answer that showed it was lost: 'machineid key revoke ORG %[1]s' ends it, %[2]s makes another",
			e.keyID, createKey("ORG", e.text("scope"), e.text("name"), e.text("expiresAt")))
	case e.Code == "system_unavailable" && strings.HasPrefix(said, "the system cannot answer now"):
		return map[string]string{
			wire.OutcomeNotDone: "it cannot be served now, and nothing was changed: no node leads, or it is stopping ('machineid cluster status')",
			wire.OutcomeUnknown: "the node that leads gave no answer, and whether it was changed is not known ('machineid cluster status')",
		}[e.Outcome]
	}
	said = inCommands.Replace(said)
	if name := flagOf(e.Path, e.Param); name != "" && e.Param != "" {
		said = regexp.MustCompile(`\b`+regexp.QuoteMeta(e.Param)+`\b`).ReplaceAllLiteralString(said, name)
	}
	return said
}

// filled has the commands in a message name what the call was about.
func (e *refusedError) filled(said string) string {
	if e.org == "" {
		return said
	}
	names := []string{"ORG", config.Word(e.org)}
	for place, member := range map[string]string{"KEY_ID": "keyId", "DEVICE": "deviceId"} {
		if given := e.text(member); given != "" {
			names = append(names, place, config.Word(given))
		}
	}
	return hint.Each(said, strings.NewReplacer(names...).Replace)
}

// text is what the call said of something, "" if it said nothing.
func (e *refusedError) text(member string) string {
	text, _ := e.body[member].(string)
	return text
}

// inCommands says in commands and flags what the API says in calls and headers.
var inCommands = strings.NewReplacer(
	"GET operator/plans lists those there are", "'machineid plan list' lists those there are",
	"GET operator/orgs lists those there are", "'machineid org list' lists those there are",
	"GET org/keys lists those it has", "'machineid key list ORG' lists those it has",
	"no org has this key, or it was revoked or has expired: check the key", "no org has this id: 'machineid org list' lists those there are",
	"register it with devices/register", "'machineid device list ORG' lists those there are",
	"call devices/unrevoke with an admin key", "'machineid device restore ORG DEVICE' does",
	"revoke or remove a device, or choose a larger plan", "revoke or remove a device, or put the org in a larger plan ('machineid plan list')",
	"settle the billing or ask the operator", "'machineid org unfreeze ORG' ends an operator's hold, and what is not paid is settled at Stripe",
	"so no device can be added or restored: renew it", "so no device can be added or restored: 'machineid org plan ORG --access-until never' renews it, or a time in the place of never",
	"revoke one first", "revoke one first, 'machineid key list ORG' names them",
	"create another first, or rotate this one", "'machineid key create ORG --scope admin' makes another first, or 'machineid key rotate ORG KEY_ID' puts one in the place of this",
	"the operator's token is missing or wrong: send it as Authorization: Bearer TOKEN",
	"the operator's token is not the one that is good there: name its file in --operator-token-file, or set "+operatorTokenEnv,
	"the operator has to make room there", "make room there ('machineid cluster status' names it), and do it again",
	"try again after Retry-After", "try again in a moment",
	": send it again after Retry-After seconds, or in smaller parts", ": do it again in a moment, or in smaller parts",
	"see org/keys, revoke it there and call again", "'machineid key list ORG' names it: revoke it, and make another",
	"call org/create again for another", "'machineid org list' names it, and 'machineid key create ORG --scope admin' makes another key",
	`: send objects like {"planTier":"pro","limit":25}`, ": give them like pro=25",
	"wait for as long as Retry-After says, and send the next when the one before is answered, or ask for smaller pages (limit)", "do it again in a moment",
	"wait for as long as Retry-After says", "do it again in a moment",
	"this Idempotency-Key came with another body within the last 24 hours: send a new one for a new change", "it met another change under the same name: do it again",
	"there is no such path: see docs/api.md for those there are, all below /api/v1/", "that node does not know it: it is of an older version ('machineid cluster status')",
	"send them in several calls", "name them in several commands",
	", or send subscription cancel to", ", or add --subscription cancel to",
	", or leave to delete", ", or --subscription leave to",
	"deletes the org with subscription leave", "deletes the org with --subscription leave",
	"or null for the plan's", "or plan for the plan's",
	"in the portal (billing/portal)", "in Stripe's portal",
	"which GET org tells", "which 'machineid org list' tells",
	"send it in the body", "give it",
	": send ", ": give ", "so send ", "so give ", "send ", "give ",
)

// flagOf is what the command line calls a parameter of a call.
func flagOf(path, param string) string {
	if param == "limit" && !strings.HasPrefix(path, orgsPath) {
		return ""
	}
	return map[string]string{
		"X-MachineID-Org": "ORG", "planTier": "the plan", "externalId": "--external-id", "accessUntil": "--access-until", "expiresAt": "--expires-at",
		"graceSeconds": "--grace (in seconds)", "graceDays": "--grace-days", "keyId": "KEY_ID", "deviceId": "DEVICE", "deviceIds": "DEVICE", "limit": "--limit",
		"scope": "--scope", "name": "--name", "version": "--version", "subscription": "--subscription", "confirm": "--confirm", "id": "ID", "address": "RAFT_ADDRESS", "to": "FORMAT", "plans": "TIER=LIMIT",
	}[param]
}
