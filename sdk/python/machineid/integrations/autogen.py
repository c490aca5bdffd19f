"""AutoGen AgentChat: agents and teams that stop when they may not work any more.

    from machineid.integrations.autogen import OffSwitch

    switch = OffSwitch(AsyncMachineID.from_env(), "team-01")
    async with switch.run():                             # raises machineid.Denied
        await team.run(task="...")                       # or an agent's run, run_stream, Console(team.run_stream(...))

Whatever AutoGen does in the block asks before each agent's turn, model call, tool call, hand-over and run of code. A denial cancels what is under way
by AutoGen's CancellationToken: a run gets one if its caller gives none. A plain function that is a tool, and runs in a thread, goes on to its end.
Runs on a runtime of their own (SingleThreadedAgentRuntime, started by you) are known by their token.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, Callable, Optional

from autogen_agentchat.agents import BaseChatAgent
from autogen_agentchat.teams import BaseGroupChat
from autogen_core import BaseAgent, CancellationToken
from autogen_core.code_executor import CodeExecutor
from autogen_core.models import ChatCompletionClient
from autogen_core.tools import BaseTool, Workbench

from ._ask import ask_before_requests, ask_first_everywhere, wrap_once
from ._run import OffSwitch as _OffSwitch
from ._run import Run, current, in_loop, joined

__all__ = ["OffSwitch"]

_runs: "weakref.WeakKeyDictionary[CancellationToken, Run]" = weakref.WeakKeyDictionary()


class OffSwitch(_OffSwitch):
    __doc__ = _OffSwitch.__doc__

    def prepare(self) -> None:
        # Each time: models, tools and agents are classes of their users' too.
        ask_first_everywhere(BaseChatAgent, "on_messages", "on_messages_stream", awaited=True)
        ask_first_everywhere(ChatCompletionClient, "create", "create_stream", awaited=True)
        ask_first_everywhere(Workbench, "call_tool", "call_tool_stream", awaited=True)
        ask_first_everywhere(BaseTool, "run_json", "run_json_stream", awaited=True)
        ask_first_everywhere(CodeExecutor, "execute_code_blocks", awaited=True)
        ask_before_requests()
        wrap_once(BaseChatAgent, "run", _run_with_token)
        wrap_once(BaseChatAgent, "run_stream", _stream_with_token)
        wrap_once(BaseGroupChat, "run_stream", _stream_with_token)  # which its run consists of
        wrap_once(BaseAgent, "on_message", _in_its_run)


def _run_with_token(inner: Callable[..., Any]) -> Callable[..., Any]:
    async def run(self: Any, *, cancellation_token: Optional[CancellationToken] = None, **options: Any) -> Any:
        return await inner(self, cancellation_token=_token(current(), cancellation_token), **options)

    return run


def _stream_with_token(inner: Callable[..., Any]) -> Callable[..., Any]:
    def run_stream(self: Any, *, cancellation_token: Optional[CancellationToken] = None, **options: Any) -> Any:
        run = current()  # of who asks for the stream; whoever reads it may have another context
        if run is None:
            return inner(self, cancellation_token=cancellation_token, **options)
        return _read(run, lambda: inner(self, cancellation_token=_token(run, cancellation_token), **options))

    return run_stream


async def _read(run: Run, stream: Callable[[], Any]) -> Any:
    with joined(run):
        items = stream()
    try:
        while True:
            with joined(run):
                try:
                    item = await items.__anext__()
                except StopAsyncIteration:
                    return
            yield item
    finally:
        await items.aclose()


def _token(run: Optional[Run], given: Optional[CancellationToken]) -> Optional[CancellationToken]:
    """The token of what is begun in a run: the denial cancels it. Called in the loop that everything with this token runs in."""
    if run is None:
        return given
    token = CancellationToken() if given is None else given
    if _runs.get(token) is not run:
        _runs[token] = run
        loop, weak = asyncio.get_running_loop(), weakref.ref(token)

        def cancel() -> None:
            token = weak()
            if token is not None:
                token.cancel()

        run.on_denied(lambda: in_loop(loop, cancel))
    return token


def _in_its_run(inner: Callable[..., Any]) -> Callable[..., Any]:
    async def on_message(self: Any, message: Any, ctx: Any) -> Any:
        run = _runs.get(ctx.cancellation_token)
        if run is None or run is current():
            return await inner(self, message, ctx)
        with joined(run):
            return await inner(self, message, ctx)

    return on_message
