"""The table that both clients read: what answers are worth, and what an id is (sdk/judged.json says how it is read)."""

from __future__ import annotations

import json
import unittest
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from machineid_client import MachineID, MachineIDError, _judge

from .scripted import Client, Request, Scripted

TABLE: Dict[str, Any] = json.loads((Path(__file__).resolve().parents[2] / "judged.json").read_text("utf-8"))
REASONS = {200: "OK"}


def answer(case: Dict[str, Any]) -> Tuple[int, List[Tuple[str, str]], str]:
    """A case's status, headers and body."""
    body = {**TABLE["calls"][case["call"]]["whole"], **case.get("set", {})}
    for name in case.get("drop", []):
        del body[name]
    text = json.dumps(body)
    if "text" in case:
        pieces = "".join(some * times for some, times in case["text"])
        text = pieces.replace("{whole}", text).replace("{inner}", text[1:-1])
    headers: List[Tuple[str, str]] = []
    for name, value in {**TABLE["headers"], **case.get("headers", {})}.items():
        headers += [(name, one) for one in (value if isinstance(value, list) else [] if value is None else [value])]
    return case.get("status", 200), headers, text


def on_the_wire(case: Dict[str, Any], request_id: str) -> bytes:
    status, headers, text = answer(case)
    sent = text.replace(TABLE["requestId"], request_id).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    for old, new in ((TABLE["requestId"], request_id), (TABLE["requestId"].upper(), request_id.upper())):
        head = head.replace(old, new)
    return f"HTTP/1.1 {status} {REASONS.get(status, 'X')}\r\nContent-Length: {len(sent)}\r\n{head}\r\n".encode() + sent


def verdict(client: MachineID, call: str) -> Tuple[Any, Optional[str]]:
    """What the client makes of it: as the table says it, and the outcome of a failed change."""
    given = TABLE["calls"][call]
    try:
        if call == "validate":
            return client.validate(given["deviceId"], raise_on_error=True)["code"], None
        if call == "validate_batch":
            return [one["code"] for one in client.validate_batch(given["deviceIds"], raise_on_error=True)["decisions"]], None
        if call == "usage":
            client.usage()
        elif call == "register":
            client.register(given["deviceId"], raise_on_error=True)
        else:
            client.revoke(given["deviceId"])
        return "ok", None
    except MachineIDError as err:
        return err.code, err.outcome


class JudgedTest(unittest.TestCase):
    def test_every_case(self) -> None:
        case: Dict[str, Any] = {}

        def say(request: Request, client: Client) -> bytes:
            return on_the_wire(case, request.headers["x-request-id"])

        with Scripted(say) as server, MachineID("org_test", server.url, retries=0) as client:
            for case in TABLE["cases"]:
                with self.subTest(case["name"], call=case["call"]):
                    before = len(server.requests)
                    got, outcome = verdict(client, case["call"])
                    self.assertEqual(got, case["verdict"])
                    if "outcome" in case:
                        self.assertEqual(outcome, case["outcome"])
                    self.assertEqual(len(server.requests), before + 1)
                    if case["call"] == "validate":  # as it is used: what is no ALLOW allows nothing, and says why
                        decision = client.validate("a")
                        self.assertIs(decision["allowed"], case["verdict"] == "ALLOW")
                        self.assertTrue(decision["message"])
        self.assertGreater(len(TABLE["cases"]), 300)

    def test_ids(self) -> None:
        for row in TABLE["trim"]:
            with self.subTest(row["given"]):
                self.assertEqual(_judge.trim(row["given"]), row["id"])
        self.assertGreater(len(TABLE["trim"]), 30)

    def test_ids_are_sent_as_the_public_package_sends_them(self) -> None:
        said = {"status": "ok", "revoked": True, "removed": True, "deviceId": "worker/α"}

        def say(request: Request, client: Client) -> bytes:
            body = {**said, "handler": request.handler, "request_id": request.headers["x-request-id"], "revoked": request.handler == "devices/revoke"}
            text = json.dumps(body).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: {request.headers['x-request-id']}\r\nContent-Length: {len(text)}\r\n\r\n"
            return head.encode() + text

        given = "\u2003\u00a0\x1cworker/α\u3000\x85"
        with Scripted(say) as server, MachineID("org_test", server.url, retries=0) as client:
            for call in (client.register, client.revoke, client.unrevoke, client.remove, client.validate):
                call(given)
            self.assertEqual([r.body["deviceId"] for r in server.requests], ["worker/α"] * 5)
            client.get_device(given)
            self.assertEqual(server.requests[-1].target.partition("?")[2], "deviceId=worker%2F%CE%B1")
            client.validate_batch([given, "b"])
            client.revoke_batch([given, "b"])
            client.unrevoke_batch((given, "b"))
            self.assertEqual([r.body["deviceIds"] for r in server.requests[-3:]], [["worker/α", "b"]] * 3)
