"""What an answer is worth. Only a whole, plain and fitting ALLOW is a permission; whatever else is none (fail closed)."""

from __future__ import annotations

import json
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


class Broken(ValueError):
    """The answer is not one that our server gives to this call."""


def parse(body: bytes) -> Dict[str, Any]:
    """Reads a JSON object, strictly: a name given twice could mean allowed to one reader and denied to another. Raises Broken."""
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as err:
        raise Broken(f"no JSON: {err}") from None
    if not isinstance(value, dict):
        raise Broken(f"JSON, but no object: {type(value).__name__}")
    return value


def _once(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name is given twice")
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def trim(device_id: str) -> str:
    """The id as the server understands it."""
    return device_id.strip(" \t\r\n")


def decision(answer: Response, device_id: str) -> Dict[str, Any]:
    """Returns what the server decided about the device. Raises Broken for whatever is no decision about it."""
    body = parse(answer.body)
    allowed, code = body.get("allowed"), body.get("code")
    if not isinstance(allowed, bool) or not isinstance(code, str) or not code:
        raise Broken("no decision: allowed is no boolean or code no string")
    if allowed != (code == ALLOW):
        raise Broken(f"allowed is {allowed} and code {code}")
    if not allowed:
        # A denial needs no proof, but a 5xx speaks of a broken server, not of the device, and a redirect comes from somebody else.
        if answer.status >= 500 or 300 <= answer.status < 400:
            raise Broken(f"HTTP {answer.status}")
        if code == SYSTEM_UNAVAILABLE:
            raise Broken("the system cannot answer now")  # that is no decision about the device: worth asking again
        return body
    if answer.status != 200:
        raise Broken(f"ALLOW with HTTP {answer.status}")
    if body.get("handler") != VALIDATE:
        raise Broken("ALLOW from something that is not validate")
    if body.get("deviceId") != trim(device_id):
        raise Broken("ALLOW for another device")
    return body


def decisions(answer: Response, device_ids: Sequence[str]) -> Dict[str, Any]:
    """Returns what the server decided about each device, in their order. Raises Broken if a single one does not fit."""
    body = parse(answer.body)
    given = body.get("decisions")
    if answer.status != 200 or body.get("handler") != "devices/validate_batch" or not isinstance(given, list):
        raise Broken(f"HTTP {answer.status} without decisions")
    if len(given) != len(device_ids):
        raise Broken(f"{len(given)} decisions for {len(device_ids)} ids")
    for one, device_id in zip(given, device_ids):
        if not isinstance(one, dict):
            raise Broken("a decision is no object")
        allowed, code = one.get("allowed"), one.get("code")
        if not isinstance(allowed, bool) or not isinstance(code, str) or allowed != (code == ALLOW):
            raise Broken("a decision without plain allowed and code")
        if allowed and one.get("deviceId") != trim(device_id):
            raise Broken("ALLOW for another device")
    return body


def success(answer: Response, handler: str, expect: Mapping[str, Any]) -> Dict[str, Any]:
    """Returns the answer to a call that succeeded. Raises Broken unless it is surely that call's.

    A proxy's page {"ok":true} must not pass for a revoke that is in force.
    """
    body = parse(answer.body)
    if answer.status not in (200, 202):
        raise Broken(f"HTTP {answer.status}")
    if body.get("handler") != handler:
        raise Broken(f"the answer of another handler: {body.get('handler')!r}")
    for name, want in expect.items():
        if type(body.get(name)) is not type(want) or body[name] != want:
            raise Broken(f"{name} is {body.get(name)!r}, not {want!r}")
    return body


def unavailable(device_id: Optional[str], code: str, message: str, request_id: str) -> Dict[str, Any]:
    """The decision of the client itself where there is none of the server: the fields of a validate, with error and message besides."""
    made: Dict[str, Any] = {
        "allowed": False,
        "code": SYSTEM_UNAVAILABLE,
        "request_id": request_id,
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


def unavailable_batch(device_ids: Sequence[str], code: str, message: str, request_id: str) -> Dict[str, Any]:
    """The client's own decision about many devices."""
    none = {"allowed": False, "code": SYSTEM_UNAVAILABLE}
    return {
        "status": "error", "handler": "devices/validate_batch", "request_id": request_id, "error": code, "message": message,
        "decisions": [{"deviceId": one, **none} for one in device_ids],
    }


def invalid_device_id(message: str, request_id: str) -> Dict[str, Any]:
    """The decision about something that is no device id at all; nobody need be asked."""
    made = unavailable(None, "invalid_device_id", message, request_id)
    made.update(code=INVALID_DEVICE_ID, reason=INVALID_DEVICE_ID.lower())
    return made
