"""Every call on the wire, what is repeated and what not, and what became of a call that failed."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import unittest
from pathlib import Path
from typing import Any, Dict, Optional
from unittest import mock

from machineid_client import MachineID, MachineIDError, Refused, Unavailable, __version__
from machineid_client._http import Cancel

from .calls import CALLS
from .scripted import Client, Request, Scripted, allow, bare, close, error, hang, http, then_close

KEY = "org_test"


def client(server: Scripted, **options: Any) -> MachineID:
    return MachineID(KEY, server.url, **options)


def echo(request: Request, client: Client) -> bytes:
    """The success of whatever is asked for."""
    body: Dict[str, Any] = {"handler": request.handler, "status": "ok"}
    said = request.body or {}
    if "deviceId" in said:
        body["deviceId"] = said["deviceId"].strip()
    body.update(revoked=request.handler == "devices/revoke", removed=True, enabled=said.get("enabled"))
    return http(200, body)


class WireTest(unittest.TestCase):
    def test_every_call(self) -> None:
        for row in CALLS:
            answer = {"handler": row.target.partition("?")[0], "status": "ok", **row.answer, "extra": {"kept": 1}}
            with self.subTest(row.name, args=row.args), Scripted(http(200, answer)) as server, client(server) as c:
                self.assertEqual(bare(getattr(c, row.name)(*row.args, **row.options)), answer)
                sent = server.requests[0]
                self.assertEqual((sent.method, sent.target, sent.body), (row.method, "/api/v1/" + row.target, row.body))
                self.assertEqual(sent.headers["x-org-key"], KEY)
                self.assertEqual(sent.headers["user-agent"], "machineid-python/" + __version__)
                self.assertEqual("idempotency-key" in sent.headers, row.method == "POST")
                self.assertNotIn(KEY, sent.target)

    def test_every_method_is_in_the_table(self) -> None:
        other = {"from_env", "close", "replace_key", "validate", "validate_batch", "iter_devices", "iter_audit", "org_create", "guard", "watch", "bound"}
        methods = {name for name, value in vars(MachineID).items() if not name.startswith("_") and callable(getattr(MachineID, name))}
        self.assertEqual(methods - other, {row.name for row in CALLS})

    def test_org_create(self) -> None:
        answer = {"handler": "org_create", "status": "ok", "orgApiKey": "org_x"}
        with Scripted(http(200, answer)) as server:
            self.assertEqual(bare(MachineID.org_create(server.url, name="n", external_id="e", operator_token="t")), answer)
            sent = server.requests[0]
            self.assertEqual((sent.target, sent.body), ("/api/v1/org/create", {"name": "n", "externalId": "e"}))
            self.assertEqual(sent.headers["authorization"], "Bearer t")
            self.assertNotIn("idempotency-key", sent.headers)
            self.assertNotIn("x-org-key", sent.headers)

    def test_pages(self) -> None:
        def page(request: Request, client: Client) -> bytes:
            n = int(request.target.partition("cursor=")[2] or 0)
            body: Dict[str, Any] = {"handler": request.handler, "devices": [{"deviceId": f"{n}"}], "entries": [{"index": n}]}
            if n < 3:
                body["nextCursor"] = str(n + 1)
            return http(200, body)

        with Scripted(page) as server, client(server) as c:
            self.assertEqual([d["deviceId"] for d in c.iter_devices(page=1)], ["0", "1", "2", "3"])
            self.assertEqual([e["index"] for e in c.iter_audit()], [0, 1, 2, 3])
        with Scripted(http(200, {"handler": "devices/list", "devices": [], "nextCursor": "same"})) as server, client(server) as c:
            with self.assertRaises(Unavailable):
                list(c.iter_devices())

    def test_success_must_be_the_calls_own(self) -> None:
        good = {"handler": "devices/revoke", "deviceId": "a", "revoked": True}
        wrong = {
            "a page of a proxy": {"ok": True}, "another handler": {**good, "handler": "devices/validate"}, "another device": {**good, "deviceId": "b"},
            "not revoked": {**good, "revoked": False}, "revoked is 1": {**good, "revoked": 1}, "nothing": {},
        }
        for name, body in wrong.items():
            with self.subTest(name), Scripted(http(200, body)) as server, client(server, retries=0) as c:
                with self.assertRaises(Unavailable) as caught:
                    c.revoke("a")
                self.assertEqual((caught.exception.code, caught.exception.outcome), ("broken_answer", "unknown"))

    def test_types_are_checked_before_anything_is_sent(self) -> None:
        with Scripted(echo) as server, client(server) as c:
            for bad in ("", "a\nb", "ä", "x" * 256, "a ", " "):
                self.assertRaises(ValueError, c.revoke, "a", idempotency_key=bad)
            for wrong in (lambda: c.revoke(None), lambda: c.revoke_batch("abc"), lambda: c.register(b"a")):  # type: ignore[arg-type]
                self.assertRaises(TypeError, wrong)
            self.assertEqual(server.requests, [])


class BaseURLTest(unittest.TestCase):
    def test_where_it_comes_from(self) -> None:
        with mock.patch.dict(os.environ, clear=True):
            self.assertEqual(MachineID(KEY).base_url, "http://127.0.0.1:8080")
            os.environ["MACHINEID_BASE_URL"] = ""
            self.assertEqual(MachineID(KEY).base_url, "http://127.0.0.1:8080")
            os.environ["MACHINEID_BASE_URL"] = "http://edge:1"
            self.assertEqual(MachineID(KEY).base_url, "http://edge:1")
            self.assertEqual(MachineID(KEY, "http://other:2").base_url, "http://other:2")
            with self.assertRaisesRegex(ValueError, "MACHINEID_ORG_KEY is not set"):
                MachineID.from_env()
            os.environ["MACHINEID_ORG_KEY"], os.environ["K"] = "org_1", " org_2\n"
            self.assertEqual(MachineID.from_env()._key.reveal(), "org_1")
            c = MachineID.from_env(env_var="K", base_url="http://b", timeout=3)
            self.assertEqual((c._key.reveal(), c.base_url, c.timeout), ("org_2", "http://b", 3))

    def test_what_is_none(self) -> None:
        for bad in ("ftp://a", "a:8080", "http://", "http://u:p@a", "http://a?x=1", "http://a#f", "http://a/ü", "http://a:99999",
                    "http://a?", "http://a/#", "http://@a", "http://a:0", "http://a:", "http://[::1]:", "http://a:-1", "http://a:http", "http://a:٨", "http://a:000080",
                    "http://bücher.example", "http://a\nb", "http://a b"):
            with self.subTest(bad), self.assertRaises(ValueError):
                MachineID(KEY, bad)

    def test_a_path_before_the_api(self) -> None:
        with Scripted(http(200, {"handler": "usage"})) as server:
            with MachineID(KEY, server.url + "/machineid/") as c:
                c.usage()
            self.assertEqual(server.requests[0].target, "/machineid/api/v1/usage")

    def test_the_environments_proxies_do_not_see_the_key(self) -> None:
        with Scripted(echo) as proxy, Scripted(http(200, {"handler": "usage"})) as server:
            with mock.patch.dict(os.environ, {"http_proxy": proxy.url, "HTTP_PROXY": proxy.url, "ALL_PROXY": proxy.url}), client(server) as c:
                c.usage()
            self.assertEqual(proxy.requests, [])


class TLSTest(unittest.TestCase):
    def test_only_a_server_that_is_trusted_gets_the_key(self) -> None:
        pem = str(Path(__file__).with_name("localhost.pem"))
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_side.load_cert_chain(pem)
        trusting = ssl.create_default_context(cafile=pem)
        with Scripted(http(200, allow()), tls=server_side) as server:
            with MachineID(KEY, server.url, retries=0) as c:
                self.assertEqual(c.validate("a")["error"], "connection_failed")
            with Scripted(http(200, allow()), tls=server_side, host="127.0.0.2") as other:  # trusted, but for another name
                with MachineID(KEY, other.url, retries=0, ssl_context=trusting) as c:
                    self.assertFalse(c.validate("a")["allowed"])
                self.assertEqual(other.requests, [])
            self.assertEqual(server.requests, [])
            with MachineID(KEY, server.url, retries=0, ssl_context=trusting) as c:
                for _ in range(5):
                    self.assertTrue(c.validate("a")["allowed"])
            self.assertEqual(len({r.connection for r in server.requests}), 1)

    def test_a_handshake_counts_in_the_timeout_and_can_be_cancelled(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"https://127.0.0.1:{silent.getsockname()[1]}"
            with MachineID(KEY, url, timeout=0.3, retries=0) as c:
                self.assertEqual(c.validate("a")["error"], "timeout")
            cancel, answers, conns = Cancel(), [], []
            with MachineID(KEY, url, timeout=600) as c:
                thread = threading.Thread(target=lambda: answers.append(c.bound(cancel).validate("a")))
                thread.start()
                for _ in range(2):  # the first of them is the call's before
                    conn, _ = silent.accept()
                    conns.append(conn)
                conns[-1].recv(1)  # the handshake has begun
                cancel.cancel()
                thread.join(30)
                self.assertEqual([a["error"] for a in answers], ["cancelled"])
                for conn in conns:
                    conn.close()


class AddressesTest(unittest.TestCase):
    """A name stands for several addresses: one that answers is found, whatever becomes of what is sent to the others."""

    def setUp(self) -> None:
        hole = socket.create_server(("127.0.0.1", 0), backlog=0)  # full, it drops whatever comes: it neither takes nor refuses it
        self.addCleanup(hole.close)
        self.hole = hole.getsockname()[1]
        while True:
            full = socket.socket()
            self.addCleanup(full.close)
            full.settimeout(0.3)
            try:
                full.connect(("127.0.0.1", self.hole))
            except socket.timeout:
                break
        with socket.create_server(("127.0.0.1", 0)) as closed:
            self.closed = closed.getsockname()[1]

    def resolving(self, *ports: int) -> Any:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in ports]
        return mock.patch("socket.getaddrinfo", lambda *_: found)

    def test_an_address_that_answers_is_found(self) -> None:
        for before in ((self.hole,), (self.hole, self.hole), (self.closed,), (self.closed, self.hole), (self.hole, self.closed)):
            with self.subTest(before), Scripted(echo) as server, self.resolving(*before, server.port):
                with MachineID(KEY, f"http://127.0.0.1:{server.port}", timeout=20, retries=0) as c:
                    c.revoke("a")
                self.assertEqual(len(server.requests), 1)

    def test_the_next_is_tried_after_a_moment(self) -> None:
        with Scripted(echo) as server, self.resolving(self.hole, server.port), MachineID(KEY, server.url, timeout=600, retries=0) as c:
            c.revoke("a")  # or the test ends in ten minutes

    def test_none_answers(self) -> None:
        for ports, code in (((self.hole, self.hole), "timeout"), ((self.closed, self.closed), "connection_failed"), ((self.closed, self.hole), "timeout")):
            with self.subTest(ports), self.resolving(*ports), MachineID(KEY, "http://127.0.0.1:1", timeout=0.4, retries=0) as c:
                with self.assertRaises(Unavailable) as caught:
                    c.revoke("a")
                self.assertEqual((caught.exception.code, caught.exception.outcome), (code, "not_done"))

    def test_connecting_can_be_cancelled(self) -> None:
        cancel, answers = Cancel(), []
        with self.resolving(self.hole), MachineID(KEY, "http://127.0.0.1:1", timeout=600) as c:
            thread = threading.Thread(target=lambda: answers.append(c.bound(cancel).validate("a")))
            thread.start()
            cancel.cancel()
            thread.join(30)
            self.assertEqual([a["error"] for a in answers], ["cancelled"])


class AttemptsTest(unittest.TestCase):
    def failing(self, *answers: Any, retries: int = 2, timeout: float = 10.0, status: Optional[int] = None) -> MachineIDError:
        """The error of a revoke that gets these answers, which must all be asked for with one Idempotency-Key."""
        with Scripted(*answers) as server, client(server, retries=retries, timeout=timeout) as c:
            with self.assertRaises(MachineIDError) as caught:
                c.revoke("a")
            self.assertEqual(len(server.requests), len(answers))
            self.assertEqual(len({r.headers["idempotency-key"] for r in server.requests}), 1)
            self.assertEqual(len({r.headers["x-request-id"] for r in server.requests}), len(answers))
            self.request_id = server.requests[-1].headers["x-request-id"]
            self.assertEqual(caught.exception.request_id, self.request_id)
        return caught.exception

    def unavailable(self, outcome: str) -> bytes:
        return http(503, error("system_unavailable", "devices/revoke", outcome=outcome), "Retry-After: 0")

    def test_a_change_is_repeated_with_its_own_key(self) -> None:
        for first in (close, http(502, b"<html>"), http(200, b"half"), self.unavailable("not_done"), self.unavailable("unknown"), self.unavailable("committed")):
            with Scripted(first, echo) as server, client(server) as c:
                self.assertTrue(c.revoke("a")["revoked"])
                keys = {r.headers["idempotency-key"] for r in server.requests}
                self.assertEqual((len(server.requests), len(keys)), (2, 1))
                c.revoke("a")
                self.assertNotIn(server.requests[2].headers["idempotency-key"], keys)
                c.revoke("a", idempotency_key="mine")
                self.assertEqual(server.requests[3].headers["idempotency-key"], "mine")

    def test_outcomes(self) -> None:
        not_found = http(404, error("device_not_found", "devices/revoke"))
        no_org = http(404, error("org_not_found", "devices/revoke"))
        n, u, c = self.unavailable("not_done"), self.unavailable("unknown"), self.unavailable("committed")
        for answers, kind, code, outcome in [
            ((n, n, n), Unavailable, "system_unavailable", "not_done"),
            ((n, n, u), Unavailable, "system_unavailable", "unknown"),
            ((u, n, n), Unavailable, "system_unavailable", "unknown"),  # what the first may have done, the others do not undo
            ((c, u, n), Unavailable, "system_unavailable", "committed"),
            ((close, close, close), Unavailable, "connection_failed", "unknown"),
            ((http(502, b"x"),) * 3, Unavailable, "broken_answer", "unknown"),
            ((then_close(b"HTTP/1.1 200 OK\r\n"), n, n), Unavailable, "system_unavailable", "unknown"),
            ((not_found,), Refused, "device_not_found", "not_done"),
            ((u, not_found), Refused, "device_not_found", "not_done"),  # decided once for all attempts
            ((u, no_org), Refused, "org_not_found", "unknown"),  # the key ended meanwhile; that says nothing of the first
            ((http(409, error("secret_already_shown", "devices/revoke")),), Refused, "secret_already_shown", "committed"),
            ((http(302, b"", "Location: /"),), Unavailable, "redirected", "unknown"),
        ]:
            with self.subTest(code=code, outcome=outcome, n=len(answers)):
                err = self.failing(*answers)
                self.assertIsInstance(err, kind)
                self.assertEqual((err.code, err.outcome), (code, outcome))
        self.assertEqual(self.failing(hang, timeout=0.4).outcome, "unknown")

    def test_what_was_never_sent_is_not_done(self) -> None:
        with Scripted(echo) as server:
            pass
        with self.assertRaises(Unavailable) as caught:
            client(server).revoke("a")
        self.assertEqual((caught.exception.code, caught.exception.outcome, caught.exception.status), ("connection_failed", "not_done", None))

    def test_an_error_tells_all_it_knows(self) -> None:
        err = self.failing(http(403, error("insufficient_scope", "devices/revoke", more=1)))
        self.assertEqual((err.status, err.code, err.request_id, err.body["more"]), (403, "insufficient_scope", self.request_id, 1))
        self.assertIn("said by the test", str(err))

    def test_org_create_is_not_repeated_after_an_unknown_outcome(self) -> None:
        for answer in (close, http(502, b"x"), http(503, error("system_unavailable", "org_create", outcome="unknown"))):
            with Scripted(answer) as server:
                with self.assertRaises(Unavailable) as caught:
                    MachineID.org_create(server.url)
                self.assertEqual((len(server.requests), caught.exception.outcome), (1, "unknown"))
        with Scripted(http(503, error("system_unavailable", "org_create", outcome="not_done")), http(200, {"handler": "org_create", "orgApiKey": "org_x"})) as server:
            MachineID.org_create(server.url)

    def test_reads_are_repeated_and_change_nothing(self) -> None:
        with Scripted(close, http(200, {"handler": "usage"})) as server, client(server) as c:
            c.usage()
        with Scripted(close) as server, client(server, retries=0) as c, self.assertRaises(Unavailable) as caught:
            c.usage()
        self.assertEqual(caught.exception.outcome, "not_done")


class ConnectionsTest(unittest.TestCase):
    def test_kept(self) -> None:
        with Scripted(http(200, allow())) as server, client(server) as c:
            for _ in range(20):
                self.assertTrue(c.validate("a")["allowed"])
            self.assertEqual({r.connection for r in server.requests}, {0})

    def test_one_that_was_closed_while_it_rested_costs_no_attempt(self) -> None:
        # The server reads the second request before it closes: it cannot be told from one that closed too early.
        with Scripted(echo, close, echo) as server, client(server, retries=0) as c:
            c.revoke("a")
            c.revoke("a")
            first, second, third = server.requests
            self.assertEqual([r.connection for r in (first, second, third)], [0, 0, 1])
            self.assertEqual(second.headers["idempotency-key"], third.headers["idempotency-key"])
        with Scripted(echo, close, close) as server, client(server, retries=0) as c:  # once only
            c.revoke("a")
            with self.assertRaises(Unavailable) as caught:
                c.revoke("a")
            self.assertEqual((len(server.requests), caught.exception.outcome), (3, "unknown"))
        with Scripted(echo, then_close(b"HTTP/1.1 2")) as server, client(server, retries=0) as c:  # something was answered
            c.revoke("a")
            self.assertRaises(Unavailable, c.revoke, "a")
            self.assertEqual(len(server.requests), 2)

    def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next(self) -> None:
        with Scripted(http(200, allow("b")) + http(200, allow("b")), http(200, allow("b", second=True))) as server, client(server) as c:
            self.assertNotIn("second", c.validate("b"))
            self.assertIn("second", c.validate("b"))
            self.assertEqual([r.connection for r in server.requests], [0, 1])

    def test_an_answer_that_comes_while_the_connection_rests(self) -> None:
        go = threading.Event()

        def twice(request: Request, client: Client) -> bytes:
            client.send(http(200, allow()))
            go.wait(30)
            return http(200, allow())

        with Scripted(twice, http(200, allow(second=True))) as server, client(server) as c:
            self.assertNotIn("second", c.validate("a"))
            go.set()
            resting = c._caller.pool._idle.connections[0].timed.sock
            self.assertTrue(select.select([resting], [], [], 30)[0])
            self.assertIn("second", c.validate("a"))
            self.assertEqual([r.connection for r in server.requests], [0, 1])

    def test_an_answer_before_the_answer(self) -> None:
        """103 Early Hints, which http.client takes for the answer: the real one must not be taken for the next request's."""
        with Scripted(b"HTTP/1.1 103 X\r\n\r\n", http(200, allow("a", second=True))) as server, client(server, retries=0) as c:
            self.assertFalse(c.validate("a")["allowed"])
            self.assertIn("second", c.validate("a"))
            self.assertEqual([r.connection for r in server.requests], [0, 1])

    def test_connection_close_is_obeyed(self) -> None:
        with Scripted(http(200, allow(), "Connection: close")) as server, client(server, retries=0) as c:
            self.assertTrue(c.validate("a")["allowed"])
            self.assertTrue(c.validate("a")["allowed"])
            self.assertEqual([r.connection for r in server.requests], [0, 1])
