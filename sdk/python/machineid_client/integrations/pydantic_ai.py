"""Pydantic AI.

    agent = Agent("...", capabilities=[OffSwitch(client, "agent-01")])      # run, run_sync, run_stream, iter: raise Denied

Agents that a tool runs are part of the run that they are called in, with or without the capability. So is what runs in a block of
`async with switch.run():`.
"""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Optional

from . import _run
from ._ask import ask_before_requests, ask_first, ask_first_everywhere, wrap_once
from ._extra import extra
from ._run import Client, Run, current, joined
from ._threads import ask_in_threads

with extra("pydantic-ai"):
    from pydantic_ai import _function_schema, _output, _utils
    from pydantic_ai._agent_graph import GraphAgentState
    from pydantic_ai.agent.abstract import _RunStreamEventsContext
    from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
    from pydantic_ai.embeddings import EmbeddingModel
    from pydantic_ai.models import Model, function
    from pydantic_ai.tool_manager import ToolManager
    from pydantic_ai.toolsets import AbstractToolset
    from pydantic_graph.graph_builder import _GraphIterator

__all__ = ["OffSwitch"]


class OffSwitch(_run.OffSwitch, AbstractCapability[Any]):
    """A capability: each run of an agent that has it is a run of the switch. It serves any number of agents and runs, also at once.

    It asks before each model call, each attempt of one, each tool, output function and embedding, and each step of a graph of your own.
    """

    def __init__(self, client: Client, device_id: str, *, every: Optional[float] = None) -> None:
        super().__init__(client, device_id, every=every)

    # A capability is a dataclass: without fields all of them would be equal, and none could be hashed.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def prepare(self) -> None:
        # Each time: models and toolsets are classes of their users' too.
        ask_first_everywhere(Model, "request", "request_stream")
        ask_first_everywhere(AbstractToolset, "call_tool")
        ask_first_everywhere(EmbeddingModel, "embed")
        ask_first(ToolManager, "execute_output_tool_call")
        ask_first(_GraphIterator, "_run_task", _of_a_graph)
        for module in (_function_schema, _output, function):  # tools and output functions, and models that are functions
            ask_in_threads(module, _utils.run_in_executor)
        wrap_once(_RunStreamEventsContext, "__init__", _begun_in_its_run)
        ask_before_requests()

    def get_ordering(self) -> CapabilityOrdering:
        return CapabilityOrdering(position="outermost")  # so that no other capability makes something else of a denial

    async def for_run(self, ctx: Any) -> "_Held":
        return _Held(self)


class _Held(AbstractCapability[Any]):
    """The capability in one run. The run's nodes run in the caller's task, and wrap_run beside them in one of its own."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(self, switch: OffSwitch) -> None:
        self._switch = switch
        self._run: Optional[Run] = None
        self._nodes: Optional[_run.Block] = None

    async def wrap_run(self, ctx: Any, *, handler: Callable[[], Awaitable[Any]]) -> Any:
        async with self._switch.run() as run:
            own, run._block, self._run = run._block, None, run
            try:
                return await handler()
            finally:
                run._block = own
                self._end()

    async def before_node_run(self, ctx: Any, *, node: Any) -> Any:
        if self._run is not None:
            self._run.look()
            self._end()  # the caller may go from node to node in several tasks
            self._run._block = self._nodes = _run.Block()
        return node

    async def on_run_error(self, ctx: Any, *, error: BaseException) -> Any:
        self._end()
        if self._run is not None:
            self._run.tell(error)  # here: what wrap_run makes of an error does not reach the caller
        raise error

    def _end(self) -> None:
        if self._nodes is not None:
            self._nodes.end()
            self._nodes = None

    async def before_output_process(self, ctx: Any, *, output_context: Any, output: Any) -> Any:
        if self._run is not None and not ctx.partial_output:
            await self._run.acheck()
        return output


def _of_a_graph(graph: Any, /, *_: Any, **__: Any) -> Optional[Run]:
    """An agent is a graph inside; its steps are nobody's, and what they call asks."""
    return None if graph.graph.state_type is GraphAgentState else current()


def _begun_in_its_run(inner: Callable[..., Any]) -> Callable[..., Any]:
    """The run of run_stream_events begins as a task of whoever reads the events first, which may be behind the block that they were asked for in."""

    def __init__(self: Any, run_agent: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> None:
        run = current()

        async def in_its_run(*given: Any, **more: Any) -> Any:
            assert run is not None
            with joined(run):
                return await run_agent(*given, **more)

        inner(self, run_agent if run is None else in_its_run, *args, **options)

    return __init__
