"""The client: every call of the API by its name."""

from __future__ import annotations

import copy
import os
import ssl
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Sequence, TypeVar, Union

from . import _judge as judge
from ._call import Call, Caller, Key
from ._clock import now, seconds
from ._errors import MachineIDError, Unavailable
from ._guard import Guard
from ._http import Cancel, Pool, Response
from ._watch import Watch

T = TypeVar("T")
JSON = Dict[str, Any]

DEFAULT_BASE_URL = "http://127.0.0.1:8080"
BASE_URL_ENV = "MACHINEID_BASE_URL"
ORG_KEY_ENV = "MACHINEID_ORG_KEY"


def base_url_or_default(base_url: Optional[str]) -> str:
    return base_url or os.environ.get(BASE_URL_ENV, "").strip() or DEFAULT_BASE_URL


def key_from_env(env_var: str) -> str:
    key = os.environ.get(env_var, "").strip()
    if not key:
        raise ValueError(f"{env_var} is not set: export {env_var}=org_... (agents use the agent key)")
    return key


class MachineID:
    """A client of one org. Safe for concurrent use by threads, and after a fork.

    org_key: agents carry the agent key; calls that change who may run need the admin key. base_url: without it MACHINEID_BASE_URL counts, then
    http://127.0.0.1:8080. timeout: seconds for a whole call with all its attempts; the server may take 9 s for a change. retries: how often a
    call is tried again at most, within its timeout; only what is safe to repeat is. ssl_context: for https, else the system's authorities.

    Every method answers with the JSON object of the server. All but validate and validate_batch raise Refused or Unavailable.
    """

    def __init__(
        self, org_key: str, base_url: Optional[str] = None, timeout: float = 10.0, *, retries: int = 2, ssl_context: Optional[ssl.SSLContext] = None
    ) -> None:
        self._key = Key(org_key)
        self.base_url = base_url_or_default(base_url)
        if retries < 0:
            raise ValueError(f"retries is {retries!r}: give 0 or more")
        self.timeout = seconds(timeout, "timeout")
        self._caller = Caller(Pool(self.base_url, ssl_context), retries)
        self._cancel: Optional[Cancel] = None  # of the calls of this copy (bound)
        self._deadline: Optional[float] = None

    @classmethod
    def from_env(cls, env_var: str = ORG_KEY_ENV, base_url: Optional[str] = None, timeout: float = 10.0) -> "MachineID":
        """A client with the org key in the environment variable env_var. Raises ValueError if it is not set."""
        return cls(key_from_env(env_var), base_url, timeout)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(org_key=***, base_url={self.base_url!r}, timeout={self.timeout!r})"

    def __enter__(self) -> "MachineID":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections that rest. The client can still be used; it makes new ones."""
        self._caller.pool.forget()

    def replace_key(self, org_key: str) -> None:
        """Uses another org key from the next call on, for rotations without a restart."""
        self._key = Key(org_key)

    # Validate.

    def validate(self, device_id: str, *, raise_on_error: bool = False) -> JSON:
        """May the device work? Only ["allowed"] is True says so.

        It fails closed: out of time, no connection, a broken answer come back as allowed False with code SYSTEM_UNAVAILABLE, and error and message
        say why. It never raises, unless raise_on_error: then Unavailable where nothing could be decided. A denial is never an error.
        """
        call = Call("POST", judge.VALIDATE, body={"deviceId": device_id if isinstance(device_id, str) else None})
        if not isinstance(device_id, str):
            return judge.invalid_device_id(f"a device id is a str, not {type(device_id).__name__}", call.request_id)
        try:
            return self._make(call, lambda answer: judge.decision(answer, device_id))
        except Unavailable as err:
            if raise_on_error:
                raise
            if err.body.get("code") == judge.SYSTEM_UNAVAILABLE and err.body.get("allowed") is False:
                return dict(err.body)
            return judge.unavailable(judge.trim(device_id), err.code, str(err.args[0]), err.request_id or call.request_id)
        except Exception as err:  # whatever it is, the device may not work
            if raise_on_error:
                raise
            return judge.unavailable(None, "client_error", f"{type(err).__name__}: {err}", call.request_id)

    def validate_batch(self, device_ids: Sequence[str], *, raise_on_error: bool = False) -> JSON:
        """May they work? At most 500; ["decisions"] has one {deviceId, allowed, code} for each, in their order. It fails closed as validate does."""
        ids = list(device_ids)
        request_id = ""
        try:
            call = Call("POST", "devices/validate_batch", body={"deviceIds": ids})
            request_id = call.request_id
            return self._make(call, lambda answer: judge.decisions(answer, ids))
        except Exception as err:
            if raise_on_error:
                raise
            code = err.code if isinstance(err, MachineIDError) else "client_error"
            return judge.unavailable_batch(ids, code, str(err), request_id)

    # Devices.

    def register(
        self, device_id: str, *, name: Optional[str] = None, metadata: Optional[Mapping[str, Any]] = None, ttl_seconds: Optional[int] = None,
        idempotency_key: Optional[str] = None,
    ) -> JSON:
        """Takes a seat for a device (["status"] "ok"), or finds that it has one ("exists"). Never restores a revoked one."""
        body = {"deviceId": _id(device_id), "name": name, "metadata": metadata, "ttlSeconds": ttl_seconds}
        return self._change("devices/register", body, key=idempotency_key)

    def list_devices(self, limit: Optional[int] = None, cursor: Optional[str] = None) -> JSON:
        """The devices and the plan fields: all (up to 10,000), or a page of limit; ["nextCursor"] is there if more follow."""
        return self._get("devices/list", {"limit": limit, "cursor": cursor})

    def iter_devices(self, page: int = 500) -> Iterator[JSON]:
        """All devices, read page by page as they are asked for."""
        yield from pages(lambda cursor: self.list_devices(page, cursor), "devices")

    def get_device(self, device_id: str) -> JSON:
        """One device; its own fields are at the top."""
        return self._get("devices/get", {"deviceId": _id(device_id)}, {"deviceId": judge.trim(device_id)})

    def revoke(self, device_id: str, *, idempotency_key: Optional[str] = None) -> JSON:
        """Takes the right to work away. Once this returns no edge says ALLOW. After an error with outcome "unknown" or "committed" call again."""
        return self._change("devices/revoke", {"deviceId": _id(device_id)}, {"deviceId": judge.trim(device_id), "revoked": True}, idempotency_key)

    def unrevoke(self, device_id: str, *, idempotency_key: Optional[str] = None) -> JSON:
        """Gives the right to work back."""
        return self._change("devices/unrevoke", {"deviceId": _id(device_id)}, {"deviceId": judge.trim(device_id), "revoked": False}, idempotency_key)

    def restore(self, device_id: str, *, idempotency_key: Optional[str] = None) -> JSON:
        """Another name of unrevoke."""
        return self.unrevoke(device_id, idempotency_key=idempotency_key)

    def remove(self, device_id: str, *, idempotency_key: Optional[str] = None) -> JSON:
        """Deletes the device. Its id is free again: to keep a device out, revoke it."""
        return self._change("devices/remove", {"deviceId": _id(device_id)}, {"deviceId": judge.trim(device_id), "removed": True}, idempotency_key)

    def revoke_batch(
        self, device_ids: Optional[Sequence[str]] = None, *, scope: Optional[str] = None, idempotency_key: Optional[str] = None
    ) -> JSON:
        """Revokes at most 500 ids, or with scope="all_active" every active device."""
        return self._change("devices/revoke_batch", _batch(device_ids, scope), key=idempotency_key)

    def unrevoke_batch(
        self, device_ids: Optional[Sequence[str]] = None, *, scope: Optional[str] = None, idempotency_key: Optional[str] = None
    ) -> JSON:
        """Restores at most 500 ids, or with scope="all_revoked" the newest-revoked first, as far as the plan's limit goes."""
        return self._change("devices/unrevoke_batch", _batch(device_ids, scope), key=idempotency_key)

    def usage(self) -> JSON:
        """The plan, its limit, the devices in use."""
        return self._get("usage")

    # The org and its keys, named as their paths are.

    def org(self) -> JSON:
        return self._get("org")

    def org_execution(self, enabled: bool, *, idempotency_key: Optional[str] = None) -> JSON:
        """Switches the whole org off (every validate says ORG_DISABLED) or on again."""
        return self._change("org/execution", {"enabled": enabled}, {"enabled": enabled}, idempotency_key)

    def org_settings(self, version: int, *, idempotency_key: Optional[str] = None) -> JSON:
        """Chooses the API generation of the org, 1 or 2."""
        return self._change("org/settings", {"version": version}, key=idempotency_key)

    def org_delete(self, confirm: str, *, idempotency_key: Optional[str] = None) -> JSON:
        """Deletes the org with all it has; confirm is its orgId."""
        return self._change("org/delete", {"confirm": confirm}, key=idempotency_key)

    def org_export(self, limit: Optional[int] = None, cursor: Optional[str] = None) -> JSON:
        """What is kept of the org: org, keys and devices; "nextCursor" is there if more devices follow."""
        return self._get("org/export", {"limit": limit, "cursor": cursor})

    def org_keys(self) -> JSON:
        return self._get("org/keys")

    def org_keys_create(self, name: str, scope: str, expires_at: Optional[str] = None, *, idempotency_key: Optional[str] = None) -> JSON:
        """Makes a key of scope "admin", "agent" or "validate"; ["orgApiKey"] is shown this once. expires_at is RFC 3339 in UTC.

        If the answer was lost, the second attempt raises Refused "secret_already_shown": revoke the key of body["keyId"] and make another.
        """
        return self._change("org/keys", {"name": name, "scope": scope, "expiresAt": expires_at}, key=idempotency_key)

    def org_keys_rotate(
        self, key_id: Optional[str] = None, grace_seconds: Optional[int] = None, *, idempotency_key: Optional[str] = None
    ) -> JSON:
        """Makes a key in the place of key_id (this client's own by default), which ends after grace_seconds. See replace_key."""
        return self._change("org/keys/rotate", {"keyId": key_id, "graceSeconds": grace_seconds}, key=idempotency_key)

    def org_keys_revoke(self, key_id: str, *, idempotency_key: Optional[str] = None) -> JSON:
        return self._change("org/keys/revoke", {"keyId": key_id}, key=idempotency_key)

    def audit(self, limit: Optional[int] = None, cursor: Optional[str] = None) -> JSON:
        """A page of what was changed, newest first."""
        return self._get("audit", {"limit": limit, "cursor": cursor})

    def iter_audit(self, page: int = 500) -> Iterator[JSON]:
        yield from pages(lambda cursor: self.audit(page, cursor), "entries")

    def propagation(self, index: int) -> JSON:
        """How far the change at this index of the log has come."""
        return self._get("propagation", {"index": index})

    @staticmethod
    def org_create(
        base_url: Optional[str] = None, *, name: Optional[str] = None, external_id: Optional[str] = None, operator_token: Optional[str] = None,
        timeout: float = 10.0, ssl_context: Optional[ssl.SSLContext] = None,
    ) -> JSON:
        """Makes an org; its keys are shown this once. Never tried again after an unknown outcome: each success is another org."""
        headers = {} if operator_token is None else {"Authorization": "Bearer " + operator_token}
        call = Call("POST", "org/create", body={"name": name, "externalId": external_id}, changes=True, retry=False, headers=headers)
        caller = Caller(Pool(base_url_or_default(base_url), ssl_context), retries=2)
        try:
            return caller.make(call, None, lambda answer: judge.success(answer, "org_create", {}), now() + seconds(timeout, "timeout"), Cancel())
        finally:
            caller.pool.forget()

    # Work under a permission.

    def guard(self, device_id: Union[str, Callable[..., str]], *, every: Optional[float] = None) -> Guard:
        """Lets work run only while it is allowed, as a decorator or in a with block; see Guard."""
        return Guard(self, device_id, every)

    def watch(
        self, device_id: str, *, every: float = 30.0, on_denied: Optional[Callable[[JSON], object]] = None,
        on_allowed: Optional[Callable[[JSON], object]] = None,
    ) -> Watch:
        """Asks again every so many seconds in a thread of its own; see Watch."""
        return Watch(self, device_id, every, on_denied, on_allowed)

    # Beneath.

    def bound(self, cancel: Cancel, deadline: Optional[float] = None) -> "MachineID":
        """This client for calls that cancel ends and that count their time from elsewhere. It shares the connections."""
        made = copy.copy(self)
        made._cancel, made._deadline = cancel, deadline
        return made

    def _make(self, call: Call, judged: Callable[[Response], T]) -> T:
        deadline = self._deadline if self._deadline is not None else now() + self.timeout
        return self._caller.make(call, self._key, judged, deadline, self._cancel or Cancel())

    def _get(self, path: str, query: Optional[Mapping[str, Any]] = None, expect: Optional[Mapping[str, Any]] = None) -> JSON:
        return self._make(Call("GET", path, query=query), lambda answer: judge.success(answer, path, expect or {}))

    def _change(
        self, path: str, body: Mapping[str, Any], expect: Optional[Mapping[str, Any]] = None, key: Optional[str] = None
    ) -> JSON:
        call = Call("POST", path, body=body, changes=True, idempotency_key=key)
        return self._make(call, lambda answer: judge.success(answer, path, expect or {}))


def pages(page: Callable[[Optional[str]], JSON], name: str) -> Iterator[JSON]:
    """Walks through pages by their cursors."""
    cursor: Optional[str] = None
    while True:
        answer = page(cursor)
        yield from answer[name]
        cursor = next_cursor(answer, cursor)
        if cursor is None:
            return


def next_cursor(answer: Mapping[str, Any], before: Optional[str]) -> Optional[str]:
    """The next page's cursor, None at the end. Raises Unavailable if the walk would not go on."""
    cursor = answer.get("nextCursor")
    if cursor is not None and (not isinstance(cursor, str) or cursor == before):
        raise Unavailable("a page names itself as the next", code="broken_answer", body=answer)
    return cursor


def _id(device_id: object) -> str:
    if not isinstance(device_id, str):
        raise TypeError(f"a device id is a str, not {type(device_id).__name__}")
    return device_id


def _batch(device_ids: Optional[Sequence[str]], scope: Optional[str]) -> JSON:
    if isinstance(device_ids, str):
        raise TypeError("device_ids is a single str: give a list of ids")
    return {"deviceIds": None if device_ids is None else list(device_ids), "scope": scope}
