"""LangChain and LangGraph.

    switch = OffSwitch(client, "agent-01")
    agent.invoke(..., config={"callbacks": [switch]})       # and ainvoke, stream, batch, ...; raises Denied

    with switch.run():                                      # or async with: whatever runs inside asks, callbacks or not
        agent.invoke(...)
"""

from __future__ import annotations

import functools
import inspect
import threading
import types
from typing import Any, Callable, Dict, Iterable, Optional
from uuid import UUID

from . import _run
from ._ask import ask_before_requests, ask_first, ask_first_everywhere, asking, wrap_everywhere, wrap_once
from ._extra import extra
from ._run import Client, Run, aclose, aread, current, in_a_loop, read
from ._threads import starting

with extra("langchain"):
    from langchain_core.caches import BaseCache
    from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager, manager
    from langchain_core.callbacks.manager import BaseRunManager
    from langchain_core.chat_history import BaseChatMessageHistory
    from langchain_core.language_models import LLM, BaseChatModel
    from langchain_core.output_parsers.base import BaseLLMOutputParser
    from langchain_core.runnables import Runnable, RunnablePassthrough, passthrough
    from langchain_core.runnables import config as runnable_config
    from langchain_core.tracers.context import register_configure_hook

__all__ = ["OffSwitch"]

MOST = 100_000  # runs and their parts that are remembered at once; beyond that the oldest are taken for ended


class _Handler(BaseCallbackHandler):
    """Asks before each chain, node, model call, tool and retriever; ends what ends after a denial in Denied."""

    raise_error = True  # without it LangChain logs what a handler raises, and goes on

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: Dict[UUID, Run] = {}  # by LangChain's run ids

    def _new(self) -> Run:
        raise NotImplementedError

    def _part(self, run_id: Optional[UUID]) -> Optional[Run]:
        with self._lock:
            return None if run_id is None else self._parts.get(run_id)

    def _note(self, run_id: UUID, parent_run_id: Optional[UUID] = None, **_: Any) -> Run:
        run = self._part(parent_run_id)
        if run is None:
            run = self._new()
        with self._lock:
            self._parts[run_id] = run
            while len(self._parts) > MOST:
                del self._parts[next(iter(self._parts))]
        return run

    def _begin(self, *_: Any, **ids: Any) -> None:
        run = self._note(**ids)
        try:
            run.check()
        except BaseException:
            self._over(**ids)
            raise

    async def _abegin(self, *_: Any, **ids: Any) -> None:
        run = self._note(**ids)
        try:
            await run.acheck()
        except BaseException:
            self._over(**ids)
            raise

    def _end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        run = self._over(run_id=run_id)
        if run is not None:
            run.look()  # some middleware makes words of an error, and goes on with them

    def _failed(self, error: BaseException, *_: Any, run_id: UUID, parent_run_id: Optional[UUID] = None, **__: Any) -> None:
        run = self._over(run_id=run_id)
        if run is not None and self._part(parent_run_id) is None:
            run.tell(error)  # of the outermost call: some nodes make an error of their own of a denial

    def _over(self, *_: Any, run_id: UUID, **__: Any) -> Optional[Run]:
        with self._lock:
            return self._parts.pop(run_id, None)

    on_chain_start = on_llm_start = on_chat_model_start = on_tool_start = on_retriever_start = _begin
    on_chain_end = on_llm_end = on_tool_end = on_retriever_end = _end
    on_chain_error = on_llm_error = on_tool_error = on_retriever_error = _failed

    def on_retry(self, retry_state: Any, *, run_id: UUID, **_: Any) -> None:
        run = self._part(run_id)
        if run is not None:
            run.check()

    async def _aon_retry(self, retry_state: Any, *, run_id: UUID, **_: Any) -> None:
        run = self._part(run_id)
        if run is not None:
            await run.acheck()


