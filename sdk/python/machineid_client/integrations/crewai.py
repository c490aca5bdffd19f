"""CrewAI: crews, agents and flows that stop when they may not work any more.

    from machineid_client.integrations.crewai import OffSwitch

    switch = OffSwitch(MachineID.from_env(), "crew-01")
    with switch.run():                       # raises machineid_client.Denied
        crew.kickoff()

    async with switch.run():
        await crew.akickoff()                # or kickoff_async, kickoff_for_each_async, a flow's kickoff_async

Whatever CrewAI does in the block asks before each model call, tool call, task and step of a flow, in the threads that it makes as well. So do tools
that you call by run() or arun(). A tool that is running is not interrupted. What a block leaves behind in the background (memory that is being saved)
goes on asking.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable

from .._errors import Denied
from ._ask import ask_before_requests, ask_first, ask_first_everywhere, family, with_subclasses, wrap_once
from ._extra import extra
from ._run import OffSwitch as _OffSwitch
from ._run import Run, aread, current, in_a_loop, read
from ._threads import ask_in_threads, starting

with extra("crewai"):
    import openai  # noqa: F401  # CrewAI imports it when the first model is made; ask_before_requests has to find it by then
    from crewai.flow.runtime import Flow, _actions
    from crewai.hooks.dispatch import HookAborted, InterceptionPoint, get_hooks, register
    from crewai.llms.base_llm import BaseLLM
    from crewai.task import Task
    from crewai.tools.base_tool import BaseTool
    from crewai.types.streaming import StreamingOutputBase, StreamSessionBase

__all__ = ["CrewDenied", "OffSwitch"]


class CrewDenied(Denied, HookAborted):
    """Denied, and of the kind that CrewAI lets through: it takes others for mishaps and tries again."""


class OffSwitch(_OffSwitch):
    __doc__ = _OffSwitch.__doc__

    raises = CrewDenied

    def prepare(self) -> None:
        # Each time: hooks can be cleared.
        for point in (InterceptionPoint.PRE_MODEL_CALL, InterceptionPoint.PRE_TOOL_CALL, InterceptionPoint.PRE_STEP):
            if _ask not in get_hooks(point):
                register(point, _ask)
        for owner in family(BaseLLM):
            _ask_each_attempt(owner)
        with_subclasses(BaseLLM, _ask_each_attempt)
        wrap_once(Flow, "_execute_method", _asks_where_it_begins)
        ask_first(Task, "aexecute_sync")
        ask_first_everywhere(BaseTool, "run", "arun")  # which flows call, and their users
        ask_in_threads(_actions)
        for stream in (StreamingOutputBase, StreamSessionBase):
            wrap_once(stream, "__init__", _read_in_its_run)
        ask_before_requests()


def _ask(context: Any) -> None:
    """The hook. It is a plain function even where CrewAI awaits; there it must not hold the event loop up, and asking is left to what is awaited
    next: acall, aexecute_sync, _execute_method."""
    run = current()
    if run is None:
        return
    try:
        if in_a_loop():
            run.look()
        else:
            run.check()
    except CrewDenied:
        raise
    except Denied as denied:  # of another adapter's run: CrewAI would go on after it
        raise CrewDenied(denied.device_id, denied.decision) from None


def _ask_each_attempt(model: type) -> None:
    """A model's calls ask, and so does each time that CrewAI repeats one because the provider says "too many requests"."""
    for method in ("call", "acall"):
        outer = model.__dict__.get(method)
        if outer is None or getattr(outer, "machineid_wraps", False) or getattr(outer, "__isabstractmethod__", False):
            continue
        repeats = getattr(outer, "_crewai_rate_limit_wrapped", False)
        if repeats:
            setattr(model, method, outer.__wrapped__)
        ask_first(model, method)
        if repeats:
            model._wrap_call_method(method)  # type: ignore[attr-defined]


def _asks_where_it_begins(inner: Callable[..., Any]) -> Callable[..., Any]:
    """A flow's steps ask, and those that are plain functions again where they begin: they wait for a thread."""

    async def _execute_method(flow: Any, method_name: Any, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        run = current()
        if run is None or flow.is_crewai_internal:  # CrewAI's own agents are flows inside; their steps are nobody's, and what they call asks
            return await inner(flow, method_name, method, *args, **options)
        await run.acheck()
        awaited = inspect.iscoroutinefunction(method) or hasattr(method, "_is_coroutine")  # CrewAI's mark before Python 3.12
        return await inner(flow, method_name, method if awaited else starting(run, method), *args, **options)

    return _execute_method


def _read_in_its_run(inner: Callable[..., Any]) -> Callable[..., Any]:
    """A stream's work begins when it is first read, which may be behind the block that it was asked for in."""

    def __init__(self: Any, *args: Any, **options: Any) -> None:
        inner(self, *args, **options)
        run = current()
        if run is not None:
            if self._sync_iterator is not None:
                self._sync_iterator = read(run, self._sync_iterator)
            if self._async_iterator is not None:
                self._async_iterator = aread(run, self._async_iterator)

    return __init__
