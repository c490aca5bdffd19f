package api

import (
	"context"

	"machineid/authority/state/statepb"
)

// call is one entry of the API.
type call struct {
	access access
	// parse reads the parameters, which are judged before the caller is known, and returns what is to be done once it is.
	parse func(*request) (step, error)
	// empty allows a POST without a body.
	empty bool
	// raw leaves the body to the call.
	raw bool
}

// access is who may make a call.
type access interface {
	// present judges the form of what the caller shows, before the parameters.
	present(r *request) error
	// admit finds out who the caller is and whether it may go on, sets r.actor and r.org, and runs read, if it is not nil, on the
	// view that this was decided from.
	admit(ctx context.Context, r *request, read func(*sight) (any, error)) (any, error)
}

// step is what a call does: it reads a view or it changes the state. One of the two is set.
type step struct {
	read   func(*sight) (any, error)
	change func(context.Context) (any, error)
	// rejudged tells of a change that it is one command and does nothing else: the state judges the caller's key again when
	// it applies it (state.authorize), and nothing but that is answered.
	rejudged bool
}

// Who may call: scopes of keys, and whoever may make an org.
var (
	adminOnly = keyed{statepb.Key_ADMIN: true}
	agents    = keyed{statepb.Key_ADMIN: true, statepb.Key_AGENT: true}
)

// calls is the API, by the paths of the shared routes. Only validate, which is judged by rules of its own, is not here
// (validate.go): a key of any scope may call it.
var calls = map[string]call{
	"devices/register":       {access: agents, parse: register},
	"devices/list":           {access: adminOnly, parse: listDevices},
	"devices/get":            {access: adminOnly, parse: getDevice},
	"devices/revoke":         {access: adminOnly, parse: onDevice((*request).commit, revoke, switched)},
	"devices/unrevoke":       {access: adminOnly, parse: onDevice((*request).commitAmong, unrevoke, switched)},
	"devices/remove":         {access: adminOnly, parse: onDevice((*request).commit, remove, removed)},
	"devices/revoke_batch":   {access: adminOnly, parse: revokeBatch},
	"devices/unrevoke_batch": {access: adminOnly, parse: unrevokeBatch},
	"usage":                  {access: adminOnly, parse: usage},
	"org":                    {access: adminOnly, parse: showOrg},
	"org/create":             {access: signup{}, parse: createOrg, empty: true},
	"org/execution":          {access: adminOnly, parse: setExecution},
	"org/settings":           {access: adminOnly, parse: setSettings},
	"org/delete":             {access: adminOnly, parse: deleteOrg},
	"org/export":             {access: adminOnly, parse: exportOrg},
	"org/keys":               {access: adminOnly, parse: byMethod(listKeys, createKey)},
	"org/keys/rotate":        {access: adminOnly, parse: rotateKey},
	"org/keys/revoke":        {access: adminOnly, parse: revokeKey},

	"propagation": {access: adminOnly, parse: showPropagation},
	"audit":       {access: adminOnly, parse: listAudit(false)},

	"operator/audit":        {access: overseer{}, parse: listAudit(true)},
	"billing/summary":       {access: adminOnly, parse: billingSummary},
	"billing/checkout":      {access: adminOnly, parse: billingCheckout},
	"billing/portal":        {access: adminOnly, parse: billingPortal, empty: true},
	"webhooks/stripe":       {access: webhook{}, parse: stripeEvent, raw: true},
	"org/recover":           {access: anyone{}, parse: askRecovery},
	"org/recover/confirm":   {access: anyone{}, parse: confirmRecovery},
	"operator/billing/sync": {access: overseer{}, parse: syncBilling, empty: true},

	"operator/orgs":         {access: overseer{}, parse: byMethod(listOrgs, createOrg), empty: true},
	"operator/orgs/*":       {access: overseer{}, parse: byMethod(showOperated, changeOperated), empty: true},
	"operator/token/rotate": {access: overseer{}, parse: rotateToken},

	"operator/plans": {access: overseer{}, parse: byMethod(showPlans, setPlans)},

	"operator/edges":                     {access: operator{}, parse: showEdges},
	"operator/cluster":                   {access: starter{}, parse: showCluster},
	"operator/cluster/init":              {access: starter{}, parse: initCluster, empty: true},
	"operator/cluster/members":           {access: operator{}, parse: addMember},
	"operator/cluster/members/*":         {access: operator{}, parse: onMember(Nodes.Remove), empty: true},
	"operator/cluster/members/*/promote": {access: operator{}, parse: onMember(Nodes.Promote), empty: true},
	"operator/cluster/members/*/address": {access: operator{}, parse: readdress},
	"operator/cluster/members/*/demote":  {access: operator{}, parse: onMember(Nodes.Demote), empty: true},
	"operator/cluster/format":            {access: operator{}, parse: raiseFormat, empty: true},
	"operator/cluster/transfer":          {access: operator{}, parse: transfer, empty: true},
	"operator/cluster/snapshot":          {access: operator{}, parse: snapshot, empty: true},
}
