"""Google's Agent Development Kit.

    runner = Runner(..., plugins=[OffSwitch(client, "agent-01")])       # run_async, run, run_live: raise Denied

Agents that a tool runs are part of the run that they are called in, with or without the plugin. So is what runs in a block of
`async with switch.run():`.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, AsyncIterator, Callable, Iterator, Optional

from . import _run
from ._ask import ask_before_requests, ask_first, ask_first_everywhere, wrap_once
from ._extra import extra
from ._run import Client, Run, aread, current, in_loop, read, running
from ._threads import starting

with extra("google-adk"):
    from google.adk.agents.base_agent import BaseAgent
    from google.adk.code_executors.base_code_executor import BaseCodeExecutor
    from google.adk.models.base_llm import BaseLlm
    from google.adk.plugins.base_plugin import BasePlugin
    from google.adk.runners import Runner
    from google.adk.tools.base_tool import BaseTool
    from google.adk.utils import _sync_runner
    from google.adk.workflow import _function_node
    from google.adk.workflow._node_runner import NodeRunner
    from google.genai._api_client import BaseApiClient

__all__ = ["OffSwitch"]


class OffSwitch(_run.OffSwitch, BasePlugin):
    """A plugin: each run of a runner that has it is a run of the switch. It serves any number of runners and runs, also at once.

    It asks before each agent, node of a workflow, model call, attempt of one, tool and run of code, and after model calls and tools, because what comes
    next may be a transfer. ADK makes a RuntimeError of what a plugin raises; the runner's caller gets Denied.
    """

    cancels = False

    def __init__(self, client: Client, device_id: str, *, every: Optional[float] = None, name: str = "machineid_off_switch") -> None:
        _run.OffSwitch.__init__(self, client, device_id, every=every)
        BasePlugin.__init__(self, name)
        self.prepare()

    def prepare(self) -> None:
        # Each time: agents, models and tools are classes of their users' too.
        wrap_once(Runner, "run_async", _of_a_plugin)
        wrap_once(Runner, "run_live", _of_a_plugin)
        wrap_once(Runner, "run", _read_in_its_run)
        _wrap_function(_sync_runner, "_resolve_sync_callable_runner", _asks_where_it_begins)
        _wrap_function(_function_node, "_sync_to_async_gen", _asks_where_a_generator_begins)
        ask_first_everywhere(BaseCodeExecutor, "execute_code")  # which ADK calls in threads
        ask_first(NodeRunner, "_execute_node")
        ask_first_everywhere(BaseAgent, "run_async", "run_live")
        ask_first_everywhere(BaseLlm, "generate_content_async")
        ask_first_everywhere(BaseTool, "run_async")
        ask_first(BaseApiClient, "_request_once")
        ask_first(BaseApiClient, "_async_request_once")
        ask_before_requests()

    async def _ask(self) -> None:
        run = current()
        if run is None:  # in a thread that ADK gave no context, such as a pool for tools
            run = Run(self)
        await run.acheck()

    async def before_agent_callback(self, **_: Any) -> None:
        await self._ask()

    async def before_model_callback(self, **_: Any) -> None:
        await self._ask()

    async def after_model_callback(self, **_: Any) -> None:
        await self._ask()

    async def before_tool_callback(self, **_: Any) -> None:
        await self._ask()

    async def after_tool_callback(self, **_: Any) -> None:
        await self._ask()

    async def on_event_callback(self, **_: Any) -> None:
        run = current()
        if run is not None:
            run.look()


def _of_a_plugin(inner: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    abortable = "abort_signal" in inspect.signature(inner).parameters

    def run_async(self: Any, *args: Any, **options: Any) -> AsyncIterator[Any]:
        def begin(run: Optional[Run]) -> AsyncIterator[Any]:
            return _aborted_by(run, inner, self, args, options) if run is not None and abortable else inner(self, *args, **options)

        switch = next((one for one in self.plugin_manager.plugins if isinstance(one, OffSwitch)), None)
        outer = current()  # of who asks for the events; whoever reads them may have another context
        if switch is None or (outer is not None and outer.switch is switch):  # an agent as a tool has its caller's plugins
            events = begin(outer)
        else:
            events = running(switch, begin)
        return events if outer is None else aread(outer, events)

    return run_async


def _read_in_its_run(inner: Callable[..., Any]) -> Callable[..., Any]:
    """Runner.run begins its thread when it is first read, which may be behind the block that it was asked for in."""

    def run(self: Any, *args: Any, **options: Any) -> Any:
        here = current()
        events = inner(self, *args, **options)
        return events if here is None else read(here, events)

    return run


def _wrap_function(module: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """wrap_once for a function of a module of ADK's."""
    inner = getattr(module, name, None)
    if inner is None:
        raise AttributeError(f"{module.__name__} defines no {name}: this version of the framework is not supported")
    if not getattr(inner, "machineid_wraps", False):
        made: Any = wrap(inner)
        made.machineid_wraps = True
        setattr(module, name, made)


def _asks_where_it_begins(inner: Callable[[], Any]) -> Callable[[], Any]:
    """Plain functions, tools and nodes, ask where they begin. ADK runs them one after another in the event loop, or in a pool of threads: all of one
    answer's have asked by the time that the first one begins."""

    def _resolve_sync_callable_runner() -> Any:
        run, pool = current(), inner()
        if run is None:
            return pool
        if pool is not None:
            return lambda target, options: pool(starting(run, target), options)

        async def invoke(target: Callable[..., Any], options: Any) -> Any:
            await run.acheck()
            return target(**options)

        return invoke

    return _resolve_sync_callable_runner


def _asks_where_a_generator_begins(inner: Callable[..., Any]) -> Callable[..., AsyncIterator[Any]]:
    async def _sync_to_async_gen(items: Any) -> AsyncIterator[Any]:
        run = current()
        pool = _function_node._resolve_sync_callable_runner()
        source = inner(items if run is None or pool is None else _starting_with(run, items))
        try:
            if run is not None and pool is None:
                await run.acheck()
            async for item in source:
                yield item
        finally:
            await source.aclose()

    return _sync_to_async_gen


def _starting_with(run: Run, items: Any) -> Iterator[Any]:
    run.check()
    yield from items


async def _aborted_by(run: Run, inner: Callable[..., AsyncIterator[Any]], runner: Any, args: Any, options: Any) -> AsyncIterator[Any]:
    """A runner's events, with an abort signal that a denial sets. ADK can be left waiting for ever by a cancellation from outside."""
    loop, abort, given = asyncio.get_running_loop(), asyncio.Event(), options.get("abort_signal")

    def stop() -> None:
        in_loop(loop, abort.set)

    async def pass_on() -> None:
        await given.wait()
        abort.set()

    passing = asyncio.ensure_future(pass_on()) if given is not None else None
    run.on_denied(stop)
    events = inner(runner, *args, **dict(options, abort_signal=abort))
    try:
        async for event in events:
            yield event
    finally:
        run.forget(stop)
        if passing is not None:
            passing.cancel()
        await events.aclose()  # type: ignore[attr-defined]
