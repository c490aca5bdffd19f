"""Asking again on a schedule, beside the work."""

from __future__ import annotations

import logging
import random
import threading
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

from . import _judge as judge
from ._clock import now, seconds
from ._errors import Denied, Unavailable
from ._http import Cancel

if TYPE_CHECKING:
    from ._client import MachineID

JSON = Dict[str, Any]
log = logging.getLogger("machineid_client")


class Standing:
    """What is known about a device: the last decision, and until when an ALLOW counts. Safe for concurrent use.

    An ALLOW counts for two intervals and one call's time, from when it was asked for. If the watch dies, hangs or was asleep with the whole machine,
    it runs out by itself.
    """

    def __init__(self, device_id: str, good_for: float) -> None:
        self.device_id = device_id
        self._good_for = good_for
        # One pair that is replaced whole, and no lock: after a fork the child would wait for ever for one that a thread of the parent held.
        self._known: Tuple[JSON, float] = judge.unavailable(device_id, "not_asked", "nothing was asked yet"), 0.0

    def note(self, decision: JSON, asked: float) -> bool:
        """Takes a decision that was asked for at this time; reports whether allowed became denied or the other way."""
        before, _ = self._known
        self._known = decision, asked + self._good_for
        return bool(before["allowed"] != decision["allowed"])

    @property
    def decision(self) -> JSON:
        """What holds now: an ALLOW that is too old is none."""
        decision, until = self._known
        if decision["allowed"] is True and now() > until:
            return judge.unavailable(self.device_id, "stale", "the last ALLOW is too old: the watch did not keep up")
        return decision

    @property
    def allowed(self) -> bool:
        return self.decision["allowed"] is True

    def checkpoint(self) -> None:
        """Raises Denied unless the device may work now. It looks at what is known and asks nobody: call it as often as you like."""
        decision = self.decision
        if decision["allowed"] is not True:
            raise Denied(self.device_id, decision)


def interval(every: float) -> float:
    """A wait of about this long: a fleet that was started together shall not ask together."""
    return every * random.uniform(0.9, 1.0)


class Watch(Standing):
    """Validates a device again and again in a thread, from start (or with) to stop.

    start asks once before it returns. on_denied(decision) is called, in the watch's thread, when allowed becomes denied (once for each time, also for the
    first answer), on_allowed likewise. Work that runs beside calls checkpoint where it can stop.
    """

    def __init__(
        self, client: "MachineID", device_id: str, every: float, on_denied: Optional[Callable[[JSON], object]] = None,
        on_allowed: Optional[Callable[[JSON], object]] = None,
    ) -> None:
        super().__init__(device_id, good_for=2 * seconds(every, "every") + client.timeout)
        self._client, self._every, self._on_denied, self._on_allowed = client, every, on_denied, on_allowed
        self._cancel: Optional[Cancel] = None
        self._thread: Optional[threading.Thread] = None

    def start(self) -> "Watch":
        """Asks, and then goes on asking. A watch that was stopped can be started again. Raises Unavailable if there is no thread to ask in."""
        if self._cancel is not None:
            raise RuntimeError("the watch runs already")
        self._cancel = cancel = Cancel()
        self._ask(cancel, first=True)
        self._thread = threading.Thread(target=self._run, args=(cancel,), name="machineid-watch", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as err:  # too many threads, or the interpreter ends
            self._thread = None
            self.stop()
            raise Unavailable(f"the watch has no thread: {err}", code="client_error") from err
        return self

    def stop(self) -> None:
        """Ends the watch, a question that is under way too, and waits for its thread. Afterwards nothing counts as allowed."""
        cancel, thread, self._cancel, self._thread = self._cancel, self._thread, None, None
        if cancel is None:
            return
        cancel.cancel()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self.note(judge.unavailable(self.device_id, "stopped", "the watch was stopped"), now())

    def __enter__(self) -> "Watch":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, cancel: Cancel) -> None:
        while True:
            try:
                cancel.sleep(interval(self._every))
            except Exception:  # cancelled
                return
            self._ask(cancel)

    def _ask(self, cancel: Cancel, first: bool = False) -> None:
        asked = now()
        decision = self._client.bound(cancel).validate(self.device_id)
        if cancel.cancelled:
            return
        changed = self.note(decision, asked)
        call = self._on_allowed if decision["allowed"] is True else self._on_denied
        if call is not None and (changed or first):
            try:
                call(decision)
            except Exception:  # it must not end the watch
                log.exception("the watch of %r: its callback failed", self.device_id)
