"""Watch and guard for asyncio."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, TypeVar, Union, cast

from . import _judge as judge
from ._clock import now, seconds
from ._errors import Denied
from ._watch import Standing, interval, log

if TYPE_CHECKING:
    from ._async import AsyncMachineID

JSON = Dict[str, Any]
F = TypeVar("F", bound=Callable[..., Any])


class AsyncWatch(Standing):
    """A Watch in a task of the running loop. checkpoint asks nobody and needs no await.

    A loop that is held up for long makes the last ALLOW too old: checkpoint denies then, until the watch has asked again.
    """

    def __init__(
        self, client: "AsyncMachineID", device_id: str, every: float, on_denied: Optional[Callable[[JSON], object]] = None,
        on_allowed: Optional[Callable[[JSON], object]] = None,
    ) -> None:
        super().__init__(device_id, good_for=2 * seconds(every, "every") + client.timeout)
        self._client, self._every, self._on_denied, self._on_allowed = client, every, on_denied, on_allowed
        self._task: Optional["asyncio.Task[None]"] = None

    async def start(self) -> "AsyncWatch":
        """Asks, and then goes on asking."""
        if self._task is not None:
            raise RuntimeError("the watch runs already")
        asked = asyncio.get_running_loop().create_future()
        self._task = task = asyncio.ensure_future(self._run(asked))
        try:
            await asyncio.wait({asked, task}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            self._task = None
            task.cancel()
            raise
        return self

    async def stop(self) -> None:
        """Ends the watch, a question that is under way too. Afterwards nothing counts as allowed."""
        task, self._task = self._task, None
        self.note(judge.unavailable(self.device_id, "stopped", "the watch was stopped"), now())
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait({task})

    async def __aenter__(self) -> "AsyncWatch":
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _run(self, asked: "asyncio.Future[None]") -> None:
        me = asyncio.current_task()
        first = True
        while self._task is me:
            began = now()
            decision = await self._client.validate(self.device_id)
            if self._task is not me:
                return
            changed = self.note(decision, began)
            call = self._on_allowed if decision["allowed"] is True else self._on_denied
            if call is not None and (changed or first):
                try:
                    result = call(decision)
                    if inspect.isawaitable(result):
                        await result
                except Exception:  # it must not end the watch
                    log.exception("the watch of %r: its callback failed", self.device_id)
            if first and not asked.done():
                asked.set_result(None)
            first = False
            await asyncio.sleep(interval(self._every))


class AsyncPermit:
    """What an AsyncGuard's block holds. The first denial ends it: from then on check raises Denied."""

    def __init__(self, client: "AsyncMachineID", device_id: str, every: Optional[float]) -> None:
        self.device_id = device_id
        self._client, self._every = client, every
        self._denied: Optional[Denied] = None
        self._watch: Optional[AsyncWatch] = None
        self._task: Optional["asyncio.Task[Any]"] = None  # the block's, while it may be cancelled
        self._interrupted = False

    async def check(self) -> None:
        """Raises Denied if the work must stop. With every it looks at what the watch knows, else it asks."""
        if self._denied is None:
            decision = self._watch.decision if self._watch is not None else await self._client.validate(self.device_id)
            if decision["allowed"] is not True:
                self._deny(decision)
        if self._denied is not None:
            raise self._denied

    def _deny(self, decision: JSON) -> None:
        if self._denied is None:
            self._denied = Denied(self.device_id, decision)

    def _interrupt(self, decision: JSON) -> None:
        self._deny(decision)
        if self._task is not None and not self._interrupted:
            self._interrupted = True
            self._task.cancel()

    async def begin(self) -> None:
        if self._every is not None:
            self._watch = await AsyncWatch(self._client, self.device_id, self._every, on_denied=self._interrupt).start()
        try:
            await self.check()
        except BaseException:
            if self._watch is not None:
                await self._watch.stop()
            raise
        self._task = asyncio.current_task()
        self._before = _cancelling(self._task)

    async def end(self, error: Optional[BaseException]) -> None:
        """Stops the watch; raises Denied if there was a denial that has to be told."""
        task, self._task = self._task, None  # from here on nobody cancels it
        foreign = False
        uncancel = getattr(task, "uncancel", None)  # since Python 3.11
        if self._interrupted and uncancel is not None:
            foreign = uncancel() > self._before
        if self._watch is not None:
            if not self._watch.allowed:
                self._deny(self._watch.decision)
            await self._watch.stop()
        if self._denied is None or (error is not None and not self._interrupted):
            return
        if isinstance(error, asyncio.CancelledError) and foreign:
            return  # somebody else wants this task to end as well
        if error is None or isinstance(error, asyncio.CancelledError):
            raise self._denied from None
        if isinstance(error, Exception) and not isinstance(error, Denied):
            raise self._denied from error  # drivers make an error of their own of a cancellation


def _cancelling(task: Optional["asyncio.Task[Any]"]) -> int:
    count = getattr(task, "cancelling", None)  # since Python 3.11
    return int(count()) if count is not None else 0


class AsyncGuard:
    """Validates before the work, and denies it with Denied: Guard for async with and async functions.

        async with client.guard("agent-01", every=5):   # asks; asks again every 5 s, and a denial cancels what the block awaits
            await work()                                # async with then raises Denied

        @client.guard("agent-01", every=5)
        async def work(): ...

    Work that does not await is not interrupted; it calls permit.check() or ends in Denied when it leaves the block.
    """

    def __init__(self, client: "AsyncMachineID", device_id: Union[str, Callable[..., str]], every: Optional[float] = None) -> None:
        if every is not None:
            seconds(every, "every")
        self._client, self._device_id, self._every = client, device_id, every
        self._permit: Optional[AsyncPermit] = None

    async def __aenter__(self) -> AsyncPermit:
        if callable(self._device_id):
            raise TypeError("an async with block has no arguments to find the device id by: give a str")
        if self._permit is not None:
            raise RuntimeError("this guard is in use: make one for each block")
        self._permit = permit = AsyncPermit(self._client, self._device_id, self._every)
        try:
            await permit.begin()
        except BaseException:
            self._permit = None
            raise
        return permit

    async def __aexit__(self, kind: Any, error: Optional[BaseException], trace: Any) -> None:
        permit, self._permit = self._permit, None
        if permit is not None:
            await permit.end(error)

    def __call__(self, work: F) -> F:
        def fresh(args: Any, kwargs: Any) -> AsyncGuard:
            device_id = self._device_id(*args, **kwargs) if callable(self._device_id) else self._device_id
            return AsyncGuard(self._client, device_id, self._every)

        if inspect.iscoroutinefunction(work):

            @functools.wraps(work)
            async def guarded(*args: Any, **kwargs: Any) -> Any:
                async with fresh(args, kwargs):
                    return await work(*args, **kwargs)

            return cast(F, guarded)
        if inspect.isasyncgenfunction(work):
            raise TypeError("an async generator runs in whichever task asks for its next item: use async with in that task")
        raise TypeError("the function is not async: use MachineID's guard")
