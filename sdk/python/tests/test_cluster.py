"""The client against an edge of a cluster of three, through a proxy: pages that are no answers, answers that are slow, a key that is rotated
under running threads, nodes that are lost one after the other, and the majority with them."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, List, Optional

from machineid_client import MachineID, Unavailable

from .scripted import Client, Request, Scripted, hang, http
from .world import PATIENT, Cluster, eventually

Answer = Callable[[Request, Client], Optional[bytes]]


def bad_gateway(request: Request, client: Client) -> bytes:
    return http(502, b"<html><body>502 Bad Gateway</body></html>", "Content-Type: text/html")


def portal(request: Request, client: Client) -> bytes:
    return http(200, b"<html>Please log in</html>", "Content-Type: text/html")


def anothers_json(request: Request, client: Client) -> bytes:
    return http(200, {"status": "ok", "allowed": True, "revoked": True}, "Content-Type: application/json")


class ClusterTest(unittest.TestCase):
    def test_a_cluster(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            cluster = Cluster(folder)
            try:
                self.cluster = cluster
                self.play()
            finally:
                cluster.kill()

    def forward(self, request: Request, client: Client) -> bytes:
        host, port = self.cluster.edge[len("http://"):].split(":")
        with socket.create_connection((host, int(port)), PATIENT) as conn:
            head = f"{request.method} {request.target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            for name in ("x-org-key", "idempotency-key", "x-request-id"):
                if name in request.headers:
                    head += f"{name}: {request.headers[name]}\r\n"
            conn.sendall(f"{head}Content-Length: {len(request.raw)}\r\n\r\n".encode() + request.raw)
            with conn.makefile("rb") as reader:
                return reader.read()

    def play(self) -> None:
        org = MachineID.org_create(self.cluster.edge)
        with MachineID(org["orgApiKey"], self.cluster.edge) as admin, MachineID(org["agentKey"], self.cluster.edge) as agent:
            agent.register("a")
            self.assertTrue(agent.validate("a")["allowed"])
            self.proxy_between(org, admin, agent)
            self.key_rotates(admin)
            self.nodes_lost(admin, agent)
            self.majority_lost(admin, agent)

    def proxy_between(self, org: dict, admin: MachineID, agent: MachineID) -> None:
        answers: List[Answer] = [bad_gateway, portal, anothers_json]
        for broken in answers:
            with self.subTest(broken.__name__):
                with Scripted(broken) as proxy, MachineID(org["orgApiKey"], proxy.url, retries=0) as client:
                    denied = client.validate("a")
                    self.assertEqual((denied["allowed"], denied["code"]), (False, "SYSTEM_UNAVAILABLE"))
                    with self.assertRaises(Unavailable) as caught:
                        client.revoke("a")
                    self.assertEqual(caught.exception.outcome, "unknown")
        self.assertTrue(agent.validate("a")["allowed"], "no revoke has come through")

        def lost(request: Request, client: Client) -> bytes:
            self.forward(request, client)  # it is made, and its answer is lost on the way back
            return bad_gateway(request, client)

        with Scripted(lost, self.forward) as proxy, MachineID(org["orgApiKey"], proxy.url) as client:
            self.assertTrue(client.revoke("a")["revoked"])
        self.assertEqual(agent.validate("a")["code"], "DEVICE_REVOKED")
        admin.restore("a")
        with Scripted(hang) as proxy, MachineID(org["orgApiKey"], proxy.url, timeout=0.3) as client:
            began = time.monotonic()
            self.assertEqual(client.validate("a")["code"], "SYSTEM_UNAVAILABLE")
            self.assertLess(time.monotonic() - began, PATIENT)
            with self.assertRaises(Unavailable) as slow:
                client.revoke("a")
            self.assertEqual((slow.exception.code, slow.exception.outcome), ("timeout", "unknown"))

    def key_rotates(self, admin: MachineID) -> None:
        made = admin.org_keys_create("fleet", "validate")
        over = threading.Event()
        with MachineID(made["orgApiKey"], self.cluster.edge) as worker:

            def ask() -> List[str]:
                codes = []
                while not over.is_set():
                    codes.append(worker.validate("a")["code"])
                return codes

            with ThreadPoolExecutor(4) as pool:
                running = [pool.submit(ask) for _ in range(4)]
                try:
                    fresh = admin.org_keys_rotate(made["keyId"], 3600)
                    worker.replace_key(fresh["orgApiKey"])
                    admin.org_keys_revoke(made["keyId"])
                    self.assertTrue(worker.validate("a")["allowed"])
                finally:
                    over.set()
                # A validate that was under way with the old key when that was revoked may be denied; nobody is allowed who must not be.
                codes = [code for one in running for code in one.result()]
            self.assertLessEqual(set(codes), {"ALLOW", "ORG_NOT_FOUND"})
            self.assertIn("ALLOW", codes)
        with MachineID(made["orgApiKey"], self.cluster.edge) as old:
            self.assertEqual(old.validate("a")["code"], "ORG_NOT_FOUND")

    def change(self, call: Callable[[str], dict]) -> None:
        """Makes a change until it has succeeded: errors that are no refusal say that one may."""
        end = time.monotonic() + 2 * PATIENT
        while True:
            try:
                call("a")
                return
            except Unavailable:
                self.assertLess(time.monotonic(), end, "no change comes through")

    def nodes_lost(self, admin: MachineID, agent: MachineID) -> None:
        for i in range(3):  # one of them is the leader
            self.cluster.nodes[i].kill()
            for call, code in ((admin.revoke, "DEVICE_REVOKED"), (admin.restore, "ALLOW")):
                self.change(call)
                self.assertIn(agent.validate("a")["code"], (code, "SYSTEM_UNAVAILABLE"))
            self.cluster.restart(i)
            self.cluster.await_node(i)

    def majority_lost(self, admin: MachineID, agent: MachineID) -> None:
        eventually("the edge allows", lambda: agent.validate("a")["allowed"])
        for i in (1, 2):
            self.cluster.nodes[i].kill()
        eventually("the lease has run out", lambda: agent.validate("a")["code"] == "SYSTEM_UNAVAILABLE")
        for _ in range(20):
            self.assertFalse(agent.validate("a")["allowed"])
        with self.assertRaises(Unavailable) as lost:
            admin.revoke("a")
        self.assertIn(lost.exception.outcome, ("not_done", "unknown"))
        for i in (1, 2):
            self.cluster.restart(i)
        self.change(admin.revoke)
        self.assertFalse(agent.validate("a")["allowed"])
