"""Functions that a framework hands to a thread: they ask where they start, for they may have waited for it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import sys
import types
from typing import Any, Callable, Sequence

from ._run import Run, current, joined


def starting(run: Run, call: Callable[..., Any], ask: Callable[[Run], object] = Run.check) -> Callable[..., Any]:
    """The function, as a part of a run that asks when it starts. For threads: asking blocks."""

    @functools.wraps(call, updated=())
    def start(*args: Any, **options: Any) -> Any:
        with joined(run):  # not every framework gives a thread its context
            ask(run)
            return call(*args, **options)

    return start


def ask_in_threads(module: types.ModuleType, *hops: Callable[..., Any]) -> None:
    """Has the functions that a framework's module hands to a thread in a run ask when they start. Elsewhere, and without a run, nothing changes.

    The module's own names of asyncio and anyio are replaced, so what reaches it by another way is not seen; so are those of hops, coroutine functions
    of the framework that are given a function for a thread. Only for modules whose threads begin steps: what asks is denied, and some of what runs in
    threads tidies up. Doing it again does nothing. Raises AttributeError if the module has no such name: the framework is another one than it was.
    """
    names = vars(module)
    found = False
    for name, value in list(names.items()):
        stand_in = value if getattr(value, "machineid_asks", False) else _stand_in(value, hops)
        if stand_in is not None:
            found, names[name] = True, stand_in
    if not found:
        raise AttributeError(f"{module.__name__} hands nothing to threads: this version of the framework is not supported")


def _stand_in(value: Any, hops: Sequence[Callable[..., Any]]) -> Any:
    anyio, to_thread = sys.modules.get("anyio"), sys.modules.get("anyio.to_thread")
    if value is asyncio:
        return _Module(asyncio, to_thread=_by(asyncio.to_thread), get_running_loop=_running_loop, get_event_loop=_event_loop)
    if to_thread is not None and value is anyio:
        return _Module(value, to_thread=_stand_in(to_thread, hops))
    if to_thread is not None and value is to_thread:
        return _Module(to_thread, run_sync=_by(to_thread.run_sync))
    if value is asyncio.to_thread or (to_thread is not None and value is to_thread.run_sync):
        return _by(value)
    for hop in hops:
        if value is hop:
            return _by(hop)
        if value is sys.modules.get(hop.__module__):
            return _Module(value, **{hop.__name__: _by(hop)})
    return None


def _by(hop: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(hop)
    async def asking(func: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        return await hop(_first(func), *args, **options)

    asking.machineid_asks = True  # type: ignore[attr-defined]
    return asking


class _Module(types.ModuleType):
    """A module, but for some of its names."""

    machineid_asks = True

    def __init__(self, module: types.ModuleType, **own: Any) -> None:
        super().__init__(module.__name__, module.__doc__)
        self.__dict__.update(own, machineid_module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["machineid_module"], name)


def _first(call: Callable[..., Any]) -> Callable[..., Any]:
    run = current()
    return call if run is None else starting(run, call)


class _Loop:
    """The loop that runs, in a run, but for its threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        if not isinstance(executor, concurrent.futures.ProcessPoolExecutor):  # what goes there is pickled
            func = _first(func)
        return self._loop.run_in_executor(executor, func, *args)


def _running_loop() -> Any:
    loop = asyncio.get_running_loop()
    return loop if current() is None else _Loop(loop)


def _event_loop() -> Any:
    loop = asyncio.get_event_loop()
    return loop if current() is None or not loop.is_running() else _Loop(loop)
