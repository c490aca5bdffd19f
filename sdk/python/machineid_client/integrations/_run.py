"""What every adapter does: it asks before each step, keeps the first denial, and gives it to the caller."""

# pyright: reportPrivateUsage=false
# Run, its block and its scope are one idea in three classes.

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import weakref
from typing import Any, AsyncIterator, Callable, Dict, Generator, Iterator, List, Mapping, Optional, Tuple, Type, Union

from .. import _judge as judge
from .._async import AsyncMachineID
from .._async_guard import AsyncWatch
from .._client import MachineID
from .._clock import seconds
from .._errors import Denied
from .._watch import Watch

JSON = Dict[str, Any]
Client = Union[MachineID, AsyncMachineID]

_current: "contextvars.ContextVar[Optional[Run]]" = contextvars.ContextVar("machineid_run", default=None)


def current() -> "Optional[Run]":
    """The innermost run that this code is part of, None outside of any. Tasks inherit it, and so do threads that get a copy of the context."""
    return _current.get()


@contextlib.contextmanager
def joined(run: "Run") -> Generator[None, None, None]:
    """Makes this code part of a run that its context does not know of. Code of a run inside that one stays in it."""
    here = _current.get()
    while here is not None and here is not run:
        here = here.outer
    token = _current.set(run if here is None else _current.get())
    try:
        yield
    finally:
        _leave(token)


def _leave(token: "contextvars.Token[Optional[Run]]") -> None:
    try:
        _current.reset(token)
    except ValueError:  # a generator may end in another context than it began in
        pass


class Run:
    """One run under an off switch. Safe for use by threads and tasks at once.

    The first denial is kept: from then on every check raises Denied, whatever the server would say. A run inside another one is also denied by
    that one's denial; its own ends the outer one too if they are of the same device.
    """

    def __init__(self, switch: "OffSwitch", outer: "Optional[Run]" = None) -> None:
        self.switch: OffSwitch = switch
        self.device_id: str = switch.device_id
        self.outer: Optional[Run] = outer
        self._same = outer is not None and outer.device_id == self.device_id and outer.switch.client is switch.client
        self._lock = threading.Lock()
        self._first: Optional[Tuple[str, Mapping[str, Any]]] = None  # whose denial, and what was said with it
        self._stops: List[Callable[[], object]] = []
        self._inner: "weakref.WeakSet[Run]" = weakref.WeakSet()  # weak: an outer run may be long, and need not know which of these are over
        self._block: Optional[Block] = None
        self._turns: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]" = weakref.WeakKeyDictionary()
        self.notes: Dict[str, Any] = {}  # what adapters remember of this run, by the adapter's name
        if outer is not None:
            outer._holds(self)

    @property
    def denied(self) -> Optional[Denied]:
        """The first denial, an exception of the adapter's class; None while there was none. Each read makes a new one: they carry no traceback."""
        return None if self._first is None else self.switch.raises(*self._first)

    def check(self) -> None:
        """Asks, and raises Denied unless the run may go on. It blocks for the client's timeout at most: not for an event loop's thread."""
        self.look()
        if self.outer is not None and not self._same:
            self.outer.check()
        try:
            decision = self.switch.client.validate(self.device_id)
        except Exception as err:  # a framework may go on after an error that is not its own
            decision = _failed(self.device_id, err)
        self._take(decision)

    async def acheck(self) -> None:
        """check for coroutines: the event loop goes on while it waits.

        A run's questions in one loop take turns: the next one is put when the code that this one lets go on has come to an await. If that code holds
        the loop up, nothing else begins afterwards on an answer from before.
        """
        self.look()
        loop = asyncio.get_running_loop()
        turn = self._turn(loop)
        await turn.acquire()
        try:
            self.look()
            if self.outer is not None and not self._same:
                await self.outer.acheck()
            try:
                decision = await self.switch.async_client.validate(self.device_id)
            except Exception as err:
                decision = _failed(self.device_id, err)
            self._take(decision)
        except BaseException:
            turn.release()
            raise
        loop.call_soon(turn.release)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> asyncio.Lock:
        if self.outer is not None and self._same:
            return self.outer._turn(loop)
        with self._lock:
            return self._turns.setdefault(loop, asyncio.Lock())

    def look(self) -> None:
        """Raises Denied if there was a denial. It asks nobody, so it never blocks; it is no permission to begin anything."""
        denied = self.denied
        if denied is not None:
            raise denied

    def deny(self, decision: Mapping[str, Any]) -> None:
        """Takes a denial. The first one counts; it stops what is under way as far as the adapter can."""
        self._deny(self.device_id, decision)

    def _deny(self, device_id: str, decision: Mapping[str, Any]) -> None:
        with self._lock:
            if self._first is not None:
                return
            self._first = device_id, decision
            stops, self._stops = self._stops, []
            inner = list(self._inner)
        if self._same and self.outer is not None:
            self.outer._deny(device_id, decision)
        for run in inner:
            run._deny(device_id, decision)
        for stop in stops:
            stop()
        if self._block is not None:
            self._block.interrupt()

    def _holds(self, inner: "Run") -> None:
        with self._lock:
            self._inner.add(inner)
            first = self._first
        if first is not None:
            inner._deny(*first)

    def on_denied(self, stop: Callable[[], object]) -> None:
        """Has stop called once when the run is denied, in whatever thread that happens; at once if it was already. It must not block or raise."""
        with self._lock:
            if self._first is None:
                self._stops.append(stop)
                return
        stop()

    def forget(self, stop: Callable[[], object]) -> None:
        """Takes back an on_denied, for what is over."""
        with self._lock:
            if stop in self._stops:
                self._stops.remove(stop)

    def tell(self, error: Optional[BaseException]) -> None:
        """Raises the denial, if there was one, in the place of what the framework made of it: a result, an error of its own, a cancellation.

        KeyboardInterrupt and the like go first, and so does somebody else's cancellation of this task.
        """
        denied = self.denied
        if denied is None or (isinstance(error, Denied) and error.decision is denied.decision):
            return  # nothing to tell, or it comes by itself with its traceback
        if error is None or self.explains(error):
            raise denied from None

    def explains(self, error: BaseException) -> bool:
        """Whether the run was denied and the error may have come of that."""
        return self._first is not None and (isinstance(error, Exception) or (isinstance(error, asyncio.CancelledError) and not _being_cancelled()))

    def _take(self, decision: Mapping[str, Any]) -> None:
        if decision["allowed"] is not True:
            self.deny(decision)
        self.look()  # also after an ALLOW: somebody else's question may have been denied meanwhile


