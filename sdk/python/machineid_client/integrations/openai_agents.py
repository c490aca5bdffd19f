"""OpenAI Agents SDK.

    await Runner.run(agent, "...", hooks=OffSwitch(client, "agent-01"))     # run_sync and run_streamed likewise; raises Denied

Agents as tools, and whatever else a tool or guardrail runs, are part of the run that they are called in, though the SDK hands no hooks down to them.
"""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict, Optional

from .._async_guard import AsyncWatch
from .._errors import Denied
from . import _run
from ._ask import ask_before_requests, ask_first_everywhere, wrap_everywhere
from ._extra import extra
from ._run import Client, Run, aread, current, joined
from ._threads import ask_in_threads

with extra("openai-agents"):
    import agents.tool
    from agents import AgentsException, Model, RunHooks, RunResult, RunResultStreaming
    from agents.lifecycle import RunHooksBase
    from agents.run import AgentRunner

__all__ = ["OffSwitch", "RunDenied"]

_Options = Dict[str, Any]


class RunDenied(Denied, AgentsException):
    """Denied, and of the SDK's own kind: what is not, it turns into a UserError where a tool begins."""


class OffSwitch(_run.OffSwitch, RunHooks[Any]):
    """Give it to a run as its hooks. It serves any number of runs, also at once. hooks: your own, which are called when the run may go on.

    It asks before and after each agent, model call, tool and hand-over, and before each retry of a model call that the SDK makes. Blocks of
    `async with switch.run():` work too, and cover every run that begins inside, whatever its hooks.
    """

    raises = RunDenied

    def __init__(self, client: Client, device_id: str, *, every: Optional[float] = None, hooks: Optional[RunHooks[Any]] = None) -> None:
        super().__init__(client, device_id, every=every)
        if hooks is not None and not isinstance(hooks, RunHooksBase):
            raise TypeError(f"hooks are RunHooks, not {type(hooks).__name__}")
        self.hooks = hooks
        self.prepare()

    def prepare(self) -> None:
        # Each time: runners and models are classes of their users' too.
        wrap_everywhere(AgentRunner, {"run": _run_with_hooks, "run_sync": _run_sync_with_hooks, "run_streamed": _run_streamed_with_hooks})
        ask_first_everywhere(Model, "get_response", "stream_response")
        ask_in_threads(agents.tool)
        ask_before_requests()

    # Runners call _Asking in the place of an OffSwitch. One of another kind finds these.
    async def on_agent_start(self, context: Any, agent: Any) -> None:
        raise _not_in_force

    async def on_llm_start(self, context: Any, agent: Any, system_prompt: Any, input_items: Any) -> None:
        raise _not_in_force

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        raise _not_in_force


_not_in_force = AgentsException(
    "machineid's OffSwitch is not in force: this run's runner is no AgentRunner"
)


class _Asking(RunHooks[Any]):
    """The hooks of one run: they ask, and then call the user's."""

    def __init__(self, run: Run, then: Optional[RunHooks[Any]]) -> None:
        self._run, self._then = run, then if then is not None else RunHooks()

    async def on_agent_start(self, context: Any, agent: Any) -> None:
        await self._run.acheck()
        await self._then.on_agent_start(context, agent)

    async def on_agent_end(self, context: Any, agent: Any, output: Any) -> None:
        self._run.look()
        await self._then.on_agent_end(context, agent, output)

    async def on_llm_start(self, context: Any, agent: Any, system_prompt: Any, input_items: Any) -> None:
        await self._run.acheck()
        await self._then.on_llm_start(context, agent, system_prompt, input_items)

    async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
        await self._run.acheck()  # a hand-over's own callback comes next, and no hook before it
        await self._then.on_llm_end(context, agent, response)

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        await self._run.acheck()
        await self._then.on_tool_start(context, agent, tool)

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        await self._run.acheck()
        await self._then.on_tool_end(context, agent, tool, result)

    async def on_handoff(self, context: Any, from_agent: Any, to_agent: Any) -> None:
        await self._run.acheck()
        await self._then.on_handoff(context, from_agent, to_agent)


def _run_with_hooks(inner: Callable[..., Any]) -> Callable[..., Any]:
    async def run(self: Any, *args: Any, **options: Any) -> RunResult:
        hooks = options.get("hooks")
        if isinstance(hooks, OffSwitch):
            async with hooks.run() as own:
                return await inner(self, *args, **_asking(options, own, hooks.hooks))
        outer = current()
        if outer is not None and not isinstance(hooks, _Asking):  # which it is if run_sync, or a runner's own run, calls this one
            await outer.acheck()
            options = _asking(options, outer, hooks)
        return await inner(self, *args, **options)

    return run


def _run_sync_with_hooks(inner: Callable[..., Any]) -> Callable[..., Any]:
    def run_sync(self: Any, *args: Any, **options: Any) -> RunResult:
        hooks = options.get("hooks")
        if isinstance(hooks, OffSwitch):
            with hooks.run() as own:
                return inner(self, *args, **_asking(options, own, hooks.hooks))
        outer = current()
        if outer is not None and not isinstance(hooks, _Asking):
            outer.check()
            options = _asking(options, outer, hooks)
        return inner(self, *args, **options)

    return run_sync


def _run_streamed_with_hooks(inner: Callable[..., Any]) -> Callable[..., Any]:
    def run_streamed(self: Any, *args: Any, **options: Any) -> RunResultStreaming:
        hooks = options.get("hooks")
        if isinstance(hooks, OffSwitch):
            hooks.prepare()
            run = Run(hooks, current())
            with joined(run):  # the run's task begins with this context
                result = inner(self, *args, **_asking(options, run, hooks.hooks))
            _tell_of_denial(result, run)
            return result
        outer = current()
        if outer is not None and not isinstance(hooks, _Asking):
            options = _asking(options, outer, hooks)
        return inner(self, *args, **options)

    return run_streamed


def _asking(options: _Options, run: Run, then: Optional[RunHooks[Any]]) -> _Options:
    return dict(options, hooks=_Asking(run, then))


def _tell_of_denial(result: RunResultStreaming, run: Run) -> None:
    """Has the stream end in Denied, and watches while it runs."""
    task, events = result.run_loop_task, result.stream_events

    result.stream_events = lambda: aread(run, events())
    every = run.switch.every
    if every is None or task is None:
        return

    async def watch() -> None:
        async with AsyncWatch(run.switch.async_client, run.device_id, every, on_denied=run.deny):
            await asyncio.wait({task})

    watching = asyncio.ensure_future(watch())
    task.add_done_callback(lambda _: watching.cancel())
    run.on_denied(lambda: result.cancel())
