"""OpenAI Agents SDK: a run that ends when it may not work any more.

    pip install './sdk/python[openai-agents]'
    export MACHINEID_ORG_KEY=org_...        # the agent key
    export OPENAI_API_KEY=...
    python3 openai_agents_run.py agent-01

The run asks before each agent, model call, tool and hand-over, in agents that are tools as well. After the first denial nothing new begins, and the
run raises Denied.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from agents import Agent, Runner, function_tool

from machineid_client import AsyncMachineID, Denied, MachineIDError
from machineid_client.integrations.openai_agents import OffSwitch


async def run(client: AsyncMachineID, device_id: str, agent: Any, task: str) -> str:
    """One run under the off switch. Raises Denied."""
    result = await Runner.run(agent, task, hooks=OffSwitch(client, device_id))
    return str(result.final_output)


@function_tool
def look_up(city: str) -> str:
    """Says how warm it is in a city."""
    return f"It is 21 degrees in {city}."


async def main() -> int:
    device_id = sys.argv[1] if len(sys.argv) > 1 else "agent-01"
    try:
        async with AsyncMachineID.from_env() as client:
            await client.register(device_id, raise_on_error=True)  # its no says what to do, as when the plan is full
            agent = Agent("meteorologist", instructions="Say how warm it is.", tools=[look_up])
            print(await run(client, device_id, agent, "How warm is it in Oslo?"))
    except Denied as denied:
        print(f"stopped: {denied.code}", file=sys.stderr)
        return 1
    except MachineIDError as err:
        print(f"cannot start: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