def _failed(device_id: str, err: Exception) -> JSON:
    return judge.unavailable(device_id, "client_error", f"{type(err).__name__}: {err}", "")


def in_a_loop() -> bool:
    """Whether this thread runs an event loop, which must not be held up."""
    return _loop_here() is not None


def _loop_here() -> Optional[asyncio.AbstractEventLoop]:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Calls something that belongs to a loop's thread: at once in that thread, soon from another one, never if the loop is closed."""
    if _loop_here() is loop:
        call()
        return
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        pass  # closed: nothing is under way


class Block:
    """The task of an async with block, which a denial cancels unless it came up in that task itself: there the exception does it."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task: "Optional[asyncio.Task[Any]]" = task
        self._loop = asyncio.get_running_loop()
        self._interrupted = False

    def interrupt(self) -> None:
        if _loop_here() is not self._loop or asyncio.current_task() is not self._task:
            in_loop(self._loop, self._cancel)

    def _cancel(self) -> None:
        if self._task is not None and not self._interrupted:
            self._interrupted = True
            self._task.cancel()

    def end(self) -> None:
        """From here on nobody cancels the task, and a cancellation that came from here is no more."""
        task, self._task = self._task, None
        uncancel = getattr(task, "uncancel", None)  # since Python 3.11
        if self._interrupted and uncancel is not None:
            uncancel()


def _being_cancelled() -> bool:
    """Whether somebody wants the current task to end. Before Python 3.11 nobody knows."""
    try:
        count = getattr(asyncio.current_task(), "cancelling", None)
    except RuntimeError:  # no loop runs here
        return False
    return count is not None and count() > 0


class _Scope:
    """A block that is one run, for with and for async with. It asks at its beginning and tells of a denial at its end."""

    def __init__(self, switch: "OffSwitch") -> None:
        self._switch = switch
        self._run: Optional[Run] = None
        self._watch: Union[Watch, AsyncWatch, None] = None

    def _begin(self) -> Run:
        if self._run is not None:
            raise RuntimeError("this run has begun already: make one for each block")
        self._switch.prepare()
        self._run = Run(self._switch, _current.get())
        return self._run

    def _enter(self, run: Run) -> Run:
        self._token = _current.set(run)
        return run

    def _leave(self) -> Run:
        assert self._run is not None
        _leave(self._token)
        return self._run

    def __enter__(self) -> Run:
        run = self._begin()
        run.check()
        if self._switch.every is not None:
            self._watch = Watch(self._switch.client, run.device_id, self._switch.every, on_denied=run.deny).start()
        return self._enter(run)

    def __exit__(self, kind: Any, error: Optional[BaseException], trace: Any) -> None:
        run = self._leave()
        if isinstance(self._watch, Watch):
            self._watch.stop()
        run.tell(error)

    async def __aenter__(self) -> Run:
        run = self._begin()
        await run.acheck()
        if self._switch.every is not None:
            self._watch = await AsyncWatch(self._switch.async_client, run.device_id, self._switch.every, on_denied=run.deny).start()
        run._block = Block() if self._switch.cancels else None
        return self._enter(run)

    async def __aexit__(self, kind: Any, error: Optional[BaseException], trace: Any) -> None:
        run = self._leave()
        if run._block is not None:
            run._block.end()
        if isinstance(self._watch, AsyncWatch):
            await self._watch.stop()
        run.tell(error)


def read(run: Run, items: Any) -> Iterator[Any]:
    """What a generator yields, made in a run, whoever reads it and when. Errors that come of a denial are told as that."""
    try:
        while True:
            try:
                with joined(run):
                    item = next(items)
            except StopIteration:
                run.tell(None)
                return
            except BaseException as error:
                run.tell(error)
                raise
            yield item
    finally:
        with joined(run):
            items.close()


async def aread(run: Run, items: Any) -> AsyncIterator[Any]:
    """read for asynchronous iterators."""
    steps = items.__aiter__()
    try:
        while True:
            try:
                with joined(run):
                    item = await steps.__anext__()
            except StopAsyncIteration:
                run.tell(None)
                return
            except BaseException as error:
                run.tell(error)
                raise
            yield item
    finally:
        with joined(run):
            await aclose(steps)


async def aclose(items: Any) -> None:
    """Ends an asynchronous iterator, if it is of a kind that can be ended: generators are."""
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()


def running(switch: "OffSwitch", begin: Callable[[Run], Any]) -> AsyncIterator[Any]:
    """What an asynchronous generator yields, as a run of its own that ends with it. begin makes the generator, once the run may begin.

    The run is inside of the one that asks for it, wherever it is read.
    """
    return _running(switch, begin, current())


async def _running(switch: "OffSwitch", begin: Callable[[Run], Any], outer: Optional[Run]) -> AsyncIterator[Any]:
    switch.prepare()
    run = Run(switch, outer if outer is not None else current())
    await run.acheck()
    async with contextlib.AsyncExitStack() as stack:
        if switch.every is not None:
            await stack.enter_async_context(AsyncWatch(switch.async_client, run.device_id, switch.every, on_denied=run.deny))
        with joined(run):
            items = aread(run, begin(run))
        try:
            async for item in items:
                yield item
        finally:
            await aclose(items)


_async_clients: "weakref.WeakValueDictionary[int, AsyncMachineID]" = weakref.WeakValueDictionary()
_async_lock = threading.Lock()


def _for_coroutines(client: MachineID) -> AsyncMachineID:
    """The one AsyncMachineID over a client that all switches share: each has threads of its own."""
    with _async_lock:
        made = _async_clients.get(id(client))
        if made is None or made._client is not client:
            made = _async_clients[id(client)] = AsyncMachineID.over(client)
        return made


class OffSwitch:
    """Stops a framework's runs when a device may not work any more: the base of all adapters. Safe for concurrent use; each run has its own state.

    After the first denial nothing new begins: no tool, model call, agent, retry, hand-over or next task. The caller gets Denied, once. It asks before
    every step, so a revoke counts from when it returned. every: seconds between questions beside the steps; a denial then also interrupts what is
    under way, where the framework can. An edge that is silent denies within the client's timeout.

    client: a MachineID or an AsyncMachineID, either serves sync and async runs.
    """

    cancels: bool = True  # whether a denial cancels the task of an async with block: not where the framework is stopped by another means
    raises: Type[Denied] = Denied  # what stands in the framework's way: also of the framework's own kind, where it needs that

    def __init__(self, client: Client, device_id: str, *, every: Optional[float] = None) -> None:
        if not isinstance(device_id, str):
            raise TypeError(f"a device id is a str, not {type(device_id).__name__}")
        self.client: MachineID = client._client if isinstance(client, AsyncMachineID) else client
        self.async_client: AsyncMachineID = client if isinstance(client, AsyncMachineID) else _for_coroutines(client)
        self.device_id: str = device_id
        self.every: Optional[float] = None if every is None else seconds(every, "every")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.client!r}, {self.device_id!r}, every={self.every!r})"

    def prepare(self) -> None:
        """Is called when a run begins: makes sure that the framework's steps ask."""

    def run(self) -> _Scope:
        """A block that is one run: with switch.run(), or in coroutines async with switch.run(). Entering asks, and both raise Denied."""
        return _Scope(self)
