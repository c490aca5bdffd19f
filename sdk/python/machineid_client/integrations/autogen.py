"""AutoGen AgentChat: agents and teams that stop when they may not work any more.

    from machineid_client.integrations.autogen import OffSwitch

    switch = OffSwitch(AsyncMachineID.from_env(), "team-01")
    async with switch.run():                             # raises machineid_client.Denied
        await team.run(task="...")                       # or an agent's run, run_stream, Console(team.run_stream(...))

Whatever AutoGen does in the block asks before each agent's turn, model call, tool call, hand-over and run of code, and before each message that an
agent of AutoGen's core handles. A denial cancels what is under way by AutoGen's CancellationToken: a run gets one if its caller gives none. A plain
function that is a tool runs in a thread: it asks again where it begins, and then goes on to its end. On a runtime of its own
(SingleThreadedAgentRuntime, started by you) a run is known by its messages' tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import weakref
from typing import Any, Callable, Generator, Optional

from ._ask import ask_before_requests, ask_first_everywhere, wrap_once
from ._extra import extra
from ._run import OffSwitch as _OffSwitch
from ._run import Run, aread, current, in_loop, joined
from ._threads import ask_in_threads

with extra("autogen"):
    from autogen_agentchat.agents import AssistantAgent, BaseChatAgent
    from autogen_agentchat.teams import BaseGroupChat
    from autogen_core import BaseAgent, CancellationToken, FunctionCall, SingleThreadedAgentRuntime
    from autogen_core.code_executor import CodeExecutor
    from autogen_core.models import ChatCompletionClient, FunctionExecutionResult
    from autogen_core.tools import BaseTool, Workbench, _function_tool

with contextlib.suppress(ImportError):
    import openai  # noqa: F401  # so that ask_before_requests finds it, also if the model's module is imported in the block

__all__ = ["OffSwitch"]

_runs: "weakref.WeakKeyDictionary[CancellationToken, Run]" = weakref.WeakKeyDictionary()


class OffSwitch(_OffSwitch):
    __doc__ = _OffSwitch.__doc__

    def prepare(self) -> None:
        # A turn that was cancelled ends in Denied: a team waits for the end of each turn, and a CancelledError is none to it.
        ask_first_everywhere(BaseChatAgent, "on_messages", "on_messages_stream", awaited=True, tell=True)
        ask_first_everywhere(ChatCompletionClient, "create", "create_stream", awaited=True)
        ask_first_everywhere(Workbench, "call_tool", "call_tool_stream", awaited=True)
        ask_first_everywhere(BaseTool, "run_json", "run_json_stream", awaited=True)
        ask_first_everywhere(CodeExecutor, "execute_code_blocks", awaited=True)
        ask_before_requests()
        wrap_once(BaseChatAgent, "run", _run_with_token)
        wrap_once(BaseChatAgent, "run_stream", _stream_with_token)
        wrap_once(BaseGroupChat, "run_stream", _stream_with_token)  # which its run consists of
        wrap_once(BaseAgent, "on_message", _in_its_run)
        wrap_once(SingleThreadedAgentRuntime, "send_message", _with_its_token)
        wrap_once(SingleThreadedAgentRuntime, "publish_message", _with_its_token)
        wrap_once(AssistantAgent, "_execute_tool_call", _with_a_result)
        ask_in_threads(_function_tool)
        for name in ("autogen_ext.tools.langchain._langchain_adapter", "autogen_ext.models.llama_cpp._llama_cpp_completion_client"):
            if name in sys.modules:
                ask_in_threads(sys.modules[name])


def _run_with_token(inner: Callable[..., Any]) -> Callable[..., Any]:
    async def run(self: Any, *, cancellation_token: Optional[CancellationToken] = None, **options: Any) -> Any:
        here = current()
        if here is None:
            return await inner(self, cancellation_token=cancellation_token, **options)
        with _token(here, cancellation_token) as token:
            try:
                result = await inner(self, cancellation_token=token, **options)
            except BaseException as error:
                here.tell(error)
                raise
            here.tell(None)
            return result

    return run


def _stream_with_token(inner: Callable[..., Any]) -> Callable[..., Any]:
    def run_stream(self: Any, *, cancellation_token: Optional[CancellationToken] = None, **options: Any) -> Any:
        here = current()  # of who asks for the stream; whoever reads it may have another context
        if here is None:
            return inner(self, cancellation_token=cancellation_token, **options)
        return _read(here, cancellation_token, lambda token: inner(self, cancellation_token=token, **options))

    return run_stream


async def _read(run: Run, given: Optional[CancellationToken], stream: Callable[[CancellationToken], Any]) -> Any:
    with _token(run, given) as token:
        items = aread(run, stream(token))
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()  # type: ignore[attr-defined]


@contextlib.contextmanager
def _token(run: Run, given: Optional[CancellationToken]) -> Generator[CancellationToken, None, None]:
    """The token of what is begun in a run: a denial cancels it. For the loop that everything with this token runs in."""
    token = _own(run, given)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        in_loop(loop, token.cancel)

    run.on_denied(stop)
    try:
        yield token
    finally:
        run.forget(stop)


def _own(run: Run, given: Optional[CancellationToken]) -> CancellationToken:
    """A token of this run alone, which is cancelled with the one that is given. That one may be of several runs, and of what runs outside of any."""
    token = CancellationToken()
    _runs[token] = run
    if given is not None:
        kept = weakref.ref(token)  # the given token may be as old as the program, and keeps its callbacks

        def cancel() -> None:
            own = kept()
            if own is not None:
                own.cancel()

        given.add_callback(cancel)
    return token


def _in_its_run(inner: Callable[..., Any]) -> Callable[..., Any]:
    async def on_message(self: Any, message: Any, ctx: Any) -> Any:
        run = _runs.get(ctx.cancellation_token)
        run = current() if run is None else run
        if run is None:
            return await inner(self, message, ctx)
        with joined(run):
            try:
                if not type(self).__module__.startswith("autogen_agentchat."):  # a team's own agents are nobody's steps, and what they call asks
                    await run.acheck()
                return await inner(self, message, ctx)
            except BaseException as error:
                if run.explains(error) and not ctx.is_rpc:
                    return None  # nobody waits for it, and the runtime would keep it: the next run of the team would never end
                run.tell(error)
                raise

    return on_message


def _with_its_token(inner: Callable[..., Any]) -> Callable[..., Any]:
    """A runtime handles a message in a task of its own, which knows its sender's run by the token that comes with the message."""

    async def send(self: Any, *args: Any, cancellation_token: Optional[CancellationToken] = None, **options: Any) -> Any:
        run = current()
        if run is None:
            return await inner(self, *args, cancellation_token=cancellation_token, **options)
        of_this_run = cancellation_token is not None and _runs.get(cancellation_token) is run
        token = cancellation_token if of_this_run else _own(run, cancellation_token)
        return await inner(self, *args, cancellation_token=token, **options)

    return send


def _with_a_result(inner: Callable[..., Any]) -> Callable[..., Any]:
    """An AssistantAgent waits for ever for tools that were cancelled or denied: it waits for all of their results, or for a reader's None that an
    exception keeps from coming. So a denial is a result there, and the model call or turn that follows is what raises."""

    async def _execute_tool_call(tool_call: FunctionCall, *args: Any, **options: Any) -> Any:
        run = current()
        if run is None:
            return await inner(tool_call, *args, **options)
        try:
            await run.acheck()
            return await inner(tool_call, *args, **options)
        except BaseException as error:
            if not run.explains(error):
                raise
            return tool_call, FunctionExecutionResult(content=str(run.denied), call_id=tool_call.id, is_error=True, name=tool_call.name)

    return _execute_tool_call
