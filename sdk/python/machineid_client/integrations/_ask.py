"""Steps that a framework has no hook for: their methods ask first, whoever calls them."""

from __future__ import annotations

import functools
import inspect
import sys
import threading
import types
from typing import Any, AsyncIterator, Callable, Iterator, Mapping, Optional

from ._run import Run, aclose, current, in_a_loop, joined

_lock = threading.Lock()

Find = Callable[..., Optional[Run]]  # from a call's self and arguments to the run it is part of


def _inherited(*_: Any, **__: Any) -> Optional[Run]:
    return current()


def wrap_once(owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Puts wrap(method) in the place of a class's method, or of a module's function, unless that is the method itself. Doing it again does nothing.

    Raises AttributeError if the class does not define the method itself: the framework is another one than it was, and an adapter that does not stop
    must not look as if it did.
    """
    with _lock:
        inner = owner.__dict__.get(name)
        if inner is None:
            raise AttributeError(f"{owner!r} defines no {name}: this version of the framework is not supported")
        if not any(getattr(one, "machineid_wraps", False) for one in (inner, getattr(inner, "__func__", None))):
            _put(owner, name, inner, wrap)


def _put(owner: Any, name: str, inner: Any, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Puts what stands for an attribute in its place: it is of the same kind, and calls it as Python would have. Tracing libraries and functools have
    objects where others have functions."""

    def put(call: Callable[..., Any], as_it_was: Callable[[Any], Any]) -> None:
        made: Any = wrap(call)
        if made is not call:
            functools.update_wrapper(made, call)
            made.machineid_wraps = True
            setattr(owner, name, as_it_was(made))

    def bound_by(bind: Callable[[Any], Any], like: Any) -> Callable[..., Any]:
        def call(self: Any, /, *args: Any, **options: Any) -> Any:
            return bind(self)(*args, **options)

        call.__name__, call.__module__ = name, owner.__module__
        return functools.update_wrapper(call, like)

    if not isinstance(owner, type) or type(inner) is types.FunctionType:
        put(inner, lambda made: made)
    elif isinstance(inner, property):
        # What it gives is known when it is read. Some give no function.
        def read(self: Any) -> Any:
            value = inner.__get__(self, type(self))
            return functools.partial(wrap(bound_by(lambda _: value, value)), self) if callable(value) else value

        functools.update_wrapper(read, inner.fget or read)
        read.machineid_wraps = True  # type: ignore[attr-defined]
        setattr(owner, name, _Property(read, inner.fset, inner.fdel, inner.__doc__))
    elif isinstance(inner, staticmethod):  # so is a tracer's object round one
        put(inner.__get__(None, owner), staticmethod)
    elif isinstance(inner, classmethod):
        put(bound_by(lambda cls: inner.__get__(None, cls), inner.__func__), classmethod)
    elif hasattr(type(inner), "__get__"):
        like = inner.func if isinstance(inner, (functools.partialmethod, functools.singledispatchmethod)) else inner
        put(bound_by(lambda self: inner.__get__(self, type(self)), like), lambda made: made)
    elif callable(inner) and not isinstance(inner, type):
        put(bound_by(lambda _: inner, inner), lambda made: made)


class _Property(property):
    machineid_wraps = True


def ask_first(owner: type, name: str, find: Find = _inherited, *, awaited: bool = False, tell: bool = False) -> None:
    """Has a method of a class ask before each call that is part of a run; other calls go on as ever.

    Coroutine functions, async generators and async context managers await the answer, also where a decorator hides that they are such; plain functions
    block for it. A stream is part of the run that it is asked for in, wherever it is read. awaited: the method is called in an event loop even where it
    is a plain function that returns an awaitable or, if its name ends in _stream, an async iterator. tell: where that is awaited, what the method
    raises after a denial is Denied, also if it is a cancellation by the framework's own means.
    """
    wrap_once(owner, name, lambda inner: asking(inner, find, awaited, tell))


def asking(inner: Callable[..., Any], find: Find = _inherited, awaited: bool = False, tell: bool = False) -> Callable[..., Any]:
    """The method, asking as ask_first says."""
    within = inspect.unwrap(inner)
    if inspect.isasyncgenfunction(inner):

        def stream(self: Any, /, *args: Any, **options: Any) -> Any:
            return _Call(inner, find, tell, self, args, options).items()

        return stream
    if inspect.iscoroutinefunction(inner):

        async def coroutine(self: Any, /, *args: Any, **options: Any) -> Any:
            return await _Call(inner, find, tell, self, args, options).result()

        return coroutine

    # What a decorator made of it is known when it is called. Without a run it is called as ever.
    streams = inspect.isasyncgenfunction(within) or (awaited and inner.__name__.endswith("_stream"))
    awaits = inspect.iscoroutinefunction(within) or awaited

    def plain(self: Any, /, *args: Any, **options: Any) -> Any:
        call = _Call(inner, find, tell, self, args, options)
        if call.run is None:
            return inner(self, *args, **options)
        if streams:
            return _StreamOrBlock(call)
        if awaits and in_a_loop():
            return call.result()
        call.run.check()
        return inner(self, *args, **options)

    return plain


class _Call:
    """One call of a method. Its run is that of the code that calls; if there is none, that of the code that first reads or awaits it."""

    def __init__(self, inner: Callable[..., Any], find: Find, tell: bool, owner: Any, args: Any, options: Any) -> None:
        self._find = functools.partial(find, owner, *args, **options)
        self._make = functools.partial(inner, owner, *args, **options)
        self._tell = tell
        self.run: Optional[Run] = self._find()

    async def begin(self) -> Any:
        """Asks, and then calls the method."""
        if self.run is None:
            self.run = self._find()
        if self.run is None:
            return self._make()
        await self.run.acheck()
        with joined(self.run):
            return self._make()

    def failed(self, error: BaseException) -> None:
        if self._tell and self.run is not None:
            self.run.tell(error)

    async def result(self) -> Any:
        try:
            made = await self.begin()
            if not inspect.isawaitable(made):
                return made
            if self.run is None:
                return await made
            with joined(self.run):
                return await made
        except BaseException as error:
            self.failed(error)
            raise

    async def items(self) -> AsyncIterator[Any]:
        items = (await self.begin()).__aiter__()
        try:
            while True:
                try:
                    if self.run is None:
                        item = await items.__anext__()
                    else:
                        with joined(self.run):
                            item = await items.__anext__()
                except StopAsyncIteration:
                    return
                yield item
        except BaseException as error:
            self.failed(error)
            raise
        finally:
            await aclose(items)


class _StreamOrBlock:
    """What a plain function gives that is an async generator inside: a stream, or, by a decorator, a context manager. It asks when it is used."""

    def __init__(self, call: _Call) -> None:
        self._call = call
        self._items: Any = call.items()
        self._block: Any = None

    def __aiter__(self) -> Any:
        return self._items

    def __anext__(self) -> Any:
        return self._items.__anext__()

    def asend(self, value: Any) -> Any:
        return self._items.asend(value)

    def athrow(self, *error: Any) -> Any:
        return self._items.athrow(*error)

    def aclose(self) -> Any:
        return self._items.aclose()

    async def __aenter__(self) -> Any:
        self._block = await self._call.begin()
        with joined(self._run()):
            return await self._block.__aenter__()

    async def __aexit__(self, *error: Any) -> Any:
        with joined(self._run()):
            return await self._block.__aexit__(*error)

    def _run(self) -> Run:
        assert self._call.run is not None
        return self._call.run


def ask_first_everywhere(base: type, *names: str, find: Find = _inherited, awaited: bool = False, tell: bool = False) -> None:
    """ask_first for a base class and all of its subclasses, also those that are yet to come, wherever they define one of the methods."""
    wrap_everywhere(base, {name: lambda inner: asking(inner, find, awaited, tell) for name in names})


def wrap_everywhere(base: type, wraps: Mapping[str, Callable[[Callable[..., Any]], Callable[..., Any]]]) -> None:
    """wrap_once for a base class and all of its subclasses, as ask_first_everywhere. All methods of one base belong into one call."""

    def wrap(owner: type) -> bool:
        found = False
        for name, wrap_one in wraps.items():
            inner = owner.__dict__.get(name)
            found = found or inner is not None
            if inner is not None and not getattr(inner, "__isabstractmethod__", False):
                wrap_once(owner, name, wrap_one)
        return found

    if not any([wrap(owner) for owner in family(base)]):
        raise AttributeError(f"nothing of {base.__module__}.{base.__qualname__} defines {list(wraps)}: this version of the framework is not supported")
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
