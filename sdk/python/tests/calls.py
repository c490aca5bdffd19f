"""Every call of the API, once: how it looks on the wire, and whether the server of this repository has it."""

from __future__ import annotations

import os
from typing import Any, Dict, NamedTuple, Optional, Set, Tuple


class Row(NamedTuple):
    name: str
    args: Tuple[Any, ...]
    options: Dict[str, Any]
    method: str
    target: str  # below /api/v1/
    body: Optional[Dict[str, Any]]
    answer: Dict[str, Any]  # what makes it a success, besides handler


def row(call: str, /, *args: Any, _to: str, _body: Optional[Dict[str, Any]] = None, _answer: Optional[Dict[str, Any]] = None, **options: Any) -> Row:
    method, target = _to.split(" ")
    return Row(call, args, options, method, target, _body, _answer or {})


MADE = {"keyId": "k", "orgApiKey": "org_x"}

CALLS = [
    row("register", "a", _to="POST devices/register", _body={"deviceId": "a"}, _answer={"deviceId": "a"}),
    row(
        "register", "a", name="n", metadata={"x": [1]}, ttl_seconds=60,
        _to="POST devices/register", _body={"deviceId": "a", "name": "n", "metadata": {"x": [1]}, "ttlSeconds": 60}, _answer={"deviceId": "a"},
    ),
    row("list_devices", _to="GET devices/list", _answer={"devices": []}),
    row("list_devices", 2, "c=1&x", _to="GET devices/list?limit=2&cursor=c%3D1%26x", _answer={"devices": []}),
    row("get_device", " worker/prod/α +&", _to="GET devices/get?deviceId=worker%2Fprod%2F%CE%B1+%2B%26", _answer={"deviceId": "worker/prod/α +&"}),
    row("revoke", "a", _to="POST devices/revoke", _body={"deviceId": "a"}, _answer={"deviceId": "a", "revoked": True}),
    row("unrevoke", "a", _to="POST devices/unrevoke", _body={"deviceId": "a"}, _answer={"deviceId": "a", "revoked": False}),
    row("restore", "a", _to="POST devices/unrevoke", _body={"deviceId": "a"}, _answer={"deviceId": "a", "revoked": False}),
    row("remove", "a", _to="POST devices/remove", _body={"deviceId": "a"}, _answer={"deviceId": "a", "removed": True}),
    row("revoke_batch", ["a", "b"], _to="POST devices/revoke_batch", _body={"deviceIds": ["a", "b"]}),
    row("revoke_batch", scope="all_active", _to="POST devices/revoke_batch", _body={"scope": "all_active"}),
    row("unrevoke_batch", ("a",), _to="POST devices/unrevoke_batch", _body={"deviceIds": ["a"]}),
    row("unrevoke_batch", scope="all_revoked", _to="POST devices/unrevoke_batch", _body={"scope": "all_revoked"}),
    row("usage", _to="GET usage"),
    row("org", _to="GET org"),
    row("org_execution", False, _to="POST org/execution", _body={"enabled": False}, _answer={"enabled": False}),
    row("org_settings", 1, _to="POST org/settings", _body={"version": 1}),
    row("org_delete", "o", _to="POST org/delete", _body={"confirm": "o"}),
    row("org_export", _to="GET org/export", _answer={"devices": []}),
    row("org_export", 2, "c", _to="GET org/export?limit=2&cursor=c", _answer={"devices": []}),
    row("org_keys", _to="GET org/keys", _answer={"keys": []}),
    row("org_keys_create", "n", "agent", _to="POST org/keys", _body={"name": "n", "scope": "agent"}, _answer=MADE),
    row(
        "org_keys_create", "n", "agent", "2030-01-01T00:00:00.000Z",
        _to="POST org/keys", _body={"name": "n", "scope": "agent", "expiresAt": "2030-01-01T00:00:00.000Z"}, _answer=MADE,
    ),
    row("org_keys_rotate", _to="POST org/keys/rotate", _body={}, _answer=MADE),
    row("org_keys_rotate", "k", 0, _to="POST org/keys/rotate", _body={"keyId": "k", "graceSeconds": 0}, _answer=MADE),
    row("org_keys_revoke", "k", _to="POST org/keys/revoke", _body={"keyId": "k"}),
    row("audit", _to="GET audit", _answer={"entries": []}),
    row("audit", 5, "c", _to="GET audit?limit=5&cursor=c", _answer={"entries": []}),
    row("propagation", 7, _to="GET propagation?index=7"),
]

# Paths that the server of this repository does not have yet. A test asks for each and fails when it is there: take it out of this list then, and
# the tests with the real server in test_server_more.py play it too.
LACKING: Set[str] = set()
if "MACHINEID_TEST_LACKING" in os.environ:  # to try the clients with the server of another branch
    LACKING = set(os.environ["MACHINEID_TEST_LACKING"].split())
