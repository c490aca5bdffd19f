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

CLIENT_ERROR = "client_error"

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

    def __init__(self, text: str, name: str = "org key") -> None:
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"the {name} is empty: give one" + (", or set MACHINEID_ORG_KEY and use MachineID.from_env()" if name == "org key" else ""))
        text = Hidden(text.strip())
        if any(c <= " " or c > "~" for c in text):
            raise ValueError(f"the {name} has spaces or characters that are not ASCII: was more than it copied?")
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Key(***)"

    def __reduce__(self) -> Any:
        raise TypeError("an org key is not pickled: make the client in each process, from its environment")


class Call:
    """A request and the rules for repeating it. retry: it may be sent again after an unknown outcome. handler: what the server calls it, else its path.

    Raises ValueError or TypeError for what cannot be sent.
    """

    def __init__(
        self, method: str, path: str, *, body: Optional[Mapping[str, Any]] = None, query: Optional[Mapping[str, Any]] = None,
        retry: bool = True, changes: bool = False, idempotency_key: Optional[str] = None, bearer: Optional[Key] = None, handler: str = "",
    ) -> None:
        self.method, self.path, self.retry, self.changes, self.handler = method, path, retry, changes, handler or path
        self.request_id = ""  # of the attempt under way, or of the last one
        self.url = "/api/v1/" + quote(path, safe="/")
        given = {k: v for k, v in (query or {}).items() if v is not None}
        if given:
            self.url += "?" + urlencode(given)
        self.body: Optional[bytes] = None
        if body is not None:
            try:
                self.body = json.dumps({k: v for k, v in body.items() if v is not None}, allow_nan=False).encode()
            except RecursionError:
                raise ValueError(f"what {path} shall be sent is nested too deep") from None
        self.headers: Dict[str, str] = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Cache-Control": "no-store",
            "User-Agent": f"machineid-python/{__version__}",
        }
        if body is not None:
            self.headers["Content-Type"] = "application/json"
        if changes and retry:
            if idempotency_key is not None and not (
                0 < len(idempotency_key) < 256 and idempotency_key.isascii() and idempotency_key.isprintable() and idempotency_key.strip() == idempotency_key
            ):
                raise ValueError("idempotency_key is not 1 to 255 printable ASCII characters, or a space stands at its end")
            self.headers["Idempotency-Key"] = idempotency_key or uuid.uuid4().hex  # one for all attempts
        if bearer is not None:
            self.headers["Authorization"] = Hidden("Bearer " + bearer.reveal())

    def attempt(self) -> str:
        """Begins an attempt and returns its id: what an earlier one was answered is no answer to this one."""
        self.request_id = str(uuid.uuid4())
        return self.request_id

    @property
    def unknown(self) -> str:
        """What becomes of the call if nobody can say what became of it."""
        return UNKNOWN if self.changes else NOT_DONE


