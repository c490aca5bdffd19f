// The calls of a client that openapi-typescript makes, with openapi-fetch. It prints what it is answered; TestForeignClients compares.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Device = components["schemas"]["Device"];

const key = process.env.MACHINEID_ORG_KEY ?? "";
const api = createClient<paths>({ baseUrl: process.env.MACHINEID_BASE_URL, headers: { "x-org-key": key } });

function must<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(what + " is missing");
  return value;
}

async function register(deviceId: string): Promise<void> {
  const { data, error, response } = await api.POST("/api/v1/devices/register", {
    body: { deviceId, name: deviceId.toUpperCase(), metadata: { rank: 2 }, ttlSeconds: 3600 },
  });
  if (error) {
    console.log(`register ${deviceId}: ${response.status} ${error.error}, ${must(error.devicesUsed, "devicesUsed")} of ${must(error.limit, "limit")}, ${must(error.planState, "planState")}`);
    return;
  }
  const rank = data.metadata?.["rank"];
  const lives = new Date(must(data.expiresAt, "expiresAt") ?? "").getTime() - new Date(must(data.createdAt, "createdAt")).getTime();
  console.log(`register ${deviceId}: ${data.status}, ${data.devicesUsed} of ${data.limit}, ${data.name}, rank ${rank}, lives ${lives / 1000} s, told ${must(data.propagation?.confirmed, "confirmed") >= 0}`);
}

async function validate(deviceId: string): Promise<void> {
  const { data, error } = await api.POST("/api/v1/devices/validate", { body: { deviceId } });
  if (error) throw new Error(error.code);
  console.log(`validate ${deviceId}: ${data.allowed} ${data.code} ${data.error ?? "no error"}`);
}

for (const id of ["a", "b", "c", "d"]) await register(id);
await validate("a");
const revoked = await api.POST("/api/v1/devices/revoke", { body: { deviceId: "a" } });
if (revoked.error) throw new Error(revoked.error.error);
console.log(`revoke a: ${revoked.data.revoked}, changed ${revoked.data.changed}`);
await validate("a");
await validate("");

const batch = await api.POST("/api/v1/devices/validate_batch", { body: { deviceIds: ["a", "b", "nobody"] } });
if (batch.error) throw new Error(batch.error.error);
for (const one of batch.data.decisions) console.log(`validate_batch ${must(one.deviceId, "deviceId")}: ${one.allowed} ${one.code}`);
const several = await api.POST("/api/v1/devices/revoke_batch", { body: { deviceIds: ["b", "nobody"] } });
if (several.error) throw new Error(several.error.error);
for (const one of must(several.data.results, "results")) console.log(`revoke_batch ${must(one.deviceId, "deviceId")}: ${one.status}, changed ${one.changed}`);

let cursor: string | undefined;
do {
  const page = await api.GET("/api/v1/devices/list", { params: { query: { limit: 2, cursor } } });
  if (page.error) throw new Error(page.error.error);
  const devices: Device[] = page.data.devices;
  console.log("list: " + devices.map((d) => `${d.deviceId} ${d.status} ${d.revokedAt !== null}`).join(", "));
  cursor = page.data.nextCursor;
} while (cursor);

const all = await api.POST("/api/v1/devices/revoke_batch", { body: { scope: "all_active" } });
if (all.error) throw new Error(all.error.error);
console.log(`revoke_batch all: ${all.data.revokedCount}`);
const nobody = await api.GET("/api/v1/devices/get", { params: { query: { deviceId: "nobody" } } });
console.log(`get nobody: ${nobody.response.status} ${must(nobody.error, "error").error}`);

// What does not fit is seen when it is compiled: each of these must be a fault.
export const faults = () => [
  // @ts-expect-error ids are texts
  api.POST("/api/v1/devices/validate_batch", { body: { deviceIds: [7] } }),
  // @ts-expect-error scope has one value here
  api.POST("/api/v1/devices/revoke_batch", { body: { scope: "all" } }),
  // @ts-expect-error a number
  api.POST("/api/v1/devices/register", { body: { deviceId: "a", ttlSeconds: "1" } }),
  // @ts-expect-error deviceId is required
  api.POST("/api/v1/devices/revoke", { body: {} }),
];
