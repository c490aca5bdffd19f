"""One call: its attempts, its deadline, and what became of it."""

from __future__ import annotations

import json
import random
import uuid
from typing import Any, Callable, Dict, Mapping, Optional, TypeVar
from urllib.parse import quote, urlencode

from . import _judge as judge
from ._clock import now
from ._errors import COMMITTED, NOT_DONE, UNKNOWN, MachineIDError, Refused, Unavailable
from ._http import Cancel, Cancelled, Failed, Pool, Response
from ._version import __version__

T = TypeVar("T")

# Backing off: at most 0.1 s before the second attempt, then twice as much each time, a random part of it.
BACK_OFF, MOST_BACK_OFF = 0.1, 2.0


class Hidden(str):
    """Text that does not show itself in repr: tools that report errors print the locals of every frame."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Key:
    """An org key. It does not show itself: not in repr, not in a traceback's locals, not in vars(client)."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or not text.strip():
            raise ValueError("the org key is empty: give one, or set MACHINEID_ORG_KEY and use MachineID.from_env()")
        text = Hidden(text.strip())
        if any(c <= " " or c > "~" for c in text):
            raise ValueError("the org key has spaces or characters that are not ASCII: was more than the key copied?")
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Key(***)"

    def __reduce__(self) -> Any:
        raise TypeError("an org key is not pickled: make the client in each process, from its environment")


class Call:
    """A request and the rules for repeating it. retry: it may be sent again after an unknown outcome."""

    def __init__(
        self, method: str, path: str, *, body: Optional[Mapping[str, Any]] = None, query: Optional[Mapping[str, Any]] = None,
        retry: bool = True, changes: bool = False, idempotency_key: Optional[str] = None, headers: Optional[Mapping[str, str]] = None,
    ) -> None:
        self.method, self.path, self.retry, self.changes = method, path, retry, changes
        self.request_id = str(uuid.uuid4())
        self.url = "/api/v1/" + quote(path, safe="/")
        given = {k: v for k, v in (query or {}).items() if v is not None}
        if given:
            self.url += "?" + urlencode(given)
        self.body = None if body is None else json.dumps({k: v for k, v in body.items() if v is not None}, allow_nan=False).encode()
        self.headers: Dict[str, str] = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"machineid-python/{__version__}",
            "X-Request-Id": self.request_id,
        }
        if body is not None:
            self.headers["Content-Type"] = "application/json"
        if changes and retry:
            if idempotency_key is not None and not (
                0 < len(idempotency_key) < 256 and idempotency_key.isascii() and idempotency_key.isprintable() and idempotency_key.strip() == idempotency_key
            ):
                raise ValueError("idempotency_key is not 1 to 255 printable ASCII characters, or a space stands at its end")
            self.headers["Idempotency-Key"] = idempotency_key or uuid.uuid4().hex  # one for all attempts
        self.headers.update(headers or {})