class OffSwitch(_run.OffSwitch, _Handler):
    """Give it to a call as one of its callbacks, or make a block of its run. It serves any number of runs, also at once.

    Given as a callback, each outermost call is a run of its own. every counts in blocks only: a callback cannot interrupt.
    """

    def __init__(self, client: Client, device_id: str, *, every: Optional[float] = None) -> None:
        _run.OffSwitch.__init__(self, client, device_id, every=every)
        _Handler.__init__(self)

    def _new(self) -> Run:
        self.prepare()
        here = current()
        return here if here is not None and here.switch is self else Run(self, here)

    def prepare(self) -> None:
        ask_before_requests()


class _OfAnotherFramework(_Handler):
    """LangChain inside a run of another framework's adapter."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def _new(self) -> Run:
        return self._run


class _Present:
    """Stands for a context variable: the handler of the run that this code is part of."""

    def get(self) -> Optional[BaseCallbackHandler]:
        run = current()
        if run is None:
            return None
        if isinstance(run.switch, OffSwitch):
            return run.switch
        handler: Optional[BaseCallbackHandler] = run.notes.get(__name__)
        if handler is None:
            handler = run.notes[__name__] = _OfAnotherFramework(run)
        return handler


def _awaited(inner: Callable[..., Any]) -> Callable[..., Any]:
    """From coroutines LangChain calls a handler in the default pool of threads, where a silent edge would hold up the program's other work. Ours is
    awaited instead."""
    awaited: Dict[Any, Any] = {_Handler._begin: _Handler._abegin, _Handler.on_retry: _Handler._aon_retry}
    at_once = {_Handler._end, _Handler._failed}

    async def _ahandle_event_for_handler(handler: Any, event_name: str, ignore_condition_name: Any, *args: Any, **options: Any) -> None:
        event = getattr(type(handler), event_name, None) if isinstance(handler, _Handler) else None
        if event in awaited:
            await awaited[event](handler, *args, **options)
        elif event in at_once:
            event(handler, *args, **options)
        elif event is None or event is not getattr(BaseCallbackHandler, event_name, None):
            await inner(handler, event_name, ignore_condition_name, *args, **options)

    return _ahandle_event_for_handler


def _known(handlers: Iterable[Any], run_id: Optional[UUID]) -> Optional[Run]:
    return next((run for one in handlers if isinstance(one, _Handler) for run in [one._part(run_id)] if run is not None), None)


def _of_call(*args: Any, **options: Any) -> Optional[Run]:
    """The run of a call that is given the run manager of its part. A run that is only known by callbacks is in no context."""
    for one in (*args, *options.values()):
        run = _known(one.handlers, one.run_id) if isinstance(one, BaseRunManager) else None
        if run is not None:
            return run
    config = runnable_config.var_child_runnable_config.get()
    run = _of_config(config) if config is not None else None
    return run if run is not None else current()


def _of_config(config: Any) -> Optional[Run]:
    callbacks = config.get("callbacks")
    return _known(callbacks.handlers, callbacks.parent_run_id) if isinstance(callbacks, BaseCallbackManager) else None


async def _in_a_thread(inner: Callable[..., Any], executor_or_config: Any, func: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
    """LangChain's run_in_executor: plain functions in coroutines, which may wait for a thread for long."""
    run = _of_config(executor_or_config) if isinstance(executor_or_config, dict) else None
    if run is None:
        run = _of_call(*args, **options)
    if run is not None:
        func = starting(run, func, _where_it_starts(func, args))
    return await inner(executor_or_config, func, *args, **options)


def _where_it_starts(func: Callable[..., Any], args: Any) -> Callable[[Run], object]:
    owner = getattr(func, "__self__", None)
    if func is next:  # a stream's next part; with the first one it begins
        fresh = inspect.isgenerator(args[0]) and inspect.getgeneratorstate(args[0]) == inspect.GEN_CREATED
        return Run.check if fresh else Run.look
    if isinstance(owner, (BaseCache, BaseChatMessageHistory)):
        return _nothing  # it keeps what was done
    if isinstance(owner, BaseLLMOutputParser):
        return Run.look  # for each part of a stream
    if isinstance(owner, Runnable) and func.__name__ == "invoke":
        return Run.look  # its handlers ask, in the thread
    return Run.check


