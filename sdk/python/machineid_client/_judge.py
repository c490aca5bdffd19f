"""What an answer is worth. Only a whole, plain and fitting ALLOW is a permission; whatever else is none (fail closed)."""

from __future__ import annotations

import json
import math
import re
import uuid
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ._http import Response

ALLOW = "ALLOW"
SYSTEM_UNAVAILABLE = "SYSTEM_UNAVAILABLE"
INVALID_DEVICE_ID = "INVALID_DEVICE_ID"
VALIDATE = "devices/validate"

# What a server decides from the org's state. After an earlier attempt whose outcome is unknown these settle it: the attempts share one
# Idempotency-Key, so whichever came first decided both.
DECIDED = frozenset(
    ["device_not_found", "device_limit_reached", "device_revoked", "plan_frozen", "entitlement_expired", "last_admin_key", "key_not_found",
     "key_limit_reached"]
)


# A decision's code, for people, where the server says no more than the code.
MESSAGES = {
    ALLOW: "the device may work",
    SYSTEM_UNAVAILABLE: "the system cannot answer now: ask again later, and do not work meanwhile",
    INVALID_DEVICE_ID: "the device id breaks the rules for ids",
    "INVALID_ORG_KEY": "the org key is missing or malformed",
    "ORG_NOT_FOUND": "no org has this key, or the key was revoked or has expired",
    "ORG_DISABLED": "the org is switched off",
    "PLAN_FROZEN": "the org's plan is frozen",
    "ENTITLEMENT_EXPIRED": "the org's access has ended",
    "DEVICE_NOT_FOUND": "the device is not registered, was removed, or has expired",
    "DEVICE_REVOKED": "the device is revoked",
}

# Deeper, or with longer numbers, is no answer of ours; without a bound the parser would fail by itself, each Python version elsewhere.
MAX_DEPTH = 64
MAX_DIGITS = 4096  # a number in metadata, which agents write and whoever lists devices must be able to read

_JSON_TYPE = re.compile(r'application/json *(; *charset="?utf-8"? *)?', re.IGNORECASE)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Broken(ValueError):
    """The answer is not one that our server gives to this call."""


class Said:
    """A whole answer to this very request."""

    __slots__ = ("status", "body")

    def __init__(self, status: int, body: Dict[str, Any]) -> None:
        self.status, self.body = status, body


def read(answer: Response, request_id: str) -> Said:
    """Reads an answer to the request with this id. Raises Broken for one to another request, from a cache, or that is no JSON object.

    The server answers with the request's X-Request-Id in the head and in the body: what something in between kept from an earlier request, an ALLOW
    of yesterday, has another.
    """
    head = answer.headers
    if head.get("x-request-id") != request_id:
        raise Broken("the answer to another request: X-Request-Id is not what was sent")
    if "age" in head:
        raise Broken("the answer of a cache: it has an Age")
    if not _JSON_TYPE.fullmatch(head.get("content-type", "").strip()):
        raise Broken(f"no JSON: Content-Type is {head.get('content-type', 'missing')[:80]!r}")
    body = parse(answer.body)
    if body.get("request_id") != request_id:
        raise Broken("the answer to another request: request_id is not what was sent")
    return Said(answer.status, body)


def parse(body: bytes) -> Dict[str, Any]:
    """Reads a JSON object, strictly: a name given twice could mean allowed to one reader and denied to another. Raises Broken."""
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant, parse_int=_integer, parse_float=_float)
    except (ValueError, RecursionError) as err:
        raise Broken(f"no JSON: {type(err).__name__ if isinstance(err, RecursionError) else err}") from None
    if not isinstance(value, dict):
        raise Broken(f"JSON, but no object: {type(value).__name__}")
    _bounded(value)
    if _SURROGATE.search(body):
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except ValueError:  # whoever prints it would fail
            raise Broken("no JSON: an unpaired surrogate") from None
    return value


def _bounded(value: Any) -> None:
    """Raises Broken for what is nested deeper than MAX_DEPTH; itself it nests nothing."""
    layer = [value]
    for _ in range(MAX_DEPTH):
        layer = [
            inner for one in layer for inner in (one.values() if isinstance(one, dict) else one) if isinstance(inner, (dict, list))
        ]
        if not layer:
            return
    raise Broken(f"no JSON of ours: nested deeper than {MAX_DEPTH}")


