"""The client against real servers."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
import unittest
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import List

from machineid_client import Denied, MachineID, Refused, Unavailable
from machineid_client._http import Cancel

from .scripted import Client, Request, Scripted, http
from .world import PATIENT, RealServer, Tiers, eventually

# An org key whose form is right (docs/api.md) and that no server made: 44 characters and their checksum.
NOBODYS = "org_" + "0" * 40


def checksum(text: str) -> str:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    n, out = zlib.crc32(text.encode()), ""
    for _ in range(6):
        n, digit = divmod(n, 62)
        out = digits[digit] + out
    return text + out


class CallsTest(RealServer):
    def test_a_device_lives(self) -> None:
        agent, admin = self.agent, self.admin
        self.assertEqual(agent.validate("a")["code"], "DEVICE_NOT_FOUND")
        made = agent.register("a", name="n", metadata={"x": [1, "ä"]}, ttl_seconds=3600)
        self.assertEqual((made["status"], made["handler"], made["devicesUsed"]), ("ok", "devices/register", 1))
        self.assertEqual(agent.register("a")["status"], "exists")
        allowed = agent.validate("a", raise_on_error=True)
        self.assertEqual((allowed["allowed"], allowed["code"], allowed["deviceId"]), (True, "ALLOW", "a"))
        self.assertEqual(admin.get_device("a")["metadata"], {"x": [1, "ä"]})
        self.assertTrue(admin.revoke("a")["changed"])
        self.assertEqual(agent.validate("a")["code"], "DEVICE_REVOKED")
        self.assertFalse(admin.revoke("a")["changed"])
        said = agent.register("a")
        self.assertEqual((said["status"], said["error"], said["outcome"]), ("revoked", "device_revoked", "not_done"))
        with self.assertRaises(Refused) as caught:
            agent.register("a", raise_on_error=True)
        self.assertEqual((caught.exception.status, caught.exception.code, caught.exception.outcome), (403, "device_revoked", "not_done"))
        self.assertEqual(caught.exception.body["handler"], "devices/register")
        self.assertTrue(admin.restore("a")["changed"])
        self.assertTrue(agent.validate("a")["allowed"])
        self.assertTrue(admin.remove("a")["removed"])
        self.assertEqual(agent.validate("a")["code"], "DEVICE_NOT_FOUND")

    def test_ids_with_odd_characters(self) -> None:
        for device_id in ("crewai:dev:runner:01", "worker/prod/α", 'q"\\%&=+#?', " spaces inside "):
            with self.subTest(device_id):
                self.agent.register(device_id)
                self.assertTrue(self.agent.validate(device_id)["allowed"])
                self.assertEqual(self.admin.get_device(device_id)["deviceId"], device_id.strip())
                self.admin.remove(device_id)
        for bad in ("", " ", "x" * 257, "a\0b", "\ud800"):
            with self.subTest(bad):
                self.assertEqual(self.agent.validate(bad)["code"], "INVALID_DEVICE_ID")

    def test_lists_and_pages(self) -> None:
        for i in range(3):
            self.agent.register(f"d{i}")
        self.assertEqual(len(self.admin.list_devices()["devices"]), 3)
        first = self.admin.list_devices(limit=2)
        rest = self.admin.list_devices(limit=2, cursor=first["nextCursor"])
        self.assertEqual([d["deviceId"] for d in first["devices"] + rest["devices"]], ["d0", "d1", "d2"])
        self.assertEqual([d["deviceId"] for d in self.admin.iter_devices(page=1)], ["d0", "d1", "d2"])
        said = self.agent.register("one-too-many")
        self.assertEqual((said["status"], said["error"], said["limit"], said["remaining"]), ("blocked", "device_limit_reached", 3, 0))
        with self.assertRaises(Refused) as caught:
            self.agent.register("one-too-many", raise_on_error=True)
        self.assertEqual((caught.exception.code, caught.exception.body["limit"]), ("device_limit_reached", 3))
        self.assertEqual(self.admin.usage()["devicesUsed"], 3)

    def test_the_org(self) -> None:
        self.agent.register("a")
        self.assertEqual(self.admin.org()["orgId"], self.org["orgId"])
        self.assertTrue(self.admin.org_execution(False)["changed"])
        self.assertEqual(self.agent.validate("a")["code"], "ORG_DISABLED")
        self.admin.org_execution(True)
        self.assertTrue(self.agent.validate("a")["allowed"])

    def test_an_idempotency_key_names_one_change(self) -> None:
        self.agent.register("a")
        self.assertTrue(self.admin.revoke("a", idempotency_key="k1")["changed"])
        self.admin.restore("a")
        self.assertTrue(self.admin.revoke("a", idempotency_key="k1")["changed"])  # the first revoke's answer, and nothing is done
        self.assertTrue(self.agent.validate("a")["allowed"])
        with self.assertRaises(Refused) as caught:
            self.admin.revoke("b", idempotency_key="k1")
        self.assertEqual(caught.exception.code, "idempotency_mismatch")

    def test_keys_that_are_refused(self) -> None:
        self.agent.register("a")
        with self.assertRaises(Refused) as caught:
            self.agent.revoke("a")
        self.assertEqual((caught.exception.status, caught.exception.code), (403, "insufficient_scope"))
        for key, code, error in [(checksum(NOBODYS), "ORG_NOT_FOUND", "org_not_found"), ("org_nonsense", "INVALID_ORG_KEY", "invalid_org_key")]:
            with self.subTest(code), MachineID(key, self.dev.edge) as client:
                self.assertEqual(client.validate("a")["code"], code)
                with self.assertRaises(Refused) as caught:
                    client.usage()
                self.assertEqual(caught.exception.code, error)

    def test_another_key_under_a_running_client(self) -> None:
        self.agent.register("a")
        with MachineID("org_old", self.dev.edge) as client:
            self.assertFalse(client.validate("a")["allowed"])
            client.replace_key(self.org["agentKey"])
            self.assertTrue(client.validate("a")["allowed"])

    def test_an_unread_answer_is_not_the_next_ones(self) -> None:
        """Calls that are given up must not leave their answers to others."""
        self.agent.register("yes")
        for i in range(100):
            cancel = Cancel()
            other = threading.Thread(target=cancel.cancel)
            other.start()
            self.agent.bound(cancel).validate("yes")
            self.assertEqual(self.agent.validate(f"no{i}")["code"], "DEVICE_NOT_FOUND")
            other.join()


class ConcurrencyTest(RealServer):
    def test_many_threads_never_get_each_others_answers(self) -> None:
        self.agent.register("yes-0")
        self.agent.register("yes-1")

        def ask(i: int) -> None:
            want = i % 3 < 2
            device_id = f"yes-{i % 3}" if want else f"no-{i}"
            answer = self.agent.validate(device_id)
            self.assertEqual((answer["allowed"], answer["deviceId"]), (want, device_id), answer)

        with ThreadPoolExecutor(24) as threads:
            list(threads.map(ask, range(1500)))
        self.assertLessEqual(len(self.agent._caller.pool._idle.connections), 16)

    def test_a_fork_shares_no_connection(self) -> None:
        self.agent.register("yes")
        self.assertTrue(self.agent.validate("yes")["allowed"])
        children: List[int] = []
        for n in range(3):
            pid = os.fork()
            if pid == 0:  # the child: nothing of unittest may run here
                status = 1
                try:
                    good = all(self.agent.validate(f"no-{n}-{i}")["code"] == "DEVICE_NOT_FOUND" for i in range(100))
                    status = 0 if good and self.agent.validate("yes")["allowed"] else 2
                finally:
                    os._exit(status)
            children.append(pid)
        for _ in range(300):
            self.assertTrue(self.agent.validate("yes")["allowed"])
        for pid in children:
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)

    def test_a_fork_while_threads_hold_the_pool(self) -> None:
        self.agent.register("yes")
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                self.agent.validate("yes")

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(10):
                pid = os.fork()
                if pid == 0:
                    os._exit(0 if self.agent.validate("yes")["allowed"] else 2)
                eventually("the child ends", lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None)
                self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
        finally:
            over.set()
            for thread in threads:
                thread.join(PATIENT)


class PermissionTest(RealServer):
    def test_a_watch_sees_a_revoke(self) -> None:
        self.agent.register("a")
        denied, allowed = threading.Event(), threading.Event()
        with self.agent.watch("a", every=0.05, on_denied=lambda d: denied.set(), on_allowed=lambda d: allowed.set()) as watch:
            self.assertTrue(allowed.wait(PATIENT))
            watch.checkpoint()
            self.admin.revoke("a")
            self.assertTrue(denied.wait(PATIENT))
            with self.assertRaises(Denied) as caught:
                watch.checkpoint()
            self.assertEqual(caught.exception.code, "DEVICE_REVOKED")
            allowed.clear()
            self.admin.restore("a")
            self.assertTrue(allowed.wait(PATIENT))
            watch.checkpoint()

    def test_a_guard_stops_the_work(self) -> None:
        self.agent.register("a")
        done = []
        with self.assertRaises(Denied), self.agent.guard("a") as permit:
            for step in range(5):
                if step == 2:
                    self.admin.revoke("a")
                permit.check()
                done.append(step)
        self.assertEqual(done, [0, 1])

        @self.agent.guard("a")
        def work() -> None:
            done.append("never")

        self.assertRaises(Denied, work)
        self.assertEqual(done, [0, 1])


class AuthorityLostTest(unittest.TestCase):
    def test_it_fails_closed_and_comes_back_to_nothing(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            tiers = Tiers(os.path.join(folder, "a1"))
            try:
                self.play(tiers)
            finally:
                tiers.kill()

    def play(self, tiers: Tiers) -> None:
        org = MachineID.org_create(tiers.edge)
        with MachineID(org["orgApiKey"], tiers.edge, retries=0) as client:
            client.register("a")
            self.assertTrue(client.validate("a")["allowed"])
            stopped = threading.Event()
            with client.watch("a", every=0.05, on_denied=lambda d: stopped.set()):
                tiers.authority.pause()  # slow answers, and no more leases
                with MachineID(org["orgApiKey"], tiers.edge, timeout=0.5) as hasty:
                    with self.assertRaises(Unavailable) as caught:
                        hasty.revoke("a")
                    self.assertEqual((caught.exception.code, caught.exception.outcome), ("timeout", "unknown"))
                self.assertTrue(stopped.wait(PATIENT), "an edge without a lease must deny")
                denied = client.validate("a")
                self.assertEqual((denied["allowed"], denied["code"]), (False, "SYSTEM_UNAVAILABLE"))
                tiers.authority.resume()
                eventually("the edge has a lease again", lambda: client.validate("a")["code"] != "SYSTEM_UNAVAILABLE")
                tiers.authority.kill()
                eventually("the lease has run out", lambda: client.validate("a")["code"] == "SYSTEM_UNAVAILABLE")
            with self.assertRaises(Unavailable) as lost:
                client.unrevoke("a")
            self.assertEqual(lost.exception.status, 503)
            self.assertIn(lost.exception.outcome, ("not_done", "unknown"))
            self.assertEqual(client.validate("a", raise_on_error=False)["code"], "SYSTEM_UNAVAILABLE")
            self.assertRaises(Unavailable, client.validate, "a", raise_on_error=True)


class ProxyTest(RealServer):
    def test_a_proxy_in_between_that_fails(self) -> None:
        """What comes through a proxy is whole or nothing: pages of its own, answers cut off, and the real ones in between."""
        self.agent.register("a")
        address = self.dev.edge[len("http://"):].split(":")

        def forward(request: Request, client: Client) -> bytes:
            with socket.create_connection((address[0], int(address[1])), PATIENT) as conn:
                head = f"{request.method} {request.target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nx-org-key: {request.headers['x-org-key']}\r\n"
                head += f"X-Request-Id: {request.headers['x-request-id']}\r\n"
                conn.sendall(f"{head}Content-Length: {len(request.raw)}\r\n\r\n".encode() + request.raw)
                with conn.makefile("rb") as reader:
                    return reader.read()

        def cut(request: Request, client: Client) -> None:
            client.send(forward(request, client)[:-10])

        kept: List[bytes] = []

        def repeats(request: Request, client: Client) -> bytes:
            kept.append(kept[0] if kept else forward(request, client))
            return kept[-1]

        with Scripted(repeats) as proxy, MachineID(self.org["agentKey"], proxy.url, retries=0) as client:
            self.assertTrue(client.validate("a")["allowed"])
            self.admin.revoke("a")
            answer = client.validate("a")  # yesterday's ALLOW, byte for byte
            self.assertIn(b'"ALLOW"', kept[-1])
            self.assertEqual((answer["allowed"], answer["error"]), (False, "broken_answer"))
            self.admin.restore("a")

        def bad_gateway(request: Request, client: Client) -> bytes:
            return http(502, b"<html><body>502 Bad Gateway</body></html>", "Content-Type: text/html")

        def portal(request: Request, client: Client) -> bytes:
            return http(200, b"<html>Please log in</html>", "Content-Type: text/html")

        for broken in (bad_gateway, portal, cut):
            with self.subTest(broken.__name__):
                with Scripted(broken) as proxy, MachineID(self.org["agentKey"], proxy.url, retries=1) as client:
                    self.assertEqual(client.validate("a")["code"], "SYSTEM_UNAVAILABLE")
                    self.assertRaises(Unavailable, client.register, "a")
                with Scripted(broken, forward) as proxy, MachineID(self.org["agentKey"], proxy.url, retries=1) as client:
                    began = time.monotonic()
                    self.assertTrue(client.validate("a")["allowed"])
                    self.assertLess(time.monotonic() - began, PATIENT)