def _nothing(_: Run) -> None:
    pass


class _WhereItReads:
    """A stream's work begins when it is first read, which may be behind the block that it was asked for in, or in another task.

    LangChain looks at a method to find out whether it is a generator function. So in a run it is a function of the same kind, and else the method
    itself: a function that is a generator's cannot note who calls it.
    """

    def __init__(self, inner: Callable[..., Any]) -> None:
        self._inner = inner

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        run = current()
        if run is None or owner is None:
            return self._inner.__get__(owner, kind)
        return types.MethodType(functools.update_wrapper(_reading(self._inner, run), self._inner), owner)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._inner(*args, **options)


def _reading(inner: Callable[..., Any], run: Run) -> Callable[..., Any]:
    async def asynchronous(self: Any, /, *args: Any, **options: Any) -> Any:
        items = aread(run, inner(self, *args, **options))
        try:
            async for item in items:
                yield item
        finally:
            await aclose(items)

    def synchronous(self: Any, /, *args: Any, **options: Any) -> Any:
        yield from read(run, inner(self, *args, **options))

    async def coroutine(self: Any, /, *args: Any, **options: Any) -> Any:
        return in_the_run(await inner(self, *args, **options))

    def plain(self: Any, /, *args: Any, **options: Any) -> Any:
        return in_the_run(inner(self, *args, **options))

    def in_the_run(items: Any) -> Any:
        return aread(run, items) if inspect.isasyncgen(items) else read(run, items) if inspect.isgenerator(items) else items

    if inspect.isasyncgenfunction(inner):
        return asynchronous
    if inspect.isgeneratorfunction(inner):
        return synchronous
    return coroutine if inspect.iscoroutinefunction(inner) else plain


def _passed_through(config: Any) -> Optional[Run]:
    """The run of a RunnablePassthrough's function, which is called before any handler is."""
    run = _of_config(config)
    callbacks = config.get("callbacks")
    handlers = callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks or ()
    if run is None:
        run = next((one._new() for one in handlers if isinstance(one, _Handler)), None)
    return run if run is not None else current()


def _before_passing_through(inner: Callable[..., Any]) -> Callable[..., Any]:
    def call_func_with_variable_args(func: Any, input: Any, config: Any, *args: Any, **options: Any) -> Any:
        run = _passed_through(config)
        if run is not None:
            if in_a_loop():
                run.look()
            else:
                run.check()
        return inner(func, input, config, *args, **options)

    return call_func_with_variable_args


def _before_passing_through_async(inner: Callable[..., Any]) -> Callable[..., Any]:
    async def acall_func_with_variable_args(func: Any, input: Any, config: Any, *args: Any, **options: Any) -> Any:
        run = _passed_through(config)
        if run is not None:
            await run.acheck()
        return await inner(func, input, config, *args, **options)

    return acall_func_with_variable_args


def _of_a_plain_function(passing: Any, /, *args: Any, **options: Any) -> Optional[Run]:
    """The function is called in the loop itself there, where only looking is left to it."""
    return _of_a_step(passing, *args, **options) if passing.func is not None else None


def _of_a_step(_: Any, /, *args: Any, **options: Any) -> Optional[Run]:
    """The names and the second argument may be the user's, and no config."""
    config = options.get("config", args[1] if len(args) > 1 else None)
    if isinstance(config, list) and config:  # a batch may have one for each
        config = config[0]
    return _passed_through(runnable_config.ensure_config(config if isinstance(config, dict) else None))


def _of_ones_own(inner: Callable[..., Any]) -> Callable[..., Any]:
    """A Runnable of one's own need not call any handlers."""
    return inner if _is_langchains(inner) else asking(inner, _of_a_step)


