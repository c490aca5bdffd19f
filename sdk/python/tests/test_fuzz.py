"""Any bytes as an answer: work goes on only by what is plainly an ALLOW for this device, and nothing but Broken is raised.

MACHINEID_TEST_FUZZ is how many inputs (default 20,000), MACHINEID_TEST_SEED which ones.
"""

from __future__ import annotations

import json
import os
import random
import unittest
from typing import Any, Callable, Dict, List, Tuple

from machineid_client import _judge
from machineid_client._http import Response

ID = "r"
SEEDS: List[bytes] = [
    b'{"allowed":true,"code":"ALLOW","request_id":"r","handler":"devices/validate","deviceId":"a"}',
    b'{"allowed":false,"code":"DEVICE_REVOKED","request_id":"r","handler":"devices/validate","deviceId":"a"}',
    b'{"allowed":false,"allowed":true,"code":"ALLOW","request_id":"r","handler":"devices/validate","deviceId":"a"}',
    b'{"all\\u006fwed":true,"code":"ALLOW","request_id":"r","handler":"devices/validate","deviceId":"\\u0061"}',
    b'{"status":"ok","request_id":"r","handler":"devices/validate_batch","decisions":[{"deviceId":"a","allowed":true,"code":"ALLOW"}]}',
    b'{"request_id":"r","handler":"devices/validate_batch","decisions":[{"deviceId":"a","allowed":true,"code":"ALLOW"},{"deviceId":"b","allowed":true,"code":"ALLOW"}]}',
    b'{"request_id":"r","handler":"devices/validate_batch","decisions":["a"]}',
    b'{"status":"ok","request_id":"r","handler":"devices/revoke","revoked":true}',
    b'{"allowed":true,"code":"ALLOW","request_id":"r","handler":"devices/validate","deviceId":"a","valid":true,"revoked":false,"status":"ok"}',
    b'{"allowed":1,"code":"ALLOW","request_id":"r","handler":"devices/validate","deviceId":"a"}',
    b'{"request_id":"r","handler":"devices/validate_batch","decisions":[{"deviceId":"a","allowed":1,"code":"ALLOW"}]}',
    b'{"request_id":"r","handler":"devices/revoke","revoked":1}',
    b"<html>", b"[]", b"{}x", b"\xff", b"\xef\xbb\xbf{}", b'{"a":' + b"1" * 5000 + b"}", b"[" * 2000,
]
TOKENS: List[bytes] = [
    b"true", b"false", b"null", b"1", b"1e999", b"NaN", b'"ALLOW"', b'"a"', b'" a"', b'"b"', b'"\\ud800"', b'"allowed":true', b'"allowed":', b'"code":', b'"deviceId":',
    b'"handler":"devices/validate"', b'"handler":"devices/revoke"', b'"revoked":true', b'"valid":false', b'"request_id":"x"', b'"status":"ok"', b'"decisions":', b",", b":", b"{", b"}", b"[", b"]", b'"', b"\\", b"\x00", b"\xc3", b" ",
]
GOOD = {"content-type": "application/json", "x-request-id": ID}
HEADS: List[Dict[str, str]] = [GOOD] * 12 + [{}, {**GOOD, "age": "1"}, {**GOOD, "x-request-id": "r, x"}, {**GOOD, "content-type": "text/html"}]
STATUSES = [200, 200, 200, 200, 202, 204, 301, 400, 404, 500, 503]
REVOKED: Dict[str, Any] = {"revoked": True}


def mutate(rng: random.Random, body: bytes) -> bytes:
    """A few changes of bytes, of words, or of ends."""
    for _ in range(rng.randrange(5)):
        at, to = sorted((rng.randrange(len(body) + 1), rng.randrange(len(body) + 1)))
        change: Callable[[], bytes] = rng.choice((
            lambda: body[:at] + rng.choice(TOKENS) + body[at:],
            lambda: body[:at] + rng.choice(TOKENS) + body[min(at + rng.randrange(8), len(body)):],
            lambda: body[:at] + body[min(at + rng.randrange(4), len(body)):],
            lambda: body[:at] + bytes([rng.randrange(256)]) + body[at + 1:],
            lambda: body[:to] + body[at:],
            lambda: body[:at] + rng.choice(SEEDS)[rng.randrange(8):] if len(body) < 1 << 14 else body[:at],
        ))
        body = change()
    return body


def judged(what: Callable[..., Dict[str, Any]], answer: Response, *args: Any) -> Dict[str, Any]:
    try:
        return what(_judge.read(answer, ID), *args)
    except _judge.Broken:
        return {}


def _first(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    return dict(reversed(pairs))


def plainly(body: bytes) -> Any:
    """What two readers make of it who agree: for one the first of a name given twice counts, for the other the last."""
    last, first = json.loads(body), json.loads(body, object_pairs_hook=_first)
    return last if last == first else {}


class FuzzJudge(unittest.TestCase):
    def test_any_answer(self) -> None:
        inputs, seed = int(os.environ.get("MACHINEID_TEST_FUZZ", "20000")), os.environ.get("MACHINEID_TEST_SEED") or str(random.randrange(1 << 32))
        rng = random.Random(seed)
        pool, allowed = list(SEEDS), 0
        for n in range(inputs):
            body = mutate(rng, rng.choice(pool if rng.randrange(3) == 0 else SEEDS))
            status, device = rng.choice(STATUSES), rng.choice(("a", " a\t", "b"))
            answer = Response(status, rng.choice(HEADS), body)
            told = f"seed {seed}, input {n}: HTTP {status} {body!r} for {device!r}"
            if len(pool) < 500 and rng.randrange(100) == 0 and len(body) < 1 << 12:
                pool.append(body)

            if judged(_judge.decision, answer, device).get("allowed"):
                allowed += 1
                read = plainly(body)
                got = (status, read.get("allowed") is True, read.get("code"), read.get("handler"), read.get("deviceId"))
                self.assertEqual(got, (200, True, "ALLOW", "devices/validate", device.strip()), told)
                self.assertEqual((answer.headers, read.get("request_id"), read.get("valid", True), read.get("revoked", False)), (GOOD, ID, True, False), told)
            for one in judged(_judge.decisions, answer, [device]).get("decisions", []):
                if one["allowed"]:
                    allowed += 1
                    read = plainly(body)
                    given = read.get("decisions") or [{}]
                    one_got = (status, read.get("handler"), len(given), given[0].get("allowed") is True, given[0].get("code"), given[0].get("deviceId"))
                    self.assertEqual(one_got, (200, "devices/validate_batch", 1, True, "ALLOW", device.strip()), told)
            if judged(_judge.changed, answer, "devices/revoke", REVOKED):
                allowed += 1
                read = plainly(body)
                self.assertEqual((status, read.get("handler"), read.get("revoked") is True, read.get("request_id")), (200, "devices/revoke", True, ID), told)
        self.assertGreater(allowed, inputs // 200, f"seed {seed}: hardly any input is let through, so this shows nothing")


if __name__ == "__main__":
    unittest.main()
