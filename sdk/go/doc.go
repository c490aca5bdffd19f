// Package machineid is the Go client of MachineID, the off switch for fleets of agents. It depends on the standard library only.
//
//	client, err := machineid.FromEnv("")            // MACHINEID_ORG_KEY, MACHINEID_BASE_URL
//	if d := client.Validate(ctx, "agent-01"); !d.Allowed {
//		return fmt.Errorf("may not work: %s", d.Code)
//	}
//
// Validate fails closed: whatever goes wrong comes back as not allowed with the code SYSTEM_UNAVAILABLE. Guard runs work under a context that a denial
// cancels; Watch asks again on a schedule. The calls are those of the Python client, with the same names and rules (docs/clients.md).
package machineid

// Version is the client's, and is sent as its User-Agent.
const Version = "0.1.0"