def _is_langchains(inner: Callable[..., Any]) -> bool:
    return inner.__module__.partition(".")[0] in ("langchain_core", "langchain", "langgraph")


def _stream_of_ones_own(inner: Callable[..., Any]) -> Any:
    """It asks when it is first read, and one that transforms another stream also when that one's first part has come: what goes before it in a chain has
    only then begun. It stays of its kind, which LangChain looks at."""
    if _is_langchains(inner):
        return _WhereItReads(inner)

    async def asynchronous(self: Any, /, *args: Any, **options: Any) -> Any:
        run = _of_a_step(self, *args, **options)
        if run is not None:
            await run.acheck()
            args = tuple(_asking_once_async(run, one) if hasattr(one, "__anext__") else one for one in args)
        items = inner(self, *args, **options)
        try:
            async for item in items:
                yield item
        finally:
            await aclose(items)

    def synchronous(self: Any, /, *args: Any, **options: Any) -> Any:
        run = _of_a_step(self, *args, **options)
        if run is not None:
            run.check()
            args = tuple(_asking_once(run, one) if hasattr(one, "__next__") else one for one in args)
        yield from inner(self, *args, **options)

    made = asynchronous if inspect.isasyncgenfunction(inner) else synchronous if inspect.isgeneratorfunction(inner) else asking(inner, _of_a_step)
    return _WhereItReads(functools.update_wrapper(made, inner))


def _asking_once(run: Run, items: Any) -> Any:
    asked = False
    try:
        for item in items:
            if not asked:
                run.check()
                asked = True
            yield item
    finally:
        if not asked and hasattr(items, "close"):
            items.close()


async def _asking_once_async(run: Run, items: Any) -> Any:
    asked = False
    try:
        async for item in items:
            if not asked:
                await run.acheck()
                asked = True
            yield item
    finally:
        if not asked:
            await aclose(items)


async def _hop(executor_or_config: Any, func: Any, *args: Any, **options: Any) -> Any:
    from machineid_client.integrations.langchain import _in_a_thread, _run_in_executor  # its names are LangChain's

    return await _in_a_thread(_run_in_executor, executor_or_config, func, *args, **options)


def _hop_by(function: Any) -> Callable[..., Any]:
    """Has a function be _hop from now on, and returns what it was. Its code is replaced: graphs that were made before keep the function itself."""
    if not hasattr(function, "machineid_inner"):
        function.machineid_inner = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
        function.__code__ = _hop.__code__
    inner: Callable[..., Any] = function.machineid_inner
    return inner


_run_in_executor = _hop_by(runnable_config.run_in_executor)
register_configure_hook(_Present(), inheritable=True)
wrap_once(manager, "_ahandle_event_for_handler", _awaited)
wrap_once(passthrough, "call_func_with_variable_args", _before_passing_through)
wrap_once(passthrough, "acall_func_with_variable_args", _before_passing_through_async)
ask_first(RunnablePassthrough, "ainvoke", _of_a_plain_function)
_STREAMS = (
    "stream", "astream", "transform", "atransform", "stream_events", "astream_events", "astream_log", "batch_as_completed", "abatch_as_completed",
)
_STEPS, _STEPS_THAT_STREAM = ("invoke", "ainvoke", "batch", "abatch"), ("stream", "astream", "transform", "atransform")
wrap_everywhere(Runnable, {
    **dict.fromkeys(_STREAMS, _WhereItReads), **dict.fromkeys(_STEPS, _of_ones_own), **dict.fromkeys(_STEPS_THAT_STREAM, _stream_of_ones_own),
})
# A model is asked for several prompts at once: the handlers are called for all of them before the first is answered.
ask_first(BaseChatModel, "_generate_with_cache", _of_call)
ask_first(BaseChatModel, "_agenerate_with_cache", _of_call)
ask_first_everywhere(LLM, "_call", "_acall", find=_of_call)
