// The calls of a client that oapi-codegen makes. It prints what it is answered; TestForeignClients compares.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"

	"machineid/openapi/clients/oapicodegen/api"
)

func main() {
	ctx := context.Background()
	key := func(_ context.Context, r *http.Request) error {
		r.Header.Set("x-org-key", os.Getenv("MACHINEID_ORG_KEY"))
		return nil
	}
	c, err := api.NewClientWithResponses(os.Getenv("MACHINEID_BASE_URL"), api.WithRequestEditorFn(key))
	must(err)
	for _, id := range []string{"a", "b", "c", "d"} {
		register(ctx, c, id)
	}
	validate(ctx, c, "a")
	revoked, err := c.RevokeWithResponse(ctx, nil, api.DeviceBody{DeviceId: "a"})
	must(err)
	r := ok(revoked.JSON200, revoked.Body)
	fmt.Printf("revoke a: %t, changed %t\n", r.Revoked, r.Changed)
	validate(ctx, c, "a")
	validate(ctx, c, "")

	batch, err := c.ValidateBatchWithResponse(ctx, nil, api.ValidateBatchBody{DeviceIds: []string{"a", "b", "nobody"}})
	must(err)
	for _, one := range ok(batch.JSON200, batch.Body).Decisions {
		fmt.Printf("validate_batch %s: %t %s\n", *one.DeviceId, one.Allowed, one.Code)
	}
	several, err := c.RevokeBatchWithResponse(ctx, nil, api.RevokeBatchBody{DeviceIds: &[]string{"b", "nobody"}})
	must(err)
	for _, one := range *ok(several.JSON200, several.Body).Results {
		fmt.Printf("revoke_batch %s: %s, changed %t\n", *one.DeviceId, one.Status, one.Changed)
	}

	params := &api.ListDevicesParams{Limit: new(int64)}
	for *params.Limit = 2; ; {
		page, err := c.ListDevicesWithResponse(ctx, params)
		must(err)
		var line []string
		for _, d := range ok(page.JSON200, page.Body).Devices {
			line = append(line, fmt.Sprint(d.DeviceId, " ", d.Status, " ", d.RevokedAt != nil))
		}
		fmt.Println("list: " + strings.Join(line, ", "))
		if params.Cursor = page.JSON200.NextCursor; params.Cursor == nil {
			break
		}
	}

	scope := api.AllActive
	all, err := c.RevokeBatchWithResponse(ctx, nil, api.RevokeBatchBody{Scope: &scope})
	must(err)
	fmt.Printf("revoke_batch all: %d\n", ok(all.JSON200, all.Body).RevokedCount)
	nobody, err := c.GetDeviceWithResponse(ctx, &api.GetDeviceParams{DeviceId: "nobody"})
	must(err)
	fmt.Printf("get nobody: %d %s\n", nobody.StatusCode(), ok(nobody.JSON404, nobody.Body).Error)
}

func register(ctx context.Context, c *api.ClientWithResponses, id string) {
	name, metadata, ttl := strings.ToUpper(id), api.Metadata{"rank": 2}, int64(3600)
	r, err := c.RegisterWithResponse(ctx, nil, api.RegisterBody{DeviceId: id, Name: &name, Metadata: &metadata, TtlSeconds: &ttl})
	must(err)
	if e := r.JSON403; e != nil {
		fmt.Printf("register %s: %d %s, %d of %d, %s\n", id, r.StatusCode(), e.Error, *e.DevicesUsed, *e.Limit, *e.PlanState)
		return
	}
	a := ok(r.JSON200, r.Body)
	fmt.Printf("register %s: %s, %d of %d, %s, rank %v, lives %.0f s, told %t\n", id, a.Status, a.DevicesUsed, a.Limit, *a.Name, (*a.Metadata)["rank"],
		a.ExpiresAt.Sub(*a.CreatedAt).Seconds(), *a.Propagation.Confirmed >= 0)
}

func validate(ctx context.Context, c *api.ClientWithResponses, id string) {
	r, err := c.ValidateWithResponse(ctx, nil, api.DeviceBody{DeviceId: id})
	must(err)
	d, fault := ok(r.JSON200, r.Body), "no error"
	if d.Error != nil {
		fault = *d.Error
	}
	fmt.Printf("validate %s: %t %s %s\n", id, d.Allowed, d.Code, fault)
}

// ok returns an answer of the expected kind.
func ok[T any](answer *T, body []byte) *T {
	if answer == nil {
		must(fmt.Errorf("the answer is %s", body))
	}
	return answer
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
