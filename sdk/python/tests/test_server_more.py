"""Calls that the server of this repository may lack yet (calls.LACKING): each is played as soon as it is there, and until then asked for."""

from __future__ import annotations

from typing import Any, Callable, Optional, TypeVar

from machineid_client import MachineID, Refused

from .calls import LACKING
from .world import RealServer

T = TypeVar("T", bound=Callable[..., Any])


def needs(*paths: str) -> Callable[[T], Optional[T]]:
    """Defines a test only if the server has these paths; test_what_is_lacking holds the list to the truth."""

    def define(test: T) -> Optional[T]:
        return None if LACKING & set(paths) else test

    return define


class MoreCallsTest(RealServer):
    def test_what_is_lacking(self) -> None:
        for path in sorted(LACKING):
            with self.subTest(path):
                with self.assertRaises(Refused, msg=f"the server has {path}: take it out of LACKING in tests/calls.py") as caught:
                    self.admin._get(path) if path in ("org/export", "org/keys", "audit", "propagation") else self.admin._change(path, {})
                self.assertEqual(caught.exception.code, "not_found", f"the server has {path}: take it out of LACKING in tests/calls.py")

    @needs("devices/revoke_batch", "devices/unrevoke_batch")
    def test_batches(self) -> None:
        for i in range(3):
            self.agent.register(f"d{i}")
        some = self.admin.revoke_batch(["d0", "d1", "nobody"])
        self.assertEqual([r["status"] for r in some["results"]], ["ok", "ok", "not_found"])
        self.assertEqual(some["revokedCount"], 2)
        self.assertFalse(self.agent.validate("d0")["allowed"])
        self.assertEqual(self.admin.revoke_batch(scope="all_active")["revokedCount"], 1)
        self.assertEqual(self.admin.unrevoke_batch(["d0"])["unrevokedCount"], 1)
        self.assertEqual(self.admin.unrevoke_batch(scope="all_revoked")["unrevokedCount"], 2)
        self.assertTrue(self.agent.validate("d2")["allowed"])

    @needs("devices/validate_batch")
    def test_validate_batch(self) -> None:
        self.agent.register("a")
        got = self.agent.validate_batch(["a", "b", " a ", ""], raise_on_error=True)["decisions"]
        self.assertEqual([(d["allowed"], d["code"]) for d in got], [
            (True, "ALLOW"), (False, "DEVICE_NOT_FOUND"), (True, "ALLOW"), (False, "INVALID_DEVICE_ID"),
        ])

    @needs("org/keys", "org/keys/rotate", "org/keys/revoke")
    def test_a_key_rotated_under_a_running_client(self) -> None:
        self.agent.register("a")
        made = self.admin.org_keys_create("worker", "agent")
        with MachineID(made["orgApiKey"], self.dev.edge) as client:
            self.assertTrue(client.validate("a")["allowed"])
            fresh = self.admin.org_keys_rotate(made["keyId"], 0)
            self.assertEqual(client.validate("a")["code"], "ORG_NOT_FOUND")
            client.replace_key(fresh["orgApiKey"])
            self.assertTrue(client.validate("a")["allowed"])
            self.admin.org_keys_revoke(fresh["keyId"])
            self.assertEqual(client.validate("a")["code"], "ORG_NOT_FOUND")
        self.assertIn(made["keyId"], [k["keyId"] for k in self.admin.org_keys()["keys"]])
        with self.assertRaises(Refused) as caught:
            self.admin.org_keys_revoke(self.org["orgApiKey"][4:12])
        self.assertEqual((caught.exception.status, caught.exception.code), (409, "last_admin_key"))

    @needs("org/keys")
    def test_a_lost_key_is_not_shown_again(self) -> None:
        made = self.admin.org_keys_create("worker", "agent", idempotency_key="k")
        with self.assertRaises(Refused) as caught:
            self.admin.org_keys_create("worker", "agent", idempotency_key="k")
        self.assertEqual((caught.exception.code, caught.exception.outcome), ("secret_already_shown", "committed"))
        self.assertEqual(caught.exception.body["keyId"], made["keyId"])

    @needs("org/settings")
    def test_the_first_generation(self) -> None:
        self.admin.org_settings(1)
        for i in range(3):
            self.agent.register(f"d{i}")
        self.assertEqual(self.agent.register("d3")["status"], "limit_reached")

    @needs("org/delete")
    def test_an_org_ends(self) -> None:
        self.admin.org_delete(self.org["orgId"])
        self.assertEqual(self.agent.validate("a")["code"], "ORG_NOT_FOUND")

    @needs("org/export")
    def test_export(self) -> None:
        for i in range(2):
            self.agent.register(f"d{i}")
        first = self.admin.org_export(limit=1)
        self.assertEqual((first["handler"], first["org"]["orgId"]), ("org/export", self.org["orgId"]))
        rest = self.admin.org_export(cursor=first["nextCursor"])
        self.assertEqual([d["deviceId"] for d in first["devices"] + rest["devices"]], ["d0", "d1"])
        self.assertNotIn("nextCursor", rest)

    @needs("audit")
    def test_audit(self) -> None:
        self.agent.register("a")
        self.admin.revoke("a")
        self.assertTrue(self.admin.audit(limit=1)["entries"])
        self.assertIn("a", [e["target"] for e in self.admin.iter_audit(page=1)])

    @needs("propagation")
    def test_propagation(self) -> None:
        index = self.agent.register("a")["propagation"]["index"]
        self.assertFalse(self.admin.propagation(index)["pending"])
