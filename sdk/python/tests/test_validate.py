"""validate fails closed: only a whole, plain and fitting ALLOW is a permission."""

from __future__ import annotations

import io
import pickle
import socket
import threading
import time
import traceback
import unittest

from machineid_client import MachineID, Refused, Unavailable

from .scripted import HEAD, RID, Client, Request, Scripted, allow, bare, close, deny, error, hang, http, then_close

KEY = "org_ABCDEFGH" + "s3cret" * 6 + "xy"


def client(server: Scripted, **options: object) -> MachineID:
    options.setdefault("retries", 0)
    return MachineID(KEY, server.url, **options)  # type: ignore[arg-type]


def chunked(text: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    half = len(text) // 2
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (text[:half], text[half:]))
    return b"HTTP/1.1 200 OK\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + pieces + end


ALLOW_TEXT = http(200, allow()).partition(b"\r\n\r\n")[2]

# Answers that are no permission, though most look like one.
BROKEN = {
    "html of a proxy": http(200, b"<html>welcome</html>"),
    "html of a proxy that fails": http(502, b"<html>bad gateway</html>"),
    "nothing": http(200, b""),
    "null": http(200, b"null"),
    "a list": http(200, b"[" + ALLOW_TEXT + b"]"),
    "true": http(200, b"true"),
    "allowed is 1": http(200, allow(allowed=1)),
    "allowed is a string": http(200, allow(allowed="true")),
    "allowed is null": http(200, allow(allowed=None)),
    "no allowed": http(200, {"code": "ALLOW", "handler": "devices/validate", "deviceId": "a"}),
    "no code": http(200, {"allowed": True, "handler": "devices/validate", "deviceId": "a"}),
    "another code": http(200, allow(code="DEVICE_REVOKED")),
    "code is no string": http(200, allow(code=["ALLOW"])),
    "ALLOW that is not allowed": http(200, deny(code="ALLOW")),
    "an unknown code that allows": http(200, allow(code="ALLOW_MAYBE")),
    "another device": http(200, allow("b")),
    "no device": http(200, {"allowed": True, "code": "ALLOW", "handler": "devices/validate"}),
    "another handler": http(200, allow(handler="devices/register")),
    "ALLOW with 201": http(201, allow()),
    "ALLOW with 206": http(206, allow()),
    "ALLOW with 403": http(403, allow()),
    "ALLOW with 500": http(500, allow()),
    "ALLOW with 503": http(503, allow()),
    "a denial with 500": http(500, deny()),
    "allowed given twice": http(200, ALLOW_TEXT[:-1] + b',"allowed":true}'),
    "bytes behind the object": http(200, ALLOW_TEXT + b"{}"),
    "broken UTF-8": http(200, ALLOW_TEXT[:-1] + b',"x":"\xff"}'),
    "too deep": http(200, ALLOW_TEXT[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "half a head": then_close(b"HTTP/1.1 200 OK\r\n" + HEAD + b"Content-Le"),
    "a head and no body": then_close(b"HTTP/1.1 200 OK\r\n" + HEAD + b"Content-Length: 400\r\n\r\n"),
    "half a body": then_close(http(200, allow())[:-20]),
    "an object that ends early but looks whole": then_close(b"HTTP/1.1 200 OK\r\n" + HEAD + b"Content-Length: 4000\r\n\r\n" + ALLOW_TEXT),
    "half a chunk": then_close(chunked(ALLOW_TEXT)[:-40]),
    "chunks without their end": then_close(chunked(ALLOW_TEXT, end=b"")),
    "chunk sizes that are none": then_close(b"HTTP/1.1 200 OK\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + ALLOW_TEXT),
    "no HTTP": then_close(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "a closed connection": close,
    "a line of the head that is none": then_close(b"HTTP/1.1 200 OK\r\n" + HEAD + b"no header\r\nAge: 5\r\n\r\n" + ALLOW_TEXT),
    "too many headers": then_close(b"HTTP/1.1 200 OK\r\n" + HEAD + b"X: y\r\n" * 200 + b"\r\n" + ALLOW_TEXT),
    "a header that is too long": then_close(b"HTTP/1.1 200 OK\r\n" + HEAD + b"X: " + b"y" * 100_000 + b"\r\n\r\n" + ALLOW_TEXT),
    "a length that is a digit of another script": then_close("HTTP/1.1 200 OK\r\nContent-Length: \u00b2\r\n".encode("latin-1") + HEAD + b"\r\n" + ALLOW_TEXT[:-1]),
    "an unpaired surrogate": http(200, ALLOW_TEXT[:-1] + b',"x":"\\ud800"}'),
    "a name that is an unpaired surrogate": http(200, ALLOW_TEXT[:-1] + b',"x":[{"\\uDfff":1}]}'),
    "a length beyond all measure": then_close(b"HTTP/1.1 200 OK\r\n" + HEAD + b"Content-Length: 99999999999\r\n\r\n" + ALLOW_TEXT),
}


class ValidateTest(unittest.TestCase):
    def denied(self, answer: dict, code: str = "SYSTEM_UNAVAILABLE") -> None:
        self.assertIs(answer["allowed"], False, answer)
        self.assertIs(answer["valid"], False)
        self.assertEqual(answer["code"], code)

    def test_broken_answers_deny(self) -> None:
        for name, answer in BROKEN.items():
            with self.subTest(name), Scripted(answer) as server, client(server, timeout=5) as c:
                self.denied(c.validate("a"))
                self.assertEqual(len(server.requests), 1)
                with self.assertRaises(Unavailable):
                    c.validate("a", raise_on_error=True)

    def test_an_allow_in_any_framing(self) -> None:
        framings = {
            "length": http(200, allow()),
            "chunks": chunked(ALLOW_TEXT),
            "until the end": then_close(b"HTTP/1.1 200 OK\r\n" + HEAD + b"\r\n" + ALLOW_TEXT),
            "HTTP 1.0": then_close(b"HTTP/1.0 200 OK\r\n" + HEAD + b"\r\n" + ALLOW_TEXT),
            "after 100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n" + http(200, allow()),
        }
        for name, answer in framings.items():
            with self.subTest(name), Scripted(answer) as server, client(server) as c:
                self.assertEqual(bare(c.validate(" a\n")), bare(allow()))

    def test_denials_come_as_they_are(self) -> None:
        for status in (200, 400, 405, 413):
            with self.subTest(status), Scripted(http(status, deny("SOMETHING_NEW", more=1))) as server, client(server) as c:
                answer = c.validate("a", raise_on_error=True)
                self.assertEqual(bare(answer), bare(deny("SOMETHING_NEW", more=1)))
                self.assertEqual((answer["request_id"], answer["message"]), (server.requests[0].headers["x-request-id"], "the server says SOMETHING_NEW"))

    def test_an_attempt_believes_no_answer_to_one_before(self) -> None:
        def late(request: Request, client: Client) -> None:
            client.send(http(200, allow()).replace(RID.encode(), client.server.requests[0].headers["x-request-id"].encode()))

        with Scripted(http(502, b"<html>"), late) as server, client(server, retries=1) as c:
            answer = c.validate("a")
            self.assertEqual((answer["allowed"], len(server.requests), answer["request_id"]), (False, 2, server.requests[1].headers["x-request-id"]))

    def test_redirects_are_not_followed(self) -> None:
        with Scripted(http(200, allow())) as elsewhere:
            for status in (301, 302, 303, 307, 308):
                away = http(status, deny(), f"Location: {elsewhere.url}/api/v1/devices/validate")
                with self.subTest(status), Scripted(away) as server, client(server, retries=2) as c:
                    answer = c.validate("a")
                    self.denied(answer)
                    self.assertEqual(answer["error"], "redirected")
                    self.assertEqual(len(server.requests), 1)
            self.assertEqual(elsewhere.requests, [])

    def test_refused_connection(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        self.denied(MachineID(KEY, f"http://127.0.0.1:{port}").validate("a"))

    def test_unknown_host(self) -> None:
        self.denied(MachineID(KEY, "http://nobody.invalid:1", timeout=5, retries=0).validate("a"))

    def test_the_timeout_is_for_the_whole_call(self) -> None:
        def drip(request: Request, client: Client) -> None:
            for i in range(len(ALLOW_TEXT)):
                if client.server.over.wait(0.05):
                    return
                client.send((b"HTTP/1.1 200 OK\r\n" + HEAD + b"\r\n" if i == 0 else b"") + ALLOW_TEXT[i : i + 1])

        for name, answers in {"hangs": (hang,), "drips": (drip,), "fails, then hangs": (close, http(502, b"x"), hang)}.items():
            with self.subTest(name), Scripted(*answers) as server, client(server, timeout=0.6, retries=5) as c:
                began = time.monotonic()
                answer = c.validate("a")
                took = time.monotonic() - began
                self.denied(answer)
                self.assertEqual(answer["error"], "timeout")
                self.assertGreater(took, 0.5)
                self.assertLess(took, 5)

    def test_a_hanging_connection_leaves_time_for_another(self) -> None:
        with Scripted(hang, http(200, allow())) as server, client(server, timeout=4.2, retries=1) as c:
            self.assertTrue(c.validate("a")["allowed"])
            self.assertEqual([r.connection for r in server.requests], [0, 1])

    def test_retries(self) -> None:
        again = {"close": close, "html": http(502, b"x"), "unavailable": http(200, deny("SYSTEM_UNAVAILABLE")), "429": http(429, error("rate_limited", "devices/validate"))}
        for name, first in again.items():
            with self.subTest(name), Scripted(first, first, http(200, allow())) as server, client(server, retries=2) as c:
                self.assertTrue(c.validate("a")["allowed"])
                self.assertEqual(len(server.requests), 3)
        with Scripted(http(200, deny()), http(200, allow())) as server, client(server, retries=2) as c:
            self.denied(c.validate("a"), "DEVICE_REVOKED")  # a denial is not asked again
        busy = deny("SYSTEM_UNAVAILABLE", reason="rate_limited")
        with Scripted(http(200, busy, "Retry-After: 60")) as server, client(server, retries=2, timeout=5) as c:
            began = time.monotonic()
            self.assertEqual(bare(c.validate("a")), bare(busy))  # the server's own words
            self.assertLess(time.monotonic() - began, 3)  # waiting for longer than the timeout is of no use
            self.assertEqual(len(server.requests), 1)
            with self.assertRaises(Unavailable) as caught:
                c.validate("a", raise_on_error=True)
            self.assertEqual(caught.exception.retry_after, 60)

    def test_retry_after_in_no_digits_is_none(self) -> None:
        for value in ("\xb2", "+1", "1.5", "-1", "1e3", "9999999", "soon"):
            with self.subTest(value), Scripted(http(200, deny("SYSTEM_UNAVAILABLE"), f"Retry-After: {value}")) as server, client(server, retries=0) as c:
                with self.assertRaises(Unavailable) as caught:
                    c.validate("a", raise_on_error=True)
                self.assertIsNone(caught.exception.retry_after)

    def test_retry_after_is_honoured(self) -> None:
        with Scripted(http(200, deny("SYSTEM_UNAVAILABLE"), "Retry-After: 1"), http(200, allow())) as server, client(server, retries=1) as c:
            began = time.monotonic()
            self.assertTrue(c.validate("a")["allowed"])
            self.assertGreaterEqual(time.monotonic() - began, 1)

    def test_what_is_no_id(self) -> None:
        with Scripted(http(200, allow())) as server, client(server) as c:
            for bad in (None, 7, b"a", ["a"]):
                self.denied(c.validate(bad), "INVALID_DEVICE_ID")  # type: ignore[arg-type]
            self.assertEqual(server.requests, [])

    def test_a_fault_of_the_client_denies(self) -> None:
        with Scripted(http(200, allow())) as server:
            c = client(server)
            c._caller = None  # type: ignore[assignment]
            answer = c.validate("a")
            self.denied(answer)
            self.assertEqual(answer["error"], "client_error")

    def test_batches_fail_closed(self) -> None:
        def batch(*decisions: object, status: int = 200, **more: object) -> bytes:
            return http(status, {"handler": "devices/validate_batch", "decisions": list(decisions), **more})

        yes, no = {"deviceId": "a", "allowed": True, "code": "ALLOW"}, {"deviceId": "b", "allowed": False, "code": "DEVICE_REVOKED"}
        with Scripted(batch(yes, no)) as server, client(server) as c:
            self.assertEqual([bare(d) for d in c.validate_batch(["a", " b"])["decisions"]], [yes, no])
            self.assertEqual(server.requests[0].body, {"deviceIds": ["a", "b"]})
        broken = {
            "too few": batch(yes), "too many": batch(yes, no, no), "the other order": batch(no, yes), "another handler": batch(yes, no, handler="x"),
            "allowed is 1": batch({**yes, "allowed": 1}, no), "no code": batch({"deviceId": "a", "allowed": True}, no), "no object": batch(yes, None),
            "500": batch(yes, no, status=500), "html": http(200, b"<html>"), "no decisions": http(200, {"handler": "devices/validate_batch"}),
            "refused": http(400, error("missing_params", "devices/validate_batch")), "gone": close,
        }
        for name, answer in broken.items():
            with self.subTest(name), Scripted(answer) as server, client(server) as c:
                got = c.validate_batch(["a", "b"])["decisions"]
                self.assertEqual([bare(d) for d in got], [{"deviceId": i, "allowed": False, "code": "SYSTEM_UNAVAILABLE"} for i in "ab"])
                self.assertTrue(all(d["message"] for d in got))
                with self.assertRaises((Unavailable, Refused)):
                    c.validate_batch(["a", "b"], raise_on_error=True)


class SecrecyTest(unittest.TestCase):
    def test_the_key_shows_itself_nowhere(self) -> None:
        with Scripted(http(401, error("invalid_org_key", "usage"))) as server, client(server) as c:
            shown = io.StringIO()
            try:
                c.usage()
            except Refused as err:
                shown.writelines(traceback.TracebackException.from_exception(err, capture_locals=True).format())
                shown.write(f"{err} {err!r} {vars(err)}")
            shown.write(f"{c} {c!r} {vars(c)} {c._key}")
            self.assertIn("invalid_org_key", shown.getvalue())
            self.assertIn("x-org-key", shown.getvalue())
            self.assertNotIn(KEY[12:], shown.getvalue())
            with self.assertRaises(TypeError):
                pickle.dumps(c)

    def test_keys_that_would_be_headers(self) -> None:
        for bad in ("", "  ", "org_a\r\nX: y", "org_ü", None):
            with self.subTest(bad), self.assertRaises(ValueError) as caught:
                MachineID(bad)  # type: ignore[arg-type]
            self.assertNotIn("org_a", str(caught.exception))


class CancelTest(unittest.TestCase):
    def test_cancel_ends_a_call_at_once(self) -> None:
        from machineid_client._http import Cancel

        with Scripted(hang) as server, client(server, timeout=30) as c:
            cancel = Cancel()
            answers = []
            thread = threading.Thread(target=lambda: answers.append(c.bound(cancel).validate("a")))
            thread.start()
            server.await_requests(1)
            cancel.cancel()
            thread.join(10)
            self.assertFalse(thread.is_alive())
            self.assertEqual(answers[0]["error"], "cancelled")
