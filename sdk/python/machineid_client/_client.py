"""The client: every call of the API by its name."""

from __future__ import annotations

import copy
import os
import ssl
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, TypeVar, Union

from . import _judge as judge
from ._call import Call, Caller, Key, fault
from ._clock import now, seconds
from ._errors import MachineIDError, Unavailable
from ._guard import Guard
from ._http import Cancel, Pool
from ._namesake import warn_of_it
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
        warn_of_it()
        self._key = Key(org_key)
        self.base_url: str = base_url_or_default(base_url)
        if not isinstance(retries, int) or retries < 0:
            raise ValueError(f"retries is {retries!r}: give a whole number, 0 or more")
        self.timeout: float = seconds(timeout, "timeout")
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
        if not isinstance(device_id, str):
            return judge.invalid_device_id(f"a device id is a str, not {type(device_id).__name__}")
        try:
            call = Call("POST", judge.VALIDATE, body={"deviceId": judge.trim(device_id)})
            return self._make(call, lambda said: judge.decision(said, device_id))
        except Exception as err:  # whatever it is, the device may not work
            error = err if isinstance(err, MachineIDError) else fault(err)
            if raise_on_error:
                raise error from err.__cause__
            if error.code == "system_unavailable" and error.body.get("allowed") is False:
                return dict(error.body)
            return judge.unavailable(judge.trimmed(device_id), error.code, str(error.args[0]), error.request_id)

    def validate_batch(self, device_ids: Sequence[str], *, raise_on_error: bool = False) -> JSON:
        """May they work? At most 500; ["decisions"] has one {deviceId, allowed, code, message} for each, in their order. It fails closed as validate does.

        Raises TypeError for what is no list of ids.
        """
        ids = id_list(device_ids)
        try:
            call = Call("POST", "devices/validate_batch", body={"deviceIds": ids})
            return self._make(call, lambda said: judge.decisions(said, ids))
        except Exception as err:
            error = err if isinstance(err, MachineIDError) else fault(err)
            if raise_on_error:
                raise error from err.__cause__
            return judge.unavailable_batch(ids, error.code, str(error.args[0]), error.request_id)

    # Devices.

    def register(
        self, device_id: str, *, name: Optional[str] = None, metadata: Optional[Mapping[str, Any]] = None, ttl_seconds: Optional[int] = None,
        idempotency_key: Optional[str] = None, raise_on_error: bool = False,
    ) -> JSON:
        """Takes a seat for a device (["status"] "ok"), or finds that it has one ("exists"). In an org of generation 2 it never restores a revoked one.

        What the server says is returned, also a no: "error" is its code then, and "message" says why; whether the device may work validate tells. Raises
        Unavailable where no answer came; with raise_on_error also Refused, as the other calls do.
        """
        body = {"deviceId": _id(device_id), "name": name, "metadata": metadata, "ttlSeconds": ttl_seconds}
        try:
            return self._change("devices/register", body, {"deviceId": judge.trim(device_id)}, key=idempotency_key)
        except MachineIDError as err:
            if raise_on_error or not isinstance(err.body.get("error"), str):
                raise
            return {**err.body, "outcome": err.outcome}

    def list_devices(self, limit: Optional[int] = None, cursor: Optional[str] = None) -> JSON:
        """The devices and the plan fields: all (up to 10,000), or a page of limit; ["nextCursor"] is there if more follow."""
        return self._get("devices/list", {"limit": limit, "cursor": cursor}, {"devices": list})

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
        return self._get("org/export", {"limit": limit, "cursor": cursor}, {"devices": list})

    def org_keys(self) -> JSON:
        return self._get("org/keys", None, {"keys": list})

    def org_keys_create(self, name: str, scope: str, expires_at: Optional[str] = None, *, idempotency_key: Optional[str] = None) -> JSON:
        """Makes a key of scope "admin", "agent" or "validate"; ["orgApiKey"] is shown this once. expires_at is RFC 3339 in UTC.

        If the answer was lost, the second attempt raises Refused "secret_already_shown": revoke the key of body["keyId"] and make another.
        """
        return self._change("org/keys", {"name": name, "scope": scope, "expiresAt": expires_at}, {"keyId": str, "orgApiKey": str}, idempotency_key)

    def org_keys_rotate(
        self, key_id: Optional[str] = None, grace_seconds: Optional[int] = None, *, idempotency_key: Optional[str] = None
    ) -> JSON:
        """Makes a key in the place of key_id (this client's own by default), which ends after grace_seconds. See replace_key."""
        return self._change("org/keys/rotate", {"keyId": key_id, "graceSeconds": grace_seconds}, {"keyId": str, "orgApiKey": str}, idempotency_key)

    def org_keys_revoke(self, key_id: str, *, idempotency_key: Optional[str] = None) -> JSON:
        return self._change("org/keys/revoke", {"keyId": key_id}, key=idempotency_key)

    def audit(self, limit: Optional[int] = None, cursor: Optional[str] = None) -> JSON:
        """A page of what was changed, newest first."""
        return self._get("audit", {"limit": limit, "cursor": cursor}, {"entries": list})

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
        token = None if operator_token is None else Key(operator_token, "operator's token")
        call = Call("POST", "org/create", body={"name": name, "externalId": external_id}, changes=True, retry=False, bearer=token, handler="org_create")
        caller = Caller(Pool(base_url_or_default(base_url), ssl_context), retries=2)
        deadline = now() + seconds(timeout, "timeout")
        try:
            return caller.make(call, None, lambda said: judge.changed(said, "org_create", {"orgApiKey": str}), deadline, Cancel())
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

    def _make(self, call: Call, judged: Callable[[judge.Said], T]) -> T:
        deadline = self._deadline if self._deadline is not None else now() + self.timeout
        return self._caller.make(call, self._key, judged, deadline, self._cancel or Cancel())

    def _get(self, path: str, query: Optional[Mapping[str, Any]] = None, expect: Optional[Mapping[str, Any]] = None) -> JSON:
        return self._make(Call("GET", path, query=query), lambda said: judge.success(said, path, expect or {}))

    def _change(
        self, path: str, body: Mapping[str, Any], expect: Optional[Mapping[str, Any]] = None, key: Optional[str] = None
    ) -> JSON:
        call = Call("POST", path, body=body, changes=True, idempotency_key=key)
        return self._make(call, lambda said: judge.changed(said, path, expect or {}))


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
    return judge.trim(device_id)


def id_list(device_ids: Iterable[Any]) -> List[Any]:
    """The ids as they are sent; the server names what is no str. Raises TypeError for a single str, whose characters would be taken for ids."""
    if isinstance(device_ids, (str, bytes)):
        raise TypeError(f"device_ids is a single {type(device_ids).__name__}: give a list of ids")
    return [judge.trim(one) if isinstance(one, str) else one for one in device_ids]


def _batch(device_ids: Optional[Sequence[str]], scope: Optional[str]) -> JSON:
    return {"deviceIds": None if device_ids is None else id_list(device_ids), "scope": scope}
