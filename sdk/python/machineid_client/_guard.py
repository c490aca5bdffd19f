"""Work that runs only while it is allowed."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Callable, Optional, TypeVar, Union, cast

from . import _judge as judge
from ._clock import seconds
from ._errors import Denied, Unavailable
from ._watch import Watch

if TYPE_CHECKING:
    from ._client import MachineID

F = TypeVar("F", bound=Callable[..., Any])
DeviceID = Union[str, Callable[..., str]]


class Permit:
    """What a guard's block holds. The first denial ends it: from then on check raises Denied, whatever is answered later."""

    def __init__(self, client: "MachineID", device_id: str, every: Optional[float]) -> None:
        self.device_id = device_id
        self._client = client
        self._denied: Optional[Denied] = None
        self._watch: Optional[Watch] = None
        if every is None:
            self.check()
            return
        self._watch = Watch(client, device_id, every, on_denied=self._deny)
        try:
            self._watch.start()
        except Unavailable as err:  # nobody would notice a denial
            raise Denied(device_id, judge.unavailable(device_id, err.code, str(err.args[0]))) from err
        try:
            self.check()
        except BaseException:
            self._watch.stop()
            raise

    def check(self) -> None:
        """Raises Denied if the work must stop. With every it looks at what the watch knows and costs nothing, else it asks."""
        if self._denied is None:
            decision = self._watch.decision if self._watch is not None else self._client.validate(self.device_id)
            if decision["allowed"] is not True:
                self._deny(decision)
        if self._denied is not None:
            raise self._denied

    def _deny(self, decision: Any) -> None:
        if self._denied is None:
            self._denied = Denied(self.device_id, decision)

    def end(self) -> Optional[Denied]:
        """Stops the watch; returns the denial, if there was one."""
        if self._watch is not None:
            if self._denied is None and not self._watch.allowed:  # too old, and no checkpoint looked
                self._deny(self._watch.decision)
            self._watch.stop()
        return self._denied


class Guard:
    """Validates before the work, and denies it with Denied.

        with client.guard("agent-01", every=5) as permit:   # asks; and asks again every 5 s
            for job in jobs:
                permit.check()                              # raises Denied once a denial came
                job.run()

        @client.guard("agent-01")                           # asks before each call of work
        def work(): ...

    Leaving the block raises Denied too if one came meanwhile and the work did not stop by itself: what it made was made without permission. The decorator
    also takes a function of the call's arguments for the device id. One guard decorates as many functions as you like, but is one block at a time.
    """

    def __init__(self, client: "MachineID", device_id: DeviceID, every: Optional[float] = None) -> None:
        if every is not None:
            seconds(every, "every")
        self._client, self._device_id, self._every = client, device_id, every
        self._permit: Optional[Permit] = None

    def __enter__(self) -> Permit:
        if callable(self._device_id):
            raise TypeError("a with block has no arguments to find the device id by: give a str")
        if self._permit is not None:
            raise RuntimeError("this guard is in use: make one for each block")
        self._permit = Permit(self._client, self._device_id, self._every)
        return self._permit

    def __exit__(self, kind: Any, error: Optional[BaseException], trace: Any) -> None:
        permit, self._permit = self._permit, None
        denied = permit.end() if permit is not None else None
        if denied is not None and error is None:
            raise denied

    def __call__(self, work: F) -> F:
        if inspect.iscoroutinefunction(work) or inspect.isasyncgenfunction(work):
            raise TypeError("the function is async: use AsyncMachineID's guard, this one would stop the event loop")

        def fresh(args: Any, kwargs: Any) -> Guard:
            device_id = self._device_id(*args, **kwargs) if callable(self._device_id) else self._device_id
            return Guard(self._client, device_id, self._every)

        if inspect.isgeneratorfunction(work):

            @functools.wraps(work)
            def generator(*args: Any, **kwargs: Any) -> Any:
                with fresh(args, kwargs):  # asked when it begins to run, not when it is made
                    return (yield from work(*args, **kwargs))

            return cast(F, generator)

        @functools.wraps(work)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            with fresh(args, kwargs):
                return work(*args, **kwargs)

        return cast(F, guarded)
