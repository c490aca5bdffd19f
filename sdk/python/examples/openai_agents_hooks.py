"""OpenAI Agents SDK: hooks that stop a run before its next agent, model or tool call, and a guardrail for the input.

    client = AsyncMachineID.from_env()
    agent = Agent(name="...", input_guardrails=[InputGuardrail(guardrail_function=guardrail(client, "agent-01"))])
    await Runner.run(agent, "...", hooks=OffSwitch(client, "agent-01"))  # raises machineid_client.Denied

The guardrail alone is not enough: it judges the input once, beside the first model call, and knows nothing of a revoke in the middle of a run.

Tested in this repository against a minimal double of the package agents (tests/doubles.py), not against the SDK itself.
"""

from __future__ import annotations

from typing import Any, Awaitable, Callable

from agents import GuardrailFunctionOutput, RunHooks

from machineid_client import AsyncMachineID, Denied


class OffSwitch(RunHooks):
    def __init__(self, client: AsyncMachineID, device_id: str) -> None:
        self.client, self.device_id = client, device_id

    async def _check(self) -> None:
        decision = await self.client.validate(self.device_id)
        if decision["allowed"] is not True:
            raise Denied(self.device_id, decision)

    async def on_agent_start(self, *args: Any, **kwargs: Any) -> None:
        await self._check()

    async def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        await self._check()

    async def on_tool_start(self, *args: Any, **kwargs: Any) -> None:
        await self._check()

    async def on_handoff(self, *args: Any, **kwargs: Any) -> None:
        await self._check()


def guardrail(client: AsyncMachineID, device_id: str) -> Callable[..., Awaitable[Any]]:
    """An input guardrail whose tripwire is a denial."""

    async def allowed(context: Any, agent: Any, user_input: Any) -> Any:
        decision = await client.validate(device_id)
        return GuardrailFunctionOutput(output_info=decision["code"], tripwire_triggered=decision["allowed"] is not True)

    return allowed
