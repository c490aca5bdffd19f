"""Pydantic AI.

    agent = Agent("...", capabilities=[OffSwitch(client, "agent-01")])      # run, run_sync, run_stream, iter: raise Denied

Agents that a tool runs are part of the run that they are called in, with or without the capability. So is what runs in a block of
`async with switch.run():`.
"""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Optional

from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.models import Model
from pydantic_ai.tool_manager import ToolManager
from pydantic_ai.toolsets import AbstractToolset

from . import _run
from ._ask import ask_before_requests, ask_first, ask_first_everywhere
from ._run import Client, current

__all__ = ["OffSwitch"]


class OffSwitch(_run.OffSwitch, AbstractCapability[Any]):
    """A capability: each run of an agent that has it is a run of the switch. It serves any number of agents and runs, also at once.

    It asks before each model call, each attempt of one, each tool and each output function.
    """

    def __init__(self, client: Client, device_id: str, *, every: Optional[float] = None) -> None:
        super().__init__(client, device_id, every=every)

    def prepare(self) -> None:
        # Each time: models and toolsets are classes of their users' too.
        ask_first_everywhere(Model, "request", "request_stream")
        ask_first_everywhere(AbstractToolset, "call_tool")
        ask_first(ToolManager, "execute_output_tool_call")
        ask_before_requests()

    def get_ordering(self) -> CapabilityOrdering:
        return CapabilityOrdering(position="outermost")  # so that no other capability makes something else of a denial

    async def wrap_run(self, ctx: Any, *, handler: Callable[[], Awaitable[Any]]) -> Any:
        async with self.run():
            return await handler()

    async def before_output_process(self, ctx: Any, *, output_context: Any, output: Any) -> Any:
        run = current()
        if run is not None and not ctx.partial_output:
            await run.acheck()
        return output