def _once(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name is given twice")
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _integer(text: str) -> int:
    _float(text)  # one beyond it others could not read, and no server of ours sends it
    return int(text)


def _float(text: str) -> float:
    if len(text) > MAX_DIGITS or not math.isfinite(float(text)):
        raise ValueError("a number is too long or too large")
    return float(text)


def trim(device_id: str) -> str:
    """The id as the server understands it: without any Unicode space around it, as the public package has always sent it."""
    return device_id.strip()


def trimmed(device_id: object) -> Optional[str]:
    """The same of what may be none."""
    return trim(device_id) if isinstance(device_id, str) else None


def _plain(body: Mapping[str, Any]) -> Tuple[bool, str]:
    """Reads a decision's two fields. Raises Broken if others contradict them."""
    allowed, code = body.get("allowed"), body.get("code")
    if not isinstance(allowed, bool) or not isinstance(code, str) or not code:
        raise Broken("no decision: allowed is no boolean or code no string")
    if allowed != (code == ALLOW):
        raise Broken(f"allowed is {allowed} and code {code[:80]}")
    if "valid" in body and body["valid"] is not allowed:
        raise Broken(f"allowed is {allowed} and valid is not")
    if "status" in body and (not isinstance(body["status"], str) or (body["status"] == "ok") != allowed):
        raise Broken(f"allowed is {allowed} and status says otherwise")
    revoked = body.get("revoked", code == "DEVICE_REVOKED")
    if not isinstance(revoked, bool) or (revoked and allowed) or (not revoked and code == "DEVICE_REVOKED"):
        raise Broken(f"code is {code[:80]} and revoked says otherwise")
    if allowed and "error" in body:
        raise Broken("ALLOW with an error")
    return allowed, code


def decision(said: Said, device_id: str) -> Dict[str, Any]:
    """Returns what the server decided about the device. Raises Broken for whatever is no decision about it."""
    body = said.body
    allowed, code = _plain(body)
    if body.get("handler") != VALIDATE:
        raise Broken("a decision of something that is not validate")
    if not allowed:
        # A denial needs less, but a 5xx speaks of a broken server, not of the device, and a redirect comes from somebody else.
        if said.status < 200 or said.status >= 500 or 201 <= said.status < 400:
            raise Broken(f"a denial with HTTP {said.status}")
        if code == SYSTEM_UNAVAILABLE:
            raise Broken("the system cannot answer now")  # that is no decision about the device: worth asking again
        return explained(body)
    if said.status != 200:
        raise Broken(f"ALLOW with HTTP {said.status}")
    if body.get("deviceId") != trim(device_id):
        raise Broken("ALLOW for another device")
    return explained(body)


def explained(body: Dict[str, Any]) -> Dict[str, Any]:
    """Gives a decision its message where the server sent none: people want to read why."""
    if not isinstance(body.get("message"), str) or not body["message"]:
        body["message"] = MESSAGES.get(str(body.get("code")), f"the server says {body.get('code')}")
    return body


def decisions(said: Said, device_ids: Sequence[object]) -> Dict[str, Any]:
    """Returns what the server decided about each device, in their order. Raises Broken if a single one does not fit."""
    body = success(said, "devices/validate_batch", {"decisions": list})
    if body.get("status", "ok") != "ok":
        raise Broken("decisions, and status says otherwise")
    given = body["decisions"]
    if len(given) != len(device_ids):
        raise Broken(f"{len(given)} decisions for {len(device_ids)} ids")
    for one, device_id in zip(given, device_ids):
        if not isinstance(one, dict):
            raise Broken("a decision is no object")
        allowed, _ = _plain(one)
        if allowed and (not isinstance(device_id, str) or one.get("deviceId") != trim(device_id)):
            raise Broken("ALLOW for another device")
        explained(one)
    return body


def success(said: Said, handler: str, expect: Mapping[str, Any]) -> Dict[str, Any]:
    """Returns the answer to a call that succeeded. Raises Broken unless it is surely that call's.

    A proxy's page {"ok":true} must not pass for a revoke that is in force. expect: what fields must be, or of which type. HTTP 202 is none: it would
    say that a change is not in force yet.
    """
    body = said.body
    if said.status != 200:
        raise Broken(f"HTTP {said.status}")
    if body.get("handler") != handler:
        raise Broken(f"the answer of another handler: {str(body.get('handler'))[:80]!r}")
    if "error" in body:
        raise Broken("a success with an error")
    for name, want in expect.items():
        got = body.get(name)
        if not isinstance(got, want) if isinstance(want, type) else type(got) is not type(want) or got != want:
            raise Broken(f"{name} is {str(got)[:80]!r}, not {want!r}")
    return body


def changed(said: Said, handler: str, expect: Mapping[str, Any]) -> Dict[str, Any]:
    """The same for a call that changes something: its status must not say that it did not."""
    body = success(said, handler, expect)
    if body.get("status", "ok") not in ("ok", "exists", "restored", "limit_reached"):
        raise Broken(f"HTTP 200 and status {str(body['status'])[:80]!r}")
    return body


def unavailable(device_id: Optional[str], code: str, message: str, request_id: Optional[str] = None) -> Dict[str, Any]:
    """The decision of the client itself where there is none of the server: the fields of a validate, with error and message besides.

    Without a request_id nobody was asked, and no log of the server has the one that it gets.
    """
    made: Dict[str, Any] = {
        "allowed": False,
        "code": SYSTEM_UNAVAILABLE,
        "request_id": request_id or str(uuid.uuid4()),
        "handler": VALIDATE,
        "status": "error",
        "reason": SYSTEM_UNAVAILABLE.lower(),
        "valid": False,
        "revoked": False,
        "error": code,
        "message": message,
    }
    if device_id is not None:
        made["deviceId"] = device_id
    return made


def unavailable_batch(device_ids: Sequence[object], code: str, message: str, request_id: Optional[str] = None) -> Dict[str, Any]:
    """The client's own decision about many devices."""
    none = {"allowed": False, "code": SYSTEM_UNAVAILABLE, "message": message}
    return {
        "status": "error", "handler": "devices/validate_batch", "request_id": request_id or str(uuid.uuid4()), "error": code, "message": message,
        "decisions": [{"deviceId": one, **none} for one in device_ids],
    }


def invalid_device_id(message: str) -> Dict[str, Any]:
    """The decision about something that is no device id at all; nobody need be asked."""
    made = unavailable(None, "invalid_device_id", message)
    made.update(code=INVALID_DEVICE_ID, reason=INVALID_DEVICE_ID.lower())
    return made
