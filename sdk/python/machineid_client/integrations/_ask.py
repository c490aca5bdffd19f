"""Steps that a framework has no hook for: their methods ask first, whoever calls them."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import threading
from typing import Any, AsyncGenerator, Callable, Iterator, Optional

from ._run import Run, current

_lock = threading.Lock()

Find = Callable[..., Optional[Run]]  # from a call's self and arguments to the run it is part of


def _inherited(*_: Any, **__: Any) -> Optional[Run]:
    return current()


def wrap_once(owner: type, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Puts wrap(method) in the place of a class's method. Doing it again does nothing.

    Raises AttributeError if the class does not define the method itself: the framework is another one than it was, and an adapter that does not stop
    must not look as if it did.
    """
    with _lock:
        inner = owner.__dict__.get(name)
        if inner is None:
            raise AttributeError(f"{owner.__module__}.{owner.__qualname__} defines no {name}: this version of the framework is not supported")
        static = isinstance(inner, staticmethod)
        inner = inner.__func__ if static else inner
        if getattr(inner, "machineid_wraps", False):
            return
        made = wrap(inner)
        functools.update_wrapper(made, inner)
        made.machineid_wraps = True  # type: ignore[attr-defined]
        setattr(owner, name, staticmethod(made) if static else made)


def ask_first(owner: type, name: str, find: Find = _inherited, *, awaited: bool = False, tell: bool = False) -> None:
    """Has a method of a class ask before each call that is part of a run; other calls go on as ever.

    Coroutine functions, async generators and async context managers await the answer; plain functions block for it. awaited: the method is called in
    an event loop even where it is a plain function that returns an awaitable or, if its name ends in _stream, an async iterator. tell: where that is
    awaited, what the method raises after a denial is Denied, also if it is a cancellation by the framework's own means.
    """
    wrap_once(owner, name, lambda inner: _asking(inner, find, awaited, tell))


def _asking(inner: Callable[..., Any], find: Find, awaited: bool, tell: bool) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(inner) or (awaited and inner.__name__.endswith("_stream")):

        async def stream(self: Any, *args: Any, **options: Any) -> Any:
            run = find(self, *args, **options)
            if run is not None:
                await run.acheck()
            items = inner(self, *args, **options)
            try:
                async for item in items:
                    yield item
            except BaseException as error:
                if tell and run is not None:
                    run.tell(error)
                raise
            finally:
                await items.aclose()

        return stream
    if inspect.isasyncgenfunction(inspect.unwrap(inner)):

        @contextlib.asynccontextmanager
        async def block(self: Any, *args: Any, **options: Any) -> AsyncGenerator[Any, None]:
            run = find(self, *args, **options)
            if run is not None:
                await run.acheck()
            async with inner(self, *args, **options) as value:
                yield value

        return block
    if inspect.iscoroutinefunction(inner) or awaited:

        async def coroutine(self: Any, *args: Any, **options: Any) -> Any:
            run = find(self, *args, **options)
            if run is not None:
                await run.acheck()
            try:
                return await inner(self, *args, **options)
            except BaseException as error:
                if tell and run is not None:
                    run.tell(error)
                raise

        return coroutine

    def plain(self: Any, *args: Any, **options: Any) -> Any:
        run = find(self, *args, **options)
        if run is not None:
            run.check()
        return inner(self, *args, **options)

    return plain


def ask_first_everywhere(base: type, *names: str, awaited: bool = False, tell: bool = False) -> None:
    """ask_first for a base class and all of its subclasses, also those that are yet to come, wherever they define one of the methods."""

    def wrap(owner: type) -> bool:
        found = False
        for name in names:
            inner = owner.__dict__.get(name)
            found = found or inner is not None
            if inner is not None and not getattr(inner, "__isabstractmethod__", False):
                ask_first(owner, name, awaited=awaited, tell=tell)
        return found

    if not any([wrap(owner) for owner in family(base)]):
        raise AttributeError(f"nothing of {base.__module__}.{base.__qualname__} defines {names}: this version of the framework is not supported")
    with_subclasses(base, wrap)


def with_subclasses(base: Any, wrap: Callable[[type], object]) -> None:
    """Has wrap called for each class that is derived from base from now on: a module may be imported in the middle of a run. Once for each base."""
    before = base.__dict__.get("__init_subclass__")
    if getattr(getattr(before, "__func__", None), "machineid_wraps", False):
        return

    def __init_subclass__(cls: Any, **options: Any) -> None:
        if before is not None:
            before.__func__(cls, **options)
        else:
            super(base, cls).__init_subclass__(**options)
        wrap(cls)

    __init_subclass__.machineid_wraps = True  # type: ignore[attr-defined]
    subclassed: Any = __init_subclass__
    base.__init_subclass__ = classmethod(subclassed)


def family(base: type) -> Iterator[type]:
    """The class and all of its subclasses that exist now."""
    seen, waiting = set(), [base]
    while waiting:
        owner = waiting.pop()
        if owner not in seen:
            seen.add(owner)
            waiting.extend(type.__subclasses__(owner))
            yield owner


def ask_before_requests() -> None:
    """Has the model providers' own clients ask before each request, if their packages are in use.

    They try again by themselves when a model is overloaded (max_retries), below everything that a framework shows.
    """
    for package, clients in (("openai", ("OpenAI", "AsyncOpenAI")), ("anthropic", ("Anthropic", "AsyncAnthropic"))):
        module = sys.modules.get(package)
        for client in clients:
            for owner in getattr(module, client, object).__mro__:
                if "_prepare_request" in owner.__dict__:  # is called for each attempt, outside of what catches errors there
                    ask_first(owner, "_prepare_request")