class Caller:
    """Makes calls over one pool. retries is how often a call is tried again at most. Safe for concurrent use."""

    def __init__(self, pool: Pool, retries: int) -> None:
        self.pool, self.retries = pool, retries

    def make(self, call: Call, key: Optional[Key], judged: Callable[[Response], T], deadline: float, cancel: Cancel) -> T:
        """Calls until there is an answer that judged accepts, an error that trying again cannot mend, or no more time.

        Raises Refused or Unavailable, with the outcome over all attempts.
        """
        headers = dict(call.headers)
        if key is not None:
            headers["x-org-key"] = key.reveal()
        outcome, attempt, fresh = NOT_DONE, 0, False
        while True:
            error: MachineIDError
            until = deadline
            if call.path == judge.VALIDATE and attempt < self.retries:
                # The server answers validate within 1 s. Half of the time is kept for a new connection, should this one lead nowhere.
                until = min(deadline, now() + max(2.0, (deadline - now()) / 2))
            try:
                answer = self.pool.exchange(call.method, call.url, headers, call.body, until, cancel, fresh)
                try:
                    return judged(answer)
                except judge.Broken as broken:
                    error = explain(call, answer, broken)
            except Failed as failed:
                if failed.timeout:
                    self.pool.forget()
                if failed.stale and call.retry and not fresh:
                    fresh = True  # at once, and no attempt of its own: the server had closed the connection while it rested
                    outcome = worse(outcome, UNKNOWN if call.changes else NOT_DONE)
                    continue
                error = Unavailable(
                    str(failed),
                    code="timeout" if failed.timeout else "broken_answer" if failed.answered else "connection_failed",
                    request_id=call.request_id,
                    outcome=UNKNOWN if failed.sent and call.changes else NOT_DONE,
                )
            except Cancelled:
                raise Unavailable(
                    "the call was given up", code="cancelled", request_id=call.request_id,
                    outcome=worse(outcome, UNKNOWN if call.changes else NOT_DONE),
                ) from None
            settled = isinstance(error, Refused) and error.code in judge.DECIDED
            outcome = error.outcome if settled else worse(outcome, error.outcome)
            error.outcome = outcome
            attempt += 1
            pause = self._pause(call, error, attempt, deadline)
            if pause is None:
                raise error
            try:
                cancel.sleep(pause)
            except Cancelled:
                raise error from None
            fresh = False

    def _pause(self, call: Call, error: MachineIDError, attempt: int, deadline: float) -> Optional[float]:
        """Seconds before the next attempt; None if there is none."""
        if attempt > self.retries or not mendable(error) or not (call.retry or error.outcome == NOT_DONE):
            return None
        pause = random.uniform(0, min(BACK_OFF * 2 ** min(attempt - 1, 5), MOST_BACK_OFF))
        if error.retry_after is not None:
            pause = error.retry_after + random.uniform(0, 0.25 * error.retry_after)
        return pause if now() + pause < deadline else None


def worse(a: str, b: str) -> str:
    """The outcome of two attempts together: what was made stays made, and what may have been made may still."""
    order = (NOT_DONE, UNKNOWN, COMMITTED)
    return order[max(order.index(a), order.index(b))]


def mendable(error: MachineIDError) -> bool:
    """Whether trying again can help."""
    return isinstance(error, Unavailable) and error.code != "redirected"


def explain(call: Call, answer: Response, broken: judge.Broken) -> MachineIDError:
    """Makes the error of an answer that is no success."""
    try:
        body: Mapping[str, Any] = judge.parse(answer.body)
    except judge.Broken:
        body = {}
    status, code, message = answer.status, body.get("error"), body.get("message")
    ours = isinstance(code, str) and isinstance(body.get("handler"), str)
    rid = body.get("request_id")
    rid = rid if isinstance(rid, str) else call.request_id
    unknown = UNKNOWN if call.changes else NOT_DONE
    text = message if isinstance(message, str) and message else f"HTTP {status}"
    wait = retry_after(answer)
    if 300 <= status < 400:
        return Unavailable(
            f"HTTP {status}: redirects are not followed, they would take the org key elsewhere. Is the base URL right?",
            code="redirected", status=status, body=body, request_id=rid, outcome=unknown,
        )
    if call.path == judge.VALIDATE and body.get("code") == judge.SYSTEM_UNAVAILABLE and body.get("allowed") is False:
        return Unavailable("the system cannot answer now", code="system_unavailable", status=status, body=body, request_id=rid, retry_after=wait)
    if status == 429:
        return Unavailable(text, code="rate_limited", status=status, body=body, request_id=rid, retry_after=wait)
    if ours and 400 <= status < 500 and status != 408:
        outcome = COMMITTED if code == "secret_already_shown" else NOT_DONE
        return Refused(text, code=str(code), status=status, body=body, request_id=rid, outcome=outcome)
    if ours and status >= 500:
        said = body.get("outcome")
        outcome = str(said) if said in (NOT_DONE, UNKNOWN, COMMITTED) else unknown
        return Unavailable(
            text, code=str(code), status=status, body=body, request_id=rid, outcome=outcome if call.changes else NOT_DONE, retry_after=wait
        )
    why = f"HTTP {status} is no answer of a MachineID server to {call.path}: {broken}"
    return Unavailable(why, code="broken_answer", status=status, body=body, request_id=rid, outcome=unknown, retry_after=wait)


def retry_after(answer: Response) -> Optional[float]:
    """Retry-After in seconds; its form with a date is not used by our server."""
    text = answer.headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None
