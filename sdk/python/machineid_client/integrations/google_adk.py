"""Google's Agent Development Kit.

    runner = Runner(..., plugins=[OffSwitch(client, "agent-01")])       # run_async, run, run_live: raise Denied

Agents that a tool runs are part of the run that they are called in, with or without the plugin. So is what runs in a block of
`async with switch.run():`.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, AsyncIterator, Callable, Optional

from google.adk.agents.base_agent import BaseAgent
from google.adk.models.base_llm import BaseLlm
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import Runner
from google.adk.tools.base_tool import BaseTool
from google.adk.workflow._node_runner import NodeRunner
from google.genai._api_client import BaseApiClient

from . import _run
from ._ask import ask_before_requests, ask_first, ask_first_everywhere, wrap_once
from ._run import Client, Run, current, in_loop, running

__all__ = ["OffSwitch"]


class OffSwitch(_run.OffSwitch, BasePlugin):
    """A plugin: each run of a runner that has it is a run of the switch. It serves any number of runners and runs, also at once.

    It asks before each agent, node of a workflow, model call, attempt of one, and tool, and after model calls and tools, because what comes next may be
    a transfer or a code executor. ADK makes a RuntimeError of what a plugin raises; the runner's caller gets Denied.
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

    async def run_async(self: Any, *args: Any, **options: Any) -> AsyncIterator[Any]:
        def begin(run: Optional[Run]) -> AsyncIterator[Any]:
            return _aborted_by(run, inner, self, args, options) if run is not None and abortable else inner(self, *args, **options)

        switch = next((one for one in self.plugin_manager.plugins if isinstance(one, OffSwitch)), None)
        outer = current()
        if switch is None or (outer is not None and outer.switch is switch):  # an agent as a tool has its caller's plugins
            events = begin(outer)
        else:
            events = running(switch, begin)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()  # type: ignore[attr-defined]

    return run_async


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
