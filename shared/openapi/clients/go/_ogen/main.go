// The calls of a client that ogen makes. It prints what it is answered; TestForeignClients compares.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-faster/jx"
	"github.com/ogen-go/ogen/ogenerrors"

	"machineid/openapi/clients/ogen/api"
)

// key is what the client shows: the org's, and no operator's token.
type key string

func (k key) OrgKey(context.Context, api.OperationName) (api.OrgKey, error) {
	return api.OrgKey{APIKey: string(k)}, nil
}

func (key) OperatorToken(context.Context, api.OperationName) (api.OperatorToken, error) {
	return api.OperatorToken{}, ogenerrors.ErrSkipClientSecurity
}

func main() {
	ctx := context.Background()
	c, err := api.NewClient(os.Getenv("MACHINEID_BASE_URL"), key(os.Getenv("MACHINEID_ORG_KEY")))
	must(err)
	for _, id := range []string{"a", "b", "c", "d"} {
		register(ctx, c, id)
	}
	validate(ctx, c, "a")
	revoked := as[*api.RevokedDeviceHeaders](c.Revoke(ctx, &api.DeviceBody{DeviceId: "a"}, api.RevokeParams{})).Response
	fmt.Printf("revoke a: %t, changed %t\n", revoked.Revoked, revoked.Changed)
	validate(ctx, c, "a")
	validate(ctx, c, "")

	ids := &api.ValidateBatchBody{DeviceIds: []string{"a", "b", "nobody"}}
	for _, one := range as[*api.DecisionListHeaders](c.ValidateBatch(ctx, ids, api.ValidateBatchParams{})).Response.Decisions {
		fmt.Printf("validate_batch %s: %t %s\n", one.DeviceId.Value, one.Allowed, one.Code)
	}
	some := &api.RevokeBatchBody{DeviceIds: []string{"b", "nobody"}}
	for _, one := range as[*api.RevokedBatchHeaders](c.RevokeBatch(ctx, some, api.RevokeBatchParams{})).Response.Results {
		fmt.Printf("revoke_batch %s: %s, changed %t\n", one.DeviceId.Value, one.Status, one.Changed)
	}

	for params := (api.ListDevicesParams{Limit: api.NewOptInt64(2)}); ; {
		page := as[*api.DeviceListHeaders](c.ListDevices(ctx, params)).Response
		var line []string
		for _, d := range page.Devices {
			line = append(line, fmt.Sprint(d.DeviceId, " ", d.Status, " ", !d.RevokedAt.Null))
		}
		fmt.Println("list: " + strings.Join(line, ", "))
		if params.Cursor = page.NextCursor; !params.Cursor.Set {
			break
		}
	}

	every := &api.RevokeBatchBody{Scope: api.NewOptRevokeBatchBodyScope(api.RevokeBatchBodyScopeAllActive)}
	fmt.Printf("revoke_batch all: %d\n", as[*api.RevokedBatchHeaders](c.RevokeBatch(ctx, every, api.RevokeBatchParams{})).Response.RevokedCount)
	nobody := as[*api.DeviceNotFoundHeaders](c.GetDevice(ctx, api.GetDeviceParams{DeviceId: "nobody"}))
	fmt.Printf("get nobody: 404 %s\n", nobody.Response.Error)
}

func register(ctx context.Context, c *api.Client, id string) {
	answer, err := c.Register(ctx, &api.RegisterBody{
		DeviceId: api.DeviceID(id), Name: api.NewOptNilString(strings.ToUpper(id)), TtlSeconds: api.NewOptNilInt64(3600),
		Metadata: api.NewOptNilMetadata(api.Metadata{"rank": jx.Raw("2")}),
	}, api.RegisterParams{})
	must(err)
	switch answer := answer.(type) {
	case *api.RegisterRefusedHeaders:
		e := answer.Response
		fmt.Printf("register %s: 403 %s, %d of %d, %s\n", id, e.Error, e.DevicesUsed.Value, e.Limit.Value, e.PlanState.Value)
	case *api.RegisteredHeaders:
		a := answer.Response
		fmt.Printf("register %s: %s, %d of %d, %s, rank %s, lives %.0f s, told %t\n", id, a.Status, a.DevicesUsed, a.Limit, a.Name.Value, a.Metadata.Value["rank"],
			time.Time(a.ExpiresAt.Value).Sub(time.Time(a.CreatedAt.Value)).Seconds(), a.Propagation.Value.Confirmed.Set)
	default:
		must(fmt.Errorf("the answer is %+v", answer))
	}
}

func validate(ctx context.Context, c *api.Client, id string) {
	d := as[*api.DecisionHeaders](c.Validate(ctx, &api.DeviceBody{DeviceId: api.DeviceID(id)}, api.ValidateParams{})).Response
	fmt.Printf("validate %s: %t %s %s\n", id, d.Allowed, d.Code, d.Error.Or("no error"))
}

// as returns an answer of the expected kind.
func as[T any](answer any, err error) T {
	must(err)
	a, ok := answer.(T)
	if !ok {
		must(fmt.Errorf("the answer is %+v", answer))
	}
	return a
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
