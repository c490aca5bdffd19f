"""What this package raises. A denial is a value in what validate returns; only a guard turns it into an exception."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Tuple, Type

NOT_DONE = "not_done"
UNKNOWN = "unknown"
COMMITTED = "committed"


class MachineIDError(Exception):
    """The base of all errors of this package.

    status is the HTTP status of the last answer, None if there was none. code is for programs, str(error) for people. body is the answer as
    it was parsed, empty if there was no JSON object. request_id finds the call in the server's logs.

    outcome tells what became of the call, over all of its attempts:
      "not_done"   nothing was changed, and nothing will be by this call
      "unknown"    it may have been made, or may still be: count on neither, and call again
      "committed"  it is made, but not every edge is known to have it: call again to wait for that
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: Optional[int] = None,
        body: Optional[Mapping[str, Any]] = None,
        request_id: Optional[str] = None,
        outcome: str = NOT_DONE,
        retry_after: Optional[float] = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.body: Mapping[str, Any] = body if body is not None else {}
        self.request_id = request_id
        self.outcome = outcome
        self.retry_after = retry_after

    def __reduce__(self) -> Any:
        """As it is: an error that cannot be unpickled breaks a whole pool of processes."""
        return _again, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        text = f"{self.code}: {super().__str__()}"
        if self.outcome != NOT_DONE:
            text += f" (outcome: {self.outcome})"
        if self.request_id:
            text += f" [request {self.request_id}]"
        return text


def _again(kind: Type[MachineIDError], args: Tuple[Any, ...], fields: Mapping[str, Any]) -> MachineIDError:
    made = kind.__new__(kind, *args)
    made.args = args
    made.__dict__.update(fields)
    return made


class Refused(MachineIDError):
    """The server understood the call and says no: a wrong key or scope, an unknown device, the plan's limit. Trying again changes nothing.

    Its outcome is "not_done", unless an earlier attempt of the same call had an unknown outcome that this answer does not settle.
    """


class Unavailable(MachineIDError):
    """Nothing could be decided or proved: no connection, out of time, an answer that is none, a server that cannot.

    Codes: "timeout", "connection_failed", "broken_answer", "redirected", "cancelled", "client_error" (this process lacks what a call needs: a thread,
    memory, depth of stack), and the server's "system_unavailable" and "rate_limited".
    """


class Denied(MachineIDError):
    """A guard or a checkpoint stops the work: the device may not work now. code is the decision's code, decision the whole answer.

    Do not catch it to go on working.
    """

    def __init__(self, device_id: object, decision: Mapping[str, Any], why: str = "") -> None:
        code = decision.get("code")
        rid = decision.get("request_id")
        super().__init__(
            why or f"{device_id!r} may not work",
            code=code if isinstance(code, str) else "SYSTEM_UNAVAILABLE",
            body=decision,
            request_id=rid if isinstance(rid, str) else None,
        )
        self.device_id = device_id
        self.decision: Mapping[str, Any] = self.body