class Caller:
    """Makes calls over one pool. retries is how often a call is tried again at most. Safe for concurrent use."""

    def __init__(self, pool: Pool, retries: int) -> None:
        self.pool, self.retries = pool, retries

    def make(self, call: Call, key: Optional[Key], judged: Callable[[judge.Said], T], deadline: float, cancel: Cancel) -> T:
        """Calls until there is an answer that judged accepts, an error that trying again cannot mend, or no more time.

        Raises Refused or Unavailable, with the outcome over all attempts, and nothing else: a thread that cannot be started, memory that is not there,
        a header that a parser stumbles over are all Unavailable, with the code client_error.
        """
        try:
            return self._make(call, key, judged, deadline, cancel)
        except MachineIDError:
            raise
        except Exception as err:
            raise fault(err, call) from err

    def _make(self, call: Call, key: Optional[Key], judged: Callable[[judge.Said], T], deadline: float, cancel: Cancel) -> T:
        headers = dict(call.headers)
        if key is not None:
            headers["x-org-key"] = key.reveal()
        outcome, attempt, fresh = NOT_DONE, 0, False
        while True:
            error: MachineIDError
            headers["X-Request-Id"] = call.attempt()
            until = deadline
            if call.path == judge.VALIDATE and attempt < self.retries:
                # The server answers validate within 1 s. Half of the time is kept for a new connection, should this one lead nowhere.
                until = min(deadline, now() + max(2.0, (deadline - now()) / 2))
            try:
                answer = self.pool.exchange(call.method, call.url, headers, call.body, until, cancel, fresh)
                said: Optional[judge.Said] = None
                try:
                    said = judge.read(answer, call.request_id)
                    return judged(said)
                except judge.Broken as broken:
                    error = explain(call, answer, said, broken)
            except Failed as failed:
                if failed.timeout:
                    self.pool.forget()
                if failed.stale and call.retry and not fresh:
                    fresh = True  # at once, and no attempt of its own: the server had closed the connection while it rested
                    outcome = worse(outcome, call.unknown)
                    continue
                error = Unavailable(
                    str(failed),
                    code="timeout" if failed.timeout else "broken_answer" if failed.answered else "connection_failed",
                    request_id=call.request_id,
                    outcome=call.unknown if failed.sent else NOT_DONE,
                )
            except Cancelled:
                raise Unavailable(
                    "the call was given up", code="cancelled", request_id=call.request_id, outcome=worse(outcome, call.unknown)
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


def fault(err: Exception, call: Optional[Call] = None) -> Unavailable:
    """Makes the error of what went wrong in this client or its interpreter. Without a call it may have been any."""
    return Unavailable(
        f"{type(err).__name__}: {err}", code=CLIENT_ERROR, request_id=call.request_id if call is not None else None,
        outcome=call.unknown if call is not None else UNKNOWN,
    )


def explain(call: Call, answer: Response, said: Optional[judge.Said], broken: judge.Broken) -> MachineIDError:
    """Makes the error of an answer that is no success. said: the same, if it is the server's own to this request; else it is believed in nothing."""
    status, wait = answer.status, retry_after(answer)
    body = said.body if said is not None else {}
    code, message = body.get("error"), body.get("message")
    ours = isinstance(code, str) and body.get("handler") in (call.handler, "unknown")
    text = message if isinstance(message, str) and message else f"HTTP {status}"
    if 300 <= status < 400:
        return Unavailable(
            f"HTTP {status}: redirects are not followed, they would take the org key elsewhere. Is the base URL right?",
            code="redirected", status=status, body=body, request_id=call.request_id, outcome=call.unknown,
        )
    if call.path == judge.VALIDATE and status < 500 and body.get("code") == judge.SYSTEM_UNAVAILABLE and body.get("allowed") is False:
        text = judge.explained(body)["message"]
        return Unavailable(text, code="system_unavailable", status=status, body=body, request_id=call.request_id, retry_after=wait)
    if status == 429:
        outcome = NOT_DONE if ours else call.unknown
        return Unavailable(text, code="rate_limited", status=status, body=body, request_id=call.request_id, outcome=outcome, retry_after=wait)
    if ours and 400 <= status < 500 and status != 408:
        outcome = COMMITTED if code == "secret_already_shown" else NOT_DONE
        return Refused(text, code=str(code), status=status, body=body, request_id=call.request_id, outcome=outcome)
    if ours and status >= 500:
        told = body.get("outcome")
        outcome = str(told) if isinstance(told, str) and told in (NOT_DONE, UNKNOWN, COMMITTED) and call.changes else call.unknown
        return Unavailable(text, code=str(code), status=status, body=body, request_id=call.request_id, outcome=outcome, retry_after=wait)
    why = f"HTTP {status} is no answer of a MachineID server to {call.path}: {broken}"
    return Unavailable(why, code="broken_answer", status=status, body=body, request_id=call.request_id, outcome=call.unknown, retry_after=wait)


def retry_after(answer: Response) -> Optional[float]:
    """Retry-After in seconds; its form with a date is not used by our server."""
    text = answer.headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None
